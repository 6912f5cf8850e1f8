"""The DICOM JSON model, both ways, with pydicom as the independent reader and writer."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dgate.dicom.jsonmodel import fill, to_model
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from tests.archive.intake_kit import data_set


def empty(syntax: str = EXPLICIT_LE) -> ElementTable:
    return ElementTable(b"", syntax)


def table_of(**elements: Any) -> ElementTable:
    return ElementTable(data_set(**elements), EXPLICIT_LE)


def filled(values: dict[str, Any], syntax: str = EXPLICIT_LE) -> ElementTable:
    table = empty(syntax)
    fill(table, values)
    return table


def test_pydicom_reads_the_model_of_an_object_as_the_object() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    table = table_of(
        PatientName="Meier^Otto",
        OtherPatientIDs=["A", "B"],
        SliceThickness="2.5",
        ImagePositionPatient=["1", "2.5", "-3"],
        ReferencedStudySequence=[item],
        FrameIncrementPointer=0x00181063,
        PixelAspectRatio=["1", "1"],
    )

    read = Dataset.from_json(json.dumps(to_model(table, bulk=True)))

    assert read.PatientName == "Meier^Otto"
    assert list(read.OtherPatientIDs) == ["A", "B"]
    assert read.SliceThickness == 2.5
    assert [float(value) for value in read.ImagePositionPatient] == [1, 2.5, -3]
    assert read.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert read.FrameIncrementPointer == 0x00181063
    assert read.Rows == 4
    assert read.PixelData == bytes(range(32))


def test_model_has_the_forms_of_the_standard() -> None:
    model = to_model(
        table_of(
            PatientName="Yamada^Tarou=山田^太郎",
            SpecificCharacterSet="ISO_IR 192",
            PatientComments="a\\b",
            AccessionNumber="",
            OtherPatientIDs=["A", "", "C"],
            FrameIncrementPointer=[0x00181063, 0x00181065],
        ),
        bulk=False,
    )

    assert model["00100010"] == {
        "vr": "PN",
        "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}],
    }
    assert model["00104000"] == {"vr": "LT", "Value": ["a\\b"]}
    assert model["00080050"] == {"vr": "SH"}
    assert model["00101000"] == {"vr": "LO", "Value": ["A", None, "C"]}
    assert model["00280009"] == {"vr": "AT", "Value": ["00181063", "00181065"]}
    assert model["00280010"] == {"vr": "US", "Value": [4]}
    assert model["00200011"] == {"vr": "IS", "Value": [2]}
    assert "7FE00010" not in model


def test_text_of_another_character_set_is_declared_as_the_utf_8_that_it_becomes() -> None:
    model = to_model(table_of(SpecificCharacterSet="ISO_IR 100", PatientName="Müller"), bulk=False)

    assert model["00080005"]["Value"] == ["ISO_IR 192"]
    assert model["00100010"]["Value"] == [{"Alphabetic": "Müller"}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_lacks_are_texts(value: float) -> None:
    table = empty()
    table.set_text(0x00189073, "1")
    table.set_raw(0x00189073, "FD", struct.pack("<d", value))

    text = json.dumps(to_model(table, bulk=False), allow_nan=False)

    assert json.loads(text)["00189073"]["Value"] == [str(value).replace("nan", "NaN")]


def test_bulk_data_is_little_endian_in_the_model() -> None:
    table = empty(EXPLICIT_BE)
    table.set_raw(0x7FE00010, "OW", b"\x01\x02\x03\x04")

    inline = to_model(table, bulk=True)["7FE00010"]["InlineBinary"]

    assert base64.b64decode(inline) == b"\x02\x01\x04\x03"
    assert filled({"7FE00010": {"vr": "OW", "InlineBinary": inline}}, EXPLICIT_BE).raw(
        0x7FE00010
    ) == (b"\x01\x02\x03\x04")


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE])
def test_object_comes_back_from_its_model(syntax: str) -> None:
    source = table_of(
        PatientName="Müller",
        SpecificCharacterSet="ISO_IR 192",
        ImagePositionPatient=["1", "2.5", "-3"],
        PatientComments="a\\b",
    )
    model = json.loads(json.dumps(to_model(source, bulk=True)))

    table = filled(model, syntax)

    assert to_model(table, bulk=True) == to_model(source, bulk=True)


def test_plain_values_by_keyword_are_taken() -> None:
    table = filled(
        {
            "PatientID": "1",
            "Rows": 512,
            "SliceThickness": 2.5,
            "00200013": 7,
            "PixelSpacing": [0.5, 0.25],
            "FrameIncrementPointer": "00181063",
            "ReferencedStudySequence": [{"ReferencedSOPInstanceUID": "1.2"}, {}],
            "AccessionNumber": None,
            "PatientComments": 'quote " backslash \\ line\n',
            "NoSuchKeyword": {"a": [1]},
        }
    )

    assert table.text(0x00100020) == "1"
    assert table.text(0x00280010) == "512"
    assert table.text(0x00180050) == "2.5"
    assert table.text(0x00200013) == "7"
    assert table.text(0x00280030) == "0.5\\0.25"
    assert table.text(0x00280009) == "0018,1063"
    assert [item.text(0x00081155) for item in table.items(0x00081110)] == ["1.2", ""]
    assert table.raw(0x00080050) == b""
    assert table.text(0x00104000) == 'quote " backslash \\ line\n'


def test_uids_are_padded_with_nul() -> None:
    assert filled({"SOPInstanceUID": "1.2.3"}).raw(0x00080018) == b"1.2.3\0"


def test_text_is_encoded_by_the_character_set_that_comes_with_it() -> None:
    table = filled({"PatientName": "Müller", "SpecificCharacterSet": "ISO_IR 100"})

    assert table.raw(0x00100010) == b"M\xfcller"


def test_text_that_no_character_set_was_given_for_makes_the_object_utf_8() -> None:
    table = filled({"PatientName": "山田"})

    assert table.text(0x00080005) == "ISO_IR 192"
    assert table.text(0x00100010) == "山田"


def test_decimal_strings_have_at_most_sixteen_characters() -> None:
    table = filled({"SliceThickness": 1 / 3, "SliceLocation": -1.23456789012345e-30})

    for tag in (0x00180050, 0x00201041):
        assert len(table.text(tag)) <= 16
    assert float(table.text(0x00180050)) == pytest.approx(1 / 3)
    assert float(table.text(0x00201041)) == pytest.approx(-1.23456789012345e-30)


def test_numbers_fill_pixels() -> None:
    table = filled({"PixelData": [1, 2, 65535]})

    assert table.raw(0x7FE00010) == b"\x01\x00\x02\x00\xff\xff"


@pytest.mark.parametrize(
    "values",
    [
        {"Rows": 70000},
        {"Rows": {"vr": "US", "Value": [{}]}},
        {"Rows": True},
        {"PatientID": {"vr": 5}},
        {"PatientID": {"vr": "LO", "BulkDataURI": "http://x"}},
        {"PixelData": {"vr": "OW", "InlineBinary": "?"}},
        {"PixelData": {"vr": "OW", "InlineBinary": 4}},
        {"PixelData": [1e30]},
        {"ReferencedStudySequence": "text"},
        {"ReferencedStudySequence": ["text"]},
        {"PatientID": [["a"]]},
        {"PatientID": {"Alphabetic": "x"}},
    ],
    ids=str,
)
def test_value_that_does_not_fit_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        filled(values)
