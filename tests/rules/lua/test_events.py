"""The events of section [lua] that are no rules."""

from __future__ import annotations

import pytest

from dgate.config.model import LuaEvent
from dgate.rules.effects import Captured
from dgate.rules.lua.events import LuaEvents, Moment
from dgate.rules.session import Session
from tests.rules import kit

NOBODY = Captured("", "", "", "", "", "")


def happened(moment: Moment, code: str, *, lenient: bool = False) -> tuple[str, Session]:
    """Run the code of an event; return why it refuses, and the session."""
    events = LuaEvents(
        [LuaEvent(moment.value, code, "dicom.ini:1")], kit.rules().library, lenient=lenient
    )
    session = Session("A", "B")
    return events.run(moment, kit.FakeEnvironment(), session, NOBODY), session


@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.value)
@pytest.mark.parametrize("word", ["destroy", "reject"])
def test_destroy_and_reject_refuse(moment: Moment, word: str) -> None:
    assert happened(moment, f"{word}()")[0] == f"{word} by [lua] {moment.value}"


@pytest.mark.parametrize(
    ("moment", "lenient", "refusal"),
    [
        (Moment.ASSOCIATION, False, "[lua] association failed"),
        (Moment.COMMAND, False, "[lua] command failed"),
        (Moment.STARTUP, False, "[lua] startup failed"),
        (Moment.ASSOCIATION, True, ""),
        (Moment.NIGHTLY, False, ""),
        (Moment.END_ASSOCIATION, False, ""),
    ],
)
def test_code_that_fails_refuses_where_that_is_possible(
    moment: Moment, lenient: bool, refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert happened(moment, "nosuch()", lenient=lenient)[0] == refusal
    assert f"[lua] {moment.value}:1: attempt to call global 'nosuch'" in caplog.text


def test_events_of_a_session_share_their_globals_with_each_other() -> None:
    library = kit.rules().library
    events = LuaEvents(
        [
            LuaEvent("association", "who = Association.Calling", "dicom.ini:1"),
            LuaEvent("endassociation", "if who == 'A' then reject() end", "dicom.ini:2"),
        ],
        library,
    )
    session = Session("A", "B")
    env = kit.FakeEnvironment()
    assert events.run(Moment.ASSOCIATION, env, session, NOBODY) == ""
    assert events.run(Moment.END_ASSOCIATION, env, session, NOBODY) != ""
    assert Moment.COMMAND not in events
    assert events.run(Moment.COMMAND, env, session, NOBODY) == ""


def test_data_is_an_empty_object() -> None:
    assert happened(Moment.STARTUP, "if #Data == 1 and not Data.PatientID then reject() end")[0]
