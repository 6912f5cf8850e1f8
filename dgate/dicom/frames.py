"""Frames of pixels, decoded and encoded: the one interface to all codecs.

Whoever looks at pixels (compression, pictures, masks, scripts) does it by `Frames` and `put_frames`
and does not care how the object is stored. Native pixels and RLE are done here, without numpy;
other syntaxes are decoded by pydicom and what is installed beside it. A `Frames` belongs to one
thread.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from dgate.dicom import deflate, rle
from dgate.dicom.encapsulation import Fragments, encapsulated, frames_of
from dgate.dicom.part10 import file_meta
from dgate.dicom.pixels import (
    ALLOCATED,
    COLUMNS,
    FRAMES,
    HIGH_BIT,
    PHOTOMETRIC,
    PLANAR,
    ROWS,
    SAMPLES,
    SIGNED,
    STORED,
    PixelLayout,
    joined,
    layout_of,
    native_frame,
    swapped,
)
from dgate.dicom.rewrite import rewrite
from dgate.dicom.scan import encoding_of
from dgate.dicom.table import EXTENDED_OFFSETS, PIXEL_DATA, ElementTable
from dgate.dicom.uids import EXPLICIT_LE, RLE_LOSSLESS, TransferSyntax, transfer_syntax
from dgate.errors import CannotTranscode, NotDicom

KEPT_BYTES = 64 << 20
"""So much of compressed frames is kept to write an offset table before them."""
LIMIT_BYTES = 512 << 20
"""The longest pixel data that is made out of compressed one, which may claim to be any size."""
_REMEDY = "use as, or a code that begins with u"


class _Source(Protocol):
    """Gives single frames."""

    def frame(self, number: int) -> bytes:
        """Return a frame, little endian; raises NotDicom."""
        ...


class Frames:
    """The frames of one object as native pixels, each decoded when it is asked for."""

    def __init__(self, table: ElementTable) -> None:
        """Look at an object, whose pixels must not be changed before the last frame was asked for.

        Raises:
            NotDicom: it has no pixel data, or what describes it makes no sense.
            CannotTranscode: no decoder for its transfer syntax is installed.
        """
        self.layout = layout_of(table)
        """What `frame` gives: frames as there are, in a syntax like native pixels."""
        syntax = transfer_syntax(table.syntax)
        value = table.view(PIXEL_DATA)
        assert value is not None, "layout_of looks whether it is there"
        if table.syntax == RLE_LOSSLESS:
            offsets = table.raw(EXTENDED_OFFSETS) or b""
            found = frames_of(value, self.layout.frames, offsets, one_each=True)
            if len(found) < self.layout.frames:
                raise NotDicom(f"{len(found)} of {self.layout.frames} frames are there")
            self.layout = replace(self.layout, frames=len(found))
            self._source: _Source = _Rle(found, self.layout)
        elif syntax.encapsulated:
            foreign = _Foreign(table, self.layout)
            self.layout = foreign.layout
            self._source = foreign
        else:
            swap = not syntax.little_endian and table.vr(PIXEL_DATA) == "OW"
            self._source = _Native(value, self.layout, swap=swap)

    def __len__(self) -> int:
        """Return how many frames there are."""
        return self.layout.frames

    def frame(self, number: int) -> bytes:
        """Return a frame, counted from 0: little endian, `layout.frame_bytes` long.

        Raises:
            NotDicom: there is no such frame, or it is damaged.
        """
        if not 0 <= number < self.layout.frames:
            raise NotDicom(f"there is no frame {number}: the object has {self.layout.frames}")
        return self._source.frame(number)

    def __iter__(self) -> Iterator[bytes]:
        """Yield all frames; raises what `frame` does."""
        for number in range(self.layout.frames):
            yield self._source.frame(number)


class _Native:
    def __init__(self, value: memoryview, layout: PixelLayout, *, swap: bool) -> None:
        # Words across the edge of two frames would be swapped wrongly one by one.
        whole = swap and layout.frame_bits % 16 != 0
        self._value = memoryview(swapped(value)) if whole else value
        self._swap = swap and not whole
        self._layout = layout

    def frame(self, number: int) -> bytes:
        frame = native_frame(self._value, self._layout, number)
        return swapped(frame) if self._swap else frame


class _Rle:
    def __init__(self, frames: Sequence[Fragments], layout: PixelLayout) -> None:
        self._frames = frames
        self._layout = layout
        if layout.is_subsampled:
            raise NotDicom(f"RLE cannot hold {layout.photometric}")

    def frame(self, number: int) -> bytes:
        layout, fragments = self._layout, self._frames[number]
        coded = fragments[0] if len(fragments) == 1 else b"".join(fragments)
        if not layout.sample_bytes:
            return rle.decode_frame(coded, layout.frame_bytes, 1, 1)
        return rle.decode_frame(
            coded, layout.pixels, layout.samples, layout.sample_bytes, planar=layout.planar
        )


class _Foreign:
    """Frames that pydicom decodes, with whatever decoders are installed."""

    def __init__(self, table: ElementTable, layout: PixelLayout) -> None:
        # Imported here: with numpy behind it, it would double the time that a start takes.
        from pydicom import dcmread
        from pydicom.pixels import get_decoder

        name = transfer_syntax(table.syntax).name
        try:
            self._decoder = get_decoder(table.syntax)
        except NotImplementedError as exc:
            raise CannotTranscode(f"there is no decoder for {name}", remedy=_REMEDY) from exc
        if not self._decoder.is_available:
            raise CannotTranscode(
                f"no decoder for {name} is installed", remedy="install dgate with codecs"
            )
        if layout.total_bytes > LIMIT_BYTES:
            raise _too_long(layout.total_bytes)
        content = b"".join((file_meta("", "", table.syntax), table.tobytes()))
        self._images = dcmread(io.BytesIO(content))
        self._first: bytes | None
        self._first, found = self._decoded(0)
        self.layout = replace(
            layout,
            samples=int(found.get("samples_per_pixel", layout.samples)),
            allocated=int(found.get("bits_allocated", layout.allocated)),
            photometric=str(found.get("photometric_interpretation", layout.photometric)),
            planar=False,
        )
        if len(self._first) != self.layout.frame_bytes:
            raise NotDicom("the decoded pixel data has another size than the header says")

    def frame(self, number: int) -> bytes:
        if number == 0 and self._first is not None:
            first, self._first = self._first, None
            return first
        return self._decoded(number)[0]

    def _decoded(self, number: int) -> tuple[bytes, dict[str, str | int]]:
        try:
            found, properties = self._decoder.as_array(self._images, index=number)
            return found.astype(found.dtype.newbyteorder("<")).tobytes(), dict(properties)
        except Exception as exc:
            # Decoder plugins raise whatever they like; for the object it all means the same.
            reason = " ".join(str(exc).split())[:200] or type(exc).__name__
            raise NotDicom(f"its pixel data cannot be decompressed: {reason}") from exc


def decode(table: ElementTable, number: int = 0) -> tuple[PixelLayout, bytes]:
    """Return one frame of an object and how it lies; raises what `Frames` does."""
    frames = Frames(table)
    return frames.layout, frames.frame(number)


def can_encode(syntax: str) -> bool:
    """Tell whether frames can be encoded in a transfer syntax: native ones are not encoded."""
    return syntax == RLE_LOSSLESS


def encode(
    frames: Iterable[bytes], layout: PixelLayout, syntax: str, quality: int = 100
) -> Iterator[bytes]:
    """Yield each native frame in a compressed syntax.

    Args:
        quality: 1 to 100, for syntaxes that lose something.

    Raises:
        CannotTranscode: there is no encoder for the syntax, or it cannot hold such pixels.
    """
    if not can_encode(syntax):
        raise CannotTranscode(
            f"there is no encoder for {transfer_syntax(syntax).name}", remedy=_REMEDY
        )
    if layout.sample_bytes * layout.samples > rle.MOST_SEGMENTS or layout.allocated not in (
        8,
        16,
        32,
    ):
        raise CannotTranscode(f"RLE cannot hold pixels of {layout.allocated} bits", remedy=_REMEDY)
    if layout.is_subsampled:
        raise CannotTranscode(f"RLE cannot hold {layout.photometric}", remedy=_REMEDY)
    return _rle_encoded(frames, layout)


def _rle_encoded(frames: Iterable[bytes], layout: PixelLayout) -> Iterator[bytes]:
    for frame in frames:
        yield rle.encode_frame(
            frame, layout.columns, layout.samples, layout.sample_bytes, planar=layout.planar
        )


def encoded_value(frames: Iterable[bytes], layout: PixelLayout, syntax: str) -> Iterator[bytes]:
    """Yield the value of Pixel Data in a compressed syntax, without delimiter."""
    return encapsulated(encode(frames, layout, syntax), keep_bytes=KEPT_BYTES)


def put_frames(
    table: ElementTable, layout: PixelLayout, frames: Iterable[bytes], syntax: str | None = None
) -> None:
    """Put frames into an object, with all that describes them.

    Args:
        frames: native little endian, as `layout` says; may be the object's own `Frames`.
        syntax: transfer syntax that the object is to have; None keeps a native one, and makes
            explicit VR little endian of any other.

    Raises:
        CannotTranscode: there is no encoder, or the result would be too long.
        NotDicom: a frame cannot be decoded. Nothing has changed then.
    """
    present = transfer_syntax(table.syntax)
    target = transfer_syntax(syntax or (EXPLICIT_LE if present.encapsulated else table.syntax))
    if target.encapsulated:
        value = b"".join(encoded_value(frames, layout, target.uid))
    else:
        if layout.total_bytes > LIMIT_BYTES:
            raise _too_long(layout.total_bytes)
        kept = list(frames)
        layout = replace(layout, frames=len(kept))
        value = joined(kept, layout)
    if not _share_encoding(present, target):
        table.replace(_in_encoding(table, present, target), target.uid)
    _describe(table, layout)
    vr = "OB" if target.encapsulated else native_vr(table, layout)
    if vr == "OW" and not target.little_endian:
        value = swapped(value)
    table.set_pixels(vr, value, target.uid)


def _share_encoding(one: TransferSyntax, other: TransferSyntax) -> bool:
    return encoding_of(one) is encoding_of(other) and one.deflated == other.deflated


def _in_encoding(table: ElementTable, present: TransferSyntax, target: TransferSyntax) -> bytes:
    """Return the object without its pixels in the encoding of another syntax."""
    bare = table.snapshot()
    for tag in table.tags():
        if tag >> 16 == PIXEL_DATA >> 16:
            bare.delete(tag)
    data = bare.tobytes()
    if present.deflated:
        data = deflate.inflate_all(data, LIMIT_BYTES)
    pieces = rewrite(memoryview(data), encoding_of(present), encoding_of(target))
    if target.deflated:
        return deflate.deflate(bytes(piece) for piece in pieces)
    return b"".join(pieces)


def native_vr(table: ElementTable, layout: PixelLayout) -> str:
    """Return the VR of native pixel data: OW unless it is made of bytes and was OB."""
    if layout.allocated > 8 or not encoding_of(transfer_syntax(table.syntax)).explicit:
        return "OW"
    return "OW" if table.vr(PIXEL_DATA) == "OW" else "OB"


def _describe(table: ElementTable, layout: PixelLayout) -> None:
    """Set what differs of the elements that describe the pixels."""
    present = {
        ROWS: layout.rows,
        COLUMNS: layout.columns,
        SAMPLES: layout.samples,
        ALLOCATED: layout.allocated,
        STORED: layout.stored,
        HIGH_BIT: layout.high_bit,
        SIGNED: int(layout.signed),
    }
    for tag, number in present.items():
        if table.text(tag) != str(number):
            table.set_text(tag, str(number))
    if table.text(PHOTOMETRIC).strip() != layout.photometric:
        table.set_text(PHOTOMETRIC, layout.photometric)
    if layout.samples == 1:
        table.delete(PLANAR)
    elif table.text(PLANAR) != str(int(layout.planar)):
        table.set_text(PLANAR, str(int(layout.planar)))
    declared = table.text(FRAMES).strip()
    if declared != str(layout.frames) and (layout.frames > 1 or declared):
        table.set_text(FRAMES, str(layout.frames))


def _too_long(size: int) -> CannotTranscode:
    return CannotTranscode(
        f"decompressed, it would have {-(-size >> 20):,} MiB,"
        f" more than the limit of {LIMIT_BYTES >> 20} MiB"
    )
