"""Blacking out rectangles of native pixels, on every frame (PS3.3 C.7.6.3).

Not for which ones (`dgate.dicom.deidentify.masks`). Rows are overwritten in a copy of the pixel
bytes; nothing is done pixel by pixel. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgate.dicom.deidentify.masks import COLUMNS, ROWS, Rectangle
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import RuleError

PIXEL_DATA = 0x7FE00010
_PIXELS = {PIXEL_DATA: "OW", 0x7FE00008: "OF", 0x7FE00009: "OD"}
_SAMPLES = 0x00280002
_PHOTOMETRIC = 0x00280004
_PLANAR = 0x00280006
_FRAMES = 0x00280008
_BITS = 0x00280100
_WHOLE_BYTES = (8, 16, 32, 64)
_SUBSAMPLED = "YBR_FULL_422"
_UNKNOWN_LAYOUTS = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_FULL_420")
_GREY = 128
"""Cb and Cr of black."""


@dataclass(frozen=True, slots=True)
class _Plane:
    """A rectangular array of bytes inside a frame, and what black is there."""

    offset: int
    row_bytes: int
    pixel: bytes
    """Black, for as many pixels as `width` says."""
    width: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the pixels of an object lie in its pixel data."""

    rows: int
    columns: int
    frames: int
    frame_bytes: int
    planes: tuple[_Plane, ...]


def has_pixels(table: ElementTable) -> bool:
    """Tell whether an object has an image."""
    return any(tag in table for tag in _PIXELS)


def black_out(table: ElementTable, rectangles: Sequence[Rectangle]) -> None:
    """Overwrite rectangles on all frames.

    Raises:
        RuleError: the pixels are compressed, or not laid out as the object says, or a rectangle
            does not lie in the image. Nothing has been changed then.
    """
    if transfer_syntax(table.syntax).encapsulated:
        raise RuleError(
            f"pixels in {transfer_syntax(table.syntax).name} cannot be masked",
            remedy="decompress the object before: IncomingCompression = ul",
        )
    for tag, vr in _PIXELS.items():
        raw = table.raw(tag)
        if raw is None:
            continue
        layout = _layout(table)
        placed = [each.placed(layout.rows, layout.columns) for each in rectangles]
        size = layout.frame_bytes * layout.frames
        if len(raw) < size:
            raise RuleError("the pixel data is shorter than rows, columns and frames say")
        # What stands behind the last frame belongs to no image, and nobody has looked at it.
        pixels = bytearray(memoryview(raw)[:size])
        _paint(pixels, layout, placed)
        table.set_raw(tag, table.vr(tag) if tag == PIXEL_DATA else vr, bytes(pixels))


def _paint(pixels: bytearray, layout: _Layout, rectangles: Sequence[Rectangle]) -> None:
    for start, row_bytes, first, last, black in _strips(layout, rectangles):
        for frame in range(layout.frames):
            base = frame * layout.frame_bytes + start
            for row in range(first, last + 1):
                at = base + row * row_bytes
                pixels[at : at + len(black)] = black


def _strips(
    layout: _Layout, rectangles: Sequence[Rectangle]
) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Yield for each rectangle and plane: offset in the first row, row length, rows, black."""
    for rectangle in rectangles:
        for plane in layout.planes:
            first = rectangle.x0 // plane.width
            count = rectangle.x1 // plane.width - first + 1
            yield (
                plane.offset + first * len(plane.pixel),
                plane.row_bytes,
                rectangle.y0,
                rectangle.y1,
                plane.pixel * count,
            )


def _layout(table: ElementTable) -> _Layout:
    rows, columns = _number(table, ROWS), _number(table, COLUMNS)
    samples = _number(table, _SAMPLES, 1)
    frames = _number(table, _FRAMES, 1)
    bits = _number(table, _BITS)
    photometric = table.text(_PHOTOMETRIC).strip()
    if bits not in _WHOLE_BYTES:
        raise RuleError(f"pixels of {bits} bits cannot be masked")
    if photometric in _UNKNOWN_LAYOUTS:
        raise RuleError(f"native pixels in {photometric} cannot be masked")
    if photometric == _SUBSAMPLED:
        if samples != 3 or bits != 8 or columns % 2:
            raise RuleError(f"pixels in {photometric} have three samples of 8 bits in pairs")
        pair = bytes((0, 0, _GREY, _GREY))
        planes: tuple[_Plane, ...] = (_Plane(0, columns * 2, pair, 2),)
        return _Layout(rows, columns, frames, rows * columns * 2, planes)
    size = bits // 8
    black = [_black(photometric, sample, size, table.little_endian) for sample in range(samples)]
    planar = _number(table, _PLANAR, 0) if samples > 1 else 0
    if planar == 1:
        planes = tuple(
            _Plane(sample * rows * columns * size, columns * size, black[sample], 1)
            for sample in range(samples)
        )
    else:
        planes = (_Plane(0, columns * size * samples, b"".join(black), 1),)
    return _Layout(rows, columns, frames, rows * columns * samples * size, planes)


def _black(photometric: str, sample: int, size: int, little_endian: bool) -> bytes:
    if photometric.startswith("YBR") and sample:
        return (1 << (size * 8 - 1)).to_bytes(size, "little" if little_endian else "big")
    return bytes(size)


def _number(table: ElementTable, tag: int, default: int | None = None) -> int:
    text = table.text(tag).strip()
    if not text and default is not None:
        return default
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if number < 0 or (number == 0 and tag != _PLANAR):
        raise RuleError(
            f"the pixels cannot be masked: ({tag >> 16:04X},{tag & 0xFFFF:04X}) is {text[:20]!r}"
        )
    return number
