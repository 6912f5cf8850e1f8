"""Frames of every layout, native and RLE, with pydicom as the judge."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dgate.dicom.frames import Frames, can_encode, decode, encode, put_frames
from dgate.dicom.pixels import layout_of
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert, convert_parts
from dgate.dicom.uids import (
    DEFLATED,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_2000_LOSSLESS,
    RLE_LOSSLESS,
)
from dgate.errors import CannotTranscode, NotDicom
from tests.dicom.images import BITS, LAYOUTS, data_of, image, judged, table_of
from tests.dicom.samples import by_name

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NATIVE = {
    "implicit": IMPLICIT_LE,
    "explicit": EXPLICIT_LE,
    "big": EXPLICIT_BE,
    "deflated": DEFLATED,
}
EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
EACH_NATIVE = pytest.mark.parametrize("syntax", NATIVE.values(), ids=NATIVE)


def _whole(frames: Frames) -> bytes:
    return b"".join(frames)


@EACH_NATIVE
@EACH_LAYOUT
def test_native_and_rle_go_into_each_other_and_back_byte_by_byte(
    layout: dict[str, object], syntax: str
) -> None:
    made = image(**layout)
    native = data_of(made, syntax)
    coded = convert(native, syntax, RLE_LOSSLESS)
    judge = judged(ElementTable(coded, RLE_LOSSLESS))
    assert np.array_equal(
        judge.pixel_array, judged(ElementTable(data_of(made), EXPLICIT_LE)).pixel_array
    )
    back = convert(coded, RLE_LOSSLESS, syntax)
    if syntax == EXPLICIT_BE and made.BitsAllocated == 8:
        # The words of OW are bytes again when they have been RLE, which is OB.
        assert _whole(Frames(ElementTable(back, syntax))) == _whole(
            Frames(ElementTable(native, syntax))
        )
    else:
        assert back == native


@EACH_LAYOUT
def test_frames_of_rle_are_those_of_the_native_object(layout: dict[str, object]) -> None:
    made = image(**layout)
    native = Frames(table_of(made))
    coded = Frames(ElementTable(convert(data_of(made), EXPLICIT_LE, RLE_LOSSLESS), RLE_LOSSLESS))
    assert list(native) == list(coded)
    assert native.layout == coded.layout


@EACH_NATIVE
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_frames_are_little_endian_in_every_syntax(syntax: str, vr: str) -> None:
    made = image(BitsAllocated=8, Rows=3, Columns=3, NumberOfFrames=3)
    made["PixelData"].VR = vr
    frames = Frames(table_of(made, syntax))
    assert [frames.frame(number) for number in range(3)] == [
        made.PixelData[9 * number : 9 * number + 9] for number in range(3)
    ]


@EACH_NATIVE
def test_single_bits_are_cut_out_and_put_back(syntax: str) -> None:
    made = image(**BITS)
    table = table_of(made, syntax)
    frames = Frames(table)
    bits = np.unpackbits(np.frombuffer(made.PixelData, "u1"), bitorder="little")
    for number, frame in enumerate(frames):
        found = np.unpackbits(np.frombuffer(frame, "u1"), bitorder="little")[:9]
        assert np.array_equal(found, bits[9 * number : 9 * number + 9])
    before = table.tobytes()
    put_frames(table, frames.layout, list(frames))
    assert (
        judged(table).pixel_array.tobytes()
        == judged(ElementTable(before, syntax)).pixel_array.tobytes()
    )


@EACH_NATIVE
@pytest.mark.parametrize("target", [*NATIVE.values(), RLE_LOSSLESS, None])
@EACH_LAYOUT
def test_frames_that_are_put_back_are_the_same_in_any_syntax(
    layout: dict[str, object], syntax: str, target: str | None
) -> None:
    made = image(**layout)
    table = table_of(made, syntax)
    snapshot = table.snapshot()
    frames = Frames(table)
    put_frames(table, frames.layout, frames, target)
    assert table.syntax == (target or syntax)
    assert _whole(Frames(table)) == _whole(Frames(table_of(made)))
    reread = ElementTable(table.tobytes(), table.syntax)
    assert _whole(Frames(reread)) == _whole(Frames(table_of(made)))
    assert reread.text(0x00100020) == "P1"
    # What was remembered before stays what it was.
    assert snapshot.tobytes() == data_of(made, syntax)
    assert snapshot.syntax == syntax


@pytest.mark.parametrize(
    ("syntax", "name"), [("1.2.840.10008.1.2.4.100", "MPEG2"), ("1.2.3", "1.2.3")]
)
def test_syntax_that_nothing_decodes_is_named(syntax: str, name: str) -> None:
    coded = ElementTable(convert(data_of(image()), EXPLICIT_LE, RLE_LOSSLESS), RLE_LOSSLESS)
    with pytest.raises(CannotTranscode, match=name):
        decode(ElementTable(coded.tobytes(), syntax))


def test_jpeg_becomes_native_when_its_frames_are_put_back() -> None:
    file = by_name("SC_rgb_jpeg_dcmtk.dcm")
    table = ElementTable(file.data, file.syntax)
    frames = Frames(table)
    expected = judged(table).pixel_array
    put_frames(table, frames.layout, frames)
    assert table.syntax == EXPLICIT_LE
    assert np.array_equal(judged(table).pixel_array, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"Rows": 0},
        {"BitsAllocated": 12},
        {"BitsStored": 17},
        {"SamplesPerPixel": 9},
        {"NumberOfFrames": 9},
    ],
    ids=str,
)
def test_contradictions_are_refused(changes: dict[str, object]) -> None:
    made = image()
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    with pytest.raises(NotDicom):
        list(Frames(table_of(made)))


def test_frame_that_is_not_there_is_refused() -> None:
    frames = Frames(table_of(image(NumberOfFrames=2)))
    assert len(frames) == 2
    for number in (-1, 2):
        with pytest.raises(NotDicom, match="the object has 2"):
            frames.frame(number)


def test_object_without_pixels_has_no_layout() -> None:
    made = Dataset()
    made.Rows = made.Columns = 5
    with pytest.raises(NotDicom, match="no pixel data"):
        layout_of(table_of(made))


def test_encoder_that_is_missing_is_named() -> None:
    layout = layout_of(table_of(image()))
    assert can_encode(RLE_LOSSLESS)
    assert not can_encode(JPEG_2000_LOSSLESS)
    with pytest.raises(CannotTranscode, match="JPEG 2000 Lossless"):
        encode([], layout, JPEG_2000_LOSSLESS)


@pytest.mark.parametrize("changes", [BITS, {"BitsAllocated": 64}], ids=["1 bit", "64 bits"])
def test_what_rle_cannot_hold_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CannotTranscode, match="RLE cannot hold"):
        convert(data_of(image(**changes)), EXPLICIT_LE, RLE_LOSSLESS)


def test_frames_missing_from_rle_are_counted() -> None:
    made = image(NumberOfFrames=2)
    coded = ElementTable(convert(data_of(made), EXPLICIT_LE, RLE_LOSSLESS), RLE_LOSSLESS)
    coded.set_text(0x00280008, "3")
    with pytest.raises(CannotTranscode):
        convert(coded.tobytes(), RLE_LOSSLESS, EXPLICIT_LE)


def test_frames_are_converted_one_after_the_other() -> None:
    made = image(NumberOfFrames=4)
    coded = convert(data_of(made), EXPLICIT_LE, RLE_LOSSLESS)
    pieces = list(convert_parts(coded, RLE_LOSSLESS, EXPLICIT_LE))
    size = 5 * 6 * 2
    assert [len(piece) for piece in pieces].count(size) == 4


def test_what_follows_the_pixels_stays() -> None:
    made = image()
    made.DataSetTrailingPadding = b"padding!"
    coded = convert(data_of(made), EXPLICIT_LE, RLE_LOSSLESS)
    assert judged(ElementTable(coded, RLE_LOSSLESS)).DataSetTrailingPadding == b"padding!"
    assert convert(coded, RLE_LOSSLESS, EXPLICIT_LE) == data_of(made)
