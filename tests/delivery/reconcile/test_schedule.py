"""Comparisons at set times: when, with whom, and what is told of them."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dgate.config.node_settings import NodeSettings, Span
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.schedule import (
    Comparisons,
    ReconcileSchedule,
    next_begin,
    reconcile_commands,
)
from dgate.delivery.reconcile.values import Options, Summary
from dgate.errors import PeerError, Unreachable
from tests.delivery.kit import StillClock

AT_THREE = Span(180, 300)
WAIT_S = 30.0


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("spans", "after", "expected"),
    [
        ([AT_THREE], "2026-11-22T02:59:59", "2026-11-22T03:00:00"),
        ([AT_THREE], "2026-11-22T03:00:00", "2026-11-23T03:00:00"),
        # 22 November 2026 is a Sunday.
        ([Span(180, 300, frozenset([0]))], "2026-11-22T02:00:00", "2026-11-23T03:00:00"),
        ([Span(180, 300, frozenset([6]))], "2026-11-22T03:00:00", "2026-11-29T03:00:00"),
        ([AT_THREE, Span(0, 10)], "2026-11-22T12:00:00", "2026-11-23T00:00:00"),
    ],
)
def test_next_begin(spans: list[Span], after: str, expected: str) -> None:
    assert next_begin(spans, at(after)) == at(expected)


def test_without_times_nothing_begins() -> None:
    assert next_begin([], at("2026-11-22T00:00:00")) is None
    assert next_begin([Span(1, 2, frozenset())], at("2026-11-22T00:00:00")) is None


class Side(NodeSide):
    """A node that is never connected to."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("it is not to be connected to"))
        self.was_cut = threading.Event()

    def cut(self) -> None:
        super().cut()
        self.was_cut.set()


class Stage:
    """A schedule over nodes that a test sets."""

    def __init__(self, **nodes: NodeSettings) -> None:
        self.clock = StillClock(at("2026-11-22T02:59:59").timestamp())
        self.nodes = nodes
        self.sides: dict[str, Side] = {}
        self.begun: list[Options] = []
        self.has_begun = threading.Semaphore(0)
        self.hang = False
        self.error: Exception | None = None
        self.schedule = ReconcileSchedule(lambda: self.nodes, self.side, self.compare, self.clock)

    def side(self, title: str) -> Side:
        self.sides[title] = Side()
        return self.sides[title]

    def compare(self, options: Options, there: NodeSide) -> Iterator[dict[str, Any]]:
        self.begun.append(options)
        self.has_begun.release()
        if self.error is not None:
            raise self.error
        if self.hang:
            assert isinstance(there, Side)
            assert there.was_cut.wait(WAIT_S)
            raise PeerError("it was cut")
        yield Summary(options.node).as_answer()

    def wait_for_begin(self) -> None:
        assert self.has_begun.acquire(timeout=WAIT_S)

    def come(self, text: str) -> None:
        """Let a time come; the thread looks at the clock when it is told of new settings."""
        self.clock.time = at(text).timestamp()
        self.schedule.apply(None)


@pytest.fixture
def stages() -> Iterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.schedule.stop()
        stage.schedule.stop()


def test_nodes_are_compared_when_their_time_comes(stages: list[Stage]) -> None:
    node = NodeSettings(
        reconcile=(AT_THREE,), reconcile_days=3, reconcile_send=True, reconcile_fetch=True
    )
    stage = Stage(PACS=node, QUIET=NodeSettings())
    stages.append(stage)
    # What is set is looked at in the second before the time, and at the time itself.
    stage.schedule.start()
    while not stage.begun:
        stage.come("2026-11-22T03:00:00")
        stage.has_begun.acquire(timeout=0.05)
    assert stage.begun == [Options("PACS", "20261119", send=True, fetch=True)]


def test_node_that_hangs_holds_up_no_other_and_is_cut_at_the_end(stages: list[Stage]) -> None:
    node = NodeSettings(reconcile=(AT_THREE,))
    stage = Stage(ONE=node, TWO=node)
    stages.append(stage)
    stage.hang = True
    stage.schedule.start()
    while len(stage.begun) < 2:
        stage.come("2026-11-22T03:00:00")
        stage.has_begun.acquire(timeout=0.05)
    stage.schedule.stop()
    assert {options.node for options in stage.begun} == {"ONE", "TWO"}
    assert all(side.was_cut.is_set() for side in stage.sides.values())


