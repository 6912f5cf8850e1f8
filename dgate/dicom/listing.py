"""The elements of an object as lines of text, for people.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator

from dgate.dicom.element import keyword_of
from dgate.dicom.jsonmodel import BULK_VRS
from dgate.dicom.table import ElementTable
from dgate.printable import printable

_LONGEST = 80


def listing(table: ElementTable) -> str:
    """Return the elements of an object, one line each, items of sequences indented."""
    return "".join(f"{line}\n" for line in _lines(table, ""))


def _lines(table: ElementTable, indent: str) -> Iterator[str]:
    for tag in table.tags():
        shown = f"{indent}{tag >> 16:04x},{tag & 0xFFFF:04x}"
        name = keyword_of(tag) or "(private)"
        if table.is_sequence(tag):
            items = table.items(tag)
            yield f"{shown} SQ {name} {len(items)} item(s)"
            for place, item in enumerate(items):
                yield f"{indent}  item {place}"
                yield from _lines(item, f"{indent}    ")
            continue
        view = table.view(tag)
        length = 0 if view is None else len(view)
        vr = table.reading_vr(tag)
        value = f"({length} bytes)" if vr in BULK_VRS else table.text(tag)
        if len(value) > _LONGEST:
            value = f"{value[:_LONGEST]}..."
        yield f"{shown} {vr} {name} {length} {printable(value, '.')}".rstrip()
