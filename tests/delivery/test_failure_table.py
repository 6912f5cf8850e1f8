"""Rows of the table in docs/delivery.md, with a peer that answers so on a real socket.

The others are in `tests.delivery.test_failure_rows`, which sees to it that none is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.config.node_settings import NodeSettings
from dgate.delivery.failures import DOUBTFUL_TRIES
from dgate.delivery.records import Selection
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.failure_rows import plays
from tests.delivery.gate_kit import Gate
from tests.delivery.scripted_scp import ScriptedScp, scripted_scp
from tests.net.kit import dead_port

CT = "1.2.840.10008.5.1.4.1.1.2"
LONG_S = 3600.0
"""A pause that no test lives to see the end of."""


def node(**changes: Any) -> dict[str, NodeSettings]:
    return {"SINK": NodeSettings(**changes)}


def gate(folder: Path, peer: ScriptedScp | int, **node_changes: Any) -> Gate:
    """Return a started gate that owes two objects to the peer."""
    port = peer if isinstance(peer, int) else peer.port
    made = Gate(folder, {"SINK": port}, node(**node_changes))
    made.owe(made.store.add(1), made.store.add(2))
    return made.start()


@plays("success", "warning")
@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB007, 0xBFFF])
def test_status_that_means_delivered(tmp_path: Path, status: int) -> None:
    with scripted_scp(reply=scp.status(status)) as peer, gate(tmp_path, peer) as made:
        made.await_states(done=2)

        assert [entry.last_status for entry in made.entries()] == [status, status]
        assert len(peer.arrived) == 2


@plays("out-of-resources")
@pytest.mark.parametrize("status", [0xA700, 0xA701, 0xA7FF, 0xA800, 0xA8FF, 0x0213])
def test_status_at_which_the_destination_pauses(tmp_path: Path, status: int) -> None:
    with (
        scripted_scp(reply=scp.status(status)) as peer,
        gate(tmp_path, peer, retry_first_s=LONG_S, retry_max_s=LONG_S) as made,
    ):
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.entry(0).last_status == status, "the mark")

        assert peer.arrived == ["1.2.3.1"]
        assert made.entry(1).attempts == 0
        peer.reply = scp.status(0)
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


@plays("processing-failure")
@pytest.mark.parametrize("status", [0x0110, 0x0210])
def test_status_at_which_the_object_waits_and_others_go_on(tmp_path: Path, status: int) -> None:
    def reply(guest: scp.Guest, command: Any) -> None:
        guest.answer(command, status if command.sop_instance == "1.2.3.1" else 0)

    with (
        scripted_scp(reply=reply) as peer,
        gate(tmp_path, peer, retry_first_s=LONG_S, retry_max_s=LONG_S) as made,
    ):
        made.await_states(queued=1, done=1)

        assert made.entry(0).last_status == status
        assert made.site().state == "closed"
        peer.reply = scp.status(0)
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


@plays("other-status")
@pytest.mark.parametrize("status", [0xC000, 0xC001, 0xCFFF, 0x0211, 0x0106, 0xFE00, 0xD000])
def test_status_that_is_not_believed_at_once(tmp_path: Path, status: int) -> None:
    with (
        scripted_scp(reply=scp.status(status)) as peer,
        gate(tmp_path, peer, retry_first_s=0.01, retry_max_s=0.01) as made,
    ):
        made.await_states(stuck=2)

        assert peer.arrived.count("1.2.3.1") == DOUBTFUL_TRIES
        assert {entry.last_status for entry in made.entries()} == {status}


@plays("data-set")
@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0x0117, 0x0122, 0x0124])
def test_status_at_which_the_delivery_is_stuck(tmp_path: Path, status: int) -> None:
    with scripted_scp(reply=scp.status(status)) as peer, gate(tmp_path, peer) as made:
        made.await_states(stuck=2)

        assert sorted(peer.arrived) == ["1.2.3.1", "1.2.3.2"]
        assert made.entry(0).last_status == status


@plays("named-status")
@pytest.mark.parametrize(
    ("statuses", "status", "states"),
    [
        (((0xA700, 0xA7FF, "fail"),), 0xA700, {"stuck": 2}),
        (((0xC000, 0xCFFF, "delivered"),), 0xC123, {"done": 2}),
        (((0x0122, 0x0122, "delivered"),), 0x0122, {"done": 2}),
        (((0xB000, 0xB000, "fail"),), 0xB000, {"stuck": 2}),
        (((0xB000, 0xB000, "fail"),), 0xB007, {"done": 2}),
        (((0xA900, 0xA900, "delivered"), (0xA900, 0xA9FF, "fail")), 0xA900, {"done": 2}),
    ],
)
def test_node_gives_statuses_another_meaning(
    tmp_path: Path, statuses: Any, status: int, states: dict[str, int]
) -> None:
    with (
        scripted_scp(reply=scp.status(status)) as peer,
        gate(tmp_path, peer, statuses=statuses) as made,
    ):
        made.await_states(**states)


def test_node_makes_a_status_wait_or_be_tried_again(tmp_path: Path) -> None:
    for number, meaning, state in ((1, "wait", "open"), (2, "retry", "closed")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with (
            scripted_scp(reply=scp.status(0xA900)) as peer,
            gate(
                folder,
                peer,
                statuses=((0xA900, 0xA900, meaning),),
                retry_first_s=LONG_S,
                retry_max_s=LONG_S,
            ) as made,
        ):
            wait_until(lambda made=made: made.entry(0).last_status == 0xA900, "the mark")
            wait_until(lambda made=made: made.site().workers == 0, "the end of the work")

            assert made.site().state == state
            assert made.entry(0).state == "queued"


@plays("rejected", "time-out", "lost")
@pytest.mark.parametrize(
    ("welcome", "error"),
    [
        (scp.reject(1, 1, 1), "reject"),
        (scp.reject(2, 3, 1), "reject"),
        (scp.reject(2, 3, 2), "reject"),
        (scp.abort_at_once, "abort"),
        (scp.close_at_once, "closed"),
        (scp.hang_before_accept, "within"),
    ],
    ids=[
        "permanent no reason",
        "congestion",
        "limit",
        "abort",
        "close",
        "hang before accept",
    ],
)
def test_association_that_does_not_come_about(
    tmp_path: Path, welcome: scp.Welcome, error: str
) -> None:
    with (
        scripted_scp(welcome=welcome) as peer,
        gate(
            tmp_path, peer, response_timeout_s=0.5, retry_first_s=LONG_S, retry_max_s=LONG_S
        ) as made,
    ):
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.entry(1).attempts == 1, "the mark")

        assert error in made.entry(0).last_error
        # It failed for all of them.
        assert [entry.attempts for entry in made.entries()] == [1, 1]
        assert not peer.arrived
        peer.welcome = scp.accept
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


def reject_calling(title: str, reason: int, rejected: list[str]) -> scp.Welcome:
    """Return a welcome that does not recognise a title (PS3.8 table 9-21), `*` is all."""

    def welcome(guest: scp.Guest, wanted: Any) -> bool:
        if title in ("*", wanted.calling):
            rejected.append(wanted.calling)
            return scp.reject(1, 1, reason)(guest, wanted)
        return scp.accept(guest, wanted)

    return welcome


@plays("titles")
@pytest.mark.parametrize("reason", [3, 7], ids=["calling not known", "called not known"])
def test_titles_that_the_peer_rejects_hold_up_nothing_else(tmp_path: Path, reason: int) -> None:
    rejected: list[str] = []
    with (
        scripted_scp(welcome=reject_calling("A", reason, rejected)) as peer,
        Gate(tmp_path, {"SINK": peer.port}, node(retry_first_s=LONG_S, retry_max_s=LONG_S)) as made,
    ):
        for number in (1, 3, 5):
            made.owe(made.store.add(number), calling="A")
            made.owe(made.store.add(number + 1), calling="B")
        made.start()
        made.await_states(queued=3, done=3)

        assert sorted(peer.arrived) == ["1.2.3.2", "1.2.3.4", "1.2.3.6"]
        for entry in made.entries():
            counted, error = (1, "reject") if entry.calling == "A" else (0, "")
            assert entry.attempts == counted or entry.state == "done"
            assert error in entry.last_error
        assert made.site().state == "closed"
        assert rejected == ["A"]
        peer.welcome = scp.accept
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=6)


def test_peer_that_rejects_all_titles_is_called_once_for_each_in_a_pause(tmp_path: Path) -> None:
    rejected: list[str] = []
    with (
        scripted_scp(welcome=reject_calling("*", 3, rejected)) as peer,
        Gate(tmp_path, {"SINK": peer.port}, node(retry_first_s=LONG_S, retry_max_s=LONG_S)) as made,
    ):
        # More than what is claimed at once.
        made.owe(*[made.store.add(number) for number in range(1, 200)], calling="A")
        made.owe(made.store.add(200), calling="B")
        made.start()
        wait_until(lambda: all("reject" in e.last_error for e in made.entries()), "the marks")
        wait_until(lambda: made.site().workers == 0, "the end of the work")

        assert sorted(rejected) == ["A", "B"]
        assert {entry.state for entry in made.entries()} == {"queued"}
        assert made.site().state == "closed"


@plays("rejected-unknown")
def test_rejection_without_a_reason_holds_up_other_titles_for_one_pause(tmp_path: Path) -> None:
    rejected: list[str] = []
    pauses = node(retry_first_s=0.1, retry_max_s=0.2)
    with (
        scripted_scp(welcome=reject_calling("A", 1, rejected)) as peer,
        Gate(tmp_path, {"SINK": peer.port}, pauses) as made,
    ):
        for number in (1, 2, 3):
            made.owe(made.store.add(number), calling="A", priority=0)
            made.owe(made.store.add(number + 3), calling="B")
        made.start()
        made.await_states(queued=3, done=3)
        known = len(rejected)
        wait_until(lambda: len(rejected) > known + 2, "further tries")

        # As nothing else is served meanwhile, it may be the destination; others are tried first.
        made.owe(made.store.add(7), calling="B")
        made.await_states(queued=3, done=4)
        peer.welcome = scp.accept
        made.await_states(done=7)


def test_peer_that_rejects_all_without_a_reason_is_called_once_in_a_pause(tmp_path: Path) -> None:
    rejected: list[str] = []
    with (
        scripted_scp(welcome=reject_calling("*", 1, rejected)) as peer,
        Gate(tmp_path, {"SINK": peer.port}, node(retry_first_s=LONG_S, retry_max_s=LONG_S)) as made,
    ):
        made.owe(*[made.store.add(number) for number in range(1, 200)], calling="A")
        made.owe(made.store.add(200), calling="B")
        made.start()
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.site().workers == 0, "the end of the work")

        assert rejected == ["A"]
        assert made.entry(199).attempts == 0


@plays("no-connection")
def test_connection_that_is_refused(tmp_path: Path) -> None:
    with (
        dead_port() as port,
        gate(tmp_path, port, retry_first_s=LONG_S, retry_max_s=LONG_S) as made,
    ):
        wait_until(lambda: made.entry(1).attempts == 1, "the mark")

        assert made.site().state == "open"
        assert "refused" in made.site().last_error
        assert {entry.state for entry in made.entries()} == {"queued"}


@plays("time-out", "lost", "protocol-error")
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (scp.abort, "abort"),
        (scp.hang_up, "closed"),
        (scp.hang, "nothing came"),
        (scp.release, "released"),
        (scp.garbage, ""),
    ],
    ids=["abort", "hang up", "hang after accept", "release", "garbage"],
)
def test_association_that_breaks_at_an_object(tmp_path: Path, reply: scp.Reply, error: str) -> None:
    with (
        scripted_scp(reply=reply) as peer,
        gate(
            tmp_path, peer, response_timeout_s=0.5, retry_first_s=LONG_S, retry_max_s=LONG_S
        ) as made,
    ):
        wait_until(lambda: made.entry(0).attempts == 1, "the mark")

        first = made.entry(0)
        assert error in first.last_error
        assert (first.state, first.repeats) == ("queued", 1)
        assert made.entry(1).attempts == 0
        assert made.site().state == "open"
        peer.reply = scp.status(0)
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


@plays("lost-again")
def test_object_that_breaks_the_association_twice_waits_alone(tmp_path: Path) -> None:
    def reply(guest: scp.Guest, command: Any) -> None:
        if command.sop_instance == "1.2.3.1":
            scp.abort(guest, command)
        else:
            guest.answer(command)

    with scripted_scp(reply=reply) as peer, gate(tmp_path, peer) as made:
        made.await_states(queued=1, done=1)
        wait_until(lambda: made.entry(0).attempts >= 2, "another try")

        assert made.entry(0).repeats >= 2
        peer.reply = scp.status(0)
        made.await_states(done=2)


def test_late_answer_counts_as_long_as_it_comes_in_time(tmp_path: Path) -> None:
    with scripted_scp(reply=scp.late(0.4)) as peer, gate(tmp_path, peer) as made:
        made.await_states(done=2)

        assert len(peer.arrived) == 2


def test_answer_that_comes_too_late_is_a_failure(tmp_path: Path) -> None:
    with (
        scripted_scp(reply=scp.late(30.0)) as peer,
        gate(
            tmp_path, peer, response_timeout_s=0.3, retry_first_s=LONG_S, retry_max_s=LONG_S
        ) as made,
    ):
        wait_until(lambda: made.entry(0).attempts == 1, "the mark")

        assert made.entry(0).repeats == 1


@plays("deadline")
def test_peer_that_trickles_is_cut_at_the_deadline(tmp_path: Path) -> None:
    with (
        scripted_scp(reply=scp.trickle) as peer,
        gate(tmp_path, peer, deadline_s=1.0, retry_first_s=LONG_S, retry_max_s=LONG_S) as made,
    ):
        wait_until(lambda: made.entry(0).attempts == 1, "the mark")

        assert "the object was not taken within 1 s" in made.entry(0).last_error
        assert made.site().state == "open"


def test_peer_that_takes_nothing_is_cut_at_the_deadline(tmp_path: Path) -> None:
    with scripted_scp(reads=False) as peer:
        made = Gate(
            tmp_path,
            {"SINK": peer.port},
            node(deadline_s=1.0, retry_first_s=LONG_S, retry_max_s=LONG_S),
        )
        with made:
            made.owe(made.store.add(1))
            made.start()
            wait_until(lambda: made.entry(0).attempts == 1, "the mark")

            assert "not taken within 1 s" in made.entry(0).last_error


@plays("class-refused")
def test_refused_class_is_stuck_and_the_others_go_on(tmp_path: Path) -> None:
    welcome = scp.accept_only(lambda sop_class, syntax: 3 if sop_class == CT else 0)
    with scripted_scp(welcome=welcome) as peer:
        made = Gate(tmp_path, {"SINK": peer.port})
        with made:
            made.owe(made.store.add(1))
            made.owe(made.store.add(2, sop_class="1.2.840.10008.5.1.4.1.1.4"))
            made.start()
            made.await_states(stuck=1, done=1)

            assert "refused SOP class" in made.entry(0).last_error
            found = [(one.node, one.sop_class, one.result) for one in made.refusals.all()]
            assert set(found) == {("SINK", CT, 3)}


@plays("file-missing")
def test_missing_file_is_stuck(tmp_path: Path) -> None:
    with scripted_scp() as peer:
        made = Gate(tmp_path, {"SINK": peer.port})
        with made:
            lost = made.store.add(1)
            (made.store.root / lost.name).unlink()
            made.owe(lost, made.store.add(2))
            made.start()
            made.await_states(stuck=1, done=1)


@plays("unknown-destination")
def test_destination_that_is_neither_node_nor_host_is_stuck(tmp_path: Path) -> None:
    with scripted_scp() as peer:
        made = Gate(tmp_path, {"SINK": peer.port})
        with made:
            made.owe(made.store.add(1), to="NO SUCH NODE")
            made.start()
            made.await_states(stuck=1)

            assert "neither a node" in made.entry(0).last_error


def everything() -> Selection:
    return Selection()
