"""Where pixels lie in space: position and spacing after columns and rows were cut off or joined.

In the object itself, in its functional groups (PS3.3 C.7.6.16), in overlays and in the regions of
ultrasound (PS3.3 C.8.5.5). Not for the pixels (`dgate.dicom.reshape`). Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from dgate.dicom.element import encode_value
from dgate.dicom.table import ElementTable

PIXEL_SPACING = 0x00280030
POSITION = 0x00200032
ORIENTATION = 0x00200037
_SPACINGS = (PIXEL_SPACING, 0x00181164, 0x00182010)
"""Pixel Spacing, Imager Pixel Spacing, Nominal Scanned Pixel Spacing."""
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_PLANE_POSITION, _PLANE_ORIENTATION, _PIXEL_MEASURES = 0x00209113, 0x00209116, 0x00289110
_REGIONS = 0x00186011
_REGION_EDGES = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
"""Left, top, right, bottom."""
_REGION_REFERENCE = (0x00186020, 0x00186022)
_REGION_DELTAS = (0x0018602C, 0x0018602E)
_OVERLAYS = range(0x6000, 0x6020, 2)
_OVERLAY_ORIGIN = 0x0050
_LONGEST_DS = 16

Numbers = tuple[float, ...]


def move_origin(table: ElementTable, right: float, down: float) -> None:
    """Let the first pixel be the one that lay so many columns and rows further.

    An object without position, spacing or orientation keeps what it has.
    """
    spacing, orientation = _numbers(table, PIXEL_SPACING), _numbers(table, ORIENTATION)
    _move(table, spacing, orientation, right, down)
    shared = table.items(_SHARED)
    for item in shared:
        spacing = _inner(item, _PIXEL_MEASURES, PIXEL_SPACING) or spacing
        orientation = _inner(item, _PLANE_ORIENTATION, ORIENTATION) or orientation

    def change(item: ElementTable) -> None:
        own = _inner(item, _PIXEL_MEASURES, PIXEL_SPACING) or spacing
        turned = _inner(item, _PLANE_ORIENTATION, ORIENTATION) or orientation
        _each(item, _PLANE_POSITION, lambda plane: _move(plane, own, turned, right, down))

    _each(table, _SHARED, change)
    _each(table, _PER_FRAME, change)


def scale_spacing(table: ElementTable, across: float, down: float) -> None:
    """Let columns and rows be so many times further apart."""
    for tag in _SPACINGS:
        _scale(table, tag, across, down)

    def change(item: ElementTable) -> None:
        _each(item, _PIXEL_MEASURES, lambda plane: _scale(plane, PIXEL_SPACING, across, down))

    _each(table, _SHARED, change)
    _each(table, _PER_FRAME, change)


def move_overlays(table: ElementTable, right: int, down: int) -> None:
    """Keep overlays where they were in the picture, whose first pixel is another one now."""
    for group in _OVERLAYS:
        tag = group << 16 | _OVERLAY_ORIGIN
        origin = table.text(tag).split("\\") if tag in table else []
        if len(origin) != 2:
            continue
        try:
            row, column = (int(text) for text in origin)
            table.set_text(tag, f"{row - down}\\{column - right}")
        except ValueError:
            # An origin that no overlay can have stays as it is.
            continue


def drop_overlays(table: ElementTable) -> None:
    """Remove overlays, which do not fit pixels of another size."""
    for tag in table.tags():
        if tag >> 16 in _OVERLAYS:
            table.delete(tag)


def change_regions(
    table: ElementTable, place: Callable[[float, float], tuple[int, int]], scale: Numbers
) -> None:
    """Change the regions of an ultrasound image.

    Args:
        place: gives the new column and row of a pixel.
        scale: how many times further apart columns and rows are.
    """

    def change(item: ElementTable) -> None:
        edges = [_number(item, tag) for tag in _REGION_EDGES]
        corners = (*place(edges[0], edges[1]), *place(edges[2], edges[3]))
        for tag, value in zip(_REGION_EDGES, corners, strict=True):
            if tag in item:
                item.set_text(tag, str(value))
        for tag, times in zip(_REGION_REFERENCE, scale, strict=True):
            if tag in item and times != 1:
                item.set_text(tag, str(round(_number(item, tag) / times)))
        for tag, times in zip(_REGION_DELTAS, scale, strict=True):
            if tag in item and times != 1:
                item.set_text(tag, repr(_number(item, tag) * times))

    _each(table, _REGIONS, change)


def _move(
    table: ElementTable, spacing: Numbers, orientation: Numbers, right: float, down: float
) -> None:
    position = _numbers(table, POSITION)
    if len(position) != 3 or len(spacing) != 2 or len(orientation) != 6:
        return
    along, below = right * spacing[1], down * spacing[0]
    moved = [
        position[axis] + along * orientation[axis] + below * orientation[axis + 3]
        for axis in range(3)
    ]
    _set_numbers(table, POSITION, moved)


def _scale(table: ElementTable, tag: int, across: float, down: float) -> None:
    spacing = _numbers(table, tag)
    if len(spacing) == 2:
        _set_numbers(table, tag, [spacing[0] * down, spacing[1] * across])


def _each(table: ElementTable, tag: int, change: Callable[[ElementTable], None]) -> None:
    """Change the items of a sequence, if there are any."""
    if tag not in table:
        return
    items = table.items(tag)
    for item in items:
        change(item)
    if any(item.revision for item in items):
        table.set_items(tag, items)


def _inner(item: ElementTable, sequence: int, tag: int) -> Numbers:
    planes = item.items(sequence) if sequence in item else []
    return _numbers(planes[0], tag) if planes else ()


def _numbers(table: ElementTable, tag: int) -> Numbers:
    """Return the numbers of an element, none where it is absent or not made of numbers."""
    try:
        found = tuple(float(text) for text in table.text(tag).split("\\"))
    except ValueError:
        return ()
    return found if all(map(math.isfinite, found)) else ()


def _number(table: ElementTable, tag: int) -> float:
    found = _numbers(table, tag)
    return found[0] if found else 0.0


def _set_numbers(table: ElementTable, tag: int, numbers: list[float]) -> None:
    text = "\\".join(map(decimal, numbers))
    table.set_raw(tag, "DS", encode_value("DS", text, None))


def decimal(number: float) -> str:
    """Return a number as decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    for digits in range(15, 0, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= _LONGEST_DS:
            return text
    return "0"
