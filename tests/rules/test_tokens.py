"""Values of %-tokens, their modifiers and descriptors."""

from __future__ import annotations

import time
import zlib

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dgate.errors import RuleError
from dgate.rules.effects import Captured
from dgate.rules.grammar import parse_line
from dgate.rules.hooks import capture
from dgate.rules.run import Record, Run
from dgate.rules.syntax import IMPORT, Text
from dgate.rules.tokens import Modifiers, Reading, parse_template
from dgate.rules.values import checksum, compile_template, leading_integer, leading_number
from tests.rules import kit


def evaluate(
    text: str,
    on: object = None,
    seen: Captured | None = None,
    env: kit.FakeEnvironment | None = None,
) -> str:
    """Return what an import template is worth."""
    table = on or kit.table()
    run = Run(table, seen or kit.captured(), env or kit.FakeEnvironment())  # type: ignore[arg-type]
    return compile_template(parse_template(Text.whole(text), Reading(IMPORT)))(run)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%m", "CT"),
        ("%s", "ROOM1"),
        ("%o", "1.2.3.4.5"),
        ("%i", "0009703828"),
        ("%u", "SCANNER"),
        ("%c", "DGATE"),
        ("%M%I", "CT0009703828"),
        ("a%nb%tc", "a\nb\tc"),
        ("%%%^%~%[", "%^~["),
        ("%'", '"'),
        ("%f", "/data/mag0/0009703828/1.2.3.4.5.dcm"),
        ("%b", "1.2.3.4.5"),
        ("%p", "/data/mag0/0009703828"),
        ("%x.%y.%z", ".."),
        ("%V0010,0010", "HEAD EXP2"),
        ("%v0010,0010", "HEAD EXP2"),
        ("%VPatientName", "HEAD EXP2"),
        ("%VPatientName.", "HEAD EXP2."),
        ("%VRows", "512"),
        ("%VPatientBirthDate", ""),
        ("%VNotAKeyword", ""),
        ("%VReferencedStudySequence", ""),
        ("%jx", "x"),
        ("%", ""),
        ("100%;", "100"),
    ],
)
def test_token_has_the_value_of_the_spec(text: str, expected: str) -> None:
    assert evaluate(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%i[0,2]", "000"),
        ("%i[3,3]", "9"),
        ("%i[,3]", "828"),
        ("%i[,99]", "0009703828"),
        ("%i[,0]", ""),
        ("%i[8,99]", "28"),
        ("%i[20,30]", ""),
        ("%i[5,2]", "0009703828"),
        ("%i[2]", "0009703828"),
        ("%i[]x", "0009703828x"),
        ("%i[a,b]x", "0009703828x"),
        ("%i[1,", "0009703828[1,"),
        ("%VPatientName[0,3]~", "head"),
        ("%VPatientName~[0,3]", "head exp2[0,3]"),
        ("%VPatientName~^", "head exp2^"),
        ("%m~^", "ct^"),
        ("%n[1,2]", ""),
        ("%%[0,0]", "%"),
        ("%%%[0,0]", "%[0,0]"),
    ],
)
def test_modifiers_cut_and_change_case_in_their_order(text: str, expected: str) -> None:
    assert evaluate(text) == expected


def test_case_modifiers_leave_letters_beyond_ascii_alone() -> None:
    assert Modifiers(case="^").apply("aßéz") == "AßéZ"


def test_captured_values_win_over_those_of_the_object() -> None:
    seen = kit.captured(modality="MR", station="S2", sop_instance="9", patient_id="P")
    assert evaluate("%m %s %o", seen=seen) == "MR S2 9"


def test_patient_id_of_an_import_line_is_always_the_present_one() -> None:
    assert evaluate("%i", seen=kit.captured(patient_id="OTHER")) == "0009703828"


def test_values_that_were_not_captured_come_from_the_object() -> None:
    seen = kit.captured(modality="", station="", sop_instance="")
    assert evaluate("%m %s %o", seen=seen) == "CT ROOM1 1.2.3.4.5"


def test_capture_reads_the_object_as_it_is() -> None:
    assert capture(kit.table(), "SCANNER", "DGATE") == kit.captured()


def test_date_has_the_form_of_asctime() -> None:
    assert evaluate("%d") == time.asctime(time.localtime(kit.NOON))


def test_every_new_uid_is_another() -> None:
    assert evaluate("%g %g") == "1.2.3.6.1 1.2.3.6.2"


