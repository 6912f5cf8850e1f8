"""Pixels for Lua: frames in and out for `pixelscript`, `GetImage` and `SetImage` (lua-api.md 7).

What is compressed is decoded where there is a codec; once written to, it is stored uncompressed.
The functions belong to the thread that runs the Lua state.
"""

from __future__ import annotations

import array
import logging
import math
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Final

from dgate.dicom.frames import Frames, put_frames
from dgate.dicom.pixels import COLUMNS, ROWS, PixelLayout, swapped
from dgate.dicom.recompress import recompress
from dgate.dicom.samples import full_colour
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import NotDicom, RuleError, StoreError
from dgate.rules.lua.api import Context, Function, Library, Method, ObjectHandle
from dgate.rules.lua.pixelscript import SOURCE

log = logging.getLogger("dgate.lua")

_SIZES: Final = (1, 2, 4)
"""Bytes of a value that scripts can reach."""
_INCOMPATIBLE: Final = "Failed to set image, data and image dimensions incompatible"


def frame_of(table: ElementTable, number: int) -> tuple[PixelLayout, bytes] | None:
    """Return a frame, colour by pixel; None when there is none of that number.

    Raises:
        RuleError: the transfer syntax cannot be decoded, or scripts cannot reach such pixels.
    """
    frames = _frames(table)
    if frames is None or not 0 <= number < len(frames):
        return None
    layout = frames.layout
    try:
        frame = frames.frame(number)
        if layout.is_subsampled:
            return layout, _interleaved(b"".join(full_colour(frame, layout)), 3, 1)
    except StoreError as exc:
        raise RuleError(f"the pixels cannot be read: {exc}") from exc
    if layout.planar:
        frame = _interleaved(frame, layout.samples, layout.sample_bytes)
    return layout, frame


def put_frame(table: ElementTable, number: int, frame: bytes) -> None:
    """Put a frame, colour by pixel, in the place of another; the others stay as they are.

    Raises:
        RuleError: it cannot be written into this object.
    """
    frames = _frames(table)
    if frames is None or not 0 <= number < len(frames):
        raise RuleError(f"the object has no frame {number}")
    layout = frames.layout
    if layout.is_subsampled:
        raise RuleError(
            f"pixels of {layout.photometric} share their colour and cannot be written",
            remedy="only GetPixel and its like work with them",
        )
    if layout.planar:
        frame = _planar(frame, layout.samples, layout.sample_bytes)
    syntax = transfer_syntax(table.syntax)
    try:
        if syntax.encapsulated or syntax.deflated or layout.frame_bits % 8:
            put_frames(table, layout, _replaced(frames, number, frame))
        else:
            _splice(table, layout, number, frame)
    except StoreError as exc:
        raise RuleError(f"the pixels cannot be written: {exc}") from exc


def _frames(table: ElementTable) -> Frames | None:
    if PIXEL_DATA not in table or not table.text(ROWS) or not table.text(COLUMNS):
        return None
    try:
        frames = Frames(table)
    except StoreError as exc:
        name = transfer_syntax(table.syntax).name
        raise RuleError(f"the pixels cannot be read ({name}): {exc}") from exc
    if frames.layout.sample_bytes not in _SIZES:
        raise RuleError(f"pixels of {frames.layout.allocated} bits cannot be read by scripts")
    return frames


def _replaced(frames: Frames, number: int, frame: bytes) -> Iterator[bytes]:
    for place, old in enumerate(frames):
        yield frame if place == number else old


def _splice(table: ElementTable, layout: PixelLayout, number: int, frame: bytes) -> None:
    """Put a frame into native pixel data, of which all other bytes stay."""
    vr = table.vr(PIXEL_DATA)
    value = table.view(PIXEL_DATA)
    assert value is not None, "the frames were read from it"
    start = number * layout.frame_bytes
    if not table.little_endian and vr == "OW":
        if layout.frame_bytes % 2:
            put_frames(table, layout, _replaced(Frames(table), number, frame))
            return
        frame = swapped(frame)
    elif not table.little_endian and layout.sample_bytes > 1:
        raise NotDicom(f"big endian pixels of VR {vr}")
    parts = (value[:start], frame, value[start + len(frame) :])
    table.set_raw(PIXEL_DATA, vr, b"".join(parts))


def _interleaved(frame: bytes, samples: int, size: int) -> bytes:
    """Return planes as pixels."""
    plane = len(frame) // samples
    out = bytearray(len(frame))
    for sample in range(samples):
        for byte in range(size):
            start = sample * plane + byte
            out[sample * size + byte :: samples * size] = frame[start : (sample + 1) * plane : size]
    return bytes(out)


