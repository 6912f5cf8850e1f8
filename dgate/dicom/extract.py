"""One frame of an object as an object of its own. Pure functions."""

from __future__ import annotations

from dataclasses import replace

from dgate.dicom.encapsulation import encapsulated, frames_of
from dgate.dicom.frames import Frames, put_frames
from dgate.dicom.pixels import FRAME_POINTER, FRAMES, layout_of
from dgate.dicom.table import EXTENDED_OFFSETS, PIXEL_DATA, ElementTable
from dgate.dicom.uids import RLE_LOSSLESS, transfer_syntax
from dgate.errors import NotDicom

_PER_FRAME = 0x52009230
_TIME_VECTOR = 0x00181065
_TIME_POINTERS = ("00181063", "00181065")
"""Frame Time and Frame Time Vector; of other vectors nobody knows which values are left."""


def single_frame(table: ElementTable, number: int) -> ElementTable:
    """Return a copy with one frame; see `frame_range`."""
    return frame_range(table, number, number)


def frame_range(table: ElementTable, first: int, last: int) -> ElementTable:
    """Return a copy with some of the frames, counted from 0, the last one included, in the same
    transfer syntax and with the same UIDs; compressed frames are taken out as they are.

    Raises:
        NotDicom: there is no such frame, or nobody can tell where it is.
    """
    copy = table.snapshot()
    layout = layout_of(table)
    numbers = range(first, last + 1)
    if transfer_syntax(table.syntax).encapsulated:
        value = table.view(PIXEL_DATA)
        assert value is not None, "layout_of looks whether it is there"
        offsets = table.raw(EXTENDED_OFFSETS) or b""
        found = frames_of(value, layout.frames, offsets, one_each=table.syntax == RLE_LOSSLESS)
        _demand(numbers, len(found))
        coded = [b"".join(found[number]) for number in numbers]
        content = b"".join(encapsulated(coded, keep_bytes=sum(map(len, coded)) + 1))
        copy.set_pixels("OB", content, table.syntax)
    else:
        frames = Frames(table)
        _demand(numbers, len(frames))
        kept = [frames.frame(number) for number in numbers]
        put_frames(copy, replace(frames.layout, frames=len(kept)), kept)
    if FRAMES in copy:
        copy.set_text(FRAMES, str(len(numbers)))
    _keep_values_of(copy, numbers)
    groups = copy.items(_PER_FRAME) if _PER_FRAME in copy else []
    if numbers[-1] < len(groups):
        copy.set_items(_PER_FRAME, [groups[number] for number in numbers])
    return copy


def _keep_values_of(copy: ElementTable, numbers: range) -> None:
    """Let go of what speaks of frames that are gone."""
    times = copy.text(_TIME_VECTOR).split("\\") if len(numbers) > 1 else []
    pointed = copy.text(FRAME_POINTER)
    if numbers[-1] < len(times):
        # The first one counts from the frame before, which there is none of any more.
        kept = ["0", *[times[number] for number in numbers[1:]]]
        copy.set_text(_TIME_VECTOR, "\\".join(kept))
    else:
        copy.delete(_TIME_VECTOR)
    if len(numbers) == 1 or pointed.replace(",", "") not in _TIME_POINTERS:
        copy.delete(FRAME_POINTER)


def _demand(numbers: range, count: int) -> None:
    if not numbers or not numbers[0] >= 0 or not numbers[-1] < count:
        missing = f"{numbers.start}" if len(numbers) == 1 else f"{numbers.start}-{numbers.stop - 1}"
        raise NotDicom(f"there is no frame {missing}: the object has {count}")
