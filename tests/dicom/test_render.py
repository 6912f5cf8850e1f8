"""What pictures show, with numpy working out the windows."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.frames import Frames
from dgate.dicom.render import Picture, View, render
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, RLE_LOSSLESS
from dgate.errors import NotDicom
from tests.dicom.images import data_of, image, table_of

RAMP = struct.pack("<6H", 0, 10, 20, 30, 40, 100)
ROW: dict[str, object] = {"pixels": RAMP, "Rows": 1}


def _picture(table: ElementTable, number: int = 0, **how: float) -> Picture:
    return render(table, Frames(table), number, View(**how))  # type: ignore[arg-type]


def _tones(table: ElementTable, number: int = 0, **how: float) -> list[int]:
    return list(_picture(table, number, **how).planes[0])


def test_without_a_window_all_tones_are_used() -> None:
    assert _tones(table_of(image(**ROW))) == [0, 26, 51, 77, 102, 255]


def test_padding_does_not_count_for_the_window() -> None:
    assert _tones(table_of(image(**ROW, PixelPaddingValue=100))) == [0, 64, 128, 191, 255, 255]


def test_window_of_the_object_is_in_rescaled_values() -> None:
    made = image(**ROW, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=31, WindowWidth=41)
    values = np.array([0, 10, 20, 30, 40, 100]) * 2 - 10
    expected = np.clip(((values - 30.5) / 40 + 0.5) * 255, 0, 255)
    assert _tones(table_of(made)) == [int(value + 0.5) for value in expected]


def test_window_of_the_statement_is_in_stored_values() -> None:
    made = image(**ROW, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=1, WindowWidth=2)
    assert _tones(table_of(made), level=20, window=1) == [0, 0, 255, 255, 255, 255]


def test_window_zero_means_that_of_the_object() -> None:
    made = image(**ROW, WindowCenter=20, WindowWidth=1)
    assert _tones(table_of(made), level=99, window=0) == [0, 0, 255, 255, 255, 255]


def test_first_window_of_several_counts() -> None:
    made = image(**ROW, WindowCenter=[20, 5], WindowWidth=[1, 5])
    assert _tones(table_of(made)) == [0, 0, 255, 255, 255, 255]


def test_monochrome1_is_inverted() -> None:
    table = table_of(image(**ROW, PhotometricInterpretation="MONOCHROME1"))
    assert _tones(table) == [255, 229, 204, 178, 153, 0]


def test_signed_values_are_below_zero() -> None:
    made = image(pixels=struct.pack("<6h", -100, -50, 0, 50, 100, 155), Rows=1)
    made.PixelRepresentation = 1
    assert _tones(table_of(made)) == [0, 50, 100, 150, 200, 255]


@pytest.mark.parametrize(
    ("function", "expected"),
    [("LINEAR_EXACT", [0, 64, 128, 191, 255, 255]), ("SIGMOID", [30, 69, 128, 186, 225, 255])],
)
def test_other_voi_functions(function: str, expected: list[int]) -> None:
    made = image(**ROW, WindowCenter=20, WindowWidth=40, VOILUTFunction=function)
    assert _tones(table_of(made)) == expected


def test_window_of_a_frame_is_in_its_functional_groups() -> None:
    frames = []
    for center in (20, 60):
        voi, item = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 1
        item.FrameVOILUTSequence = Sequence([voi])
        frames.append(item)
    made = image(pixels=RAMP * 2, Rows=1, NumberOfFrames=2)
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    assert _tones(table_of(made), 0) == [0, 0, 255, 255, 255, 255]
    assert _tones(table_of(made), 1) == [0, 0, 0, 0, 0, 255]


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, EXPLICIT_BE, RLE_LOSSLESS])
def test_look_up_tables_of_modality_and_voi(syntax: str) -> None:
    modality, voi = Dataset(), Dataset()
    modality.add_new(0x00283002, "US", [3, 10, 16])
    modality.add_new(0x00283006, "OW", struct.pack("<3H", 1, 2, 3))
    voi.add_new(0x00283002, "US", [3, 1, 8])
    voi.add_new(0x00283006, "OW", struct.pack("<3H", 0, 100, 255))
    made = image(**ROW, ModalityLUTSequence=Sequence([modality]))
    made.VOILUTSequence = Sequence([voi])
    table = ElementTable(convert(data_of(made), EXPLICIT_LE, syntax), syntax)
    # 0 and 10 are the first entry, 20 and above the last ones: 1, 1, 3 by the modality table.
    assert _tones(table) == [0, 0, 255, 255, 255, 255]


def test_gamma_is_an_exponent() -> None:
    table = table_of(image(**ROW))
    plain = _tones(table)
    assert _tones(table, gamma=2.0) == [round(255 * (tone / 255) ** 2) for tone in plain]


def test_single_bits_are_black_and_white() -> None:
    table = table_of(image(BitsAllocated=1, Rows=1, Columns=8, pixels=b"\xa5"))
    assert _tones(table) == [255, 0, 255, 0, 0, 255, 0, 255]


def test_large_picture_is_made_smaller() -> None:
    picture = _picture(table_of(image(Rows=20, Columns=10)), most=10)
    assert (picture.columns, picture.rows) == (5, 10)
    assert len(picture.planes[0]) == 50


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_come_as_they_are(planar: int) -> None:
    planes = [b"\1\2", b"\3\4", b"\5\6"]
    pixels = b"".join(planes) if planar else b"\1\3\5\2\4\6"
    made = image(
        pixels=pixels, Rows=1, Columns=2, BitsAllocated=8, SamplesPerPixel=3,
        PhotometricInterpretation="RGB", PlanarConfiguration=planar,
    )  # fmt: skip
    picture = _picture(table_of(made))
    assert list(picture.planes) == planes
    assert picture.interleaved() == b"\1\3\5\2\4\6"


def test_ybr_becomes_rgb() -> None:
    made = image(
        pixels=bytes([76, 85, 255, 150, 44, 21, 29, 255, 107, 255, 128, 128]), Rows=1, Columns=4,
        BitsAllocated=8, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL",
        PlanarConfiguration=0,
    )  # fmt: skip
    found = np.frombuffer(_picture(table_of(made)).interleaved(), "u1").reshape(4, 3).astype(int)
    wanted = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    assert abs(found - wanted).max() <= 1


def test_frame_that_is_not_there_is_refused() -> None:
    with pytest.raises(NotDicom, match="no frame 1"):
        _picture(table_of(image()), 1)
