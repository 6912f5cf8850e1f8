"""Event converters: results, filters, and what each kind of event lets a line do."""

from __future__ import annotations

import pytest

from dgate.config.settings import ConverterText
from dgate.errors import RuleError
from dgate.rules.effects import Decision, Outcome
from dgate.rules.events import Event, NoEvents
from dgate.rules.hooks import Rules
from dgate.rules.session import Session
from tests.rules import kit

MASK = 0x99990802
PATIENT_ID = 0x00100020
REQUESTS = (Event.QUERY, Event.WORKLIST_QUERY, Event.RETRIEVE, Event.VIRTUAL_QUERY)


def event(text: str, which: Event, index: int = 0, **filters: str) -> ConverterText:
    return kit.converter(text, which.value, index, **filters)


def run(
    made: Rules,
    which: Event,
    index: int = 0,
    session: Session | None = None,
    **captured: str,
) -> tuple[Decision, str]:
    """Run one event over the object of the trace; return the decision and its patient ID."""
    table = kit.table()
    decision = made.events.run(
        which,
        table,
        kit.captured(**captured),
        kit.FakeEnvironment(),
        index=index,
        session=session,
    )
    return decision, table.text(PATIENT_ID)


@pytest.mark.parametrize("which", Event, ids=lambda which: which.value)
def test_every_event_runs_its_own_converter(which: Event) -> None:
    made = kit.rules(event('set PatientID to "%u-%c-%s"', which))
    assert made.problems == ()
    assert made.events.has(which)
    assert run(made, which, station="DEST")[1] == "SCANNER-DGATE-DEST"
    other = Event.QUERY if which is not Event.QUERY else Event.RETRIEVE
    assert not made.events.has(other)
    assert run(made, other)[1] == "0009703828"


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("destroy", Outcome.DESTROY),
        ("destroy2", Outcome.DESTROY),
        ("reject", Outcome.REJECT),
        ("stop", Outcome.KEEP),
        ('ifequal "%m", "MR"; destroy', Outcome.KEEP),
    ],
)
def test_result_of_the_line_is_the_outcome(line: str, outcome: Outcome) -> None:
    decision, _ = run(kit.rules(event(line, Event.QUERY)), Event.QUERY)
    assert decision.outcome is outcome
    assert decision.reason == ("" if outcome is Outcome.KEEP else f"{line} by QueryConverter0.0")


@pytest.mark.parametrize(
    ("filters", "runs"),
    [
        ({"calling": "SCAN*"}, True),
        ({"calling": "VIEWER"}, False),
        ({"called": "DGATE", "calling": "scanner"}, True),
        ({"called": "OTHER"}, False),
        ({"modality": "CT"}, True),
        ({"station": "ROOM2"}, False),
        ({"station": ""}, False),
    ],
)
def test_filters_decide(filters: dict[str, str], runs: bool) -> None:
    made = kit.rules(event('set PatientID to "x"', Event.QUERY, **filters))
    assert run(made, Event.QUERY)[1] == ("x" if runs else "0009703828")


def test_compression_converters_are_told_apart_by_number() -> None:
    made = kit.rules(
        event('set PatientID to "three"', Event.COMPRESSION, 3),
        event('set PatientID to "nine"', Event.COMPRESSION, 9),
    )
    assert run(made, Event.COMPRESSION, 3)[1] == "three"
    assert run(made, Event.COMPRESSION, 9)[1] == "nine"
    assert run(made, Event.COMPRESSION, 4)[1] == "0009703828"


def test_variables_outlive_the_event_where_somebody_keeps_them() -> None:
    made = kit.rules(event('set PatientID to "%x+"; set x to "%V0010,0020"', Event.QUERY))
    kept = Session()
    assert [run(made, Event.QUERY, session=kept)[1] for _ in range(3)] == ["+", "++", "+++"]
    assert run(made, Event.QUERY)[1] == "+"