def test_checksum_is_a_crc_without_final_inversion() -> None:
    assert checksum("hello") == "4029829531"
    assert evaluate("%AStationName") == str(zlib.crc32(b"ROOM1", 0xFFFFFFFF) ^ 0xFFFFFFFF)


def test_file_name_is_asked_for_once_per_line() -> None:
    env = kit.FakeEnvironment()
    evaluate("%f %b %p", env=env)
    assert env.names_made == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%V/ReferencedStudySequence/ReferencedSOPInstanceUID", "9.1"),
        ("%V/ReferencedStudySequence.1/ReferencedSOPInstanceUID", "9.2"),
        ("%V/0008,1110.1/0008,1155", "9.2"),
        ("%V/ReferencedStudySequence.2/ReferencedSOPInstanceUID", ""),
        ("%V/ReferencedStudySequence/*ReferencedSOPInstanceUID", "9.1"),
        ("%V*ReferencedSOPInstanceUID", "9.1"),
        ("%V*0008,1155[,1]", "1"),
        ("%V/ReferencedStudySequence.1/ReferencedSOPInstanceUID/x", "9.2/x"),
        ("%V/ReferencedStudySequence.1/ReferencedSOPInstanceUID.dcm", "9.2.dcm"),
        ("%VReferencedStudySequence", "(sequence)"),
        ("%V0008,1110", "(sequence)"),
    ],
)
def test_descriptor_reaches_into_sequences(text: str, expected: str) -> None:
    # A path that goes on is a longer path when an element name follows, else plain text.
    text = text.replace("/x", "/%nx")
    assert evaluate(text, kit.with_sequence()).replace("\n", "") == expected


def test_value_above_255_bytes_reads_as_too_long() -> None:
    assert evaluate("%VPatientComments", kit.table(PatientComments="x" * 256)) == "(too long)"
    assert evaluate("%VPatientComments", kit.table(PatientComments="x" * 254)) == "x" * 254


def test_pixel_data_reads_as_too_long() -> None:
    made = kit.data_set()
    made.add_new(0x7FE00010, "OW", bytes(4))
    assert evaluate("%VPixelData", kit.table_of(made)) == "(too long)"
    assert evaluate("%VPixelData") == ""


def test_unreadable_sequence_fails_the_rule() -> None:
    table = kit.table()
    table.set_raw(0x00081110, "SQ", b"garbage that is no item")
    verdict, _ = kit.run_import(kit.importing('nop; ifempty "%V*PatientSex"'), table)
    assert verdict.outcome.value == "reject"
    assert "*PatientSex cannot be read" in verdict.reason


def test_private_sequence_reads_as_sequence() -> None:
    made = kit.data_set()
    made.add_new(0x00110010, "LO", "DGATE")
    made.add_new(0x00111001, "SQ", Sequence([Dataset()]))
    assert evaluate("%V0011,1001", kit.table_of(made)) == "(sequence)"


@pytest.mark.parametrize("text", ["%V", "%A ", "%E%i", "%R,", "%Q", "%QP10", "%Q;", "%Qa"])
def test_token_without_its_element_is_an_error(text: str) -> None:
    made = kit.importing(f"nop {text}")
    assert [problem.gravity.value for problem in made.problems] == ["error"]
    assert made.problems[0].column == 5


def test_a_value_is_replaced_by_the_register_and_back() -> None:
    env = kit.FakeEnvironment()
    new = evaluate("%E0010,0020", env=env)
    assert new == "1.2.3.7.1"
    assert env.uids.rows == {("0009703828", ""): (new, "percente")}
    assert evaluate("%EPatientID[2,4]^", env=env) == new[2:5]
    assert evaluate("%RPatientID", kit.table(PatientID=new), env=env) == "0009703828"


def test_an_empty_value_is_replaced_by_nothing() -> None:
    env = kit.FakeEnvironment()
    assert evaluate("%EAccessionNumber.%RAccessionNumber", env=env) == "."
    assert env.uids.rows == {}


def test_an_unknown_replacement_is_empty() -> None:
    assert evaluate("<%RPatientID>") == "<>"


@pytest.mark.parametrize("token", ["%E0010,4000", "%R0010,4000", "%EReferencedStudySequence"])
def test_what_is_no_value_is_not_replaced(token: str) -> None:
    """Or all long values would have the same replacement."""
    made = kit.with_sequence()
    made.set_text(0x00104000, "x" * 300)
    with pytest.raises(RuleError, match="cannot be replaced"):
        evaluate(token, made)


