"""Samples of frames as numbers: bytes to arrays and back, planes apart and together.

Plain arrays, no numpy; what is done per pixel is done by `map` and slices. Pure functions.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dgate.dicom.pixels import PixelLayout
from dgate.errors import NotDicom

Plane = Sequence[int]
"""The values of one sample of all pixels, row by row."""

_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_BITS = [bytes(value >> bit & 1 for bit in range(8)) for value in range(256)]
_DIGITS = bytes(48 + (value & 1) for value in range(256))


def planes_of(frame: bytes, layout: PixelLayout) -> list[Plane]:
    """Return the values of each sample; raises NotDicom for what cannot be taken apart.

    Only the bits that hold the value count; signed ones are negative where their sign says so.
    """
    if layout.is_subsampled:
        return [*full_colour(frame, layout)]
    if not layout.sample_bytes:
        return [bits_of(frame)[: layout.pixels]]
    values = _array(frame, layout.sample_bytes)
    if layout.planar:
        size = layout.pixels
        parts = [values[n * size : (n + 1) * size] for n in range(layout.samples)]
    else:
        parts = [values[n :: layout.samples] for n in range(layout.samples)]
    return [_values(part, layout) for part in parts]


def full_colour(frame: bytes, layout: PixelLayout) -> tuple[bytes, bytes, bytes]:
    """Return the planes of a frame whose neighbouring pixels share their colour."""
    if layout.columns % 2 or layout.allocated != 8:
        raise NotDicom(f"{layout.photometric} with an odd number of columns or other than 8 bits")
    bright = bytearray(layout.pixels)
    bright[0::2], bright[1::2] = frame[0::4], frame[1::4]
    blue, red = bytearray(layout.pixels), bytearray(layout.pixels)
    blue[0::2] = blue[1::2] = frame[2::4]
    red[0::2] = red[1::2] = frame[3::4]
    return bytes(bright), bytes(blue), bytes(red)


def frame_of(planes: Sequence[Plane], layout: PixelLayout) -> bytes:
    """Return the frame that planes make, as the layout says."""
    if not layout.sample_bytes:
        return packed_bits(bytes(planes[0]))
    cells = [_cells(plane, layout) for plane in planes]
    if len(cells) == 1:
        return cells[0].tobytes() if sys.byteorder == "little" else _swapped(cells[0])
    out = array.array(cells[0].typecode, bytes(layout.frame_bytes))
    for number, cell in enumerate(cells):
        if layout.planar:
            out[number * layout.pixels : (number + 1) * layout.pixels] = cell
        else:
            out[number :: layout.samples] = cell
    return out.tobytes() if sys.byteorder == "little" else _swapped(out)


def without_sharing(layout: PixelLayout) -> PixelLayout:
    """Return the layout in which each pixel has its own colour."""
    return replace(layout, photometric="YBR_FULL") if layout.is_subsampled else layout


def bits_of(frame: bytes) -> bytes:
    """Return a byte, 0 or 1, for each bit, the lowest bit of a byte first."""
    return b"".join(map(_BITS.__getitem__, frame))


def packed_bits(bits: bytes) -> bytes:
    """Return bits as `bits_of` takes them."""
    if not bits:
        return b""
    return int(bits[::-1].translate(_DIGITS), 2).to_bytes((len(bits) + 7) // 8, "little")


def _array(frame: bytes, size: int) -> array.array[int]:
    values = array.array(_CODES[size], frame)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _swapped(values: array.array[int]) -> bytes:
    values.byteswap()
    return values.tobytes()


def _values(cells: array.array[int], layout: PixelLayout) -> Plane:
    """Return what cells hold: their value bits, with sign."""
    if layout.stored == layout.allocated and not layout.signed:
        return cells
    shift = layout.high_bit + 1 - layout.stored
    mask = (1 << layout.stored) - 1
    sign = 1 << layout.stored - 1 if layout.signed else 0
    # A value is computed once, however often it occurs.
    meaning = {cell: ((cell >> shift & mask) ^ sign) - sign for cell in set(cells)}
    return list(map(meaning.__getitem__, cells))


def _cells(plane: Plane, layout: PixelLayout) -> array.array[int]:
    code = _CODES[layout.sample_bytes]
    shift = layout.high_bit + 1 - layout.stored
    if isinstance(plane, bytes) and code == "B" and not shift:
        return array.array("B", plane)
    if not layout.signed and not shift:
        return array.array(code, plane)
    # The sign fills the cell, as most writers have it.
    mask = (1 << layout.allocated) - 1
    meaning = {value: value << shift & mask for value in set(plane)}
    return array.array(code, map(meaning.__getitem__, plane))


def row_slices(plane: Plane, columns: int) -> Iterable[Plane]:
    """Yield the rows of a plane."""
    return (plane[start : start + columns] for start in range(0, len(plane), columns))
