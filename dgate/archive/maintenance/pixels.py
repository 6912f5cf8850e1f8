"""Whether the pixel data of a file is whole: by its lengths, without decoding it.

PS3.5 8 and annex A.4. Reads a few bytes per element or fragment. Pure functions of an open file.
"""

from __future__ import annotations

import os
import struct

from dgate.dicom.part10 import FileMeta
from dgate.dicom.scan import (
    DELIMITERS,
    ITEM,
    LONG_VRS,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    encoding_of,
    header,
    without_vr,
)
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import NotDicom

_PIXEL_DATA = 0x7FE00010
_ROWS, _COLUMNS, _SAMPLES = 0x00280010, 0x00280011, 0x00280002
_ALLOCATED, _FRAMES, _PHOTOMETRIC = 0x00280100, 0x00280008, 0x00280004
_VIDEO = "1.2.840.10008.1.2.4.10"
"""The beginning of the syntaxes that put all frames into one stream."""
_HEADER_BYTES = 12


def pixel_problem(
    descriptor: int, size: int, meta: FileMeta, table: ElementTable, *, deep: bool
) -> str:
    """Return what is wrong with the pixel data of a file of `size` bytes; empty = nothing.

    `deep`: also compare its length with what the header says of rows, columns and frames.
    """
    syntax = transfer_syntax(meta.syntax)
    offset = table.pixel_offset
    if offset is None or syntax.deflated:
        return ""
    try:
        found = _elements(descriptor, size, meta.data_offset + offset, encoding_of(syntax))
    except (NotDicom, struct.error):
        return "what follows the header cannot be read"
    if isinstance(found, str):
        return found
    length, fragments = found
    if not deep or length is None:
        return ""
    frames = _number(table, _FRAMES) or 1
    if fragments is not None:
        if fragments < frames and not meta.syntax.startswith(_VIDEO):
            return f"the pixel data has {fragments} fragment(s) for {frames} frames"
        return ""
    samples = _number(table, _SAMPLES) or 1
    if samples == 3 and table.text(_PHOTOMETRIC).endswith("_422"):
        samples = 2
    bits = _number(table, _ALLOCATED) * _number(table, _ROWS) * _number(table, _COLUMNS)
    expected = (bits * samples * frames + 7) // 8
    if length < expected:
        return f"the pixel data has {length} bytes, where the header says {expected}"
    return ""


def _elements(
    descriptor: int, size: int, position: int, encoding: Encoding
) -> str | tuple[int | None, int | None]:
    """Walk over the elements from the pixels on.

    Returns what is wrong, or length and number of fragments of the pixel data (None = there is
    none, or it is not encapsulated).
    """
    length: int | None = None
    fragments: int | None = None
    while position < size:
        head = os.pread(descriptor, _HEADER_BYTES, position)
        if encoding.explicit and head[4:6] not in LONG_VRS and not head[4:6].isalpha():
            encoding = without_vr(encoding)
        padded = head.ljust(_HEADER_BYTES, b"\0")
        tag, _, value, count = header(padded, encoding, 0, 1 << 62)
        if tag == 0:
            # Some writers fill the file up.
            return length, fragments
        position += value
        if count == UNDEFINED:
            end = _fragments(descriptor, size, position, encoding)
            if isinstance(end, str):
                return end
            if tag == _PIXEL_DATA:
                length, fragments = end[0] - position, end[1]
            position = end[0]
            continue
        if position + count > size:
            missing = position + count - size
            what = "the pixel data" if tag == _PIXEL_DATA else f"element {tag >> 16:04X}"
            return f"{what} is cut off: {missing} bytes are missing"
        if tag == _PIXEL_DATA:
            length = count
        position += count
    return length, fragments


def _fragments(
    descriptor: int, size: int, position: int, encoding: Encoding
) -> str | tuple[int, int]:
    """Return where the items of an element end and how many fragments they are, the offset table
    left out; or what is wrong."""
    count = -1
    while position + 8 <= size:
        group, number, length = encoding.implicit(os.pread(descriptor, 8, position), 0)
        position += 8
        if group != DELIMITERS:
            return "the pixel data has something else between its fragments"
        if number == SEQUENCE_END:
            return position, max(count, 0)
        if number != ITEM or length == UNDEFINED:
            return "the pixel data has something else between its fragments"
        position += length
        count += 1
    return "the pixel data is cut off: its end is missing"


def _number(table: ElementTable, tag: int) -> int:
    text = table.text(tag).partition("\\")[0].strip()
    return int(text) if text.isdecimal() else 0