def test_a_register_that_fails_fails_the_statement() -> None:
    env = kit.FakeEnvironment()
    env.uids.fault = RuleError("the register is full")
    made = kit.importing('set PatientID to "%EPatientID"')
    verdict, table = kit.run_import(made, env=env)
    assert verdict.outcome.value == "reject"
    assert table.text(0x00100020) == "0009703828"


def test_statements_that_do_not_run_replace_nothing() -> None:
    env = kit.FakeEnvironment()
    line = 'ifequal "%m", "MR"; nop %EPatientID %g; ifempty "%m"; { nop %E0010,0010; }'
    made = kit.importing(line)
    kit.run_import(made, env=env)
    assert env.uids.rows == {}
    assert env.uids_made == 0


def test_an_alias_file_is_chosen_by_the_letter_as_typed() -> None:
    env = kit.FakeEnvironment()
    env.files.aliases = {("b", "room1"): "East wing", ("B", "room1"): "West wing"}
    assert evaluate("%QbStationName|%QB0008,1010|%QcStationName~", env=env) == (
        "East wing|West wing|room1"
    )


def test_two_look_ups_in_one_statement() -> None:
    env = kit.FakeEnvironment()
    env.records = {(Record.PATIENT, 0x00100010): "A", (Record.STUDY, 0x00080020): "B"}
    assert evaluate("%QP0010,0010-%QS0008,0020-%QP0010,0010", env=env) == "A-B-A"


@pytest.mark.parametrize(
    ("token", "record"),
    [
        ("%QP0010,0010", Record.PATIENT),
        ("%qs0010,0010", Record.STUDY),
        ("%QE0010,0010", Record.SERIES),
        ("%QW0010,0010^", Record.WORKLIST),
    ],
)
def test_record_tokens_ask_the_index(token: str, record: Record) -> None:
    env = kit.FakeEnvironment()
    env.records[record, 0x00100010] = "DOE^JANE"
    _, table = kit.run_import(kit.importing(f'set StudyID to "{token}|%QP0010,0030"'), env=env)
    assert table.text(0x00200010) == "DOE^JANE|"


@pytest.mark.parametrize(
    ("other", "value"),
    [
        ("StudyDescription", "Prior head"),
        ("0008,1030", "Prior head"),
        ("Rows", "512"),
        ("*PatientName", "HEAD EXP2"),
        ("PixelData", ""),
        ("/ReferencedStudySequence/ReferencedSOPInstanceUID", ""),
    ],
)
def test_value_of_another_object_of_the_patient(other: str, value: str) -> None:
    env = kit.FakeEnvironment()
    env.objects["1.2.3.4.5", "0009703828"] = kit.table(StudyDescription="Prior head")
    line = f'set PatientComments to "<%V(SOPInstanceUID){other}>"'
    assert kit.run_import(kit.importing(line), env=env)[1].text(0x00104000) == f"<{value}>"


def test_no_other_object_reads_as_empty() -> None:
    line = 'set StudyID to "<%V(/ReferencedStudySequence/ReferencedSOPInstanceUID)PatientName>"'
    assert kit.run_import(kit.importing(line))[1].text(0x00200010) == "<>"
    line = 'set StudyID to "<%V(SOPInstanceUID)PatientName>"'
    assert kit.run_import(kit.importing(line))[1].text(0x00200010) == "<>"


def test_statement_that_does_not_run_makes_no_uid() -> None:
    env = kit.FakeEnvironment()
    kit.run_import(kit.importing('ifequal "%m", "MR"; set StudyID to "%g"'), env=env)
    assert env.uids_made == 0


def test_tokens_know_their_columns() -> None:
    [(_, statement)] = parse_line(Text.whole("nop  %i %m"), IMPORT).statements()
    [template] = statement.templates()
    assert [token.column for token in template.tokens] == [6, 9]


def test_columns_count_the_quotes_that_vanish() -> None:
    made = kit.importing('nop "a""b %jx')
    assert [problem.column for problem in made.problems] == [11]


@pytest.mark.parametrize(
    ("text", "number"),
    [("12abc", 12), (" -5", -5), ("+7", 7), ("abc", 0), ("", 0), ("--1", 0), ("\u0661", 0)],
)
def test_leading_integer_is_read_as_c_does(text: str, number: int) -> None:
    assert leading_integer(text) == number


@pytest.mark.parametrize(("text", "number"), [("1.5x", 1.5), (".5", 0.5), ("-1e2", -100), ("x", 0)])
def test_leading_number_is_read_as_c_does(text: str, number: float) -> None:
    assert leading_number(text) == number
