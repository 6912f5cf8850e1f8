"""The Image Pixel module: how the pixels of an object lie in its bytes (PS3.3 C.7.6.3, PS3.5 8).

Not for decoding (`dgate.dicom.frames`) nor for changing pixels (`dgate.dicom.reshape`). Pure
values and functions.
"""

from __future__ import annotations

import array
from dataclasses import dataclass

from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.errors import NotDicom

SAMPLES = 0x00280002
PHOTOMETRIC = 0x00280004
PLANAR = 0x00280006
FRAMES = 0x00280008
FRAME_POINTER = 0x00280009
ROWS = 0x00280010
COLUMNS = 0x00280011
ALLOCATED = 0x00280100
STORED = 0x00280101
HIGH_BIT = 0x00280102
SIGNED = 0x00280103

SUBSAMPLED = frozenset(("YBR_FULL_422", "YBR_PARTIAL_422"))
"""Two pixels share their colour: four bytes for both."""
_SIZES = frozenset((1, 8, 16, 32, 64))
_MOST_FRAMES = 1 << 24


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """What one frame of native pixel data is; lengths in bytes and bits."""

    rows: int
    columns: int
    samples: int
    allocated: int
    """Bits of a sample's cell."""
    stored: int
    """Bits of it that hold the value."""
    high_bit: int
    signed: bool
    frames: int
    photometric: str
    planar: bool
    """Samples lie plane by plane (Planar Configuration 1)."""

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.rows * self.columns

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample; 0 for single bits."""
        return self.allocated // 8

    @property
    def is_subsampled(self) -> bool:
        """Whether neighbouring pixels share their colour."""
        return self.samples == 3 and self.photometric in SUBSAMPLED

    @property
    def frame_bits(self) -> int:
        """Bits of a frame: only of single bits no multiple of 8."""
        samples = 2 if self.is_subsampled else self.samples
        return self.pixels * samples * self.allocated

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame by itself."""
        return (self.frame_bits + 7) // 8

    @property
    def total_bytes(self) -> int:
        """Bytes of all frames, without padding to even length."""
        return (self.frame_bits * self.frames + 7) // 8


def layout_of(table: ElementTable) -> PixelLayout:
    """Return the layout that an object declares.

    Raises:
        NotDicom: it has no pixel data, or what describes it is missing or impossible.
    """
    if PIXEL_DATA not in table:
        raise NotDicom("the object has no pixel data")
    rows, columns = _number(table, ROWS), _number(table, COLUMNS)
    samples = _number(table, SAMPLES) or 1
    allocated = _number(table, ALLOCATED)
    stored = _number(table, STORED) or allocated
    frames = _number(table, FRAMES) or 1
    high_bit = _number(table, HIGH_BIT) if HIGH_BIT in table else stored - 1
    if not rows or not columns:
        raise NotDicom("Rows or Columns is missing")
    if allocated not in _SIZES:
        raise NotDicom(f"Bits Allocated is {allocated or 'missing'}")
    if samples > 4 or frames > _MOST_FRAMES or stored > allocated or high_bit >= allocated:
        raise NotDicom("what describes the pixel data contradicts itself")
    return PixelLayout(
        rows,
        columns,
        samples,
        allocated,
        stored,
        max(high_bit, stored - 1),
        _number(table, SIGNED) == 1,
        frames,
        table.text(PHOTOMETRIC).strip() or "MONOCHROME2",
        samples > 1 and _number(table, PLANAR) == 1,
    )


def _number(table: ElementTable, tag: int) -> int:
    text = table.text(tag).partition("\\")[0].strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def native_frame(value: memoryview, layout: PixelLayout, number: int) -> bytes:
    """Return one frame out of native little endian pixel data, with its own first bit first.

    Raises:
        NotDicom: the pixel data ends before the frame does.
    """
    bits = layout.frame_bits
    start, end = number * bits, (number + 1) * bits
    if (end + 7) // 8 > len(value):
        raise NotDicom(f"the pixel data ends before frame {number + 1} does")
    data = bytes(value[start // 8 : (end + 7) // 8])
    if not bits % 8:
        return data
    # Single bits: frames follow each other without a gap, the lowest bit of a byte first.
    cut = int.from_bytes(data, "little") >> start % 8 & (1 << bits) - 1
    return cut.to_bytes(layout.frame_bytes, "little")


def joined(frames: list[bytes], layout: PixelLayout) -> bytes:
    """Return the value of Pixel Data, little endian and of even length."""
    bits = layout.frame_bits
    value = _bits_joined(frames, bits) if bits % 8 else b"".join(frames)
    return value + b"\0" if len(value) % 2 else value


def _bits_joined(frames: list[bytes], bits: int) -> bytes:
    out = bytearray()
    carried = count = 0
    for frame in frames:
        carried |= (int.from_bytes(frame, "little") & (1 << bits) - 1) << count
        whole, count = divmod(count + bits, 8)
        out += (carried & (1 << 8 * whole) - 1).to_bytes(whole, "little")
        carried >>= 8 * whole
    return bytes(out) + carried.to_bytes((count + 7) // 8, "little")


def swapped(value: bytes | memoryview) -> bytes:
    """Return 16-bit words in the other byte order (PS3.5 7.3: OW); a last odd byte stays."""
    words = array.array("H")
    whole = len(value) // 2 * 2
    words.frombytes(value[:whole])
    words.byteswap()
    return words.tobytes() + bytes(value[whole:])
