"""`set`, `setifempty`, `delete`: what they do to the object."""

from __future__ import annotations

import pytest
from pydicom.sequence import Sequence

from dgate.dicom.table import ElementTable
from tests.rules import kit


def after(line: str, on: ElementTable | None = None) -> ElementTable:
    """Return the object after an import line that has no problem."""
    made = kit.importing(line)
    assert made.problems == ()
    verdict, table = kit.run_import(made, on)
    assert verdict.outcome.value == "keep", verdict.reason
    return table


@pytest.mark.parametrize(
    ("line", "tag", "expected"),
    [
        ('set PatientName to "New^Name"', 0x00100010, "New^Name"),
        ('set 0010,0010 to "%i-%m"', 0x00100010, "0009703828-CT"),
        ('set PatientName to ""', 0x00100010, ""),
        ('SET patientname to "x"; nop', 0x00100010, None),
        ('set InstitutionName to "made"', 0x00080080, "made"),
        ('set PatientName if "x"', 0x00100010, "x"),
        ('set PatientName if "%VPatientBirthDate"', 0x00100010, "HEAD EXP2"),
        ('set Rows to "12abc"', 0x00280010, "12"),
        ('set Rows to "abc"', 0x00280010, "0"),
        ('set Rows to ""', 0x00280010, ""),
        ('set x to "a"; set PatientID to "%x%x"', 0x00100020, "aa"),
        ('set x to "a"; set x if ""; set PatientID to "%x"', 0x00100020, "a"),
        ('set x to "a"; set x to nil; set PatientID to "b%x"', 0x00100020, "b"),
        ('setifempty x to "a"; setifempty x to "b"; set PatientID to "%x"', 0x00100020, "a"),
        ('setifempty PatientID to "x"', 0x00100020, "0009703828"),
        ('setifempty 0010,0030 to "19700101"', 0x00100030, "19700101"),
        ('set PatientID to ""; setifempty 0010,0020 to "P"', 0x00100020, "P"),
        ('set PatientID to ""; setifempty 0010,0020 if "P"', 0x00100020, "P"),
        ("set PatientID to nil", 0x00100020, ""),
        ("delete 0010,0020", 0x00100020, ""),
        ('set 0018,1030 format "%%d" to "7x"', 0x00181030, "7"),
        ('set 0018,1030 format "%%5.1f|" to "2.25"', 0x00181030, "  2.2|"),
        ('set 0018,1030 format "%%x" to "255"', 0x00181030, "ff"),
        ('set 0018,1030 format "%%x" to "-1"', 0x00181030, "ffffffff"),
        ('set 0018,1030 format "%%g" to "0.50"', 0x00181030, "0.5"),
        ('set 0018,1030 format "%m %%s%%%%" to "%s"', 0x00181030, "CT ROOM1%"),
        ('set 0018,1030 format "%%s" if ""', 0x00181030, ""),
    ],
)
def test_element_is_changed(line: str, tag: int, expected: str | None) -> None:
    if expected is None:
        assert [problem.gravity.value for problem in kit.importing(line).problems] == ["error"]
        return
    assert after(line).text(tag) == expected


def test_setifempty_to_does_nothing_for_an_empty_value() -> None:
    assert 0x00100030 not in after('setifempty 0010,0030 to ""')


def test_setifempty_if_sets_even_an_empty_value() -> None:
    assert after('setifempty 0010,0030 if ""').raw(0x00100030) == b""


def test_deleted_element_is_gone() -> None:
    assert 0x00100010 not in after("delete 0010,0010")


def test_deleting_what_is_not_there_changes_nothing() -> None:
    assert after("delete 0010,4000").revision == 0


def test_numbers_are_stored_in_the_vr_of_the_element() -> None:
    assert after('set Rows to "513"').raw(0x00280010) == b"\x01\x02"
    assert after('set RescaleSlope to "1.5"').raw(0x00281053) == b"1.5 "
    assert after('set RealWorldValueSlope to "0.5"').raw(0x00409225) == bytes(6) + b"\xe0\x3f"


def test_number_that_does_not_fit_fails_the_rule() -> None:
    verdict, _ = kit.run_import(kit.importing('set Rows to "70000"'))
    assert verdict.outcome.value == "reject"
    assert "(0028,0010)" in verdict.reason


def test_text_beyond_the_character_set_turns_the_object_to_utf_8() -> None:
    table = after('set PatientName to "Ελένη"', kit.table(PatientComments="Müller"))
    assert table.text(0x00080005) == "ISO_IR 192"
    assert table.text(0x00100010) == "Ελένη"
    assert table.text(0x00104000) == "Müller"


def test_missing_sequence_is_made_with_one_item() -> None:
    table = after('set ReferencedStudySequence/PatientID to "q1"')
    assert table.element_path("/ReferencedStudySequence.0/PatientID") == "q1"
    assert table.element_path("/ReferencedStudySequence.1/PatientID") == ""


def test_item_of_a_sequence_is_changed_in_place() -> None:
    table = after('set 0008,1110.1/0008,1155 to "8.8"', kit.with_sequence())
    assert table.element_path("/0008,1110.0/0008,1155") == "9.1"
    assert table.element_path("/0008,1110.1/0008,1155") == "8.8"


@pytest.mark.parametrize("number", ["7", "*"])
def test_item_beyond_the_last_is_appended(number: str) -> None:
    line = f'set ReferencedStudySequence.{number}/PatientID to "new"'
    table = after(line, kit.with_sequence())
    assert table.element_path("/ReferencedStudySequence.2/PatientID") == "new"


def test_empty_text_makes_a_missing_sequence_and_spares_an_existing_one() -> None:
    assert after('set ReferencedStudySequence to ""').raw(0x00081110) == b""
    spared = after('set ReferencedStudySequence to ""', kit.with_sequence())
    assert spared.element_path("*ReferencedSOPInstanceUID") == "9.1"


def test_sequence_cannot_be_set_to_a_text() -> None:
    verdict, _ = kit.run_import(kit.importing('set ReferencedStudySequence to "x"'))
    assert verdict.outcome.value == "reject"


def test_sequence_can_be_deleted() -> None:
    on = kit.table(ReferencedStudySequence=Sequence([]))
    assert 0x00081110 not in after("set ReferencedStudySequence to nil", on)


def test_delete_of_a_level_warns_and_deletes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = kit.importing("delete study")
    assert [problem.gravity.value for problem in made.problems] == ["warning"]
    verdict, table = kit.run_import(made)
    assert verdict.outcome.value == "keep"
    assert table.revision == 0
    assert "delete study has no effect" in caplog.text


def test_unknown_keyword_is_answered_with_a_suggestion() -> None:
    [problem] = kit.importing('set PatientsName to "x"').problems
    assert problem.advice == "did you mean PatientName?"
    assert (problem.statement, problem.column) == (0, 5)