@pytest.mark.parametrize("which", REQUESTS, ids=lambda which: which.value)
def test_virtual_servers_are_chosen_by_a_mask_in_the_request(which: Event) -> None:
    table = kit.table()
    made = kit.rules(event("virtualserver 0; virtualserver %V0020,0013[0,0]9", which))
    assert made.problems == ()
    made.events.run(which, table, kit.captured(), kit.FakeEnvironment())
    assert table.text(MASK) == str(1 | 1 << 9)


def test_mask_replaces_what_was_there() -> None:
    table = kit.table()
    made = kit.rules(event("virtualserver 3; virtualservermask 5", Event.QUERY))
    made.events.run(Event.QUERY, table, kit.captured(), kit.FakeEnvironment())
    assert table.text(MASK) == "5"


@pytest.mark.parametrize(
    ("line", "family"),
    [
        ("virtualserver 10", "Query"),
        ("virtualserver x", "Query"),
        ("virtualservermask 65536", "Query"),
        ("virtualserver 1", "Import"),
        ("virtualservermask 1", "QueryResult"),
        ("forward to PEER", "Query"),
        ("nop; forward to PEER", "RetrieveResult"),
        ("retry", "Query"),
    ],
)
def test_statement_that_cannot_work_there_is_reported(line: str, family: str) -> None:
    made = kit.rules(kit.converter(line, family))
    assert [problem.gravity.value for problem in made.problems] == ["error"]


def test_storage_in_an_event_is_reported() -> None:
    made = kit.rules(event("storage MAG1", Event.QUERY))
    assert [problem.gravity.value for problem in made.problems] == ["warning"]


def test_virtual_server_in_a_script_of_an_import_line_fails() -> None:
    made = kit.rules(kit.converter("call choose"), scripts={"choose": "virtualserver 1"})
    verdict, table = kit.run_import(made)
    assert verdict.outcome is Outcome.REJECT
    assert MASK not in table


@pytest.mark.parametrize(
    "line",
    ["call nowhere", 'lua "x()"', "nonsense", "forward to PEER", "virtualserver %VPatientName"],
)
def test_failing_converter_is_never_silent(line: str) -> None:
    with pytest.raises(RuleError, match=r"dicom.ini:40 QueryConverter0\.0"):
        run(kit.rules(event(line, Event.QUERY)), Event.QUERY)


def test_failing_lua_event_fails_whatever_its_filters() -> None:
    made = kit.rules(kit.converter("x()", "Query", lua=True, calling="NOBODY"))
    assert made.problems == ()
    with pytest.raises(RuleError, match="lua run error QueryConverter0:1: attempt to call"):
        run(made, Event.QUERY)


@pytest.mark.parametrize("line", ["call nowhere", "forward to PEER"])
def test_lenient_event_goes_on_and_says_so(line: str, caplog: pytest.LogCaptureFixture) -> None:
    made = kit.rules(
        event(f'{line}; set PatientID to "x"', Event.QUERY), script_errors_reject=False
    )
    decision, patient_id = run(made, Event.QUERY)
    assert (decision.outcome, patient_id, decision.forwards) == (Outcome.KEEP, "x", [])
    assert "was not executed and the line went on" in caplog.text


@pytest.mark.parametrize("which", [Event.REJECTED_IMAGE, Event.REJECTED_WORKLIST])
def test_refused_object_can_be_tried_again_and_forwarded(which: Event) -> None:
    made = kit.rules(event('set PatientID to "Q"; forward to QUARANTINE; retry; nop', which))
    assert made.problems == ()
    decision, patient_id = run(made, which)
    assert decision.retry
    assert patient_id == "Q"
    assert [each.forward.target for each in decision.forwards] == ["QUARANTINE"]
    assert decision.forwards[0].snapshot.text(PATIENT_ID) == "Q"


def test_no_events_have_no_hook() -> None:
    assert NoEvents().hook(Event.QUERY) is None
