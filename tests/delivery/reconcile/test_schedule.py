"""Comparisons at set times: when, with whom, and what is told of them."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dgate.config.node_settings import NodeSettings, Span
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.schedule import (
    ReconcileSchedule,
    next_begin,
    reconcile_commands,
)
from dgate.delivery.reconcile.values import Options, Summary
from dgate.errors import PeerError, Unreachable
from tests.acceptance.processes import wait_until
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
        self.hang = False
        self.error: Exception | None = None
        self.schedule = ReconcileSchedule(lambda: self.nodes, self.side, self.compare, self.clock)

    def side(self, title: str) -> Side:
        self.sides[title] = Side()
        return self.sides[title]

    def compare(self, options: Options, there: NodeSide) -> Iterator[dict[str, Any]]:
        self.begun.append(options)
        if self.error is not None:
            raise self.error
        if self.hang:
            assert isinstance(there, Side)
            assert there.was_cut.wait(WAIT_S)
            raise PeerError("it was cut")
        yield Summary(options.node).as_answer()

    def wait_for_end(self) -> None:
        """Wait until no comparison is under way: a time that comes before is left out."""
        for thread in threading.enumerate():
            if thread.name.startswith("reconcile-"):
                thread.join(WAIT_S)
                assert not thread.is_alive()

    def come(self, text: str) -> None:
        """Let a time come; the thread looks at the clock when it is told of new settings."""
        self.clock.time = at(text).timestamp()
        self.schedule.apply(None)

    def come_until(self, text: str, nodes: list[str]) -> None:
        """Let a time come, until so many comparisons with these have begun in all."""

        def has_come() -> bool:
            self.come(text)
            return sorted(options.node for options in self.begun) == nodes

        wait_until(has_come, f"what begins at {text}")


@pytest.fixture
def stages() -> Iterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.schedule.stop()
        stage.schedule.stop()


def test_nodes_are_compared_when_their_time_comes(stages: list[Stage]) -> None:
    node = NodeSettings(
        reconcile=(AT_THREE,),
        reconcile_days=3,
        reconcile_level="series",
        reconcile_send=True,
        reconcile_fetch=True,
    )
    stage = Stage(PACS=node, QUIET=NodeSettings())
    stages.append(stage)
    # What is set is looked at in the second before the time, and at the time itself.
    stage.schedule.start()
    stage.come_until("2026-11-22T03:00:00", ["PACS"])
    assert stage.begun == [Options("PACS", "20261119", level="series", send=True, fetch=True)]


def test_node_that_hangs_holds_up_no_other_and_is_cut_at_the_end(stages: list[Stage]) -> None:
    node = NodeSettings(reconcile=(AT_THREE,))
    stage = Stage(ONE=node, TWO=node)
    stages.append(stage)
    stage.hang = True
    stage.schedule.start()
    stage.come_until("2026-11-22T03:00:00", ["ONE", "TWO"])
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
        stage.come_until(f"2026-11-{day}T03:00:00", ["PACS"] * (day - 21))
        stage.wait_for_end()
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
    for day, nodes in ((22, ["TWO"]), (23, ["ONE", "TWO", "TWO"])):
        stage.come_until(f"2026-11-{day}T03:00:00", nodes)
        stage.wait_for_end()
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
    stage.come_until("2026-11-22T03:00:00", ["PACS"])
    stage.schedule.stop()
    assert "failed unexpectedly" in caplog.text


def test_commands_get_their_options() -> None:
    asked = []

    def compare(options: Options) -> Iterator[dict[str, Any]]:
        asked.append(options)
        yield Summary("PACS").as_answer()

    commands = reconcile_commands(compare, lambda: [{"node": "PACS"}])
    answers = commands["reconcile"]({"node": "PACS", "send": True})
    assert [each["kind"] for each in answers] == ["summary"]
    assert asked == [Options("PACS", send=True)]
    assert list(commands["reconciled"]({})) == [{"node": "PACS"}]
