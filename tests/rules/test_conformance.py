"""The trace of spec converters.md section 14, as the reference program was seen to run it."""

from __future__ import annotations

import logging

import pytest

from dgate.errors import RuleError
from dgate.rules.effects import Outcome
from dgate.rules.run import Record
from tests.rules import kit

TRACE = [
    ('ifequal "%m", "XX"; nop a; nop b', ["nop b"]),
    (
        'ifequal "%m", "CT"; { nop a; ifempty "%m"; { nop b; nop c; } nop d; } nop e',
        ["nop a", "nop d", "nop e"],
    ),
    ('ifequal "%m", "XX"; { nop a; nop b; } nop c', ["nop c"]),
    (
        "nop %i[0,2] %i[,3] %VPatientName~ %i[2] %i[0,99] %[0,1] %% %jZ",
        ["nop 000 828 head exp2 0009703828 0009703828 [0,1] % Z"],
    ),
    ('script "nop in; stop; nop x"; nop out', ["nop in"]),
    ('nop quote "a;b" done; nop two', ['nop quote "a;b" done', "nop two"]),
    (
        'set ReferencedStudySequence/PatientID to "q1"; '
        'set ReferencedStudySequence.*/PatientID to "q2"; '
        "nop %V/ReferencedStudySequence.1/PatientID",
        ["nop q2"],
    ),
    ('set PatientComments to "say ""hi"" ok"', []),
]


