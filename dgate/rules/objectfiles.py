"""An object as the content of a file, as rules and scripts write it.

Which files may be written: `dgate.rules.files`. Pure functions; the object is only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import IMPLICIT_LE
from dgate.errors import RuleError, StoreError


def file_parts(table: ElementTable, name: str, calling: str = "") -> Iterable[bytes | memoryview]:
    """Return the content of a file of that name: `.v2` is the bare data set, all others Part 10.

    Args:
        calling: the AE title that the object came from, for the head of the file.

    Raises:
        RuleError: the object has no form in implicit VR, which `.v2` needs.
    """
    return raw_parts(table) if name.lower().endswith(".v2") else part10(table, calling)


def part10(table: ElementTable, calling: str = "") -> Iterator[bytes | memoryview]:
    """Yield an object as it is now as a Part 10 file."""
    uids = table.text(SOP_CLASS_UID), table.text(SOP_INSTANCE_UID)
    yield file_meta(*uids, table.syntax, calling)
    yield from table.parts()


def raw_parts(table: ElementTable) -> tuple[bytes, ...]:
    """Return an object as the old raw format has it: implicit VR, no head; raises RuleError."""
    try:
        return (convert(table.tobytes(), table.syntax, IMPLICIT_LE),)
    except StoreError as exc:
        raise RuleError(f"the object cannot be saved as .v2: {exc}") from exc
