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


def single_frame(table: ElementTable, number: int) -> ElementTable:
    """Return a copy with one frame, counted from 0, in the same transfer syntax and with the same
    UIDs; compressed frames are taken out as they are.

    Raises:
        NotDicom: there is no such frame, or nobody can tell where it is.
    """
    copy = table.snapshot()
    layout = layout_of(table)
    if transfer_syntax(table.syntax).encapsulated:
        value = table.view(PIXEL_DATA)
        assert value is not None, "layout_of looks whether it is there"
        offsets = table.raw(EXTENDED_OFFSETS) or b""
        found = frames_of(value, layout.frames, offsets, one_each=table.syntax == RLE_LOSSLESS)
        if not 0 <= number < len(found):
            raise NotDicom(f"there is no frame {number}: the object has {len(found)}")
        coded = b"".join(found[number])
        value_of_one = b"".join(encapsulated([coded], keep_bytes=len(coded) + 1))
        copy.set_pixels("OB", value_of_one, table.syntax)
    else:
        frames = Frames(table)
        put_frames(copy, replace(frames.layout, frames=1), [frames.frame(number)])
    if FRAMES in copy:
        copy.set_text(FRAMES, "1")
    for tag in (FRAME_POINTER, _TIME_VECTOR):
        copy.delete(tag)
    groups = copy.items(_PER_FRAME) if _PER_FRAME in copy else []
    if number < len(groups):
        copy.set_items(_PER_FRAME, [groups[number]])
    return copy
