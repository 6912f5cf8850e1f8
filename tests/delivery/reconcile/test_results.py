"""Results of comparisons: kept across restarts, logged, and told."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.delivery.reconcile import results
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.results import Comparisons, Result, results_file
from dgate.delivery.reconcile.values import Options, Summary
from dgate.errors import ConfigError, Unreachable
from tests.delivery.kit import StillClock

PACS = Options("PACS", since="20260101")


class Side(NodeSide):
    """A node that is never connected to."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("it is not to be connected to"))
        self.was_cut = threading.Event()
        self.was_asked = True

    def cut(self) -> None:
        super().cut()
        self.was_cut.set()


def summary(**changes: int) -> dict[str, Any]:
    return Summary("PACS", **changes).as_answer()


def run(kept: Comparisons, *answers: dict[str, Any], options: Options = PACS) -> None:
    """Let a comparison end with these answers."""
    list(kept.watched(options, iter(answers), StillClock(), Side()))


def test_results_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kept = Comparisons()
    warning = {"kind": "warning", "text": "its answer looks cut off"}
    run(kept, warning, summary(studies=3, equal=3))
    [told] = kept.report()
    assert (told["node"], told["ended"], told["since"]) == ("PACS", 1000.0, "20260101")
    assert (told["text"], told["equal"]) == ("3 studies compared, 3 equal", True)
    assert "its answer looks cut off" in caplog.text
    run(kept, summary(studies=3, equal=2, left=1))
    [told] = kept.report()
    assert told["equal"] is False
    assert told["text"] == "3 studies compared, 2 equal, 1 studies still differ"


def test_what_was_not_compared_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    kept = Comparisons()
    part = {"kind": "uncompared", "part": "a day", "text": "a day: too much"}
    run(kept, part, summary(studies=3, equal=3, uncompared=1))
    [told] = kept.report()
    assert (told["equal"], told["uncompared"]) == (False, ("a day: too much",))
    assert "not compared: a day: too much" in caplog.text


def test_what_cannot_be_asked_for_is_kept_and_leaves_both_sides_equal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept = Comparisons(results_file(tmp_path))
    part = {"kind": "residual", "part": "strange ones", "text": "strange ones: no question"}
    run(kept, part, summary(studies=3, equal=3, residual=1))
    [told] = Comparisons(results_file(tmp_path)).report()
    assert (told["equal"], told["uncompared"]) == (True, ())
    assert told["residual"] == ("strange ones: no question",)
    assert "1 kinds of studies that cannot be asked for" in told["text"]
    levels = {each.levelno for each in caplog.records if "strange ones" in each.getMessage()}
    assert levels == {logging.INFO}


def test_failure_is_kept() -> None:
    kept = Comparisons()

    def failing() -> Iterator[dict[str, Any]]:
        raise Unreachable("nobody is there")
        yield {}

    with pytest.raises(Unreachable):
        list(kept.watched(PACS, failing(), StillClock(), Side()))
    [told] = kept.report()
    assert (told["text"], told["equal"]) == ("failed: nobody is there", False)


def test_failure_before_the_node_was_asked_is_not_kept() -> None:
    kept, side = Comparisons(), Side()
    side.was_asked = False

    def refused() -> Iterator[dict[str, Any]]:
        raise ConfigError("no node of acrnema.map")
        yield {}

    with pytest.raises(ConfigError):
        list(kept.watched(PACS, refused(), StillClock(), side))
    assert kept.report() == []


def test_results_of_nodes_that_are_gone_are_not_told() -> None:
    kept = Comparisons()
    for node in ("PACS", "OLD"):
        kept.note(Result(node, 1.0, "t", True))
    assert [each["node"] for each in kept.report(lambda node: node != "OLD")] == ["PACS"]


def test_single_study_leaves_the_last_result() -> None:
    kept = Comparisons()
    run(kept, summary(studies=3, equal=3))
    run(kept, summary(studies=1, left=1), options=Options("PACS", study="1.2.3"))
    [told] = kept.report()
    assert told["equal"] is True


def test_results_outlive_a_restart(tmp_path: Path) -> None:
    path = results_file(tmp_path)
    kept = Comparisons(path)
    run(kept, summary(studies=3, equal=3))
    run(kept, summary(studies=9), options=Options("OTHER"))
    run(kept, summary(studies=4, equal=4))
    again = Comparisons(path)
    assert again.report() == kept.report()
    assert [each["node"] for each in again.report()] == ["OTHER", "PACS"]
    assert again.report()[1]["text"] == "4 studies compared, 4 equal"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", "[{}]", "7", '[{"node": 1, "ended": 1, "text": "t", "equal": true}]',
     '[{"node": "A", "ended": "x", "text": "t", "equal": true}]',
     '[{"node": "A", "ended": 1, "text": "t", "equal": true, "uncompared": 5}]',
     '[{"node": "A", "ended": 1, "text": "t", "equal": true, "residual": "x"}]',
     '[{"node": "A", "ended": "12", "text": "t", "equal": true}]',
     '[{"node": "A", "ended": NaN, "text": "t", "equal": true}]',
     '[{"node": "A", "ended": 1e300, "text": "t", "equal": true}]',
     '[{"node": "A", "ended": true, "text": "t", "equal": true}]',
     '[{"node": "A", "ended": 1, "began": "x", "text": "t", "equal": true}]',
     '[{"node": "A", "ended": 1, "text": "t", "equal": "yes"}]',
     '[{"node": "A", "ended": 1, "text": "t", "equal": true, "since": 5}]',
     "[" * 200_000],
    ids=range(17),
)  # fmt: skip
def test_damaged_file_is_left_out(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reconciled.json"
    path.write_text(content)
    kept = Comparisons(path)
    assert kept.report() == []
    assert "damaged" in caplog.text
    run(kept, summary(studies=1, equal=1))
    assert len(Comparisons(path).report()) == 1


def test_file_of_a_later_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "reconciled.json"
    row = {"node": "A", "ended": 1.0, "text": "t", "equal": True, "more": 5}
    path.write_text(json.dumps([row]))
    [told] = Comparisons(path).report()
    assert (told["node"], told["text"]) == ("A", "t")


def test_disk_that_takes_no_result_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "dgate"
    in_the_way.write_text("no folder")
    kept = Comparisons(results_file(tmp_path))
    run(kept, summary(studies=1, equal=1))
    assert len(kept.report()) == 1
    assert "could not be written down" in caplog.text


def test_number_of_results_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_NODES", 2)
    kept = Comparisons()
    for node in ("A", "B", "A", "C"):
        kept.note(Result(node, 1.0, "t", True))
    assert [each["node"] for each in kept.report()] == ["A", "C"]


def test_what_is_compared_by_command_is_cut_when_the_server_stops() -> None:
    kept, side = Comparisons(), Side()
    answers = kept.watched(PACS, iter([summary()]), StillClock(), side)
    next(answers)
    kept.cut()
    assert side.was_cut.is_set()
    answers.close()  # type: ignore[attr-defined]
    later = Side()
    list(kept.watched(PACS, iter([summary()]), StillClock(), later))
    kept.cut()
    assert not later.was_cut.is_set()
