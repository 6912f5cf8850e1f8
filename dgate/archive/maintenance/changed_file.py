"""The file of a stored object with other elements in it: what is not changed stays as it is.

Not for which elements (`identity`). Pure but for reading the open file.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgate.archive.devices import Reader
from dgate.archive.files import FileRange, FileReader, Part
from dgate.archive.records import InstanceRef
from dgate.config.layout import SOP_UID
from dgate.dicom.part10 import FileMeta, file_meta
from dgate.dicom.table import ElementTable, Slice
from dgate.errors import Unreadable

_PIXELS = 0x7FE00000
_SOP_CLASS = 0x00080016


def table_of(ref: InstanceRef, reader: Reader, meta: FileMeta) -> ElementTable:
    """Return the elements of an open file; raises StoreError when it cannot be read."""
    try:
        return ElementTable(reader.data(meta.data_offset), meta.syntax)
    except OSError as exc:
        raise unreadable(ref, exc) from exc


def unreadable(ref: InstanceRef, error: OSError) -> Unreadable:
    """Return what it means that the file of an object cannot be read."""
    return Unreadable(
        f"the file of object {ref.sop_instance} cannot be read: {error.strerror}",
        where=f"{ref.device} {ref.name}",
        remedy="look at the disk; `dgate verify` finds all files that cannot be read",
    )


def replace_uids(table: ElementTable, mapping: Mapping[str, str]) -> None:
    """Replace UIDs wherever an object names them, in sequences too; all else stays as it is."""
    for tag in table.tags():
        if tag >= _PIXELS or tag == _SOP_CLASS:
            continue
        if table.reading_vr(tag) == "UI":
            old = table.text(tag)
            new = "\\".join(mapping.get(uid, uid) for uid in old.split("\\"))
            if new != old:
                table.set_text(tag, new)
        elif table.is_sequence(tag):
            items = table.items(tag)
            for item in items:
                replace_uids(item, mapping)
            if any(item.revision for item in items):
                table.set_items(tag, items)


def changed_parts(reader: Reader, meta: FileMeta, table: ElementTable, *, same: bool) -> list[Part]:
    """Return the changed file: what the correction does not name is copied as it is."""
    start = meta.data_offset
    if (same and table.syntax == meta.syntax) or not start:
        parts: list[Part] = [reader.read_at(0, start)] if start else []
    else:
        parts = [file_meta(meta.sop_class, table.text(SOP_UID), table.syntax)]
    for segment in table.segments():
        if not isinstance(segment, Slice):
            parts.append(segment)
        elif isinstance(reader, FileReader):
            parts.append(FileRange(reader.descriptor, start + segment.offset, segment.length))
        else:
            parts.append(reader.read_at(start + segment.offset, segment.length))
    return parts