def _planar(frame: bytes, samples: int, size: int) -> bytes:
    """Return pixels as planes."""
    plane = len(frame) // samples
    out = bytearray(len(frame))
    for sample in range(samples):
        for byte in range(size):
            start = sample * plane + byte
            out[start : (sample + 1) * plane : size] = frame[sample * size + byte :: samples * size]
    return bytes(out)


# What the Lua side asks for.


def _frame(context: Context) -> Function:
    def frame(given: object, number: object) -> object:
        handle = context.object(given)
        found = frame_of(handle.table, context.integer(number))
        if found is None:
            return None
        layout, data = found
        return data, layout.columns, layout.rows, layout.samples, layout.sample_bytes

    return frame


def _arm(context: Context) -> Function:
    def arm(given: object, flush: Callable[[], tuple[object, ...]]) -> None:
        handle = context.object(given)

        def write() -> None:
            number, rows, data = flush()
            if rows:
                _write_rows(handle.own_table(), context.integer(number), str(rows), str(data))
                handle.touch()

        handle.pending = write

    return arm


def _write_rows(table: ElementTable, number: int, rows: str, data: str) -> None:
    """Put rows, their numbers joined by commas, into a frame."""
    found = frame_of(table, number)
    if found is None:
        raise RuleError(f"frame {number} is gone")
    layout, former = found
    frame = bytearray(former)
    content = data.encode("latin-1")
    length = layout.columns * layout.samples * layout.sample_bytes
    for place, row in enumerate(map(int, rows.split(","))):
        frame[row * length : (row + 1) * length] = content[place * length : (place + 1) * length]
    put_frame(table, number, bytes(frame))


def _touch(context: Context) -> Function:
    def touch(given: object) -> None:
        handle = context.object(given) if not isinstance(given, ObjectHandle) else given
        # Whatever holds an item has to ask for it before it is looked at.
        if handle.array is not None:
            handle.touch()

    return touch


def _settle(context: Context) -> Function:
    def settle(given: object) -> None:
        # An object that was freed has nothing to be kept.
        if isinstance(given, ObjectHandle) and not given.is_freed:
            _ = context.object(given).table

    return settle


# Whole images.


def _get_image(context: Context) -> Function:
    def get_image(given: object, number: object = None) -> object:
        table = context.object(given).table
        found = frame_of(table, 0 if number is None else context.integer(number, "the frame"))
        if found is None:
            return None
        context.require(len(found[1]))
        return found[1]

    return get_image


def _set_image(context: Context) -> Function:
    def set_image(given: object, number: object, image: object, scale: object = None) -> None:
        handle = context.object(given)
        frame_number = 0 if number is None else context.integer(number, "the frame")
        data = context.raw(image, "the image")
        found = frame_of(handle.table, frame_number)
        if found is None:
            return
        layout, former = found
        values = layout.pixels * layout.samples
        if len(data) == len(former):
            frame = data
        elif layout.sample_bytes == 2 and len(data) == 4 * values:
            factor = 1.0 if scale is None else _real(context, scale)
            frame = _scaled(data, factor, signed=layout.signed)
        else:
            raise RuleError(_INCOMPATIBLE)
        put_frame(handle.table, frame_number, frame)
        handle.touch()

    return set_image


def _real(context: Context, value: object) -> float:
    try:
        return float(context.raw(value, "the scale"))
    except ValueError:
        raise RuleError("the scale is not a number") from None


def _scaled(data: bytes, factor: float, *, signed: bool) -> bytes:
    """Return native floats of 4 bytes as 16 bit values; what does not fit is the next that does."""
    low, high = (-0x8000, 0x7FFF) if signed else (0, 0xFFFF)
    floats = struct.unpack(f"={len(data) // 4}f", data)
    values = (
        0 if math.isnan(value) else int(max(low, min(high, value * factor))) for value in floats
    )
    cells = array.array("h" if signed else "H", values)
    if sys.byteorder == "big":
        cells.byteswap()
    return cells.tobytes()


def _compress(context: Context) -> Function:
    def compress(given: object, code: object = None) -> ElementTable | None:
        """Return a recompressed copy; None where there is no codec for it, which is logged."""
        copy = context.object(given).table.snapshot()
        text = context.text(code, "the code")
        try:
            recompress(copy, text, context.env.files.temporary(".dcm").parent)
        except StoreError as exc:
            log.warning("A script's Compress('%s') gave nothing: %s", text, exc)
            return None
        except OSError as exc:
            raise RuleError(f"no temporary file can be written: {exc.strerror}") from exc
        return copy

    return compress


LIBRARY: Final = Library(
    methods={
        "Compress": Method(_compress, "compressdicom"),
        "GetImage": Method(_get_image, "getimage"),
        "SetImage": Method(_set_image, "setimage"),
    },
    natives={"frame": _frame, "arm": _arm, "settle": _settle, "touch": _touch},
    source=SOURCE,
)
