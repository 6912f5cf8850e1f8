"""What is taken for a loop of servers, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.archive.loops import (
    MOST_CHANGED_ECHOES,
    MOST_ECHOES,
    MOST_OBJECTS,
    MOST_RETURNS,
    WITHIN_S,
    Loops,
)
from dgate.config.settings import Engine
from dgate.rules.effects import Forward, ImportForward, ImportVerdict
from dgate.rules.effects import Outcome as RuleOutcome
from tests.archive.intake_kit import SOP, Hooks, data_set, open_station


def returns(loops: Loops, times: int, caller: str = "B", content: str = "x") -> None:
    for _ in range(times):
        loops.returned("1.2", caller, content, 0.0)


def test_third_return_by_the_destination_is_a_loop() -> None:
    loops = Loops()
    returns(loops, MOST_ECHOES)
    assert loops.reason("1.2", "B", 1, 0.0) == ""
    returns(loops, 1)
    assert loops.reason("1.2", "B", 2, 0.0).startswith(
        "loop: B has sent this object back unchanged 3 times within an hour"
    )


def test_only_the_delivery_to_who_returns_it_is_stopped() -> None:
    loops = Loops()
    returns(loops, 5)
    assert loops.reason("1.2", "C", 1, 0.0) == ""
    assert loops.reason("1.3", "B", 1, 0.0) == ""


def test_changed_object_is_no_loop() -> None:
    loops = Loops()
    for content in "abcdefgh":
        returns(loops, 1, content=content)
    assert loops.reason("1.2", "B", 1, 0.0) == ""


def test_object_that_changes_each_time_is_a_loop_when_it_returns_often() -> None:
    loops = Loops()
    for number in range(MOST_CHANGED_ECHOES):
        returns(loops, 1, content=str(number))
    assert loops.reason("1.2", "B", 1, 0.0) == ""
    returns(loops, 1, content="another")
    assert loops.reason("1.2", "B", 1, 0.0).startswith(
        "loop: B has sent this object back 30 times within an hour, with changes, so it is not"
    )


def test_changed_object_counts_only_for_who_returns_it_and_for_an_hour() -> None:
    loops = Loops()
    for number in range(3 * MOST_CHANGED_ECHOES):
        returns(loops, 1, caller="MODALITY", content=str(number))
    assert loops.reason("1.2", "B", 1, 0.0) == ""
    assert loops.reason("1.2", "MODALITY", 1, WITHIN_S + 1) == ""


def test_sender_that_repeats_itself_is_no_loop() -> None:
    loops = Loops()
    returns(loops, MOST_RETURNS, caller="MODALITY")
    assert loops.reason("1.2", "B", 1, 0.0) == ""


def test_loop_over_others_is_found_by_its_number_of_rounds() -> None:
    loops = Loops()
    returns(loops, MOST_RETURNS + 1, caller="C")
    assert "came back unchanged 31 times" in loops.reason("1.2", "B", 1, 0.0)


def test_two_who_return_it_in_turns_do_not_hide_each_other() -> None:
    loops = Loops()
    for _ in range(3):
        returns(loops, 1, caller="B", content="by b")
        returns(loops, 1, caller="C", content="by c")
    assert loops.reason("1.2", "B", 1, 0.0)
    assert loops.reason("1.2", "C", 2, 0.0)


def test_every_debt_is_stopped_once() -> None:
    loops = Loops()
    returns(loops, 3)
    assert loops.reason("1.2", "B", 1, 0.0)
    assert loops.reason("1.2", "B", 2, 0.0)
    # Somebody has it tried again.
    assert loops.reason("1.2", "B", 1, 0.0) == ""


def test_after_an_hour_counting_begins_anew() -> None:
    loops = Loops()
    returns(loops, 3)
    assert loops.reason("1.2", "B", 1, WITHIN_S + 1) == ""
    loops.returned("1.2", "B", "x", WITHIN_S + 1)
    assert loops.reason("1.2", "B", 2, WITHIN_S + 2) == ""


def test_memory_is_bounded() -> None:
    loops = Loops()
    returns(loops, 3)
    for number in range(MOST_OBJECTS):
        loops.returned(f"9.{number}", "B", "x", 0.0)
    assert loops.reason("1.2", "B", 1, 0.0) == ""
    assert loops.reason(f"9.{MOST_OBJECTS - 1}", "B", 1, 0.0) == ""


# As objects arrive.


def _now(station: Any) -> float:
    return station.clock.monotonic()


def test_objects_that_arrive_again_are_counted_by_who_sends_them(tmp_path: Path) -> None:
    station = open_station(tmp_path, hooks=Hooks())
    loops = station.ingest.loops
    station.send(data_set(), calling="MODALITY")
    for _ in range(MOST_ECHOES):
        station.send(data_set(), calling="B")
    assert loops.reason(SOP, "B", 1, _now(station)) == ""
    station.send(data_set(), calling="B")
    assert loops.reason(SOP, "B", 1, _now(station))
    assert loops.reason(SOP, "MODALITY", 2, _now(station)) == ""
    station.close()


def test_object_that_comes_back_changed_is_counted_anew(tmp_path: Path) -> None:
    station = open_station(tmp_path, hooks=Hooks())
    for number in range(6):
        station.send(data_set(StudyDescription=f"Version {number}"), calling="B")
    assert station.ingest.loops.reason(SOP, "B", 1, _now(station)) == ""
    station.close()


def test_object_that_an_import_rule_changes_each_time_is_counted(tmp_path: Path) -> None:
    station = open_station(tmp_path, hooks=Hooks())
    for number in range(MOST_CHANGED_ECHOES + 1):
        station.send(data_set(StudyDescription=f"Version {number}"), calling="B")
    assert station.ingest.loops.reason(SOP, "B", 1, _now(station)) == ""
    station.send(data_set(StudyDescription="The last"), calling="B")
    assert "with changes" in station.ingest.loops.reason(SOP, "B", 1, _now(station))
    assert station.ingest.loops.reason(SOP, "C", 2, _now(station)) == ""
    station.close()


@pytest.mark.parametrize("stored", [True, False], ids=["dropped", "no database"])
def test_object_that_is_only_passed_on_is_counted_where_it_goes_back(
    tmp_path: Path, stored: bool
) -> None:
    def rule(table: Any, verdict: ImportVerdict) -> None:
        verdict.forwards.append(ImportForward(Forward("B", "ImportConverter0.0"), table.snapshot()))
        if stored:
            verdict.outcome = RuleOutcome.DESTROY

    changes: dict[str, Any] = {} if stored else {"engine": Engine.NONE}
    station = open_station(tmp_path, hooks=Hooks(on_import=rule), **changes)
    for _ in range(4):
        station.send(data_set(), calling="MODALITY")
    assert station.ingest.loops.reason(SOP, "B", 1, _now(station)) == ""
    for _ in range(3):
        station.send(data_set(), calling="B")
    assert station.ingest.loops.reason(SOP, "B", 1, _now(station))
    station.close()
