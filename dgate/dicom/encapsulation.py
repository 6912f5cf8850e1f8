"""Encapsulated pixel data: items, offset tables, which fragments make a frame (PS3.5 A.4).

Not for what is inside the fragments (`dgate.dicom.rle` and other codecs). Pure functions; fragments
are views, nothing is copied.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence

from dgate.dicom.scan import DELIMITERS, EXPLICIT_LITTLE, ITEM, SEQUENCE_END, UNDEFINED, Buffer
from dgate.errors import NotDicom

Fragments = tuple[memoryview, ...]
"""The parts of one frame, in order."""

_ITEM = struct.Struct("<HHL")
_FIRST = 8
"""Offsets count from the first fragment's item tag."""


def frames_of(
    value: Buffer, declared: int, offsets: bytes = b"", *, one_each: bool = False
) -> list[Fragments]:
    """Return the fragments of each frame.

    Args:
        value: of Pixel Data, with or without its delimiter.
        declared: Number of Frames. More frames may be there than are declared.
        offsets: value of Extended Offset Table (7FE0,0001); wins over the basic one.
        one_each: every frame has one fragment (RLE), which decides where no table does.

    Raises:
        NotDicom: the items cannot be read, or nothing tells which of them belong together.
    """
    table, fragments, places = _items(memoryview(value))
    if not fragments:
        raise NotDicom("the pixel data has no fragments")
    starts = _numbers(offsets, "<%dQ", 8) or _numbers(table, "<%dL", 4)
    # A table of one zero says nothing about several frames, and is in use.
    if len(starts) > 1:
        return _by_offsets(fragments, places, starts)
    if declared <= 1:
        return [tuple(fragments)]
    if len(fragments) == declared or (one_each and len(fragments) > declared):
        return [(fragment,) for fragment in fragments]
    raise NotDicom(
        f"the pixel data has {len(fragments)} fragments for {declared} frames and no offset table"
    )


def count_fragments(value: Buffer) -> int:
    """Return how many fragments there are; raises NotDicom when they cannot be read."""
    return len(_items(memoryview(value))[1])


def encapsulated(frames: Iterable[bytes], *, keep_bytes: int) -> Iterator[bytes]:
    """Yield the value of Pixel Data, without delimiter: offset table, then an item for each frame.

    The table can only be written when all lengths are known: up to `keep_bytes` of frames are kept
    for that; of a longer value the table stays empty, which PS3.5 A.4 allows. A single frame needs
    none.
    """
    kept: list[bytes] = []
    size = 0
    more = iter(frames)
    for frame in more:
        kept.append(frame + b"\0" if len(frame) % 2 else frame)
        size += len(kept[-1])
        if size > keep_bytes:
            break
    else:
        yield from _with_table(kept)
        return
    yield _ITEM.pack(DELIMITERS, ITEM, 0)
    for frame in kept:
        yield _ITEM.pack(DELIMITERS, ITEM, len(frame)) + frame
    kept.clear()
    for frame in more:
        padded = frame + b"\0" if len(frame) % 2 else frame
        yield _ITEM.pack(DELIMITERS, ITEM, len(padded)) + padded


def sequence_end() -> bytes:
    """Return the delimiter behind the last item."""
    return _ITEM.pack(DELIMITERS, SEQUENCE_END, 0)


def _with_table(frames: Sequence[bytes]) -> Iterator[bytes]:
    offsets: list[int] = []
    position = 0
    for frame in frames:
        offsets.append(position)
        position += _FIRST + len(frame)
    if len(frames) < 2 or position > UNDEFINED:
        offsets = []
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    yield _ITEM.pack(DELIMITERS, ITEM, len(table)) + table
    for frame in frames:
        yield _ITEM.pack(DELIMITERS, ITEM, len(frame)) + frame


def _items(view: memoryview) -> tuple[bytes, list[memoryview], dict[int, int]]:
    """Return the basic offset table, the fragments, and which fragment starts at which offset."""
    fragments: list[memoryview] = []
    places: dict[int, int] = {}
    table: bytes | None = None
    position, end, base = 0, len(view), 0
    while position + _FIRST <= end:
        group, number, length = EXPLICIT_LITTLE.implicit(view, position)
        if group == DELIMITERS and number == SEQUENCE_END:
            break
        start = position + _FIRST
        if group != DELIMITERS or number != ITEM or length == UNDEFINED or start + length > end:
            raise NotDicom("the fragments of the pixel data cannot be read")
        if table is None:
            table = bytes(view[start : start + length])
            base = start + length
        else:
            places[position - base] = len(fragments)
            fragments.append(view[start : start + length])
        position = start + length
    return table or b"", fragments, places


def _numbers(table: bytes, form: str, size: int) -> tuple[int, ...]:
    if len(table) % size:
        raise NotDicom("the offset table of the pixel data is cut off")
    return struct.unpack(form % (len(table) // size), table)


def _by_offsets(
    fragments: Sequence[memoryview], places: dict[int, int], starts: Sequence[int]
) -> list[Fragments]:
    firsts = [places.get(start, -1) for start in starts]
    if firsts[0] != 0 or any(a >= b for a, b in itertools.pairwise(firsts)):
        raise NotDicom("the offset table of the pixel data does not fit its fragments")
    return [
        tuple(fragments[first:following])
        for first, following in zip(firsts, [*firsts[1:], len(fragments)], strict=True)
    ]
