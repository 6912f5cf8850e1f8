"""Import and export converters of a configuration."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from dgate.rules.effects import Captured, ExportPlan, Forward, Outcome
from dgate.rules.hooks import Rules
from dgate.rules.session import Session
from tests.rules import kit


def test_no_rules_are_empty() -> None:
    made = kit.rules()
    assert made.is_empty_import
    assert made.is_empty_export
    assert made.problems == ()
    assert kit.run_import(made)[0].outcome is Outcome.KEEP
    assert plans(made) == []


def test_only_what_there_are_rules_for_is_not_empty() -> None:
    made = kit.rules(kit.converter("nop", "Export"))
    assert made.is_empty_import
    assert not made.is_empty_export


def test_converters_run_in_the_order_of_their_numbers() -> None:
    made = kit.rules(
        kit.converter('set PatientID to "%ic"', index=7),
        kit.converter('set PatientID to "%ib"', index=3),
        kit.converter('set PatientID to "a"', index=0),
    )
    assert kit.run_import(made)[1].text(0x00100020) == "abc"


@pytest.mark.parametrize("line", ["stop", "silentstop", "return", 'ifequal "a", "b"'])
def test_next_converter_runs_after(line: str) -> None:
    made = kit.rules(kit.converter(line), kit.converter('set PatientID to "x"', index=1))
    assert kit.run_import(made)[1].text(0x00100020) == "x"


@pytest.mark.parametrize(
    ("line", "outcome"),
    [("destroy", Outcome.DESTROY), ("destroy2", Outcome.DESTROY), ("reject", Outcome.REJECT)],
)
def test_chain_ends_with(line: str, outcome: Outcome) -> None:
    made = kit.rules(kit.converter(f"nop; {line}"), kit.converter('set PatientID to "x"', index=1))
    verdict, table = kit.run_import(made)
    assert verdict.outcome is outcome
    assert verdict.reason == f"{line} by ImportConverter0.1"
    assert table.revision == 0


def test_later_converters_see_captured_values_as_received_and_others_as_changed() -> None:
    made = kit.rules(
        kit.converter('set Modality to "MR"; set PatientID to "NEW"'),
        kit.converter('set StudyID to "%m %VModality %i"', index=1),
    )
    assert kit.run_import(made)[1].text(0x00200010) == "CT MR NEW"


def test_variables_live_as_long_as_the_caller_keeps_them() -> None:
    made = kit.rules(kit.converter('set StudyID to "%x"; set x to "%i"'))
    env = kit.FakeEnvironment()
    session = Session()
    first, second = kit.table(PatientID="A"), kit.table(PatientID="B")
    made.run_import(first, kit.captured(), env, session)
    made.run_import(second, kit.captured(), env, session)
    assert (first.text(0x00200010), second.text(0x00200010)) == ("", "A")


def test_variables_do_not_outlive_the_object_by_default() -> None:
    made = kit.rules(kit.converter('setifempty x to "%i"; set StudyID to "%x"'))
    assert kit.run_import(made, kit.table(PatientID="A"))[1].text(0x00200010) == "A"
    assert kit.run_import(made, kit.table(PatientID="B"))[1].text(0x00200010) == "B"


def test_last_storage_statement_chooses_the_device() -> None:
    made = kit.rules(kit.converter("storage MAG1"), kit.converter("storage mag2", index=1))
    assert kit.run_import(made)[0].device == "MAG2"


def test_storage_of_a_computed_device_is_checked_when_it_runs() -> None:
    assert kit.run_import(kit.importing("storage MAG%VRows[0,0]"))[0].device == "MAG5"
    verdict, _ = kit.run_import(kit.importing("storage %i"))
    assert "not a device" in verdict.reason


FILTERS = [
    ({"modality": "ct"}, True),
    ({"modality": "MR"}, False),
    ({"station": "ROOM*"}, True),
    ({"station": "*2"}, False),
    ({"calling": "SCANNER", "called": "dgate"}, True),
    ({"calling": "SCANNER", "called": "OTHER"}, False),
    ({"calling": "OTHER", "called": "DGATE"}, False),
    ({"modality": "*T", "station": "*", "calling": "S*", "called": "*G*"}, True),
    ({"modality": ""}, False),
    ({"called": " "}, False),
]


@pytest.mark.parametrize(("filters", "runs"), FILTERS)
def test_converter_runs_when_all_its_filters_match(filters: dict[str, str], runs: bool) -> None:
    made = kit.rules(kit.converter('set PatientID to "x"', **filters))
    assert kit.run_import(made)[1].revision == int(runs)


@pytest.mark.parametrize(("filters", "runs"), FILTERS)
def test_export_converter_owes_something_when_all_its_filters_match(
    filters: dict[str, str], runs: bool
) -> None:
    made = kit.rules(kit.converter("forward to A", "Export", **filters))
    assert len(plans(made)) == int(runs)


@pytest.mark.parametrize("family", ["Import", "Export"])
def test_empty_filter_is_warned_about(family: str) -> None:
    made = kit.rules(kit.converter("nop", family, modality=""))
    [problem] = made.problems
    assert (problem.key, problem.gravity.value) == (f"{family}Modality0", "warning")
    assert made.is_empty_import
    assert made.is_empty_export


BAD = ["frobnicate", 'set PatientID to "x', 'set PatientNam to "x"', "system true", "lua:x("]


@pytest.mark.parametrize("bad", BAD)
def test_failing_statement_refuses_the_object(bad: str, caplog: pytest.LogCaptureFixture) -> None:
    made = kit.rules(
        kit.converter(f"forward to A; {bad}; nop"), kit.converter("set x to nil", index=1)
    )
    verdict, _ = kit.run_import(made)
    assert verdict.outcome is Outcome.REJECT
    assert verdict.forwards == []
    assert verdict.reason.startswith("dicom.ini:40 ImportConverter0.1: ")
    assert verdict.reason in caplog.text


@pytest.mark.parametrize("bad", BAD[:-2])
def test_line_goes_on_after_a_failing_statement_when_errors_are_ignored(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = kit.rules(
        kit.converter(f'nop; {bad}; set StudyID to "on"'.replace('to "x;', "to;")),
        script_errors_reject=False,
    )
    verdict, table = kit.run_import(made)
    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00200010) == "on"
    assert "Importconverter0.1 was not executed" in caplog.text


@pytest.mark.parametrize("bad", BAD)
def test_bad_statement_that_is_not_reached_harms_nobody(bad: str) -> None:
    made = kit.importing(f'ifequal "%m", "MR"; {{ {bad}; }}')
    assert made.problems
    assert kit.run_import(made)[0].outcome is Outcome.KEEP


def test_failing_lua_converter_refuses_objects_whatever_its_filters() -> None:
    made = kit.rules(kit.converter("x()", lua=True, modality="MR"))
    assert made.problems == ()
    assert kit.run_import(made)[0].outcome is Outcome.REJECT


def test_converters_of_other_hooks_do_not_run_at_intake() -> None:
    made = kit.rules(
        kit.converter('set PatientNam to "x"', "Query"), kit.converter("retry", "RejectedImage")
    )
    assert [(problem.key, problem.gravity.value) for problem in made.problems] == [
        ("QueryConverter0", "error"),
    ]
    assert made.is_empty_import
    assert made.is_empty_export


# Export.


def plans(
    made: Rules, seen: Captured | None = None, env: kit.FakeEnvironment | None = None
) -> list[ExportPlan]:
    """Return what export converters owe for the object of the trace."""
    return made.plan_exports(kit.table(), seen or kit.captured(), env or kit.FakeEnvironment())


def expand(made: Rules, env: kit.FakeEnvironment | None = None) -> list[Forward]:
    """Expand export converter 0."""
    return list(made.expand(0, kit.table(), kit.captured(), env or kit.FakeEnvironment()).forwards)


def test_deferred_line_is_found_again_after_its_number_changed() -> None:
    deferred = "Rows = 512"
    [owed] = plans(kit.rules(kit.converter("forward to B", "Export", sql=deferred)))
    now = kit.rules(
        kit.converter("forward to NEW", "Export", sql=deferred),
        kit.converter("forward to B", "Export", index=1, sql=deferred),
    )

    def targets(digest: str) -> list[str]:
        env = kit.FakeEnvironment()
        found = list(now.expand(0, kit.table(), kit.captured(), env, digest).forwards)
        return [forward.target for forward in found]

    assert owed.deferred
    assert targets(owed.digest) == ["B"]
    assert targets("of an edited line") == ["NEW"]
    assert targets("") == ["NEW"], "a debt of an earlier version"


DECIDED = [
    ("forward to A", ["A"]),
    ("forward to A; forward to B org %u", ["A", "B"]),
    ('ifequal "%m", "MR"; forward to A; forward to B', ["B"]),
    ('ifequal "%m", "MR"; { forward to A; forward to B; }', []),
    ('ifequal "%VStationName", "ROOM1"; forward to %V0008,1010', ["ROOM1"]),
    ("nop; stop; forward to A", []),
    ("return; forward to A", []),
    ('ifempty "%x"; forward to %c', ["DGATE"]),
]


@pytest.mark.parametrize(("line", "targets"), DECIDED, ids=[line for line, _ in DECIDED])
def test_simple_export_line_is_decided_at_intake(line: str, targets: list[str]) -> None:
    made = kit.rules(kit.converter(line, "Export"))
    decided = plans(made)
    assert [forward.target for plan in decided for forward in plan.forwards] == targets
    assert not any(plan.deferred for plan in decided)
    assert len(decided) == (1 if targets else 0)
    assert [forward.target for forward in expand(made)] == targets


DEFERRED = [
    "forward to %b",
    "call route; forward to A",
    "defer; forward to A",
    "frobnicate; forward to A",
    "forward study to A",
    "forward to %E0010,0020",
    "forward to %V(0008,0018)0010,0020",
    "save to %f",
]


@pytest.mark.parametrize("line", DEFERRED)
def test_other_export_lines_are_left_to_the_dispatcher(line: str) -> None:
    made = kit.rules(kit.converter(line, "Export", 3))
    assert plans(made) == [ExportPlan(3, deferred=True)]


def test_line_that_fails_at_intake_is_left_to_the_dispatcher() -> None:
    made = kit.rules(kit.converter("forward to %VPatientBirthDate", "Export"))
    assert plans(made) == [ExportPlan(0, deferred=True)]
    with pytest.raises(RuleError, match="target of the forward is empty"):
        expand(made)


def test_every_export_converter_has_a_plan_of_its_own() -> None:
    made = kit.rules(
        kit.converter("forward to B; forward to C", "Export", 1),
        kit.converter("forward to A", "Export", 0),
    )
    assert plans(made) == [
        ExportPlan(0, (Forward("A", "ExportConverter0.0"),)),
        ExportPlan(1, (Forward("B", "ExportConverter1.0"), Forward("C", "ExportConverter1.1"))),
    ]


def test_patient_id_of_an_export_line_is_the_one_captured_at_queueing() -> None:
    made = kit.rules(kit.converter("forward to %i", "Export"))
    [plan] = plans(made, kit.captured(patient_id="QUEUED"))
    assert plan.forwards[0].target == "QUEUED"


def test_patient_id_that_was_not_captured_comes_from_the_object() -> None:
    made = kit.rules(kit.converter("forward to %i", "Export"))
    [plan] = plans(made, kit.captured(patient_id=""))
    assert plan.forwards[0].target == "0009703828"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("newuids", RuleError),
        ("rm /etc/x", RuleError),
        ("system true", RuleError),
        ('set PatientID to "x"', RuleError),
        ("frobnicate", RuleError),
        ("lua:x()", RuleError),
    ],
)
def test_expansion_of_a_line_that_cannot_run_raises(line: str, error: type[RuleError]) -> None:
    made = kit.rules(kit.converter(f"forward to A; {line}", "Export"))
    with pytest.raises(error, match=r"dicom\.ini:40 ExportConverter0\.1: "):
        expand(made)


def test_export_lua_converter_is_deferred_and_raises() -> None:
    made = kit.rules(kit.converter("x()", "Export", lua=True))
    assert plans(made) == [ExportPlan(0, deferred=True)]
    with pytest.raises(RuleError, match="lua run error ExportConverter0:1: attempt to call"):
        expand(made)


def test_export_errors_are_never_ignored() -> None:
    made = kit.rules(kit.converter("newuid; forward to A", "Export"), script_errors_reject=False)
    with pytest.raises(RuleError):
        expand(made)


def test_expansion_applies_filters_again() -> None:
    made = kit.rules(kit.converter("forward to A", "Export", modality="MR"))
    assert expand(made) == []


def test_expansion_of_a_converter_that_is_gone_sticks_the_debt_and_says_what_to_do() -> None:
    with pytest.raises(RuleError, match="ExportConverter0 no longer runs") as caught:
        expand(kit.rules())
    assert "put the line back" in caught.value.remedy
    assert "dgate queue retry" in caught.value.remedy


@pytest.mark.parametrize("passes", [True, False])
def test_sql_filter_is_asked_by_the_dispatcher_only(passes: bool) -> None:
    made = kit.rules(kit.converter("forward to A", "Export", sql="ImageNumber = '1'"))
    env = kit.FakeEnvironment(passes_sql=passes)
    assert plans(made, env=env) == [ExportPlan(0, deferred=True)]
    assert env.conditions == []
    assert len(expand(made, env)) == int(passes)
    assert env.conditions == ["ImageNumber = '1'"]


def test_sql_filter_that_begins_with_a_star_is_none() -> None:
    made = kit.rules(kit.converter("forward to A", "Export", sql="*; drop"))
    assert made.problems == ()
    assert not plans(made)[0].deferred


def test_sql_filter_that_is_no_condition_sticks_the_debt() -> None:
    made = kit.rules(kit.converter("forward to A", "Export", sql="Rows = 1; drop table x"))
    [problem] = made.problems
    assert (problem.key, problem.column) == ("ExportFilter0", 9)
    assert plans(made) == [ExportPlan(0, deferred=True)]
    env = kit.FakeEnvironment()
    with pytest.raises(RuleError, match="semicolon"):
        expand(made, env)
    assert env.conditions == []


def test_script_called_before_an_export_forward_runs_on_the_copy_too() -> None:
    scripts = {"tidy": 'set PatientID to "%i2"', "look": "nop %i"}
    line = 'call look; call tidy; forward to %V0010,0020 script set StudyID to "%m"'
    made = kit.rules(kit.converter(line, "Export"), scripts=scripts)
    env = kit.FakeEnvironment()
    [forward] = expand(made, env)
    assert forward.target == "00097038282"
    copy = kit.table()
    made.run_script(forward.script or "", copy, kit.captured(), env)
    assert copy.text(0x00100020) == "00097038282"
    assert copy.text(0x00200010) == "CT"


@pytest.mark.parametrize(
    ("script", "sent"), [("stop", 0), ("return", 0), ("destroy", 1), ("reject", 1), ("nop", 1)]
)
def test_result_of_a_script_called_by_an_export_line(script: str, sent: int) -> None:
    made = kit.rules(kit.converter("call it; forward to A", "Export"), scripts={"it": script})
    assert len(expand(made)) == sent
