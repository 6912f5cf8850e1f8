"""Frames as people see them: 8 bits of grey or colour (PS3.3 C.11, PS3.14 left to the screen).

Not for files of pictures (`dgate.dicom.picture`). Pure functions; the object is only read.
"""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dgate.dicom.colour import Rgb, rgb_of
from dgate.dicom.element import numbers_of
from dgate.dicom.frames import Frames
from dgate.dicom.pixels import PixelLayout
from dgate.dicom.reshape import averaged
from dgate.dicom.samples import planes_of
from dgate.dicom.table import ElementTable

CENTER, WIDTH = 0x00281050, 0x00281051
_FUNCTION = 0x00281056
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_MODALITY_LUT, _VOI_LUT = 0x00283000, 0x00283010
_DESCRIPTOR, _DATA = 0x00283002, 0x00283006
_PADDING = 0x00280120
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_FRAME_VOI, _TRANSFORMATION = 0x00289132, 0x00289145
_MOST = 255
_LARGEST = 4096

Tone = Callable[[float], float]
"""Gives a value another one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: one plane of grey, or three of red, green and blue."""

    columns: int
    rows: int
    planes: tuple[bytes, ...]

    def interleaved(self) -> bytes:
        """Return red, green and blue of each pixel after each other; grey as it is."""
        if len(self.planes) == 1:
            return self.planes[0]
        out = bytearray(3 * len(self.planes[0]))
        for number, plane in enumerate(self.planes):
            out[number::3] = plane
        return bytes(out)


@dataclass(frozen=True, slots=True)
class View:
    """How to look at an image."""

    level: float | None = None
    window: float = 0.0
    """With `level`, in stored values; 0: as the object says, else from its darkest to its brightest
    pixel."""
    gamma: float = 1.0
    """Exponent of brightness between 0 and 1; above 1 makes darker."""
    most: int = _LARGEST
    """Pixels of the longer side."""


def render(table: ElementTable, frames: Frames, number: int, view: View) -> Picture:
    """Return one frame as a picture.

    Raises:
        NotDicom: there is no such frame, or it is damaged.
        ValueError: nobody knows what its colours are.
    """
    layout = frames.layout
    frame = frames.frame(number)
    if is_grey(layout):
        planes: Sequence[bytes] = [_grey(table, frame, layout, number, view)]
    else:
        planes = rgb_of(table, layout)(frame)
    planes, columns, rows = _fitted(planes, layout, view.most)
    if view.gamma != 1.0:
        curve = bytes(round(_MOST * (tone / _MOST) ** view.gamma) for tone in range(256))
        planes = [plane.translate(curve) for plane in planes]
    return Picture(columns, rows, tuple(planes))


def grey_values(table: ElementTable, frames: Frames, number: int, bits: int) -> bytes:
    """Return one frame as grey values for a film, dark is 0 (MONOCHROME2).

    Args:
        bits: 8, a byte each; or up to 16, two bytes each, little endian. Colour has 8 only.

    Raises:
        NotDicom: there is no such frame, or it is damaged.
        ValueError: nobody knows what its colours are.
    """
    layout = frames.layout
    frame = frames.frame(number)
    if not is_grey(layout):
        red, green, blue = rgb_of(table, layout)(frame)
        # ITU-R BT.601, as for YBR_FULL (PS3.3 C.7.6.3.1.2).
        return bytes(
            (299 * r + 587 * g + 114 * b + 500) // 1000
            for r, g, b in zip(red, green, blue, strict=True)
        )
    values = _grey_tones(table, frame, layout, number, View(), (1 << bits) - 1)
    if bits <= 8:
        return bytes(values)
    cells = array.array("H", values)
    if sys.byteorder == "big":
        cells.byteswap()
    return cells.tobytes()


def is_grey(layout: PixelLayout) -> bool:
    """Tell whether pixels are grey as they are."""
    return layout.samples == 1 and layout.photometric != "PALETTE COLOR"


