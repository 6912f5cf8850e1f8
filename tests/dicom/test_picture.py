"""Files of pictures, read by Pillow."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dgate.dicom import picture as pictures
from dgate.dicom.picture import bmp, can_write, gif, jpg
from dgate.dicom.render import Picture
from dgate.errors import RuleError

GREY = Picture(3, 2, (bytes([0, 50, 100, 150, 200, 250]),))
COLOUR = Picture(2, 2, (b"\xff\0\0\x10", b"\0\xff\0\x20", b"\0\0\xff\x30"))


def _read(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_bmp_of_any_width_is_read_as_it_was(columns: int) -> None:
    plane = bytes(range(10, 10 + 2 * columns))
    grey = Picture(columns, 2, (plane,))
    assert _read(bmp(grey)).convert("L").tobytes() == plane
    colour = Picture(columns, 2, (plane, plane[::-1], bytes(2 * columns)))
    assert _read(bmp(colour)).convert("RGB").tobytes() == colour.interleaved()
    assert _read(bmp(colour)).format == "BMP"


def test_jpeg_has_about_the_same_tones_and_more_bytes_with_more_quality() -> None:
    flat = Picture(64, 64, (bytes(n % 251 for n in range(4096)),))
    assert _read(jpg(GREY, 95)).size == (3, 2)
    assert _read(jpg(COLOUR, 95)).mode == "RGB"
    assert len(jpg(flat, 95)) > len(jpg(flat, 10))


def test_gif_keeps_greys_exactly() -> None:
    assert _read(gif(iter((GREY,)))).convert("L").tobytes() == GREY.planes[0]


def test_gif_of_several_pictures_is_an_animation() -> None:
    other = Picture(3, 2, (bytes(6),))
    found = _read(gif(iter((GREY, other, GREY)), 20))
    assert found.n_frames == 3
    assert found.info["duration"] == 50


def test_without_pillow_bmp_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert can_write("bmp")
    assert not can_write("gif")
    with pytest.raises(RuleError, match=r"Pillow.*dgate\[images\]"):
        jpg(GREY, 95)
