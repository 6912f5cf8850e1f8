"""JSON texts of scripts, in and out."""

from __future__ import annotations

import json

import pytest
from pydicom.dataset import Dataset

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.lua.jsonform import (
    dicom_json,
    json_form,
    json_form_of_all,
    read_json,
    read_json_items,
)
from tests.archive.intake_kit import data_set
from tests.rules.lua.library_kit import Bench


def table_of(**elements: object) -> ElementTable:
    return ElementTable(data_set(**elements), EXPLICIT_LE)


def empty() -> ElementTable:
    return ElementTable(b"", EXPLICIT_LE)


def test_form_by_keyword() -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2"
    values = json.loads(
        json_form(
            table_of(
                SliceThickness="2.50",
                PatientComments='a "quote"\\\n',
                ReferencedStudySequence=[item],
                FrameIncrementPointer=0x00181063,
                RedPaletteColorLookupTableDescriptor=[256, 0, 16],
                PixelRepresentation=0,
                AccessionNumber="",
            )
        )
    )

    assert values["Rows"] == 4
    assert values["InstanceNumber"] == "3 "
    assert values["SliceThickness"] == "2.50"
    assert values["PatientComments"] == 'a "quote"\\\n'
    assert values["ReferencedStudySequence"] == [{"ReferencedSOPInstanceUID": "1.2"}]
    assert values["FrameIncrementPointer"] == "00181063"
    assert values["RedPaletteColorLookupTableDescriptor"] == [256, 0, 16]
    assert values["AccessionNumber"] == ""
    assert "PixelData" not in values


def test_object_comes_back_from_both_forms() -> None:
    source = table_of(PatientName="Müller", SpecificCharacterSet="ISO_IR 192", Rows=300)

    for text in (json_form(source, pixels=True), dicom_json([source], pixels=True)):
        table = empty()
        read_json(table, text)
        for tag in (0x00100010, 0x00280010, 0x00080018, 0x00200013):
            assert table.text(tag) == source.text(tag)
        assert table.raw(0x7FE00010) == source.raw(0x7FE00010)


def test_arrays_are_lists() -> None:
    assert json.loads(json_form_of_all([empty(), empty()])) == [{}, {}]
    assert json.loads(dicom_json([])) == []
    assert [item.text(0x00100020) for item in read_json_items(empty(), '[{"PatientID": "1"}]')] == [
        "1"
    ]


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "[{},{}]", "3", '{"Rows": 70000}', "[" * 100000, '{"Rows": NaN}'],
    ids=lambda text: text[:20],
)
def test_text_that_is_no_object_is_an_error(text: str) -> None:
    with pytest.raises(RuleError):
        read_json(empty(), text)


@pytest.mark.parametrize("text", ["{", '"x"', "[3]", '[{"Rows": true}]'])
def test_text_that_is_no_sequence_is_an_error(text: str) -> None:
    with pytest.raises(RuleError):
        read_json_items(empty(), text)


def test_scripts_make_objects_of_json(bench: Bench) -> None:
    code = """
        local d = DicomObject:new('{"PatientID": "a\\\\u0042\\\\"", "Rows": 3}')
        return d.PatientID .. d.Rows
    """

    assert bench.run(code) == 'aB"3'


def test_copy_replaces_elements_by_json(bench: Bench) -> None:
    code = """
        local d = Data:Copy('{"PatientID": "X"}')
        return d.PatientID .. d.PatientName .. Data.PatientID
    """

    assert bench.run(code) == "XSMITH^JOHNP1"


def test_sequence_is_set_from_json(bench: Bench) -> None:
    code = """
        Data:SetVR(0x0008, 0x1110, '[{"ReferencedSOPInstanceUID": "1.2"}, {}]')
        local s = Data.ReferencedStudySequence
        return #s .. s[0].ReferencedSOPInstanceUID
    """

    assert bench.run(code) == "21.2"