def _fitted(
    planes: Sequence[bytes] | Rgb, layout: PixelLayout, most: int
) -> tuple[Sequence[bytes], int, int]:
    longest = max(layout.columns, layout.rows)
    if longest <= most:
        return planes, layout.columns, layout.rows
    columns = max(1, layout.columns * most // longest)
    rows = max(1, layout.rows * most // longest)
    size = (layout.columns, layout.rows)
    return [bytes(averaged(plane, size, (columns, rows))) for plane in planes], columns, rows


def _grey(table: ElementTable, frame: bytes, layout: PixelLayout, number: int, view: View) -> bytes:
    return bytes(_grey_tones(table, frame, layout, number, view, _MOST))


def _grey_tones(
    table: ElementTable, frame: bytes, layout: PixelLayout, number: int, view: View, most: int
) -> Iterator[int]:
    """Yield the tones of all pixels, from 0 to `most`."""
    plane = planes_of(frame, layout)[0]
    there = set(plane)
    tone = _tone(table, there, number, layout, view)
    last = most if layout.photometric == "MONOCHROME1" else 0
    # Each value is worked out once, however many pixels have it.
    tones = {value: abs(last - _clipped(tone(value) * most / _MOST, most)) for value in there}
    return map(tones.__getitem__, plane)


def _clipped(value: float, most: int) -> int:
    return 0 if value <= 0 else most if value >= most else int(value + 0.5)


def _tone(
    table: ElementTable, there: set[int], number: int, layout: PixelLayout, view: View
) -> Tone:
    if view.level is not None and view.window > 0:
        return _linear(view.level, view.window)
    modality = _modality(table, number)
    center = _number(table, number, _FRAME_VOI, CENTER)
    width = _number(table, number, _FRAME_VOI, WIDTH)
    if center is not None and width is not None and width >= 1:
        function = _text(table, number, _FRAME_VOI, _FUNCTION)
        voi = _VOI.get(function, _linear)(center, width)
        return lambda value: voi(modality(value))
    if table.items(_VOI_LUT):
        lut = _lut(table.items(_VOI_LUT)[0], eight_bits=True)
        return lambda value: lut(modality(value))
    if not layout.sample_bytes:
        return lambda value: value * _MOST
    return _from_to(table, there, modality)


def _from_to(table: ElementTable, there: set[int], modality: Tone) -> Tone:
    """Return what spreads the values that are there over all tones."""
    padding = table.text(_PADDING).partition("\\")[0]
    seen = [value for value in there if str(value) != padding] or [0]
    low, high = sorted((modality(min(seen)), modality(max(seen))))
    span = high - low or 1.0
    return lambda value: (modality(value) - low) * _MOST / span


def _linear(center: float, width: float) -> Tone:
    """Return the window of PS3.3 C.11.2.1.2.1."""
    if width <= 1:
        return lambda value: 0.0 if value <= center - 0.5 else float(_MOST)
    return lambda value: ((value - (center - 0.5)) / (width - 1) + 0.5) * _MOST


def _exact(center: float, width: float) -> Tone:
    return lambda value: ((value - center) / width + 0.5) * _MOST


def _sigmoid(center: float, width: float) -> Tone:
    def tone(value: float) -> float:
        exponent = -4 * (value - center) / width
        return 0.0 if exponent > 700 else _MOST / (1 + math.exp(exponent))

    return tone


_VOI = {"LINEAR_EXACT": _exact, "SIGMOID": _sigmoid}


def _modality(table: ElementTable, number: int) -> Tone:
    """Return what makes of stored values those that a window is meant for (PS3.3 C.11.1)."""
    luts = table.items(_MODALITY_LUT)
    if luts:
        return _lut(luts[0], eight_bits=False)
    slope = _number(table, number, _TRANSFORMATION, _SLOPE)
    intercept = _number(table, number, _TRANSFORMATION, _INTERCEPT)
    by, plus = (1.0 if slope is None else slope), intercept or 0.0
    if (by, plus) == (1.0, 0.0):
        return float
    return lambda value: value * by + plus


def _lut(item: ElementTable, *, eight_bits: bool) -> Tone:
    raw, data = item.raw(_DESCRIPTOR) or b"", item.raw(_DATA) or b""
    order = item.little_endian
    described = [int(word) for word in numbers_of("US", raw[:6], little_endian=order)]
    entries, first, bits = described if len(described) == 3 else (0, 0, 0)
    entries = entries or 1 << 16
    words = [int(word) for word in numbers_of("US", data, little_endian=order)]
    if bits <= 8 and len(data) < 2 * entries:
        words = list(data)
    if not words or not 1 <= bits <= 16:
        return float
    if item.vr(_DESCRIPTOR) == "SS" and first >= 0x8000:
        first -= 0x10000
    last = min(entries, len(words)) - 1
    scale = _MOST / ((1 << bits) - 1) if eight_bits else 1.0
    return lambda value: words[min(max(int(value) - first, 0), last)] * scale


def _text(table: ElementTable, number: int, group: int, tag: int) -> str:
    """Return an element of the object, or of the functional groups of a frame."""
    own = table.text(tag)
    if own:
        return own.partition("\\")[0].strip()
    per_frame = table.items(_PER_FRAME)
    for item in (*per_frame[number : number + 1], *table.items(_SHARED)[:1]):
        inner = item.items(group)
        if inner and inner[0].text(tag):
            return inner[0].text(tag).partition("\\")[0].strip()
    return ""


def _number(table: ElementTable, number: int, group: int, tag: int) -> float | None:
    try:
        found = float(_text(table, number, group, tag))
    except ValueError:
        return None
    return found if math.isfinite(found) else None
