"""Compression codes carried out on an object (acrnema-map.md section 4).

Not which transfer syntax a code stands for (`dgate.dicom.codes`). What is long goes through a
temporary file without a name, so that memory does not depend on the object.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from dgate.dicom.codes import most_pixels, stored_syntax_for
from dgate.dicom.frames import Frames, can_encode, put_frames
from dgate.dicom.pixels import PixelLayout
from dgate.dicom.reshape import downsize
from dgate.dicom.samples import frame_of, planes_of
from dgate.dicom.scan import Buffer
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.transcode import can_convert, convert_parts
from dgate.dicom.uids import transfer_syntax
from dgate.errors import CannotTranscode

IN_MEMORY_BYTES = 64 << 20
"""What is longer than this is kept in a temporary file."""


def recompress(table: ElementTable, code: str, folder: Path | None = None) -> bool:
    """Bring an object into what a compression code asks for; tell whether that changed anything.

    Codes that leave the object alone, or that somebody else carries out (`s0`, `v`), do nothing.

    Args:
        folder: for temporary files; None is the system's.

    Raises:
        CannotTranscode: it is not possible; nothing has changed.
        NotDicom: the pixels, or what describes them, cannot be read; nothing has changed.
        OSError: no temporary file can be written; nothing has changed.
    """
    most = most_pixels(code)
    if most is not None:
        return PIXEL_DATA in table and smaller(table, most)
    target = stored_syntax_for(code, table.syntax)
    if target == table.syntax or (can_encode(target) and PIXEL_DATA not in table):
        return False
    if not can_convert(table.syntax, target):
        names = (transfer_syntax(uid).name for uid in (table.syntax, target))
        raise CannotTranscode(
            "{} cannot become {}: there is no codec for it".format(*names),
            remedy="use as, rl, or a code that begins with u",
        )
    was_compressed = transfer_syntax(table.syntax).encapsulated
    source = gathered(table.parts(), folder) if table.revision else table.encoded
    table.replace(gathered(convert_parts(source, table.syntax, target), folder), target)
    if was_compressed:
        arrange(table, code)
    return True


def smaller(table: ElementTable, most: int) -> bool:
    """Make the longer side of an image `most` pixels where it is longer; tell whether it was.

    Raises:
        CannotTranscode, NotDicom: it is not possible; nothing has changed.
    """
    try:
        return downsize(table, most)
    except ValueError as exc:
        raise CannotTranscode(str(exc), remedy="use a code that begins with u") from exc


def arrange(table: ElementTable, code: str) -> None:
    """Bring colour by plane into colour by pixel, where a code for that has decompressed it."""
    if code.strip().lower() != "un" or PIXEL_DATA not in table:
        return
    frames = Frames(table)
    layout = frames.layout
    if layout.planar:
        put_frames(table, replace(layout, planar=False), _by_pixel(frames, layout))


def _by_pixel(frames: Iterable[bytes], layout: PixelLayout) -> Iterator[bytes]:
    target = replace(layout, planar=False)
    for frame in frames:
        yield frame_of(planes_of(frame, layout), target)


def gathered(parts: Iterable[Buffer], folder: Path | None = None) -> Buffer:
    """Return parts as one buffer: of memory, or when it is long of a file without a name.

    Raises:
        OSError: the file cannot be written. What the parts raise passes through.
    """
    kept: list[Buffer] = []
    size = 0
    more = iter(parts)
    for part in more:
        kept.append(part)
        size += len(part)
        if size > IN_MEMORY_BYTES:
            break
    else:
        return kept[0] if len(kept) == 1 else b"".join(kept)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.writelines(kept)
        kept.clear()
        file.writelines(more)
        file.flush()
        # The mapping keeps the file when it is closed; nobody else can cut it short.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
