"""Whether pixel data is whole, by its lengths."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from dgate.archive.maintenance.pixels import pixel_problem
from dgate.archive.maintenance.scanner import read_header
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from tests.archive.intake_kit import CT, SOP, data_set

JPEG = "1.2.840.10008.1.2.4.50"
DEFLATED = "1.2.840.10008.1.2.1.99"


def problem(folder: Path, content: bytes, *, deep: bool = True) -> str:
    """Write a file and look at its pixels."""
    path = folder / "x.dcm"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        meta, table = read_header(descriptor, len(content))
        return pixel_problem(descriptor, len(content), meta, table, deep=deep)
    finally:
        os.close(descriptor)


def part10(data: bytes, syntax: str = EXPLICIT_LE) -> bytes:
    """Return a file."""
    return file_meta(CT, SOP, syntax) + data


def encapsulated(*fragments: bytes, closed: bool = True, frames: int = 1) -> bytes:
    """Return a file with compressed pixel data."""
    data = data_set(PixelData=None, NumberOfFrames=str(frames))
    data += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    for fragment in (b"", *fragments):
        data += struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    if closed:
        data += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return part10(data, JPEG)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
@pytest.mark.parametrize("deep", [True, False])
def test_whole_pixels_are_no_problem(tmp_path: Path, syntax: str, deep: bool) -> None:
    assert problem(tmp_path, part10(data_set(syntax), syntax), deep=deep) == ""


def test_object_without_pixels_is_no_problem(tmp_path: Path) -> None:
    assert problem(tmp_path, part10(data_set(PixelData=None))) == ""


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_cut_pixels_are_told_with_what_is_missing(tmp_path: Path, syntax: str) -> None:
    content = part10(data_set(syntax), syntax)

    found = problem(tmp_path, content[:-10], deep=False)

    assert found == "the pixel data is cut off: 10 bytes are missing"


def test_fewer_pixels_than_the_header_says_are_told_when_looked_at_closely(tmp_path: Path) -> None:
    content = part10(data_set(PixelData=bytes(16)))

    assert problem(tmp_path, content, deep=False) == ""
    assert problem(tmp_path, content) == "the pixel data has 16 bytes, where the header says 32"


def test_frames_and_samples_count(tmp_path: Path) -> None:
    colour = {"SamplesPerPixel": 3, "BitsAllocated": 8, "NumberOfFrames": "2"}

    assert problem(tmp_path, part10(data_set(PixelData=bytes(96), **colour))) == ""
    assert "says 96" in problem(tmp_path, part10(data_set(PixelData=bytes(48), **colour)))
    half = colour | {"PhotometricInterpretation": "YBR_FULL_422"}
    assert problem(tmp_path, part10(data_set(PixelData=bytes(64), **half))) == ""


def test_fragments_are_followed_to_their_end(tmp_path: Path) -> None:
    assert problem(tmp_path, encapsulated(b"ab", b"cd", frames=2)) == ""
    assert "end is missing" in problem(tmp_path, encapsulated(b"ab", closed=False))
    assert "end is missing" in problem(tmp_path, encapsulated(b"ab" * 20)[:-30])
    assert "1 fragment(s) for 2 frames" in problem(tmp_path, encapsulated(b"ab", frames=2))


def test_rubbish_between_fragments_is_told(tmp_path: Path) -> None:
    content = encapsulated(b"ab").replace(b"\xfe\xff\xdd\xe0", b"\x08\x00\xdd\xe0")

    assert "something else" in problem(tmp_path, content)


def test_padding_behind_the_pixels_is_no_problem(tmp_path: Path) -> None:
    padding = struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, 4) + bytes(4)

    assert problem(tmp_path, part10(data_set() + padding)) == ""
    assert problem(tmp_path, part10(data_set() + bytes(100))) == ""
