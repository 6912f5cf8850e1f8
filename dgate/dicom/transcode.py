"""Objects from one transfer syntax into another.

Native pixel bytes are never touched (but for the byte order). Native and RLE go into each other
frame by frame; what else is compressed is only ever decompressed here. Pure functions, safe between
threads.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dgate.dicom import deflate, element
from dgate.dicom.codes import proposed_syntaxes, stored_syntax_for
from dgate.dicom.encapsulation import sequence_end
from dgate.dicom.filedata import FileData
from dgate.dicom.frames import (
    LIMIT_BYTES,
    Frames,
    can_encode,
    decode,
    encode,
    encoded_value,
    put_frames,
)
from dgate.dicom.part10 import file_meta
from dgate.dicom.pixels import FRAMES, PixelLayout, joined, layout_of, swapped
from dgate.dicom.rewrite import Piece, rewrite, rewrite_head
from dgate.dicom.scan import UNDEFINED, Buffer, encoding_of, scan_tail
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import (
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    RLE_LOSSLESS,
    TransferSyntax,
    transfer_syntax,
)
from dgate.errors import CannotTranscode, NotDicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "Frames",
    "can_convert",
    "can_encode",
    "convert",
    "convert_header_only",
    "convert_parts",
    "decode",
    "encode",
    "proposed_syntaxes",
    "put_frames",
    "stored_syntax_for",
]

_NATIVE = frozenset((IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED))
_ALIKE = frozenset((IMPLICIT_LE, EXPLICIT_LE))
"""Syntaxes with the same pixel bytes."""
_TO_RGB = frozenset((JPEG_BASELINE, JPEG_EXTENDED))
"""Lossy codecs that work in YBR; few viewers take uncompressed YBR."""
_PIXEL_DATA = 0x7FE00010
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_DIMENSIONS = ("SamplesPerPixel", "Rows", "Columns")
_IMAGE_PIXEL = (0x00280002, 0x00280004, 0x00280006, 0x00280008)
"""What decompression may change: samples, photometric interpretation, planes, number of frames."""
EXPANSION_LIMIT_BYTES = LIMIT_BYTES
"""The longest data set that is made out of a compressed one, which may claim to be any size."""
_REMEDY = "send it to a node that takes the stored transfer syntax (code as in acrnema.map)"


def can_convert(from_syntax: str, to_syntax: str) -> bool:
    """Tell whether objects with pixel data can be converted on this installation."""
    if from_syntax == to_syntax:
        return True
    if to_syntax not in _NATIVE and not can_encode(to_syntax):
        return False
    return from_syntax in _NATIVE or from_syntax == RLE_LOSSLESS or _has_decoder(from_syntax)


def convert(buffer: Buffer, from_syntax: str, to_syntax: str) -> bytes:
    """Return a data set in another transfer syntax; raise CannotTranscode."""
    return b"".join(convert_parts(buffer, from_syntax, to_syntax))


def convert_parts(buffer: Buffer, from_syntax: str, to_syntax: str) -> Iterator[Piece]:
    """Yield a data set in another transfer syntax: of native pixels and RLE frame by frame, so
    that neither form has to be in memory as a whole.

    Raises CannotTranscode, also after pieces were given.
    """
    if from_syntax == to_syntax:
        yield memoryview(buffer)
        return
    if to_syntax not in _NATIVE and not can_encode(to_syntax):
        raise _refusal(from_syntax, to_syntax, "there is no encoder for it")
    try:
        yield from _convert(buffer, from_syntax, to_syntax)
    except NotDicom as exc:
        raise _refusal(from_syntax, to_syntax, exc.what) from exc
    except CannotTranscode as exc:
        raise _refusal(from_syntax, to_syntax, exc.what) from exc


def convert_header_only(
    buffer: Buffer | FileData, from_syntax: str, to_syntax: str
) -> tuple[bytes, int] | None:
    """Convert what stands before native pixels: the new bytes, and the offset of the rest.

    The rest of `buffer` follows unchanged and need never be loaded. None when that is not possible
    and `convert` has to do it. Raises CannotTranscode for a header that cannot be parsed.
    """
    if from_syntax == to_syntax:
        return b"", 0
    if from_syntax not in _ALIKE or to_syntax not in _ALIKE:
        return None
    source, target = transfer_syntax(from_syntax), transfer_syntax(to_syntax)
    try:
        data = buffer if isinstance(buffer, FileData) else memoryview(buffer)
        return rewrite_head(data, encoding_of(source), encoding_of(target))
    except NotDicom as exc:
        raise _refusal(from_syntax, to_syntax, exc.what) from exc


def _convert(buffer: Buffer, from_syntax: str, to_syntax: str) -> Iterable[Piece]:
    source, target = transfer_syntax(from_syntax), transfer_syntax(to_syntax)
    data = memoryview(buffer)
    if source.deflated:
        data = memoryview(deflate.inflate_all(buffer, EXPANSION_LIMIT_BYTES))
        source = transfer_syntax(EXPLICIT_LE)
    elif source.encapsulated and from_syntax != RLE_LOSSLESS:
        table = ElementTable(buffer, from_syntax)
        if _PIXEL_DATA in table:
            data = memoryview(_decompressed(table, data, from_syntax))
        source = transfer_syntax(EXPLICIT_LE)
    elif from_syntax not in _NATIVE and from_syntax != RLE_LOSSLESS:
        raise NotDicom("its pixel data is not in the object")
    pieces = _recast(data, source, target)
    if target.deflated:
        return [deflate.deflate(bytes(piece) for piece in pieces)]
    return pieces


def _recast(data: memoryview, source: TransferSyntax, target: TransferSyntax) -> Iterable[Piece]:
    """Return a data set that is native or RLE as another such."""
    before, after = encoding_of(source), encoding_of(target)
    if source.encapsulated != target.encapsulated:
        table = ElementTable(data, source.uid)
        if _PIXEL_DATA in table:
            return _recoded(table, data, source, target)
    return [data] if before is after else rewrite(data, before, after)


def _recoded(
    table: ElementTable, data: memoryview, source: TransferSyntax, target: TransferSyntax
) -> Iterator[Piece]:
    """Yield a data set whose pixels change their form: what stands before, they, what follows."""
    before, after = encoding_of(source), encoding_of(target)
    if source.encapsulated:
        _check_length(layout_of(table).total_bytes)
    frames = Frames(table)
    layout = frames.layout
    if source.encapsulated:
        # More frames may be there than were declared.
        _check_length(layout.total_bytes)
    start = table.pixel_offset or 0
    _, _, end, _ = scan_tail(data, before, start).entries[_PIXEL_DATA]
    head = ElementTable(data[:start], source.uid)
    if layout.frames != 1 and head.text(FRAMES).strip() != str(layout.frames):
        head.set_text(FRAMES, str(layout.frames))
    yield from rewrite(memoryview(head.tobytes()), before, after)
    if target.encapsulated:
        value = encoded_value(frames, layout, target.uid)
        # The first piece shows whether the pixels can be encoded at all.
        first = next(value)
        yield element.encode_header(_PIXEL_DATA, "OB", UNDEFINED, after)
        yield first
        yield from value
        yield sequence_end()
    else:
        name = "OW" if layout.allocated > 8 else "OB"
        length = layout.total_bytes + layout.total_bytes % 2
        yield element.encode_header(_PIXEL_DATA, name, length, after)
        yield from _native(frames, layout, swap=name == "OW" and not target.little_endian)
    if end < len(data):
        yield from rewrite(data[end:], before, after)


def _native(frames: Frames, layout: PixelLayout, *, swap: bool) -> Iterator[Piece]:
    if layout.frame_bits % 8:
        yield joined(list(frames), layout)
        return
    for frame in frames:
        yield swapped(frame) if swap else frame
    if layout.total_bytes % 2:
        yield b"\0"


def _decompressed(table: ElementTable, data: memoryview, syntax: str) -> bytes:
    """Return the data set with native pixel data, explicit VR little endian."""
    images = _decoded_by_pydicom(data, syntax)
    for tag in _IMAGE_PIXEL:
        if tag in images:
            _copy(table, images, tag)
    for tag in _OFFSET_TABLES:
        table.delete(tag)
    pixels = images[_PIXEL_DATA]
    table.set_raw(_PIXEL_DATA, str(pixels.VR), pixels.value)
    return table.tobytes()


def _copy(table: ElementTable, images: Dataset, tag: int) -> None:
    value = images[tag].value
    text = "" if value is None else str(value)
    if text != table.text(tag):
        table.set_text(tag, text)


def _decoded_by_pydicom(data: memoryview, syntax: str) -> Dataset:
    # Imported here: with numpy behind it, it would double the time that the program takes to start.
    from pydicom import dcmread

    file = io.BytesIO(b"".join((file_meta("", "", syntax), data)))
    try:
        images = dcmread(file)
        _check_expansion(images)
        images.decompress(as_rgb=syntax in _TO_RGB, generate_instance_uid=False)
    except NotDicom:
        raise
    except Exception as exc:
        # Decoder plugins raise whatever they like; for the object it all means the same.
        reason = " ".join(str(exc).split())[:200] or type(exc).__name__
        raise NotDicom(f"its pixel data cannot be decompressed: {reason}") from exc
    return images


def _check_expansion(images: Dataset) -> None:
    """Raise NotDicom when the decompressed pixels would be longer than is bearable."""
    samples, rows, columns = (int(images.get(tag) or 1) for tag in _DIMENSIONS)
    # Bits of less than a byte are decoded to a byte each.
    frame = samples * rows * columns * max(1, int(images.BitsAllocated) // 8)
    size = frame * _number_of_frames(images)
    _check_length(size)


def _check_length(size: int) -> None:
    if size > EXPANSION_LIMIT_BYTES:
        raise NotDicom(
            f"decompressed, it would have {-(-size >> 20):,} MiB,"
            f" more than the limit of {EXPANSION_LIMIT_BYTES >> 20} MiB"
        )


def _number_of_frames(images: Dataset) -> int:
    """Return how many frames will be decoded: those that are declared, or those that are there."""
    from pydicom.encaps import generate_frames

    declared = int(images.get("NumberOfFrames") or 1)
    offsets = images.get("ExtendedOffsetTable")
    if offsets:
        return max(declared, len(offsets) // 8)
    there = sum(1 for _ in generate_frames(images.PixelData, number_of_frames=declared))
    return max(declared, there)


def _has_decoder(syntax: str) -> bool:
    from pydicom.pixels import get_decoder

    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _refusal(from_syntax: str, to_syntax: str, reason: str) -> CannotTranscode:
    source, target = transfer_syntax(from_syntax).name, transfer_syntax(to_syntax).name
    return CannotTranscode(f"{source} cannot become {target}: {reason}", remedy=_REMEDY)
