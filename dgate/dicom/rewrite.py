"""Data sets from one encoding into another: VR implicit or explicit, byte order (PS3.5 7, A).

Nothing is lost: lengths of groups and sequences are corrected, values swapped where the byte order
asks for it, all else is copied. Not for compressed pixel data (`dgate.dicom.transcode`). Pure
functions, safe between threads.
"""

from __future__ import annotations

import array
from collections.abc import Iterable
from typing import NamedTuple

from dgate.dicom import element
from dgate.dicom.filedata import FileData, head_of, tail_of
from dgate.dicom.scan import (
    DEEPEST,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_GROUP,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    Entry,
    content_encoding,
    header,
    items,
    scan,
    scan_tail,
)
from dgate.errors import NotDicom

Piece = bytes | memoryview

_WORDS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), "H"),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), "I"),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), "Q"),
}
"""The `array` type of the words in which a VR's bytes are ordered."""


def rewrite(data: memoryview, source: Encoding, target: Encoding) -> list[Piece]:
    """Return the data set in another encoding, in pieces: what stays the same is a view.

    Raises NotDicom for a sequence that cannot be parsed.
    """
    level = _Level(data, source, target)
    level.write(level.elements)
    return level.finish(level.rubbish)


def rewrite_head(
    data: memoryview | FileData, source: Encoding, target: Encoding
) -> tuple[bytes, int] | None:
    """Return what stands before the pixels in another encoding, and the offset of the pixels.

    None when something follows the pixels or they are not native: then there is no untouched rest.
    """
    if isinstance(data, FileData):
        return _rewrite_head_of_file(data, source, target)
    level = _Level(data, source, target)
    if not level.elements or level.rubbish:
        return None
    last = level.elements[-1]
    if last.tag >> 16 != PIXEL_GROUP or last.undefined:
        return None
    level.write(level.elements[:-1])
    level.write_header(last)
    return b"".join(level.finish(data[len(data) :], following=last.declared)), last.value


def _rewrite_head_of_file(
    data: FileData, source: Encoding, target: Encoding
) -> tuple[bytes, int] | None:
    """Do the same for a data set of which no more than its header is to be read."""
    found = head_of(data, source)
    if found is None:
        return rewrite_head(data.view(), source, target)
    tail = tail_of(data, source, found[1].stop)
    if len(tail.entries) != 1 or tail.shadowed or tail.undefined or tail.stop < len(data):
        return None if tail.undefined else rewrite_head(data.view(), source, target)
    [(tag, (start, value, end, vr))] = tail.entries.items()
    if tag >> 16 != PIXEL_GROUP:
        return None
    *_, declared = header(data.read(start, value), source, 0, len(data) - start)
    if declared == UNDEFINED:
        raise NotDicom("the encapsulated pixel data has no end")
    level = _Level(memoryview(found[0]), source, target)
    level.write(level.elements)
    level.write_header(_Element(tag, vr, value, end, False, declared))
    return b"".join(level.finish(level.rubbish, following=declared)), value


class _Element(NamedTuple):
    tag: int
    vr: bytes | None
    value: int
    end: int
    undefined: bool
    declared: int
    """The length as it is written, which may exceed what is there."""


