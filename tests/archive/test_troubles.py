"""One line in the log for each cause that keeps objects out."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from dgate.archive.troubles import LATELY_S, QUIET_S, REMIND_S, Troubles
from dgate.errors import DatabaseAway, NotDicom, OutOfSpace, Refused


class Ticks:
    """A clock for both times."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the set time."""
        return self.now


def made() -> tuple[Troubles, Ticks]:
    ticks = Ticks()
    return Troubles(ticks, ticks), ticks


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def full(where: str = "/a") -> OutOfSpace:
    return OutOfSpace("the disk is full", where=where, remedy="free space")


def test_many_refusals_of_one_cause_are_one_line_with_its_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles, _ = made()

    assert all(troubles.refused(full(f"/{number}")) for number in range(50))

    assert told(caplog) == [
        "Objects are refused as long as this lasts (further ones are not logged): "
        "/0: the disk is full (free space)"
    ]
    [problem] = troubles.problems()
    assert problem.startswith("50 object(s) refused since 1970-01-01")


def test_each_cause_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    troubles, _ = made()
    for error in (full(), DatabaseAway("it is away"), full(), DatabaseAway("it is away")):
        troubles.refused(error)

    assert len(told(caplog)) == 2
    [problem] = troubles.problems()
    assert "the disk is full" in problem


@pytest.mark.parametrize("error", [NotDicom("garbage"), Refused("by a rule")], ids=["C000", "rule"])
def test_fault_of_the_object_is_told_by_whoever_refuses_it(error: NotDicom | Refused) -> None:
    troubles, _ = made()

    assert not troubles.refused(error)
    assert troubles.problems() == []


def test_cause_that_lasts_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    troubles, ticks = made()
    troubles.refused(full())
    ticks.now += REMIND_S
    troubles.refused(full())
    troubles.refused(full())

    assert told(caplog)[1:] == [
        "2 objects have been refused so far: /a: the disk is full (free space)"
    ]


def test_cause_is_over_when_objects_are_stored_and_it_was_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles, ticks = made()
    troubles.stored()
    troubles.refused(full())
    troubles.stored()
    assert troubles.problems()

    ticks.now += QUIET_S
    troubles.stored()
    troubles.stored()

    assert troubles.problems() == []
    assert told(caplog)[1:] == ["Objects are stored again; 1 had been refused: the disk is full"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def test_state_forgets_what_was_long_ago_though_nothing_came_since() -> None:
    troubles, ticks = made()
    troubles.refused(full())
    ticks.now += LATELY_S

    assert troubles.problems() == []


def test_causes_cannot_grow_without_end() -> None:
    troubles, ticks = made()
    for number in range(100):
        ticks.now += 1
        troubles.refused(OutOfSpace(f"{number}: of a peer's making"))

    assert len(troubles.problems()) == 32


def test_files_that_a_disk_does_not_let_go_are_one_line_for_each_folder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    troubles, ticks = made()
    error = OSError(errno.EROFS, "Read-only file system")

    for number in range(50):
        troubles.left(Path(f"/mag{number % 2}/incoming/{number}.part"), error)

    assert [line.partition(",")[0] for line in told(caplog)] == [
        "1 temporary file(s) in /mag0/incoming could not be removed",
        "1 temporary file(s) in /mag1/incoming could not be removed",
    ]
    assert "0.part: Read-only file system" in told(caplog)[0]
    ticks.now += REMIND_S
    troubles.left(Path("/mag0/incoming/last.part"), error)
    assert told(caplog)[2].startswith("26 temporary file(s) in /mag0/incoming")
    # Nothing is refused for it.
    assert troubles.problems() == []
