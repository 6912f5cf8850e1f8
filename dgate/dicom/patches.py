"""Where changes go: from patches by tag to ranges of the encoded data set that are replaced.

Not for what the values are (`dgate.dicom.table`). Pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from dgate.dicom import element
from dgate.dicom.scan import (
    PIXEL_GROUP,
    SEQUENCE_END,
    UNDEFINED,
    Buffer,
    Encoding,
    Layout,
    content_encoding,
)

Patch = tuple[str, bytes, bool] | None
"""VR and value that an element was set to, and whether its length is undefined; None = deleted."""
Cut = tuple[int, int, bytes]
"""A range of the data set and the bytes that stand in its place."""

_Planned = tuple[int, int, int, bytes]
"""A cut with the tag behind its start, so that what goes to the same place gets into tag order."""


def plan(
    patches: Mapping[int, Patch], data: Buffer, encoding: Encoding, head: Layout, tail: Layout
) -> list[Cut]:
    """Return the cuts that make the patches, in the order of the data set.

    Every other element with a patched tag goes, so that no copy of a removed name is left behind.
    """
    planned: list[_Planned] = []
    grown: dict[int, int] = {}
    for tag, patch in patches.items():
        new = b"" if patch is None else _encoded(tag, patch, encoding)
        own = head if tag >> 16 < PIXEL_GROUP else tail
        entry = own.entries.get(tag)
        growth = len(new)
        if entry is not None:
            planned.append((entry[0], tag, entry[2], new))
            growth -= entry[2] - entry[0]
        elif new:
            start = _insertion_point(tag, own)
            planned.append((start, tag, start, new))
        for start, end in _others(tag, own, head, tail):
            planned.append((start, tag, end, b""))
            growth -= end - start
        grown[tag >> 16] = grown.get(tag >> 16, 0) + growth
    lengths = {group: growth for group, growth in grown.items() if group << 16 not in patches}
    planned += _group_lengths(lengths, data, encoding, head)
    planned.sort()
    return [(start, end, new) for start, _, end, new in planned]


def _encoded(tag: int, patch: tuple[str, bytes, bool], encoding: Encoding) -> bytes:
    vr, value, undefined = patch
    if not undefined:
        return element.encode_element(tag, vr, value, encoding)
    end = element.encode_delimiter(SEQUENCE_END, 0, content_encoding(encoding, vr.encode()))
    return element.encode_header(tag, vr, UNDEFINED, encoding) + value + end


def _others(tag: int, own: Layout, head: Layout, tail: Layout) -> Iterator[tuple[int, int]]:
    """Yield where else elements with the tag are."""
    for layout in (head, tail):
        for twice, entry in layout.shadowed:
            if twice == tag:
                yield entry[0], entry[2]
        if layout is not own and tag in layout.entries:
            yield layout.entries[tag][0], layout.entries[tag][2]


def _insertion_point(tag: int, layout: Layout) -> int:
    for other, entry in layout.entries.items():
        if other > tag:
            return entry[0]
    return layout.stop


def _group_lengths(
    grown: Mapping[int, int], data: Buffer, encoding: Encoding, head: Layout
) -> Iterator[_Planned]:
    """Yield corrected group length elements (gggg,0000) for the groups that have one."""
    for group, growth in grown.items():
        tag = group << 16
        entry = head.entries.get(tag)
        if entry is None or not growth or entry[2] - entry[1] != 4:
            continue
        old = encoding.length(data, entry[1])[0]
        new = struct.pack(encoding.order + "L", max(0, old + growth))
        yield entry[0], tag, entry[2], element.encode_element(tag, "UL", new, encoding)
