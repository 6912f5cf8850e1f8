"""`forward to`: the effects that it leaves behind."""

from __future__ import annotations

import pytest

from dgate.rules.effects import Forward
from dgate.rules.opaque import plain
from tests.rules import kit


def forwards(line: str, family: str = "Import") -> list[Forward]:
    """Return what a line forwards."""
    made = kit.rules(kit.converter(line, family))
    env = kit.FakeEnvironment()
    if family == "Export":
        return list(made.expand(0, kit.table(), kit.captured(), env).forwards)
    verdict, _ = kit.run_import(made, env=env)
    assert verdict.outcome.value == "keep", verdict.reason
    return [recorded.forward for recorded in verdict.forwards]


def test_forward_names_its_statement() -> None:
    assert forwards("nop; forward to ARCHIVE") == [Forward("ARCHIVE", "ImportConverter0.1")]


def test_every_clause_reaches_the_forward() -> None:
    line = 'forward compressed as j390 to 10.0.0.1:104 org ME dest YOU script set PatientID to "1"'
    assert forwards(line, "Export") == [
        Forward(
            "10.0.0.1:104",
            "ExportConverter0.0",
            calling="ME",
            called="YOU",
            compression="j390",
            script='set PatientID to "1"',
        )
    ]


def test_clauses_may_hold_tokens() -> None:
    [forward] = forwards("forward to %s org %u dest %c channel *")
    assert (forward.target, forward.calling, forward.called) == ("ROOM1", "SCANNER", "DGATE")


def test_channel_has_no_effect() -> None:
    assert forwards("forward to A channel 3") == forwards("forward to A")


def test_target_that_turns_out_empty_fails_the_rule() -> None:
    verdict, _ = kit.run_import(kit.importing("forward to %VPatientBirthDate"))
    assert verdict.outcome.value == "reject"
    assert "target of the forward is empty" in verdict.reason


def test_import_forward_keeps_the_object_as_it_was_at_the_statement() -> None:
    line = 'set PatientID to "a"; forward to A; set PatientID to "b"; forward to B'
    verdict, table = kit.run_import(kit.importing(line))
    assert [recorded.snapshot.text(0x00100020) for recorded in verdict.forwards] == ["a", "b"]
    assert table.text(0x00100020) == "b"


def test_forward_survives_a_destroy_that_follows() -> None:
    verdict, _ = kit.run_import(kit.importing("forward to A; destroy"))
    assert verdict.outcome.value == "destroy"
    assert len(verdict.forwards) == 1


def test_script_clause_is_substituted_once_and_keeps_doubled_percent_signs() -> None:
    [forward] = forwards('forward to A script set PatientID to "%i %%m"')
    assert forward.script is not None
    assert plain(forward.script) == 'set PatientID to "0009703828 %m"'


def test_quotes_around_the_script_clause_are_dropped() -> None:
    [forward] = forwards('forward to A script "nop a; nop b"')
    assert forward.script == "nop a; nop b"


def test_script_clause_runs_on_the_copy() -> None:
    made = kit.rules(kit.converter('forward to A script set PatientID to "%i/%%m"', "Export"))
    env = kit.FakeEnvironment()
    [forward] = made.expand(0, kit.table(), kit.captured(), env).forwards
    copy = kit.table()
    verdict = made.run_script(forward.script or "", copy, kit.captured(), env)
    assert verdict.outcome.value == "keep"
    assert copy.text(0x00100020) == "0009703828/CT"


@pytest.mark.parametrize("code", ["un", "j3", "J395", "j#3,50"])
def test_compression_codes_are_taken_as_written(code: str) -> None:
    assert forwards(f"forward compressed as {code} to A")[0].compression == code


def test_unknown_compression_code_is_warned_about() -> None:
    [problem] = kit.importing("forward compressed as zz to A").problems
    assert problem.gravity.value == "warning"


def test_problems_of_the_script_clause_point_into_the_line() -> None:
    line = 'forward to A script set PatientNam to "x"'
    [problem] = kit.importing(line).problems
    assert problem.column == line.index("PatientNam") + 1
    assert problem.source == line
