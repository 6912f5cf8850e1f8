"""Colours of pixels: palettes, YBR, and what red, green and blue they mean (PS3.3 C.7.6.3.1.2).

Everything is brought to 8 bits per colour, except means for `tomono`. Pure functions.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from dgate.dicom.element import numbers_of
from dgate.dicom.pixels import PixelLayout
from dgate.dicom.samples import Plane, planes_of
from dgate.dicom.table import ElementTable

Rgb = tuple[bytes, bytes, bytes]
"""The three planes of a picture."""

_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_TABLES = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED = (0x00281221, 0x00281222, 0x00281223)
_MOST_ENTRIES = 1 << 16
YBR = frozenset(("YBR_FULL", "YBR_FULL_422"))
_CLIP = bytes([*([0] * 512), *range(256), *([255] * 512)])
"""Values from -512 on, brought between 0 and 255."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The three look-up tables of PALETTE COLOR, of values with so many bits."""

    first: int
    """The pixel value of the first entry; what is below has its colour too."""
    colours: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    bits: int

    def index(self, value: int) -> int:
        """Return the entry of a pixel value."""
        return min(max(value - self.first, 0), len(self.colours[0]) - 1)


def palette_of(table: ElementTable) -> Palette:
    """Return the palette of an object; raises ValueError when it has none that can be used."""
    if any(tag in table for tag in _SEGMENTED):
        raise ValueError("segmented palettes are not known")
    order = table.little_endian
    described = []
    for tag in _DESCRIPTORS:
        raw = table.raw(tag) or b""
        if len(raw) < 6:
            raise ValueError("the object has no palette")
        described.append(numbers_of("US", raw[:6], little_endian=order))
    entries, first, bits = (int(number) for number in described[0])
    entries = entries or _MOST_ENTRIES
    if table.text(0x00280103).strip() == "1" and first >= 0x8000:
        first -= 0x10000
    found = []
    for tag in _TABLES:
        raw = table.raw(tag) or b""
        if bits <= 8 and len(raw) < 2 * entries:
            # One byte an entry; words of a big endian object hold them the other way round.
            if not order:
                raw = b"".join(raw[at : at + 2][::-1] for at in range(0, len(raw), 2))
            found.append(tuple(raw[:entries]))
        else:
            words = numbers_of("US", raw, little_endian=order)
            found.append(tuple(int(word) for word in words[:entries]))
    if any(len(colour) != entries for colour in found):
        raise ValueError("the palette is shorter than its descriptor says")
    # Some write 8 bits and mean the upper byte of words.
    if bits <= 8 and max(map(max, found)) > 255:
        bits = 16
    return Palette(first, (found[0], found[1], found[2]), bits)


def rgb_of(table: ElementTable, layout: PixelLayout) -> Callable[[bytes], Rgb]:
    """Return what makes red, green and blue of a colour frame.

    Raises:
        ValueError: nobody knows what the colours are.
    """
    if layout.photometric == "PALETTE COLOR":
        palette = palette_of(table)
        shift = max(0, palette.bits - 8)
        tones = [bytes(value >> shift & 255 for value in colour) for colour in palette.colours]

        def looked_up(frame: bytes) -> Rgb:
            plane = planes_of(frame, layout)[0]
            places = {value: palette.index(value) for value in set(plane)}
            found = [
                bytes(map({v: tone[p] for v, p in places.items()}.__getitem__, plane))
                for tone in tones
            ]
            return found[0], found[1], found[2]

        return looked_up
    if layout.samples != 3:
        raise ValueError(f"{layout.samples} samples of {layout.photometric} are no known colour")
    down = max(0, layout.stored - 8)

    def planes(frame: bytes) -> Rgb:
        found = [_as_bytes(plane, down) for plane in planes_of(frame, layout)]
        return found[0], found[1], found[2]

    if layout.photometric in YBR:
        return lambda frame: _from_ybr(*planes(frame))
    if layout.photometric not in ("RGB", "YBR_ICT", "YBR_RCT"):
        raise ValueError(f"the colours {layout.photometric} are not known")
    return planes


def _as_bytes(plane: Plane, down: int) -> bytes:
    if isinstance(plane, bytes):
        return plane
    if not down:
        return bytes(plane)
    return bytes([value >> down & 255 for value in plane])


def _from_ybr(bright: bytes, blue: bytes, red: bytes) -> Rgb:
    """Return RGB of full-range YBR (PS3.3 C.7.6.3.1.2, ITU-T T.871)."""
    of_red = [round(1.402 * (value - 128)) for value in range(256)]
    of_blue = [round(1.772 * (value - 128)) for value in range(256)]
    green_blue = [-0.344136 * (value - 128) for value in range(256)]
    green_red = [-0.714136 * (value - 128) + 512.5 for value in range(256)]
    clip = _CLIP
    return (
        bytes([clip[y + of_red[r] + 512] for y, r in zip(bright, red, strict=True)]),
        bytes(
            [
                clip[y + int(green_blue[b] + green_red[r])]
                for y, b, r in zip(bright, blue, red, strict=True)
            ]
        ),
        bytes([clip[y + of_blue[b] + 512] for y, b in zip(bright, blue, strict=True)]),
    )


def means_of(table: ElementTable, layout: PixelLayout) -> tuple[Callable[[bytes], Plane], int]:
    """Return what makes the integer mean of red, green and blue of a frame, and its bits.

    Raises:
        ValueError: nobody knows what the colours are.
    """
    if layout.photometric == "RGB" and layout.samples == 3:

        def of_samples(frame: bytes) -> Plane:
            return _means(*planes_of(frame, layout))

        return of_samples, layout.stored
    colours = rgb_of(table, layout)
    return (lambda frame: _means(*colours(frame))), 8


def _means(red: Plane, green: Plane, blue: Plane) -> Plane:
    sums = map(operator.add, map(operator.add, red, green), blue)
    return [total // 3 for total in sums]
