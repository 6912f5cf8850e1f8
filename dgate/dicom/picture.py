"""Pictures as files: BMP by itself, GIF and JPEG by Pillow, which the extra `images` brings.

Pure functions.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dgate.dicom.render import Picture
from dgate.errors import RuleError

if TYPE_CHECKING:
    from PIL import Image

_FILE_HEADER = struct.Struct("<2sLHHL")
_INFO_HEADER = struct.Struct("<LllHHLLllLL")
_PIXELS_PER_METRE = 2835
"""72 dots per inch."""
_GREYS = b"".join(bytes((tone, tone, tone, 0)) for tone in range(256))


def can_write(form: str) -> bool:
    """Tell whether files of a form (`bmp`, `gif`, `jpg`) can be written on this installation."""
    return form == "bmp" or find_spec("PIL") is not None


def bmp(picture: Picture) -> bytes:
    """Return a BMP file: 8 bits with a palette of greys, or 24 bits of colour."""
    is_grey = len(picture.planes) == 1
    width = picture.columns if is_grey else 3 * picture.columns
    if is_grey:
        data = picture.planes[0]
    else:
        data = Picture(picture.columns, picture.rows, picture.planes[::-1]).interleaved()
    # Rows go from the bottom to the top, each a multiple of four bytes long.
    gap = bytes(-width % 4)
    rows = b"".join(
        data[row * width : (row + 1) * width] + gap for row in range(picture.rows - 1, -1, -1)
    )
    palette = _GREYS if is_grey else b""
    start = _FILE_HEADER.size + _INFO_HEADER.size + len(palette)
    dots = _PIXELS_PER_METRE
    return b"".join(
        (
            _FILE_HEADER.pack(b"BM", start + len(rows), 0, 0, start),
            _INFO_HEADER.pack(
                _INFO_HEADER.size,
                picture.columns,
                picture.rows,
                1,
                8 if is_grey else 24,
                0,
                len(rows),
                dots,
                dots,
                len(palette) // 4,
                0,
            ),
            palette,
            rows,
        )
    )


def jpg(picture: Picture, quality: int) -> bytes:
    """Return a JPEG file; raises RuleError without Pillow."""
    out = io.BytesIO()
    _image(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()


def gif(pictures: Iterator[Picture], frames_per_s: int = 0) -> bytes:
    """Return a GIF file, animated when there are several pictures; raises RuleError without Pillow.

    Args:
        frames_per_s: of an animation; 0 is taken as 10.
    """
    out = io.BytesIO()
    first = _image(next(pictures))
    rest = (_image(picture) for picture in pictures)
    first.save(
        out, "GIF", save_all=True, append_images=rest, duration=1000 // (frames_per_s or 10), loop=0
    )
    return out.getvalue()


def _image(picture: Picture) -> Image.Image:
    try:
        # Imported here: it is an extra.
        from PIL import Image
    except ImportError as exc:
        raise RuleError(
            "GIF and JPEG files need Pillow", remedy="install dgate[images], or save bmp"
        ) from exc
    mode = "L" if len(picture.planes) == 1 else "RGB"
    return Image.frombytes(mode, (picture.columns, picture.rows), picture.interleaved())
