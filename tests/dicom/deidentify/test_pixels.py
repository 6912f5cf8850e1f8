"""Masks: the file, what they black out, and what is held back without one."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dgate.dicom.deidentify import Masks
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, JPEG_BASELINE, RLE_LOSSLESS
from dgate.errors import ConfigError, RuleError
from tests.dicom.deidentify.kit import data_set, deidentified, encoded, profile, run

ROWS, COLUMNS = 4, 6


def image(
    *, frames: int = 1, samples: int = 1, bits: int = 8, planar: int = 0, kind: str = "MONOCHROME2"
) -> Dataset:
    """Return an ultrasound image without a zero in its pixels."""
    made = data_set(
        Modality="US",
        Manufacturer="Dgate Works",
        ManufacturerModelName="Echo 5",
        Rows=ROWS,
        Columns=COLUMNS,
        SamplesPerPixel=samples,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
        PhotometricInterpretation=kind,
        NumberOfFrames=frames,
    )
    if samples > 1:
        made.PlanarConfiguration = planar
    size = ROWS * COLUMNS * samples * bits // 8
    made.add_new(0x7FE00010, "OW", bytes(1 + at % 200 for at in range(size)) * frames)
    return made


def masks(line: str) -> Masks:
    return Masks.parse(line, "masks.txt")


def expected(made: Dataset, black: set[tuple[int, int]], grey: int = 0) -> bytes:
    """Return the pixels with black at the given columns and rows, one by one."""
    samples, width = made.SamplesPerPixel, made.BitsAllocated // 8
    planar = made.get("PlanarConfiguration", 0)
    out = bytearray(made.PixelData)
    frame = ROWS * COLUMNS * samples * width
    for number in range(int(made.NumberOfFrames)):
        for x, y in black:
            for sample in range(samples):
                pixel = y * COLUMNS + x
                place = sample * ROWS * COLUMNS + pixel if planar else pixel * samples + sample
                for byte in range(width):
                    value = grey if sample else 0
                    out[number * frame + place * width + byte] = value
    return bytes(out)


def area(x0: int, y0: int, x1: int, y1: int) -> set[tuple[int, int]]:
    return {(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE])
@pytest.mark.parametrize(
    "made",
    [image(), image(frames=3), image(bits=16), image(samples=3, kind="RGB"),
     image(samples=3, planar=1, frames=2, kind="RGB"), image(bits=32)],
    ids=["8 bit", "frames", "16 bit", "RGB", "planes", "32 bit"],
)  # fmt: skip
def test_rectangles_become_black_on_all_frames(made: Dataset, syntax: str) -> None:
    line = masks("modality=US : 1,0,2,1  -2,-1,-1,-1")

    found = deidentified(made, "pixels", masks=line, syntax=syntax)

    black = area(1, 0, 2, 1) | area(4, 3, 5, 3)
    assert found.PixelData == expected(made, black)
    assert found.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in found.DeidentificationMethodCodeSequence]


def test_black_in_full_ybr_is_grey_in_colour() -> None:
    made = image(samples=3, kind="YBR_FULL")

    found = deidentified(made, "pixels", masks=masks("modality=US : 0,0,0,0"))

    assert found.PixelData == expected(made, area(0, 0, 0, 0), grey=128)


def test_pairs_of_ybr_422_become_black_together() -> None:
    made = image(samples=3, kind="YBR_FULL_422")
    made.PixelData = bytes(range(1, 1 + ROWS * COLUMNS * 2))

    found = deidentified(made, "pixels", masks=masks("modality=US : 3,1,3,1"))

    pair = (COLUMNS + 2) * 2
    changed = bytes((0, 0, 128, 128))
    assert found.PixelData == made.PixelData[:pair] + changed + made.PixelData[pair + 4 :]


def test_rle_is_decompressed_and_masked() -> None:
    made = image()
    data = convert(encoded(made), EXPLICIT_LE, RLE_LOSSLESS)

    table, _ = run(data, profile("pixels", masks=masks("modality=US : 0,0,-1,1")), RLE_LOSSLESS)

    assert table.syntax == EXPLICIT_LE
    assert table.raw(0x7FE00010) == expected(made, area(0, 0, 5, 1))
    assert b"Zumsteg" not in table.tobytes()


def test_other_compressed_pixels_are_refused() -> None:
    made = image()
    table = ElementTable(encoded(made), EXPLICIT_LE)
    table.set_pixels(
        "OB", b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\4\0\0\0\xff\xd8\xff\xd9", JPEG_BASELINE
    )

    with pytest.raises(RuleError, match="cannot be masked"):
        run(table.tobytes(), profile("pixels", masks=masks("modality=US : 0,0,1,1")), JPEG_BASELINE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Rows": 5}, "shorter"),
        ({"BitsAllocated": 1}, "1 bits"),
        ({"BitsAllocated": 12}, "12 bits"),
        ({"Rows": 0}, "0028,0010"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "YBR_PARTIAL_420"),
        ({"Columns": 2, "Rows": 12}, "does not lie"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    made = image()
    for keyword, value in changes.items():
        setattr(made, keyword, value)

    with pytest.raises(RuleError, match=message):
        run(encoded(made), profile("pixels", masks=masks("modality=US : 0,0,3,1")))


def test_what_stands_behind_the_last_frame_goes() -> None:
    made = image()
    made.PixelData = made.PixelData + b"Zumsteg^Quirin"

    found = deidentified(made, "pixels", masks=masks("modality=US : 0,0,0,0"))

    assert len(found.PixelData) == ROWS * COLUMNS


FILTERS = [
    ('manufacturer="dgate*"', True),
    ('manufacturer="Dgate"', False),
    ('model="*5" modality=us', True),
    ("rows=4 columns=6", True),
    ("rows=4 columns=7", False),
    ('manufacturer="a:b"', False),
    ("sopclass=1.2.840.10008.5.1.4.1.1.2", True),
    ('manufacturer="D.*"', False),
]


@pytest.mark.parametrize(("filters", "fits"), FILTERS, ids=[each for each, _ in FILTERS])
def test_filters(filters: str, fits: bool) -> None:
    table = ElementTable(encoded(image()), EXPLICIT_LE)

    assert (masks(f"# comment\n\n{filters} : none").of(table) is not None) == fits


def test_the_first_line_that_fits_counts() -> None:
    table = ElementTable(encoded(image()), EXPLICIT_LE)

    mask = masks("modality=MR : 0,0,0,0\nmodality=US : none\nmodality=US : 1,1,1,1").of(table)

    assert mask is not None
    assert mask.rectangles == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("modality=US 0,0,1,1", "colon"),
        (": 0,0,1,1", "needs a filter"),
        ("modality=US :", "no rectangle"),
        ("modality=US : 0,0,1", "not a rectangle"),
        ("modality=US : 5,0,1,1", "ends before"),
        ("modality=US : -1,0,-2,1", "ends before"),
        ("colour=US : none", "not a filter"),
        ("rows=many : none", "number from"),
        ("rows=0 : none", "number from"),
        ("modality : none", "expected filter"),
        ('modality="US : none', "colon"),
        ('modality="" : none', "no value"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"masks.txt: line 2: .*{message}"):
        masks(f"modality=CT : none\n{line}\n")


def test_all_wrong_lines_are_named() -> None:
    with pytest.raises(ConfigError, match=r"line 1: .*line 3: "):
        masks("x : none\nmodality=CT : none\ny : none\n")


# Held back.


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"BurnedInAnnotation": "NO"}, False),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"Modality": "CT"}, False),
        ({"Modality": "CT", "BurnedInAnnotation": "YES"}, True),
        ({"Modality": "XA"}, True),
        ({"Modality": "ES"}, True),
        ({"Modality": "OT"}, True),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, True),
        ({"Modality": "MR", "ConversionType": "WSD"}, True),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"Modality": "SM", "SpecimenLabelInImage": "YES", "BurnedInAnnotation": "NO"}, True),
        ({"Modality": "SM"}, False),
    ],
)
def test_what_may_show_text_is_held_back(changes: dict[str, object], held: bool) -> None:
    made = image()
    for keyword, value in changes.items():
        setattr(made, keyword, value)

    if held:
        with pytest.raises(RuleError, match="held back"):
            deidentified(made)
    else:
        assert deidentified(made).PatientIdentityRemoved == "YES"
    assert deidentified(made, allow_burned_in=True).PatientIdentityRemoved == "YES"


def test_an_overlay_in_the_pixels_is_held_back() -> None:
    made = image()
    made.Modality = "CT"
    made.add_new(0x60000100, "US", 16)
    made.add_new(0x60000102, "US", 12)

    with pytest.raises(RuleError, match="overlay 6000"):
        deidentified(made)


def test_objects_without_pixels_are_not_held_back() -> None:
    assert deidentified(data_set(Modality="OT")).PatientIdentityRemoved == "YES"


def test_a_mask_for_another_device_does_not_help() -> None:
    with pytest.raises(RuleError, match="held back"):
        deidentified(image(), "pixels", masks=masks("modality=XA : 0,0,1,1"))


def test_a_line_with_none_says_that_somebody_has_looked() -> None:
    made = image()

    found = deidentified(made, "pixels", masks=masks("model=Echo* : none"))

    assert found.PixelData == made.PixelData
    assert found.BurnedInAnnotation == "NO"


def test_what_no_line_names_and_nobody_suspects_passes_unmarked() -> None:
    made = image()
    made.Modality = "CT"

    found = deidentified(made, "pixels", masks=masks("modality=US : 0,0,1,1"))

    assert "BurnedInAnnotation" not in found
    assert found.PixelData == made.PixelData
