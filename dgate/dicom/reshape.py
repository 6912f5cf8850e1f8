"""Objects with other pixels: cropped, smaller, without colour (converters.md 8.3 and 10).

What describes the pixels is changed with them (PS3.3 C.7.6.3): size, position, spacing, overlays.
The SOP Instance UID stays, as rules decide about it. Not for what is stored how
(`dgate.dicom.frames`). Pure functions of the object that is changed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import accumulate, pairwise

from dgate.dicom import geometry
from dgate.dicom.colour import means_of
from dgate.dicom.frames import Frames, put_frames
from dgate.dicom.pixels import PixelLayout
from dgate.dicom.samples import Plane, frame_of, planes_of, without_sharing
from dgate.dicom.table import ElementTable

_IMAGE_TYPE = 0x00080008
_DERIVATION = 0x00082111
_LONGEST_DERIVATION = 1024
_EXTREMES = (0x00280106, 0x00280107)
"""Smallest and Largest Image Pixel Value."""
_COLOUR_ELEMENTS = (
    0x00281101,
    0x00281102,
    0x00281103,
    0x00281199,
    0x00281201,
    0x00281202,
    0x00281203,
    0x00281221,
    0x00281222,
    0x00281223,
    0x00282000,
)
"""Palettes and ICC Profile."""
_ULTRASOUND_COLOUR = 0x00280014
_TILED = 0x00480006
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
Window = tuple[int, int]
"""The first column or row of a box, and the one behind its last."""


def crop(table: ElementTable, left: int, top: int, right: int, bottom: int) -> None:
    """Keep the pixels of a rectangle, in all frames; edges count from 0 and belong to it.

    Raises:
        ValueError: the rectangle is not inside the image.
        NotDicom, CannotTranscode: the pixels cannot be read.
    """
    frames = Frames(table)
    layout = frames.layout
    if not (left <= right < layout.columns and top <= bottom < layout.rows):
        raise ValueError(
            f"the rectangle {left},{top},{right},{bottom} is not inside the image, "
            f"whose last pixel is {layout.columns - 1},{layout.rows - 1}"
        )
    if table.text(_TILED) and layout.frames > 1:
        raise ValueError("the tiles of a whole slide image cannot be cropped")
    target = replace(without_sharing(layout), rows=bottom - top + 1, columns=right - left + 1)
    if target == layout:
        return
    window = (left, top, right + 1, bottom + 1)
    put_frames(table, target, _cropped(frames, window))
    geometry.move_origin(table, left, top)
    geometry.move_overlays(table, left, top)
    last_column, last_row = target.columns - 1, target.rows - 1

    def place(column: float, row: float) -> tuple[int, int]:
        return (
            int(min(max(column - left, 0), last_column)),
            int(min(max(row - top, 0), last_row)),
        )

    geometry.change_regions(table, place, (1, 1))
    _mark_derived(table, f"cropped to {left},{top},{right},{bottom}")


def _cropped(frames: Frames, window: tuple[int, int, int, int]) -> Iterator[bytes]:
    layout = frames.layout
    left, top, right, bottom = window
    if layout.is_subsampled or not layout.sample_bytes:
        target = replace(without_sharing(layout), rows=bottom - top, columns=right - left)
        for frame in frames:
            planes = [_inside(plane, layout.columns, window) for plane in planes_of(frame, layout)]
            yield frame_of(planes, target)
        return
    # Cells are copied as they are, whatever is in the bits that hold no value.
    size = layout.sample_bytes * (1 if layout.planar else layout.samples)
    planes_there = layout.samples if layout.planar else 1
    line = layout.columns * size
    for frame in frames:
        yield b"".join(
            frame[(plane * layout.rows + row) * line + left * size :][: (right - left) * size]
            for plane in range(planes_there)
            for row in range(top, bottom)
        )


def _inside(plane: Plane, columns: int, window: tuple[int, int, int, int]) -> bytes:
    left, top, right, bottom = window
    return b"".join(
        bytes(plane[row * columns + left : row * columns + right]) for row in range(top, bottom)
    )


def to_monochrome(table: ElementTable) -> bool:
    """Make colour the mean of red, green and blue; tell whether there was colour.

    Raises:
        NotDicom, CannotTranscode: the pixels cannot be read.
        ValueError: nobody knows what their colours are.
    """
    frames = Frames(table)
    layout = frames.layout
    if layout.photometric in _MONOCHROME or (
        layout.samples == 1 and layout.photometric != "PALETTE COLOR"
    ):
        return False
    mean, bits = means_of(table, layout)
    target = replace(
        layout,
        samples=1,
        allocated=8 if bits <= 8 else 16,
        stored=bits,
        high_bit=bits - 1,
        signed=False,
        photometric="MONOCHROME2",
        planar=False,
    )
    put_frames(table, target, (frame_of([mean(frame)], target) for frame in frames))
    for tag in _COLOUR_ELEMENTS:
        table.delete(tag)
    if _ULTRASOUND_COLOUR in table:
        table.set_text(_ULTRASOUND_COLOUR, "0")
    _mark_derived(table, "mean of red, green and blue")
    return True


def downsize(table: ElementTable, most: int) -> bool:
    """Make the longer side `most` pixels where it is longer; tell whether it was.

    Each pixel is the mean of those that it stands for; indices of a palette and single bits are
    picked, not averaged. Overlays are removed: they fit the old size only.

    Raises:
        NotDicom, CannotTranscode: the pixels cannot be read.
        ValueError: they are tiles of a larger image.
    """
    frames = Frames(table)
    layout = frames.layout
    longest = max(layout.rows, layout.columns)
    if longest <= most:
        return False
    if table.text(_TILED) and layout.frames > 1:
        raise ValueError("the tiles of a whole slide image cannot be made smaller")
    columns = max(1, layout.columns * most // longest)
    rows = max(1, layout.rows * most // longest)
    target = replace(without_sharing(layout), rows=rows, columns=columns)
    put_frames(table, target, _downsized(frames, target))
    across, down = layout.columns / columns, layout.rows / rows
    geometry.move_origin(table, (across - 1) / 2, (down - 1) / 2)
    geometry.scale_spacing(table, across, down)
    geometry.drop_overlays(table)

    def place(column: float, row: float) -> tuple[int, int]:
        return min(int(column / across), columns - 1), min(int(row / down), rows - 1)

    geometry.change_regions(table, place, (across, down))
    _mark_derived(table, f"reduced from {layout.columns} x {layout.rows}")
    return True


def _downsized(frames: Frames, target: PixelLayout) -> Iterator[bytes]:
    layout = frames.layout
    size = (layout.columns, layout.rows)
    picked = layout.photometric == "PALETTE COLOR" or not layout.sample_bytes
    change = thinned if picked else averaged
    for frame in frames:
        planes = [
            change(plane, size, (target.columns, target.rows)) for plane in planes_of(frame, layout)
        ]
        yield frame_of(planes, target)


def averaged(plane: Plane, size: tuple[int, int], smaller: tuple[int, int]) -> list[int]:
    """Return a plane of fewer columns and rows, each value the rounded mean of a box."""
    columns = size[0]
    across, down = _windows(size[0], smaller[0]), _windows(size[1], smaller[1])
    out: list[int] = []
    for top, bottom in down:
        rows = (plane[row * columns : (row + 1) * columns] for row in range(top, bottom))
        sums = reduce(_added, rows)
        edges = list(accumulate(sums, initial=0))
        height = bottom - top
        out += [
            (2 * (edges[right] - edges[left]) + (count := (right - left) * height)) // (2 * count)
            for left, right in across
        ]
    return out


def thinned(plane: Plane, size: tuple[int, int], smaller: tuple[int, int]) -> list[int]:
    """Return a plane of fewer columns and rows, each value the one in the middle of a box."""
    columns = size[0]
    places = [(left + right) // 2 for left, right in _windows(size[0], smaller[0])]
    return [
        plane[(top + bottom) // 2 * columns + place]
        for top, bottom in _windows(size[1], smaller[1])
        for place in places
    ]


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return list(map(operator.add, one, other))


def _windows(length: int, count: int) -> list[Window]:
    edges = [number * length // count for number in range(count + 1)]
    return list(pairwise(edges))


def _mark_derived(table: ElementTable, what: str) -> None:
    """Say that the pixels are not those that were acquired (PS3.3 C.7.6.1.1.2)."""
    for tag in _EXTREMES:
        table.delete(tag)
    kind, *others = table.text(_IMAGE_TYPE).split("\\")
    if kind == "ORIGINAL":
        table.set_text(_IMAGE_TYPE, "\\".join(("DERIVED", *others)))
    said = table.text(_DERIVATION)
    text = f"{said}; {what}" if said else what
    if len(text) <= _LONGEST_DERIVATION:
        table.set_text(_DERIVATION, text)
