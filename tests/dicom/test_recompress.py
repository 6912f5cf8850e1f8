"""Compression codes on objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dgate.dicom import recompress as room
from dgate.dicom.codes import most_pixels, proposed_syntaxes, stored_syntax_for
from dgate.dicom.extract import single_frame
from dgate.dicom.frames import Frames
from dgate.dicom.recompress import gathered, recompress
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.errors import CannotTranscode, NotDicom
from tests.dicom.images import LAYOUTS, data_of, image, judged, table_of
from tests.dicom.samples import by_name, explicit

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _rle(**layout: object) -> ElementTable:
    return ElementTable(convert(data_of(image(**layout)), EXPLICIT_LE, RLE_LOSSLESS), RLE_LOSSLESS)


@pytest.mark.parametrize(
    ("code", "syntax"),
    [
        ("un", EXPLICIT_LE),
        ("UL", EXPLICIT_LE),
        ("ui", IMPLICIT_LE),
        ("ub", EXPLICIT_BE),
        ("ue", EXPLICIT_LE),
        ("rl", RLE_LOSSLESS),
        ("n0", EXPLICIT_LE),
        ("uj", EXPLICIT_LE),
    ],
)
@pytest.mark.parametrize("before", [IMPLICIT_LE, EXPLICIT_BE, RLE_LOSSLESS])
def test_code_brings_an_object_into_its_syntax(code: str, syntax: str, before: str) -> None:
    table = ElementTable(convert(data_of(image()), EXPLICIT_LE, before), before)
    if code == "uj" and before != RLE_LOSSLESS:
        syntax = before
    assert recompress(table, code) is (before != syntax)
    assert table.syntax == syntax
    assert list(Frames(table)) == list(Frames(table_of(image())))
    assert np.array_equal(judged(table).pixel_array, judged(table_of(image())).pixel_array)


def test_changes_of_an_object_are_kept() -> None:
    table = table_of(image())
    table.set_text(0x00100020, "CHANGED")
    recompress(table, "rl")
    table.set_text(0x00100010, "Doe^Jane")
    recompress(table, "ui")
    assert table.text(0x00100020) == "CHANGED"
    assert table.text(0x00100010) == "Doe^Jane"


def test_same_syntax_is_left_alone() -> None:
    table = table_of(image())
    assert not recompress(table, "un")
    assert not recompress(table, "as")
    assert table.revision == 0


def test_objects_without_pixels_are_not_compressed() -> None:
    table = ElementTable(explicit(0x00080018, "UI", b"1.2.3\0"), EXPLICIT_LE)
    for code in ("rl", "k8"):
        assert not recompress(table, code)
    assert recompress(table, "ui")
    assert table.syntax == IMPLICIT_LE


def test_decompression_by_un_puts_colours_together_by_pixel() -> None:
    table = _rle(**LAYOUTS["colour by plane"])
    recompress(table, "un")
    assert table.text(0x00280006) == "0"
    expected = judged(table_of(image(**LAYOUTS["colour by plane"]))).pixel_array
    assert np.array_equal(judged(table).pixel_array, expected)
    other = _rle(**LAYOUTS["colour by plane"])
    recompress(other, "ul")
    assert other.text(0x00280006) == "1"


def test_missing_encoder_is_named_and_nothing_changes() -> None:
    table = table_of(image())
    with pytest.raises(CannotTranscode, match="JPEG 2000 Lossless"):
        recompress(table, "jk")
    assert table.revision == 0
    assert table.syntax == EXPLICIT_LE


def test_damaged_pixels_leave_the_object_as_it_was() -> None:
    table = table_of(image(pixels=bytes(10)))
    with pytest.raises(CannotTranscode, match="ends before"):
        recompress(table, "rl")
    with pytest.raises(NotDicom, match="ends before"):
        Frames(table).frame(0)
    assert table.revision == 0


@pytest.mark.parametrize(
    ("code", "most"),
    [("k1", 1024), ("k2", 512), ("k4", 256), ("K8", 128), ("ka", 64), ("kb", 32), ("kc", 16)],
)
def test_size_codes(code: str, most: int) -> None:
    assert most_pixels(code) == most
    table = table_of(image(Rows=most, Columns=most + 1, BitsAllocated=8))
    assert recompress(table, code)
    assert int(table.text(0x00280011)) == most
    assert int(table.text(0x00280010)) == most * most // (most + 1)
    assert not recompress(table, code)


@pytest.mark.parametrize("code", ["as", "k3", "kk", "s1", "rl", ""])
def test_other_codes_have_no_size(code: str) -> None:
    assert most_pixels(code) is None


def test_rle_is_offered_with_a_way_out_unless_it_is_demanded() -> None:
    assert proposed_syntaxes("rl", EXPLICIT_LE) == [[RLE_LOSSLESS], [EXPLICIT_LE, IMPLICIT_LE]]
    assert proposed_syntaxes("rl!", EXPLICIT_LE) == [[RLE_LOSSLESS]]
    assert stored_syntax_for("RL", IMPLICIT_LE) == RLE_LOSSLESS


def test_long_result_goes_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "IN_MEMORY_BYTES", 100)
    assert bytes(gathered([b"x" * 60, b"y" * 60, b"z"], tmp_path)) == b"x" * 60 + b"y" * 60 + b"z"
    table = table_of(image(NumberOfFrames=9))
    assert recompress(table, "rl", tmp_path)
    assert recompress(table, "un", tmp_path)
    assert table.tobytes() == data_of(image(NumberOfFrames=9))
    assert list(tmp_path.iterdir()) == []


# One frame.


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, RLE_LOSSLESS])
@pytest.mark.parametrize("name", ["frames", "odd frames", "colour by plane"])
def test_single_frame_keeps_syntax_and_identity(name: str, syntax: str) -> None:
    made = image(**LAYOUTS[name], FrameIncrementPointer=0x00181063)
    table = ElementTable(convert(data_of(made), EXPLICIT_LE, syntax), syntax)
    copy = single_frame(table, 1)
    again = ElementTable(copy.tobytes(), copy.syntax)
    assert again.syntax == syntax
    assert again.text(0x00280008) == "1"
    assert again.text(0x00080018) == "1.2.3.4.5"
    assert 0x00280009 not in again
    assert list(Frames(again)) == [Frames(table).frame(1)]
    assert table.revision == 0


def test_compressed_frame_is_taken_out_as_it_is() -> None:
    file = by_name("examples_ybr_color.dcm")
    table = ElementTable(file.data, file.syntax)
    copy = single_frame(table, 3)
    assert copy.syntax == file.syntax
    assert np.array_equal(judged(copy).pixel_array, judged(table).pixel_array[3])


def test_frame_that_is_not_there_is_refused() -> None:
    for table in (table_of(image(NumberOfFrames=2)), _rle(NumberOfFrames=2)):
        with pytest.raises(NotDicom, match="no frame 2: the object has 2"):
            single_frame(table, 2)
