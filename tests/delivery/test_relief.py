"""When members of a group that are down get something again, and how much a look moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dgate.config.node_settings import NodeSettings, NodeTable, Span
from dgate.config.nodes import NodeMap
from dgate.delivery import relief as module
from dgate.delivery.breaker import Breaker
from dgate.delivery.moving import Moved
from dgate.delivery.relief import Relief
from tests.delivery.kit import StillClock

NODES, _ = NodeMap.parse(b"ONE 10.0.0.1 104 as\nTWO 10.0.0.2 104 as\n", "acrnema.map")
STUDIES = [f"9.{number}" for number in range(40)]


class TwinMover:
    """Keeps who is owed which studies."""

    def __init__(self) -> None:
        self.owed: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.more = False

    def share(
        self, group: str, member_for: Callable[[str], str], goes_on: Callable[[], bool]
    ) -> Moved:
        """Move what the group is owed."""
        return self._move(group, member_for)

    def pass_on(
        self,
        member: str,
        group: str,
        member_for: Callable[[str], str],
        why: str,
        goes_on: Callable[[], bool],
    ) -> Moved:
        """Move what the member is owed."""
        return self._move(member, member_for)

    def fall_back(self, destination: str, fallback: str, *_: object) -> Moved:
        """Move what the destination is owed."""
        return self._move(destination, lambda study: fallback)

    def _move(self, destination: str, target_for: Callable[[str], str]) -> Moved:
        self.calls.append(destination)
        studies = self.owed.pop(destination, [])
        for study in studies:
            self.owed.setdefault(target_for(study), []).append(study)
        return Moved(len(studies), self.more)


class Desk:
    """A relief for the group READERS, whose member ONE is down and owed nothing."""

    def __init__(self, **one: object) -> None:
        self.clock = StillClock()
        self.mover = TwinMover()
        self.relief = Relief(self.mover, self.clock)  # type: ignore[arg-type]
        settings = NodeSettings(group="READERS", fallback_after_min=1.0, **one)  # type: ignore[arg-type]
        self.peers = NodeTable({"one": settings, "two": NodeSettings(group="READERS")})
        self.breaker = Breaker()
        self.fails()
        self.clock.time += 61.0
        self.fails()

    def fails(self) -> None:
        """Let ONE fail once more."""
        self.breaker.fail(self.breaker.begin(), self.clock.time, 30.0, "refused", counts=True)

    def look(self, *studies: str) -> None:
        """Look at what is owed after these were entered for the group."""
        if studies:
            self.mover.owed.setdefault("READERS", []).extend(studies)
        breakers = {"ONE": self.breaker, "TWO": Breaker()}
        self.relief.look(sorted(self.mover.owed), self.peers, NODES, lambda: breakers)

    @property
    def of_one(self) -> list[str]:
        """What ONE is owed."""
        return self.mover.owed.get("ONE", [])


def test_member_that_is_down_gets_nothing_while_it_pauses() -> None:
    desk = Desk()

    desk.look(*STUDIES)

    assert desk.of_one == []


def test_member_whose_pause_is_over_gets_one_study_until_it_has_answered() -> None:
    desk = Desk()
    desk.clock.time += 31.0

    desk.look(*STUDIES, *STUDIES)
    [study] = set(desk.of_one)
    assert len(desk.of_one) == 2
    # It is not taken away before it was tried, nor does another one follow.
    desk.clock.time += 20.0
    desk.look(*STUDIES)
    assert set(desk.of_one) == {study}

    desk.breaker.succeed(desk.breaker.begin(), 0)
    desk.look(*STUDIES)
    assert len(set(desk.of_one)) > 5


def test_probe_that_fails_goes_to_another_member_and_one_follows_after_the_pause() -> None:
    desk = Desk()
    desk.clock.time += 31.0
    desk.look(*STUDIES)
    assert desk.of_one

    desk.fails()
    desk.clock.time += 20.0
    desk.look()
    assert desk.of_one == []
    assert sorted(desk.mover.owed["TWO"]) == sorted(STUDIES)

    desk.clock.time += 11.0
    desk.look(*STUDIES)
    assert len(desk.of_one) == 1


def test_probe_that_is_never_tried_is_taken_back() -> None:
    desk = Desk()
    desk.clock.time += 31.0
    desk.look(*STUDIES)

    desk.clock.time += module.PROBE_S + 1.0
    desk.look()

    assert desk.of_one == []


def test_member_outside_of_its_hours_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "opens_in_s", lambda *_: 3600.0)
    desk = Desk(window=(Span(0, 60),))
    desk.clock.time += 31.0

    desk.look(*STUDIES)

    assert desk.of_one == []


def test_look_that_takes_long_ends_and_the_next_goes_on_there() -> None:
    desk = Desk()
    names = [f"N{number}" for number in range(5)]
    desk.peers = NodeTable(
        {name.lower(): NodeSettings(fallback="TWO", fallback_after_min=1.0) for name in names}
    )
    real = desk.mover.fall_back

    def slow(destination: str, *arguments: str) -> Moved:
        desk.clock.time += module.LOOK_S * 0.4
        return real(destination, *arguments)

    desk.mover.fall_back = slow  # type: ignore[method-assign]

    found = desk.relief.look(names, desk.peers, NODES, dict)
    assert found == (True, 0.0)
    assert set(desk.mover.calls) == {"N0"}

    desk.relief.look(names, desk.peers, NODES, dict)
    assert set(desk.mover.calls) == {"N0", "N1"}


def test_what_is_left_is_moved_at_once() -> None:
    desk = Desk()
    desk.peers = NodeTable({"sink": NodeSettings(fallback="TWO", fallback_after_min=1.0)})
    desk.mover.more = True

    assert desk.relief.look(["SINK"], desk.peers, NODES, dict) == (True, 0.0)
    desk.mover.more = False
    moved, wait = desk.relief.look(["SINK"], desk.peers, NODES, dict)

    assert desk.mover.calls == ["SINK"] * 4
    assert (moved, wait) == (False, pytest.approx(6.0))


def test_nothing_is_begun_when_the_dispatcher_stops() -> None:
    desk = Desk()
    relief = Relief(desk.mover, desk.clock, lambda: True)  # type: ignore[arg-type]
    desk.mover.owed["READERS"] = [*STUDIES]

    relief.look(["READERS"], desk.peers, NODES, dict)

    assert desk.mover.calls == []


def test_patterns_of_nodes_move_no_work_inside_the_server() -> None:
    lanes = ["delayed forward", "ExportConverter0", "MIRROR0", "commitment by ONE", "STRANGER"]
    mover, asked = TwinMover(), []
    mover.owed = {lane: ["9.1"] for lane in lanes}
    relief = Relief(mover, StillClock())  # type: ignore[arg-type]
    everyone = NodeSettings(fallback="TWO", fallback_after_min=1.0)
    peers = NodeTable({"*": everyone, "one": everyone})

    def breakers() -> dict[str, Breaker]:
        asked.append(None)
        return {}

    relief.look(lanes, peers, NODES, breakers)

    # A delivery to an address or to a title that acrnema.map has no more may fall back.
    assert set(mover.calls) == {"STRANGER"}
    assert len(asked) == 1