def test_failure_is_logged_and_the_next_time_comes(
    stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(PACS=NodeSettings(reconcile=(AT_THREE,)))
    stages.append(stage)
    stage.error = Unreachable("nobody is there")
    stage.schedule.start()
    for day in (22, 23):
        count = len(stage.begun)
        while len(stage.begun) == count:
            stage.come(f"2026-11-{day}T03:00:00")
            stage.has_begun.acquire(timeout=0.05)
    stage.schedule.stop()
    assert "The comparison with PACS failed: nobody is there" in caplog.text


def test_what_cannot_begin_is_not_under_way(
    stages: list[Stage], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeSettings(reconcile=(AT_THREE,))
    stage = Stage(ONE=node, TWO=node)
    stages.append(stage)
    start = threading.Thread.start
    refused: list[str] = []

    def refuse_first(thread: threading.Thread) -> None:
        if thread.name == "reconcile-ONE" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_first)
    stage.schedule.start()
    for day, nodes in ((22, {"TWO"}), (23, {"ONE", "TWO"})):
        while {options.node for options in stage.begun} != nodes:
            stage.come(f"2026-11-{day}T03:00:00")
            stage.has_begun.acquire(timeout=0.05)
    stage.schedule.stop()
    assert "The comparison with ONE cannot begin" in caplog.text
    assert "under way" not in caplog.text


def test_error_of_the_settings_does_not_end_the_waiting(
    stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(PACS=NodeSettings(reconcile=(AT_THREE,)))
    stages.append(stage)
    failed = threading.Event()
    nodes = stage.schedule._nodes

    def fail_once() -> Mapping[str, NodeSettings]:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("as a test wants it")
        return nodes()

    stage.schedule._nodes = fail_once
    stage.schedule.start()
    assert failed.wait(WAIT_S)
    while not stage.begun:
        stage.come("2026-11-22T03:00:00")
        stage.has_begun.acquire(timeout=0.05)
    stage.schedule.stop()
    assert "failed unexpectedly" in caplog.text


def summary(**changes: int) -> dict[str, Any]:
    return Summary("PACS", **changes).as_answer()


def test_results_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    results, clock = Comparisons(), StillClock()
    warning = {"kind": "warning", "text": "its answer looks cut off"}
    seen = list(
        results.watched("PACS", iter([warning, summary(studies=3, equal=3)]), clock, Side())
    )
    assert len(seen) == 2
    [told] = results.report()
    assert told == {
        "node": "PACS",
        "ended": 1000.0,
        "text": "3 studies compared, 3 equal",
        "equal": True,
    }
    assert "its answer looks cut off" in caplog.text
    list(results.watched("PACS", iter([summary(studies=3, equal=2, left=1)]), clock, Side()))
    [told] = results.report()
    assert told["equal"] is False
    assert told["text"] == "3 studies compared, 2 equal, 1 studies still differ"

    def failing() -> Iterator[dict[str, Any]]:
        raise Unreachable("nobody is there")
        yield {}

    with pytest.raises(Unreachable):
        list(results.watched("PACS", failing(), clock, Side()))
    [told] = results.report()
    assert (told["text"], told["equal"]) == ("failed: nobody is there", False)


def test_command_gets_its_options() -> None:
    asked = []

    def compare(options: Options) -> Iterator[dict[str, Any]]:
        asked.append(options)
        yield summary()

    answers = reconcile_commands(compare)["reconcile"]({"node": "PACS", "send": True})
    assert [each["kind"] for each in answers] == ["summary"]
    assert asked == [Options("PACS", send=True)]


def test_what_is_compared_by_command_is_cut_when_the_server_stops() -> None:
    results, side = Comparisons(), Side()
    answers = results.watched("PACS", iter([summary()]), StillClock(), side)
    next(answers)
    results.cut()
    assert side.was_cut.is_set()
    answers.close()  # type: ignore[attr-defined]
    later = Side()
    list(results.watched("PACS", iter([summary()]), StillClock(), later))
    results.cut()
    assert not later.was_cut.is_set()
