"""File framing: preamble, file meta information (group 2), and files that have none (PS3.10 7.1).

Not for what is inside the data set (`dgate.dicom.table`). Pure functions, safe between threads.
"""

from __future__ import annotations

import mmap
import struct
from functools import lru_cache
from typing import NamedTuple

from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID
from dgate.dicom.scan import (
    EXPLICIT_LITTLE,
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    encoding_of,
    header,
    skip_undefined,
)
from dgate.dicom.uids import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_VERSION,
    IMPLICIT_LE,
    is_uid,
    transfer_syntax,
)
from dgate.errors import NotDicom

_MAGIC = b"DICM"
_PREAMBLE = bytes(128) + _MAGIC
_META_GROUP = 0x0002
_META_SOP_CLASS = 0x00020002
_META_SOP_INSTANCE = 0x00020003
_META_SYNTAX = 0x00020010
_LAST_LIKELY_FIRST_GROUP = 0x0040
"""No data set in the field begins with a group above this one; text files do."""


class FileMeta(NamedTuple):
    """What the head of a file says; a UID that neither group 2 nor the data set has is empty."""

    sop_class: str
    sop_instance: str
    syntax: str
    data_offset: int
    """Where the data set starts."""


def file_meta(sop_class: str, sop_instance: str, syntax: str, source_ae: str = "") -> bytes:
    """Return preamble, prefix and group 2 for a file of ours."""
    before, after = _around_instance(sop_class, syntax, source_ae)
    elements = before + _element(0x03, b"UI", sop_instance, b"\0") + after
    return _PREAMBLE + _META_LENGTH.pack(2, 0, b"UL", 4, len(elements)) + elements


@lru_cache(maxsize=256)
def _around_instance(sop_class: str, syntax: str, source_ae: str) -> tuple[bytes, bytes]:
    """Return the elements before and after the SOP Instance UID: the same for a whole series."""
    before = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
    before += _element(0x02, b"UI", sop_class, b"\0")
    after = _element(0x10, b"UI", syntax, b"\0") + _IMPLEMENTATION
    if source_ae:
        after += _element(0x16, b"AE", source_ae, b" ")
    return before, after


_META_LENGTH = struct.Struct("<HH2sHL")
_META_ELEMENT = struct.Struct("<HH2sH")


def _element(number: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += padding
    return _META_ELEMENT.pack(_META_GROUP, number, vr, len(value)) + value


_IMPLEMENTATION = _element(0x12, b"UI", IMPLEMENTATION_CLASS, b"\0") + _element(
    0x13, b"SH", IMPLEMENTATION_VERSION, b" "
)


def read_meta(buffer: bytes | bytearray | memoryview | mmap.mmap) -> FileMeta:
    """Read the head of a file: Part 10, or a bare data set such as a `.v2` file.

    `buffer` may be cut off anywhere behind the head. Raises NotDicom when there is no head of a
    DICOM file in it.
    """
    with memoryview(buffer) as view:
        start = 0
        if view[128:132] == _MAGIC:
            start = 132
        elif view[:4] == _MAGIC:
            start = 4
        try:
            values, pos = _group_2(view, start)
            syntax = values.get(_META_SYNTAX, "")
            if not is_uid(syntax):
                syntax = _guess_syntax(view, pos)
            found = _uids(view, pos, syntax)
        except struct.error as exc:
            raise NotDicom("the file ends inside its header") from exc
    if not found and not start and not values:
        raise NotDicom("the file is not DICOM: it has neither a file header nor a data set")
    # Where they differ the data set is right: it is what a peer compares with the command.
    sop_class = found.get(SOP_CLASS_UID) or values.get(_META_SOP_CLASS, "")
    sop_instance = found.get(SOP_INSTANCE_UID) or values.get(_META_SOP_INSTANCE, "")
    return FileMeta(sop_class, sop_instance, syntax, pos)


def _group_2(view: memoryview, pos: int) -> tuple[dict[int, str], int]:
    """Return the values of group 2 and where it ends, whatever its group length says."""
    values: dict[int, str] = {}
    end = len(view)
    while pos + 2 <= end and view[pos] == _META_GROUP and view[pos + 1] == 0:
        tag, _, value, length = header(view, EXPLICIT_LITTLE, pos, end)
        if value + length > end:
            raise NotDicom("the file ends inside its header")
        values[tag] = _text(view, value, length)
        pos = value + length
    return values, pos


def _guess_syntax(view: memoryview, pos: int) -> str:
    """Return the transfer syntax that a data set seems to have (`.v2` files: implicit LE)."""
    head = bytes(view[pos : pos + 8])
    if len(head) < 8:
        raise NotDicom("the file ends inside its header")
    little = int.from_bytes(head[:2], "little")
    big = int.from_bytes(head[:2], "big")
    if not 0 < min(little, big) <= _LAST_LIKELY_FIRST_GROUP:
        raise NotDicom("the file is not DICOM: it begins with no likely element")
    if head[4:6] not in SHORT_VRS and head[4:6] not in LONG_VRS:
        return IMPLICIT_LE
    return EXPLICIT_LE if little < big else EXPLICIT_BE


def _uids(view: memoryview, pos: int, syntax: str) -> dict[int, str]:
    """Return the SOP UIDs in the data set, as far as they can be read without inflating."""
    known = transfer_syntax(syntax)
    if known.deflated:
        return {}
    try:
        return _find_uids(view, pos, encoding_of(known))
    except (NotDicom, struct.error):
        # Group 2 alone is enough to go on with; without it the caller says that this is no DICOM.
        return {}


def _find_uids(view: memoryview, pos: int, encoding: Encoding) -> dict[int, str]:
    found: dict[int, str] = {}
    end = len(view)
    while pos < end and SOP_INSTANCE_UID not in found:
        tag, vr, value, length = header(view, encoding, pos, end)
        if tag > SOP_INSTANCE_UID or tag >> 16 == 0:
            break
        if length == UNDEFINED:
            pos = skip_undefined(view, encoding, value, end, vr)
            continue
        if tag in (SOP_CLASS_UID, SOP_INSTANCE_UID) and value + length <= end:
            found[tag] = _text(view, value, length)
        pos = value + length
    return found


def _text(view: memoryview, start: int, length: int) -> str:
    return bytes(view[start : start + length]).partition(b"\0")[0].decode("latin_1").strip(" ")
