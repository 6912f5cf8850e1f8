"""The journal of maintenance: a line before the work and one after it, however it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.journal import Journal
from dgate.archive.writer import Writer
from dgate.config.layout import PATIENT_ID
from dgate.errors import OutcomeUnknown, StoreError
from tests.archive.intake_kit import FixedClock
from tests.archive.maintenance.ward import Ward, open_ward


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "dgate" / "maintenance.log", FixedClock())


def lines(journal: Journal) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.path.read_text().splitlines()]


def test_what_is_about_to_be_done_is_on_disk_before_it_is_done(journal: Journal) -> None:
    with journal.work("delete", who="ann", why="asked", patient="P1", images=3) as result:
        [begun] = lines(journal)
        result["images"] = 2
    _, done = lines(journal)

    assert (begun["action"], begun["state"], begun["who"], begun["why"]) == (
        "delete",
        "begun",
        "ann",
        "asked",
    )
    assert (begun["patient"], begun["images"]) == ("P1", 3)
    assert (done["state"], done["images"], done["patient"]) == ("done", 2, "P1")
    assert begun["entry"] == done["entry"]
    assert journal.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StoreError("no such thing"), "failed"),
        (ValueError("no such thing"), "failed"),
        (OutcomeUnknown("no such thing"), "unknown"),
    ],
)
def test_work_that_fails_says_so(journal: Journal, error: Exception, state: str) -> None:
    with (
        pytest.raises(type(error)),
        journal.work("delete", who="ann", why="asked", images=3),
    ):
        raise error

    _, ended = lines(journal)
    assert (ended["state"], ended["error"]) == (state, "no such thing")


def test_work_that_is_left_between_two_steps_says_so(journal: Journal) -> None:
    def steps() -> Iterator[int]:
        with journal.work("move", who="ann", why="asked") as result:
            for number in range(5):
                result["objects"] = number
                yield number

    walk = steps()
    next(walk), next(walk)
    walk.close()

    _, ended = lines(journal)
    assert (ended["state"], ended["objects"]) == ("stopped", 1)


def test_two_pieces_of_work_at_the_same_time_can_be_told_apart(journal: Journal) -> None:
    with journal.work("move", who="ann", why="a"), journal.work("delete", who="ben", why="b"):
        pass

    first, second, third, fourth = (line["entry"] for line in lines(journal))
    assert (first, second) == (fourth, third)
    assert first != second


def delete(ward: Ward) -> None:
    list(ward.caretaker.deleter.delete(Level.PATIENT, "P1", who="ann", why="asked"))


def correct(ward: Ward) -> None:
    plan = ward.caretaker.planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"})
    for correction in plan.corrections:
        list(ward.caretaker.corrector.correct(correction, who="ann", why="asked"))


@pytest.mark.parametrize("act", [delete, correct])
def test_a_crash_after_the_commit_leaves_a_trace(
    tmp_path: Path, act: Callable[[Ward], None]
) -> None:
    """Who, what, how many: the index alone would not tell any more."""
    ward = open_ward(tmp_path)
    ward.add(1)
    ward.add(2)
    ward.close()
    child = os.fork()
    if not child:
        try:
            ward = open_ward(tmp_path)

            def crash(self: Writer, job: Any) -> Any:
                real(self, job)
                os._exit(7)

            # Both ways to the writer: a job of its own, and the caller's function as one.
            real = Writer.run
            Writer.run = crash  # type: ignore[method-assign]
            act(ward)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    ward = open_ward(tmp_path)
    [record] = ward.journal()
    assert (record["state"], record["who"], record["images"]) == ("begun", "ann", 2)
    assert not any(ref.patient_id == "P1" for ref in ward.refs())
    ward.close()