@pytest.mark.parametrize(("line", "expected"), TRACE, ids=[line[:40] for line, _ in TRACE])
def test_line_logs_what_the_reference_logged(
    line: str, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    kit.run_import(kit.importing(line))
    assert kit.nops(caplog) == expected


def test_empty_statements_count_in_the_numbers_of_parts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    kit.run_import(kit.importing("nop a;nop b;;nop c"))
    assert [record.getMessage() for record in caplog.records] == [
        "Importconverter0.0: nop a",
        "Importconverter0.1: nop b",
        "Importconverter0.3: nop c",
    ]


def test_pair_of_quotes_inside_a_string_vanishes() -> None:
    _, table = kit.run_import(kit.importing('set PatientComments to "say ""hi"" ok"'))
    assert table.text(0x00104000) == 'say hi"" ok'


def test_nested_scripts_log_with_number_minus_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    kit.run_import(kit.importing('script "nop in"'))
    assert caplog.messages == ["Importconverter-1.0: nop in"]


def test_format_is_applied_to_the_leading_integer() -> None:
    _, table = kit.run_import(kit.importing('set 0018,1030 format "%%05d" to "42"'))
    assert table.text(0x00181030) == "00042"


def test_export_lines_know_no_look_up_tokens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    made = kit.rules(kit.converter("nop %QP0010,0010 %x.", "Export"))
    made.plan_exports(kit.table(), kit.captured(), kit.FakeEnvironment())
    assert kit.nops(caplog) == ["nop P0010,0010 ."]


@pytest.mark.parametrize(
    "line",
    [
        'ifequal "%m", "MR"; { set InstitutionName to "Site A"; set 0018,1030 if "%V0008,103e"; }',
        'ifequal "%V0008,0016", "1.2.840.10008.5.1.4.1.1.7"; reject',
        'append "%d%t%u%t%i%t%o%n" to received.txt',
        'ifempty "%V0010,0020"; destroy',
        'set 9999,0700 to "j3"; set 9999,0500 to "200"',
    ],
)
def test_import_examples_of_the_spec_can_be_read(line: str) -> None:
    problems = kit.importing(line).problems
    assert [problem for problem in problems if problem.gravity.value == "error"] == []


@pytest.mark.parametrize(
    "line",
    [
        'ifequal "%u", "MIRROR"; stop; between "7", "19"; defer; forward to MIRROR',
        "process series after 60 by /srv/rules/series.lua %i|%V0020,000e",
    ],
)
def test_export_examples_of_the_spec_can_be_read(line: str) -> None:
    problems = kit.rules(kit.converter(line, "Export")).problems
    errors = [problem.message for problem in problems if problem.gravity.value == "error"]
    # It can be read; the file that it names is not there, of course.
    assert errors == ["there is no Lua file /srv/rules/series.lua"] * ("series.lua" in line)


# What sections 5 to 8 and 15 say was seen of the reference, and what becomes of it here.


def logged(
    line: str, caplog: pytest.LogCaptureFixture, scripts: dict[str, str] | None = None
) -> list[str]:
    """Return what the `nop` statements of an import line log."""
    caplog.set_level(logging.INFO, "dgate.rules")
    kit.run_import(kit.importing(line, scripts=scripts))
    return [text.removeprefix("nop ") for text in kit.nops(caplog)]


def test_stop_in_a_called_script_stops_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    assert logged("call inner; nop out", caplog, {"inner": "nop in; stop; nop x"}) == ["in"]


def test_return_in_a_called_script_ends_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    assert logged("inner; nop out", caplog, {"inner": "nop in; return"}) == ["in"]


def test_nested_failed_test_skips_the_next_statement_outside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S19: keep."""
    line = "script \"ifequal %'a%', %'b%'\"; nop skipped; nop out"
    assert logged(line, caplog) == ["out"]


def test_checksum_is_the_one_of_the_reference(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    on = kit.table(PatientComments="hello")
    kit.run_import(kit.importing("nop %APatientComments"), on)
    assert kit.nops(caplog) == ["nop 4029829531"]


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("%i[2]", "0009703828"),
        ("%i[a,b]", "0009703828"),
        ("%i[5,3]", "0009703828"),
        ("%i[3,99]", "9703828"),
        ("%i[99,100]", ""),
        ("%i[,99]", "0009703828"),
        ("%m~", "ct"),
        ("%VPatientName[0,3]~", "head"),
        ("%%%[x", "%[x"),
        ("%%[0,0]", "%"),
        ("%J", ""),
        ("%I", "0009703828"),
    ],
)
def test_modifiers_and_letter_case_of_tokens(
    token: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert logged(f"nop <{token}>", caplog) == [f"<{value}>"]


@pytest.mark.parametrize(
    ("line", "name"),
    [("nopx a", "nopx a"), ("NoP a", "NoP a")],
)
def test_keywords_are_prefixes_of_any_case(
    line: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    kit.run_import(kit.importing(line))
    assert caplog.messages == [f"Importconverter0.0: {name}"]


def test_s4_delete_of_a_level_deletes_no_data_in_import_lines() -> None:
    verdict, table = kit.run_import(kit.importing("delete patient; nop"))
    assert verdict.outcome is Outcome.KEEP
    assert verdict.requests == []
    assert table.text(0x00100020) == "0009703828"


def test_s5_empty_filter_disables_the_converter_and_is_reported() -> None:
    made = kit.rules(kit.converter("reject", modality=""))
    verdict, _ = kit.run_import(made)
    assert verdict.outcome is Outcome.KEEP
    assert [problem.gravity.value for problem in made.problems] == ["warning"]


def test_s8_variable_holds_text_and_numbers(caplog: pytest.LogCaptureFixture) -> None:
    assert logged('set x to "a b"; set y to "7"; nop %x %y %z.', caplog) == ["a b 7 ."]


def test_s9_two_look_ups_in_a_statement(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    env = kit.FakeEnvironment()
    env.records = {(Record.PATIENT, 0x00100010): "DOE", (Record.STUDY, 0x00081030): "Head"}
    kit.run_import(kit.importing("nop %QP0010,0010 %QS0008,1030"), env=env)
    assert kit.nops(caplog) == ["nop DOE Head"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('setifempty 0010,4000 to "a"', "a"),
        ('setifempty 0010,4000 to ""', None),
        ('setifempty 0010,4000 if ""', ""),
        ('setifempty 0010,0020 to "a"', "0009703828"),
        ('setifempty 0010,0020 if ""', "0009703828"),
    ],
)
def test_s10_setifempty_acts_on_empty_elements_only(line: str, expected: str | None) -> None:
    _, table = kit.run_import(kit.importing(line))
    tag = 0x00104000 if "4000" in line else 0x00100020
    assert (table.text(tag) if tag in table else None) == expected


@pytest.mark.parametrize("line", ["sett x", "mail %i", "nopp; frobnicate", 'set PatientID to "x"'])
def test_s11_unknown_statement_of_an_export_line_never_reaches_a_shell(line: str) -> None:
    env = kit.FakeEnvironment()
    made = kit.rules(kit.converter(line, "Export"))
    assert any(problem.gravity.value == "error" for problem in made.problems)
    with pytest.raises(RuleError):
        made.expand(0, kit.table(), kit.captured(), env)
    assert env.programs.ran == []


@pytest.mark.parametrize(
    ("vr", "tag", "text", "raw"),
    [
        ("US", 0x00280010, "12x", b"\x0c\0"),
        ("UL", 0x00186018, "70000", b"\x70\x11\x01\0"),
        ("SS", 0x00189219, "-2", b"\xfe\xff"),
        ("SL", 0x00186020, "-2", b"\xfe\xff\xff\xff"),
        ("FL", 0x00189463, "1.5", b"\0\0\xc0?"),
        ("FD", 0x0018602C, "0.25", b"\0\0\0\0\0\0\xd0?"),
    ],
)
def test_s13_numbers_are_stored_as_their_vr_says(vr: str, tag: int, text: str, raw: bytes) -> None:
    line = f'set {tag >> 16:04x},{tag & 0xFFFF:04x} to "{text}"'
    _, table = kit.run_import(kit.importing(line))
    assert (table.vr(tag), table.raw(tag)) == (vr, raw)


def test_s16_skipped_statements_have_no_side_effects() -> None:
    env = kit.FakeEnvironment()
    kit.run_import(kit.importing('ifempty "%m"; set x to "%g"; set y to "%g"'), env=env)
    assert env.uids_made == 1


@pytest.mark.parametrize(
    "line",
    [
        "forward study  to A",
        "forward study to A ",
        "forward study aftr 5 to A",
        "forward study after to A",
        "process series after 5 run x",
    ],
)
def test_s17_unknown_words_and_blanks_of_delayed_statements_are_errors(line: str) -> None:
    made = kit.rules(kit.converter(line + "; nop", "Export"))
    assert [problem.gravity.value for problem in made.problems] == ["error"]


def test_s20_captured_values_are_as_received_and_others_as_modified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = (
        'set Modality to "MR"; set StationName to "X"; set PatientID to "Y"; '
        "nop %m %s %i %VModality"
    )
    assert logged(line, caplog) == ["CT ROOM1 Y MR"]


def test_s26_percent_and_bracket_are_a_token_with_a_modifier(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert logged("nop %%[0,0] %%%[0,0]", caplog) == ["% %[0,0]"]