class _Level:
    """One data set, or one item of a sequence, on its way into another encoding."""

    def __init__(
        self,
        data: memoryview,
        source: Encoding,
        target: Encoding,
        signed: bool = False,
        depth: int = 0,
    ) -> None:
        if depth > DEEPEST:
            raise NotDicom(f"sequences are nested deeper than {DEEPEST} levels")
        self._data = data
        self._source = source
        self._target = target
        self._depth = depth
        self._swapping = source.little_endian != target.little_endian
        self.elements, end = _elements(data, source)
        self.rubbish = data[end:]
        self._signed = self._is_signed(signed)
        self._pieces: list[Piece] = []
        self._size = 0
        self._group = -1
        self._length_at = 0
        self._group_start = 0

    def write(self, elements: Iterable[_Element]) -> None:
        """Re-encode elements."""
        for each in elements:
            if each.tag & 0xFFFF == 0 and each.end - each.value == 4:
                self._begin_group(each.tag >> 16)
            elif each.undefined or self._name(each) == "SQ":
                self._write_sequence(each)
            else:
                self.write_header(each)
                self._add(self._swapped(self._name(each), self._data[each.value : each.end]))

    def write_header(self, each: _Element) -> None:
        """Re-encode the header of an element whose value keeps its length."""
        self._enter(each.tag)
        name = self._name(each)
        self._add(element.encode_header(each.tag, name, each.declared, self._target))

    def finish(self, rubbish: memoryview, following: int = 0) -> list[Piece]:
        """Return the result; `following` bytes of the last group come from elsewhere."""
        self._end_group(following)
        if rubbish:
            self._add(rubbish)
        return self._pieces

    def _add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._size += len(piece)

    # Group lengths (retired, but kept right).

    def _begin_group(self, group: int) -> None:
        self._end_group()
        self._group = group
        self._length_at = len(self._pieces)
        self._add(self._group_length(0))
        self._group_start = self._size

    def _enter(self, tag: int) -> None:
        if self._group >= 0 and tag >> 16 != self._group:
            self._end_group()

    def _end_group(self, following: int = 0) -> None:
        if self._group >= 0:
            length = self._size - self._group_start + following
            self._pieces[self._length_at] = self._group_length(length)
            self._group = -1

    def _group_length(self, length: int) -> bytes:
        value = (length & UNDEFINED).to_bytes(4, "little" if self._target.little_endian else "big")
        return element.encode_element(self._group << 16, "UL", value, self._target)

    # Sequences.

    def _write_sequence(self, each: _Element) -> None:
        if each.tag >> 16 == PIXEL_GROUP:
            raise NotDicom("the pixel data is encapsulated in an uncompressed transfer syntax")
        self._enter(each.tag)
        name = self._name(each)
        target = content_encoding(self._target, name.encode("ascii"))
        content = self._data[each.value : each.end - 8 if each.undefined else each.end]
        pieces: list[Piece] = []
        for start, stop, inner in items(content, self._source, 0, len(content), each.vr):
            level = _Level(content[start:stop], inner, target, self._signed, self._depth + 1)
            level.write(level.elements)
            body = level.finish(level.rubbish)
            is_open = bytes(content[start - 4 : start]) == b"\xff\xff\xff\xff"
            length = UNDEFINED if is_open else sum(map(len, body))
            pieces += (element.encode_delimiter(ITEM, length, target), *body)
            if is_open:
                pieces.append(element.encode_delimiter(ITEM_END, 0, target))
        if each.undefined:
            pieces.append(element.encode_delimiter(SEQUENCE_END, 0, target))
        length = UNDEFINED if each.undefined else sum(map(len, pieces))
        self._add(element.encode_header(each.tag, name, length, self._target))
        for piece in pieces:
            self._add(piece)

    # Values.

    def _name(self, each: _Element) -> str:
        """Return the VR to write."""
        if each.vr is None:
            if each.undefined:
                return "SQ"
            vr = element.vr_of(each.tag)
            if vr == "US" and self._signed and element.is_signed_dependent(each.tag):
                return "SS"
            return vr
        # A VR that nobody knows would be read with a length of the wrong size.
        return each.vr.decode("ascii") if each.vr in SHORT_VRS or each.vr in LONG_VRS else "UN"

    def _swapped(self, name: str, value: memoryview) -> Piece:
        kind = _WORDS.get(name) if self._swapping else None
        if kind is None:
            return value
        words = array.array(kind)
        whole = len(value) // words.itemsize * words.itemsize
        words.frombytes(value[:whole])
        words.byteswap()
        return words.tobytes() + value[whole:]

    def _is_signed(self, inherited: bool) -> bool:
        for each in self.elements:
            if each.tag == element.PIXEL_REPRESENTATION:
                return b"\1" in bytes(self._data[each.value : each.end])
        return inherited


def _elements(data: memoryview, encoding: Encoding) -> tuple[list[_Element], int]:
    """Return all elements of one level in the order of the data set, and where they end."""
    layout = scan(data, encoding)
    tail = scan_tail(data, encoding, layout.stop)
    found: list[_Element] = []
    for part in (layout, tail):
        pairs = [*part.entries.items(), *part.shadowed] if part.shadowed else part.entries.items()
        found += [
            _Element(tag, vr, value, end, tag in part.undefined, end - value)
            for tag, (_, value, end, vr) in sorted(pairs, key=_position)
        ]
    if tail.truncated and found:
        last = found[-1]
        start = tail.entries[last.tag][0] if last.tag in tail.entries else None
        if start is not None:
            *_, declared = header(data, encoding, start, len(data))
            if declared == UNDEFINED:
                raise NotDicom("the encapsulated pixel data has no end")
            found[-1] = last._replace(declared=declared)
    return found, tail.stop


def _position(pair: tuple[int, Entry]) -> int:
    return pair[1][0]
