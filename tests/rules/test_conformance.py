"""The trace of spec converters.md section 14, as the reference program was seen to run it."""

from __future__ import annotations

import logging

import pytest

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
    assert [problem.gravity.value for problem in problems] == ["not executable yet"]
