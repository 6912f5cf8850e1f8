"""Server commands that show or take apart the frames of an object.

Run in the caller's thread.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgate.console.archiving import loaded
from dgate.console.arguments import demand, number, real, split
from dgate.console.fileing import delivered
from dgate.console.server import Command, Tools
from dgate.dicom.extract import frame_range
from dgate.dicom.frames import Frames
from dgate.dicom.picture import bmp, can_write, gif, jpg
from dgate.dicom.render import View, render
from dgate.errors import RuleError, StoreError
from dgate.rules.objectfiles import file_parts

_LARGEST = 4096
_QUALITY = 95


def _converting(form: str) -> Command:
    """Return `convert_to_gif`, `convert_to_bmp` or `convert_to_jpg`."""

    def convert(tools: Tools, arguments: str, upload: bytes) -> bytes:
        """`convert_to_X:file,size,out,level/window/frame`; without a file what is uploaded."""
        file, size, out, view = split(arguments, ",", 4)
        if not can_write(form):
            raise RuleError(f"convert_to_{form} needs Pillow: install dgate[images]")
        level, window, frame = split(view, "/", 3)
        table = loaded(tools, file, upload)
        looking = View(
            None if not level else real(level, "a level"),
            real(window, "a window") if window else 0.0,
            most=min(number(size, "a size") if size else 0, _LARGEST) or _LARGEST,
        )
        try:
            frames = Frames(table)
            picture = render(table, frames, _frame(frame), looking)
        except (StoreError, ValueError) as exc:
            raise RuleError(f"the picture cannot be made: {exc}") from exc
        if form == "bmp":
            content = bmp(picture)
        else:
            content = jpg(picture, _QUALITY) if form == "jpg" else gif(iter((picture,)))
        return delivered(tools, content, out)

    return convert


def _frame(text: str) -> int:
    found = number(text, "the number of a frame") if text else 0
    if found < 0:
        raise RuleError(f"there is no frame {found}")
    return found


def extract_frames(tools: Tools, arguments: str, upload: bytes) -> bytes:
    """`extract_frames:file,out,first,last`: some frames, counted from 0, with the same UIDs."""
    file, out, first, last = split(arguments, ",", 4)
    begin = _frame(demand(first, "the first frame"))
    try:
        made = frame_range(loaded(tools, file, upload), begin, _frame(last) if last else begin)
    except StoreError as exc:
        raise RuleError(f"the frames cannot be taken out: {exc}") from exc
    return delivered(tools, b"".join(file_parts(made, out)), out)


COMMANDS: Mapping[str, Command] = {
    **{f"convert_to_{form}": _converting(form) for form in ("gif", "bmp", "jpg")},
    "extract_frames": extract_frames,
}
