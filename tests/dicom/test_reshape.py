"""Cropping, shrinking and greying, with numpy working out what is expected."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.dicom.reshape import crop, downsize, to_monochrome
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import DEFLATED, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from dgate.errors import NotDicom
from tests.dicom.images import LAYOUTS, data_of, image, judged, table_of

EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
EACH_SYNTAX = pytest.mark.parametrize(
    "syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED, RLE_LOSSLESS]
)
RGB: dict[str, object] = {
    "BitsAllocated": 8,
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "PlanarConfiguration": 0,
}
SPACE: dict[str, object] = {
    "PixelSpacing": [2, 0.5],
    "ImagePositionPatient": [-10, 20, 30.5],
    "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
}


def _pixels(table: ElementTable) -> np.ndarray:
    # pydicom reads words of 32 bits otherwise in big endian (PS3.5 6.2, OW).
    native = convert(table.tobytes(), table.syntax, EXPLICIT_LE)
    return judged(ElementTable(native, EXPLICIT_LE)).pixel_array


@EACH_SYNTAX
@EACH_LAYOUT
def test_cropped_image_has_the_rectangle_with_its_edges(
    layout: dict[str, object], syntax: str
) -> None:
    table = ElementTable(convert(data_of(image(**layout)), EXPLICIT_LE, syntax), syntax)
    before = _pixels(table_of(image(**layout)))
    crop(table, 1, 0, 2, 1)
    after = _pixels(table)
    is_colour = "SamplesPerPixel" in layout
    rows = before.ndim - (3 if is_colour else 2)
    expected = before.take(range(2), axis=rows).take(range(1, 3), axis=rows + 1)
    assert np.array_equal(after, expected)
    assert (table.text(0x00280010), table.text(0x00280011)) == ("2", "2")
    assert table.syntax == (EXPLICIT_LE if syntax == RLE_LOSSLESS else syntax)
    assert table.text(0x00080018) == "1.2.3.4.5"


def test_single_bits_are_cropped() -> None:
    table = table_of(image(BitsAllocated=1, NumberOfFrames=3, Rows=5, Columns=7))
    before = _pixels(table)
    crop(table, 2, 1, 4, 4)
    assert np.array_equal(_pixels(table), before[:, 1:5, 2:5])


def test_shared_colour_is_given_to_each_pixel_before_cropping() -> None:
    made = image(
        BitsAllocated=8, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422",
        PlanarConfiguration=0,
    )  # fmt: skip
    table = table_of(made)
    before = _pixels(table)
    crop(table, 1, 1, 3, 2)
    assert table.text(0x00280004) == "YBR_FULL"
    assert np.array_equal(_pixels(table), before[1:3, 1:4])


def test_position_moves_with_the_first_pixel() -> None:
    table = table_of(image(**SPACE))
    crop(table, 4, 2, 5, 4)
    # Four columns of 0.5 mm to the right, two rows of 2 mm down, which is -z here.
    assert table.text(0x00200032) == "-8\\20\\26.5"
    assert table.text(0x00280030) == "2.0\\0.5"


def test_position_of_every_frame_moves() -> None:
    made = image(NumberOfFrames=2)
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = [2, 0.5]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for z in (5, 6):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, z]
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    table = table_of(made)
    crop(table, 2, 1, 5, 4)
    found = judged(table).PerFrameFunctionalGroupsSequence
    places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in found]
    assert places == [[1, 2, 5], [1, 2, 6]]


def test_overlay_stays_where_it_was_in_the_picture() -> None:
    made = image()
    made.add_new(0x60000010, "US", 5)
    made.add_new(0x60000050, "SS", [1, 1])
    table = table_of(made)
    crop(table, 2, 1, 5, 4)
    assert table.text(0x60000050) == "0\\-1"


def test_regions_of_ultrasound_move_and_end_at_the_edge() -> None:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 1, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 5, 4
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.25, 0.25
    made = image(SequenceOfUltrasoundRegions=Sequence([region]))
    table = table_of(made)
    crop(table, 2, 0, 4, 3)
    found = judged(table).SequenceOfUltrasoundRegions[0]
    assert found.RegionLocationMinX0 == 0
    assert found.RegionLocationMinY0 == 1
    assert found.RegionLocationMaxX1 == 2
    assert found.RegionLocationMaxY1 == 3
    assert found.PhysicalDeltaX == 0.25


def test_changed_pixels_are_marked_derived() -> None:
    table = table_of(image(SmallestImagePixelValue=1, LargestImagePixelValue=2))
    crop(table, 0, 0, 1, 1)
    crop(table, 0, 0, 0, 0)
    assert table.text(0x00080008) == "DERIVED\\PRIMARY"
    assert table.text(0x00082111) == "cropped to 0,0,1,1; cropped to 0,0,0,0"
    assert 0x00280106 not in table
    assert 0x00280107 not in table


def test_crop_to_everything_changes_nothing() -> None:
    table = table_of(image())
    crop(table, 0, 0, 5, 4)
    assert table.revision == 0


@pytest.mark.parametrize("box", [(0, 0, 6, 4), (0, 0, 5, 5), (3, 0, 2, 4), (0, 4, 5, 3)])
def test_rectangle_outside_the_image_is_refused(box: tuple[int, int, int, int]) -> None:
    table = table_of(image())
    with pytest.raises(ValueError, match="not inside the image, whose last pixel is 5,4"):
        crop(table, *box)
    assert table.revision == 0


def test_damaged_pixels_leave_the_object_as_it_was() -> None:
    table = table_of(image(pixels=bytes(10)))
    for change in (lambda: crop(table, 0, 0, 1, 1), lambda: downsize(table, 2)):
        with pytest.raises(NotDicom, match="ends before"):
            change()
    assert table.revision == 0


# Without colour.


@EACH_SYNTAX
@pytest.mark.parametrize("planar", [0, 1])
def test_colour_becomes_the_integer_mean(planar: int, syntax: str) -> None:
    made = image(**RGB | {"PlanarConfiguration": planar, "NumberOfFrames": 2})
    table = ElementTable(convert(data_of(made), EXPLICIT_LE, syntax), syntax)
    before = judged(table_of(made)).pixel_array.astype("u4")
    assert to_monochrome(table)
    after = judged(table)
    assert np.array_equal(after.pixel_array, before.sum(axis=-1) // 3)
    assert after.PhotometricInterpretation == "MONOCHROME2"
    assert after.SamplesPerPixel == 1
    assert "PlanarConfiguration" not in after
    assert table.syntax == (EXPLICIT_LE if syntax == RLE_LOSSLESS else syntax)


def test_colour_of_16_bits_keeps_its_bits() -> None:
    table = table_of(image(**LAYOUTS["colour of 16 bits"]))
    before = _pixels(table).astype("u4")
    to_monochrome(table)
    assert np.array_equal(_pixels(table), before.sum(axis=-1) // 3)


def test_palette_is_looked_up_and_removed() -> None:
    made = image(
        pixels=bytes([0, 1, 2, 3, 250, 255]), Rows=1, BitsAllocated=8,
        PhotometricInterpretation="PALETTE COLOR",
    )  # fmt: skip
    for name, step in (("Red", 3), ("Green", 6), ("Blue", 0)):
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [3, 1, 16])
        values = b"".join((n * step * 256).to_bytes(2, "little") for n in range(3))
        setattr(made, f"{name}PaletteColorLookupTableData", values)
    table = table_of(made)
    assert to_monochrome(table)
    # What is below and above the table has its first and last colour.
    assert _pixels(table).tolist() == [[0, 0, 3, 6, 6, 6]]
    assert not [element for element in judged(table) if "Palette" in element.keyword]


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_monochrome_stays(kind: str) -> None:
    table = table_of(image(PhotometricInterpretation=kind))
    assert not to_monochrome(table)
    assert table.revision == 0


def test_unknown_colours_are_refused() -> None:
    table = table_of(image(**RGB | {"PhotometricInterpretation": "CMYK"}))
    with pytest.raises(ValueError, match="CMYK"):
        to_monochrome(table)


# Smaller.


@EACH_LAYOUT
def test_smaller_image_has_the_means_of_its_boxes(layout: dict[str, object]) -> None:
    table = table_of(image(**layout))
    before = _pixels(table)
    changed = downsize(table, 3)
    if max(before.shape) == 3 and "Rows" in layout:
        assert not changed
        return
    after = _pixels(table)
    colour = "SamplesPerPixel" in layout
    rows = before.ndim - (3 if colour else 2)
    # 5 x 6 becomes 2 x 3: the first row has two rows in it, the second three.
    expected = [
        np.add.reduceat(np.add.reduceat(before.astype("i8"), [0, 2], rows), [0, 2, 4], rows + 1)
    ][0]
    counts = np.array([4, 6]).reshape([2 if axis == rows else 1 for axis in range(before.ndim)])
    assert np.array_equal(after, (2 * expected + counts) // (2 * counts))


def test_spacing_and_position_follow_the_size() -> None:
    table = table_of(image(**SPACE | {"Rows": 6}))
    table.set_text(0x00281101, "1\\2\\3")
    downsize(table, 3)
    assert table.text(0x00280030) == "4\\1"
    # The first pixel is the middle of the first two by two.
    assert table.text(0x00200032) == "-9.75\\20\\29.5"


def test_overlays_of_the_old_size_go() -> None:
    made = image()
    made.add_new(0x60020010, "US", 5)
    table = table_of(made)
    downsize(table, 3)
    assert 0x60020010 not in table


def test_palette_indices_and_bits_are_picked() -> None:
    table = table_of(image(BitsAllocated=1, Rows=4, Columns=4, pixels=b"\xc0\x0c"))
    downsize(table, 2)
    assert _pixels(table).tolist() == [[0, 1], [0, 0]]


def test_values_count_without_the_bits_beside_them() -> None:
    table = table_of(image(BitsStored=12, Rows=2, Columns=2, pixels=b"\x01\xf0\x03\xf0" * 2))
    downsize(table, 1)
    assert table.raw(0x7FE00010) == b"\x02\x00"
