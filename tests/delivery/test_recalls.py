"""What workers have claimed and not begun, when an operator changes it; the peer takes its time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dgate.config.node_settings import NodeSettings
from dgate.delivery.desk import Desk
from dgate.delivery.recalls import Hand, Recalls
from dgate.delivery.records import Changed, Selection, State
from dgate.net.dimse import Command
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.gate_kit import Gate
from tests.delivery.scripted_scp import scripted_scp

MANY = 300
"""More than a worker has in hand and claims ahead."""
SINK = Selection(destination="SINK")


@dataclass
class Gatekeeper:
    """Answers no object before it is told to."""

    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, guest: scp.Guest, command: Command) -> None:
        while not (self.opened.wait(0.05) or guest.peer.over.is_set()):
            pass
        guest.answer(command)


def busy_gate(folder: Path, port: int, slots: int = 1, series: int = 1) -> Gate:
    """Return a gate that has begun to deliver many objects to a peer, one on each association."""
    made = Gate(folder, {"SINK": port}, {"SINK": NodeSettings(associations=slots)})
    for number in range(MANY):
        made.owe(made.store.add(number + 1, series=f"1.2.{number % series}"))
    return made.start()


def number_of(made: Gate, state: State) -> int:
    return sum(entry.state == state for entry in made.entries())


def cancel(desk: Desk, selection: Selection) -> Changed:
    return desk.cancel(selection)


def hold(desk: Desk, selection: Selection) -> Changed:
    return desk.hold(selection)


def reroute(desk: Desk, selection: Selection) -> Changed:
    return desk.reroute(selection, "OTHER")


@pytest.mark.parametrize(
    ("change", "left"),
    [(cancel, {"cancelled": MANY - 1}), (hold, {"held": MANY - 1})],
    ids=["cancel", "hold"],
)
def test_only_the_object_that_is_being_sent_escapes_an_order(
    tmp_path: Path, change: Callable[[Desk, Selection], Changed], left: dict[str, int]
) -> None:
    keeper = Gatekeeper()
    with scripted_scp(reply=keeper) as peer, busy_gate(tmp_path, peer.port) as made:
        wait_until(lambda: len(peer.arrived) == 1, "the first object")
        assert number_of(made, State.LEASED) > 1

        assert change(made.desk, SINK) == Changed(MANY - 1, busy=1)

        assert number_of(made, State.LEASED) == 1
        keeper.opened.set()
        made.await_states(done=1, **left)
        assert len(peer.arrived) == 1
        assert {entry.repeats for entry in made.entries()} == {0}


def test_rerouted_deliveries_do_not_go_to_the_wrong_node(tmp_path: Path) -> None:
    keeper = Gatekeeper()
    with (
        scripted_scp(reply=keeper) as wrong,
        scripted_scp() as right,
        Gate(tmp_path, {"SINK": wrong.port, "OTHER": right.port}) as made,
    ):
        for number in range(MANY):
            made.owe(made.store.add(number + 1))
        made.start()
        wait_until(lambda: len(wrong.arrived) == 1, "the first object")

        assert reroute(made.desk, SINK) == Changed(MANY - 1, busy=1)
        made.dispatcher.wake()
        keeper.opened.set()

        made.await_states(done=MANY)
        assert len(wrong.arrived) == 1
        assert len(right.arrived) == MANY - 1


def test_every_worker_of_the_destination_gives_back(tmp_path: Path) -> None:
    keeper = Gatekeeper()
    with scripted_scp(reply=keeper) as peer, busy_gate(tmp_path, peer.port, slots=3) as made:
        wait_until(lambda: len(peer.arrived) == 3, "an object on each association")

        assert made.desk.cancel(SINK) == Changed(MANY - 3, busy=3)
        keeper.opened.set()

        made.await_states(done=3, cancelled=MANY - 3)
        assert len(peer.arrived) == 3


def test_what_was_not_meant_goes_on(tmp_path: Path) -> None:
    keeper = Gatekeeper()
    with scripted_scp(reply=keeper) as peer, busy_gate(tmp_path, peer.port, series=2) as made:
        wait_until(lambda: len(peer.arrived) == 1, "the first object")
        in_hand = next(e.series for e in made.entries() if e.sop_instance == peer.arrived[0])

        changed = made.desk.cancel(Selection(series=in_hand))
        keeper.opened.set()

        assert changed == Changed(MANY // 2 - 1, busy=1)
        made.await_states(done=MANY // 2 + 1, cancelled=MANY // 2 - 1)
        assert len(set(peer.arrived)) == len(peer.arrived) == MANY // 2 + 1


def test_debts_named_by_number_are_taken_back_and_the_one_in_hand_is_explained(
    tmp_path: Path,
) -> None:
    keeper = Gatekeeper()
    with scripted_scp(reply=keeper) as peer, busy_gate(tmp_path, peer.port) as made:
        wait_until(lambda: len(peer.arrived) == 1, "the first object")
        entries = sorted(made.entries(), key=lambda entry: entry.id)
        [begun] = [entry.id for entry in entries if entry.sop_instance == peer.arrived[0]]
        claimed = next(e.id for e in entries if e.state == State.LEASED and e.id != begun)

        changed = made.desk.cancel(Selection(ids=(begun, claimed)))
        keeper.opened.set()

        assert changed == Changed(1, ((begun, "it is leased"),))
        made.await_states(done=MANY - 1, cancelled=1)


def test_order_about_what_is_stuck_does_not_disturb_the_workers(tmp_path: Path) -> None:
    keeper = Gatekeeper()
    with scripted_scp(reply=keeper) as peer, busy_gate(tmp_path, peer.port) as made:
        wait_until(lambda: len(peer.arrived) == 1, "the first object")

        changed = made.desk.cancel(Selection(destination="SINK", states=(State.STUCK,)))

        assert changed == Changed(0)
        assert number_of(made, State.LEASED) > 1
        keeper.opened.set()
        made.await_states(done=MANY)
        assert peer.calls == 1


def test_outcome_that_is_not_written_yet_is_not_given_back() -> None:
    unmarked = [7]
    hand = Hand("SINK", 0, lambda: list(unmarked), lambda: None)
    assert hand.begin(8)

    assert sorted(hand.recall()) == [7, 8]
    assert not hand.begin(9)
    assert hand.is_recalled


def test_nothing_is_claimed_before_every_order_has_ended() -> None:
    recalls = Recalls()

    with recalls.closed(["SINK"]):
        with recalls.closed(["SINK", "OTHER"]):
            assert recalls.is_closed("OTHER")
        assert recalls.is_closed("SINK")
        assert not recalls.is_closed("OTHER")
        with recalls.closed(None):
            assert recalls.is_closed("OTHER")
    assert not recalls.is_closed("SINK")


def test_workers_look_for_work_when_an_order_has_ended() -> None:
    recalls, woken = Recalls(), list[str]()
    before = Hand("SINK", 0, list, lambda: woken.append("before"))
    later = Hand("SINK", 0, list, lambda: woken.append("later"))
    other = Hand("OTHER", 0, list, lambda: woken.append("other"))
    recalls.enter(before)
    recalls.enter(other)

    with recalls.closed(["SINK"]) as hands:
        assert hands == [before]
        recalls.leave(before)
        recalls.enter(later)
        assert woken == []

    assert woken == ["later"]
