"""What a section about a node does to deliveries, with peers on real sockets."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import InstanceRef
from dgate.config.node_settings import NodeSettings, Rate, Span
from dgate.delivery.moving import Moved
from dgate.delivery.records import Selection
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, RLE_LOSSLESS
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.gate_kit import Gate
from tests.delivery.scripted_scp import ScriptedScp, scripted_scp
from tests.net.kit import dead_port

LONG_S = 3600.0
"""A pause that no test lives to see the end of."""
PATIENT: dict[str, Any] = {"retry_first_s": LONG_S, "retry_max_s": LONG_S}
HURRIED: dict[str, Any] = {"retry_first_s": 0.05, "retry_max_s": 0.1}


def gate(folder: Path, peer: ScriptedScp, **node: Any) -> Gate:
    """Return a gate with one node."""
    return Gate(folder, {"SINK": peer.port}, {"SINK": NodeSettings(**node)})


def others_than_now() -> Span:
    """Return hours of the week that begin in half a day."""
    local = time.localtime()
    begin = (local.tm_hour * 60 + local.tm_min + 720) % 1440
    return Span(begin, (begin + 60) % 1440 or 1440)


def around_now() -> Span:
    """Return hours that began a while ago and end later."""
    local = time.localtime()
    begin = (local.tm_hour * 60 + local.tm_min - 360) % 1440
    return Span(begin, (begin + 720) % 1440 or 1440)


def with_study(ref: InstanceRef, study: str) -> InstanceRef:
    """Return the reference with another study."""
    return dataclasses.replace(ref, study=study)


def numbered(made: Gate, count: int, first: int = 1, **changes: Any) -> list[Any]:
    return [made.store.add(number, **changes) for number in range(first, first + count)]


# Associations.


def test_node_has_as_many_associations_as_it_says(tmp_path: Path) -> None:
    together = []

    def reply(guest: scp.Guest, command: Any) -> None:
        # Nothing is answered before three are there; fewer would wait in vain.
        wait_until(lambda: guest.peer.most_at_once >= 3, "three associations")
        together.append(guest.peer.at_once)
        guest.answer(command)

    with scripted_scp(reply=reply) as peer, gate(tmp_path, peer, associations=3) as made:
        made.owe(*numbered(made, 40))
        made.start()
        made.await_states(done=40)

        assert peer.most_at_once == 3
        assert sorted(peer.arrived) == sorted(f"1.2.3.{n}" for n in range(1, 41))


def test_one_delivery_needs_one_association_however_many_there_may_be(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, associations=8) as made:
        made.start()
        for number in range(1, 6):
            made.owe(made.store.add(number))
            made.await_states(done=number)

        # A second worker may look in vain whether the first is still busy, but not all of them.
        assert peer.most_at_once <= 4


def test_association_ends_after_as_many_objects_as_the_node_says(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, objects_per_association=3) as made:
        made.owe(*numbered(made, 10))
        made.start()
        made.await_states(done=10)

        assert len(peer.proposed) == 4


def test_number_of_associations_changes_while_deliveries_go_on(tmp_path: Path) -> None:
    def reply(guest: scp.Guest, command: Any) -> None:
        guest.peer.over.wait(0.02)
        guest.answer(command)

    with scripted_scp(reply=reply) as peer, gate(tmp_path, peer, associations=1) as made:
        made.owe(*numbered(made, 150))
        made.start()
        wait_until(lambda: len(peer.arrived) > 3, "the first deliveries")
        made.change({"SINK": NodeSettings(associations=3)})
        wait_until(lambda: peer.most_at_once == 3, "further associations")
        made.await_states(done=150)


def test_connection_is_given_up_after_the_nodes_time(tmp_path: Path) -> None:
    # An address of TEST-NET-1 (RFC 5737): nobody answers there, not even with a refusal.
    made = Gate(tmp_path, {"SINK": 104}, {"SINK": NodeSettings(connect_timeout_s=0.2, **PATIENT)})
    connect: list[float] = []

    def slow(address: tuple[str, int], timeout: float) -> Any:
        connect.append(timeout)
        raise TimeoutError

    with made, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dgate.net.requestor.socket.create_connection", slow)
        made.owe(made.store.add(1))
        made.start()
        wait_until(lambda: made.entry().attempts == 1, "the mark")

        assert connect == [0.2]
        assert "no connection within 0.2 s" in made.entry().last_error


# Isolation.


def test_dead_and_hanging_destinations_delay_no_other(tmp_path: Path) -> None:
    count = 8
    with (
        dead_port() as dead,
        scripted_scp(reply=scp.hang) as hanging,
        scripted_scp(welcome=scp.hang_before_accept) as silent,
        scripted_scp() as live,
    ):
        ports = {f"DEAD{n}": dead for n in range(count)}
        ports |= {f"HANG{n}": hanging.port for n in range(count)}
        ports |= {f"SILENT{n}": silent.port for n in range(count)}
        ports |= {f"LIVE{n}": live.port for n in range(count)}
        with Gate(tmp_path, ports, retry_first_s=LONG_S, retry_max_s=LONG_S) as made:
            refs = numbered(made, 3)
            for title in ports:
                made.owe(*refs, to=title, calling=title)
            made.start()
            wait_until(lambda: len(live.arrived) == 3 * count, "all that is alive")


# The breaker.


def test_all_workers_pause_after_a_failure_and_one_probes(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, associations=4, **PATIENT) as made:
        wave: list[str] = []

        def reply(guest: scp.Guest, command: Any) -> None:
            wait_until(lambda: peer.most_at_once >= 4, "four associations")
            wave.append(command.sop_instance)
            guest.answer(command, 0xA700)

        peer.reply = reply
        made.owe(*numbered(made, 200))
        made.start()
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.site().workers == 0, "the end of the work")

        # Those that were being sent ended; nothing else was begun.
        assert len(wave) <= 4
        assert made.site().failures == 1
        assert made.site().pause_s > LONG_S / 2
        peer.most_at_once = 0
        probes: list[str] = []
        gone_on = []

        def probing(guest: scp.Guest, command: Any) -> None:
            probes.append(command.sop_instance)
            if len(probes) == 1:
                gone_on.append(made.site().state)
                guest.peer.over.wait(0.5)
                gone_on.append(guest.peer.at_once)
            guest.answer(command)

        peer.reply = probing
        # As if the pause had passed.
        breaker = made.dispatcher._sites["SINK"].breaker
        breaker.paused_until = 0.0
        made.desk.retry(Selection())
        made.dispatcher.wake()
        made.await_states(done=200)

        assert gone_on == ["probing", 1]
        assert made.site().state == "closed"


def test_peer_that_takes_fewer_associations_is_served_by_those(tmp_path: Path) -> None:
    def welcome(guest: scp.Guest, wanted: Any) -> bool:
        if guest.peer.at_once >= 2:
            return scp.reject(2, 3, 2)(guest, wanted)
        return scp.accept(guest, wanted)

    def reply(guest: scp.Guest, command: Any) -> None:
        guest.peer.over.wait(0.01)
        guest.answer(command)

    with (
        scripted_scp(welcome=welcome, reply=reply) as peer,
        gate(tmp_path, peer, associations=4, **HURRIED) as made,
    ):
        made.owe(*numbered(made, 120))
        made.start()
        made.await_states(done=120)

        assert len(peer.arrived) == 120


def test_operator_ends_the_pause_of_all_workers(tmp_path: Path) -> None:
    with (
        scripted_scp(reply=scp.status(0xA700)) as peer,
        gate(tmp_path, peer, associations=2, **PATIENT) as made,
    ):
        made.owe(*numbered(made, 20))
        made.start()
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.site().workers == 0, "the end of the work")
        peer.reply = scp.status(0)

        made.desk.retry(Selection(destination="SINK"))
        made.dispatcher.retry_now("SINK")

        made.await_states(done=20)


# Pauses and limits.


def test_node_has_its_own_limit_of_tries(tmp_path: Path) -> None:
    with (
        scripted_scp(reply=scp.status(0x0110)) as peer,
        gate(tmp_path, peer, maximum_export_retries=2, **HURRIED) as made,
    ):
        made.owe(made.store.add(1))
        made.start()
        made.await_states(stuck=1)

        assert peer.arrived == ["1.2.3.1"] * 2


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({"retry_first_s": 100.0, "retry_max_s": 1000.0}, 80.0, 120.0),
        ({"retry_delay_s": 300.0}, 299.0, 300.0),
        ({"retry_first_s": 1.0, "fail_hold_off_s": 500.0}, 499.0, 500.0),
        ({"retry_max_s": 0.01, "fail_hold_off_s": 700.0}, 699.0, 700.0),
    ],
)
def test_node_has_its_own_pauses(
    tmp_path: Path, changes: dict[str, float], least: float, most: float
) -> None:
    with scripted_scp(reply=scp.status(0xA700)) as peer, gate(tmp_path, peer, **changes) as made:
        before = time.time()
        made.owe(made.store.add(1))
        made.start()
        wait_until(lambda: made.entry().attempts == 1, "the mark")

        pause_s = made.site().pause_s
        assert pause_s + time.time() - before >= least
        assert pause_s <= most
        # Others would get their turn before this object.
        assert made.entry().due - time.time() >= pause_s


# Windows.


def test_nothing_is_sent_outside_of_the_window_until_it_opens(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, window=(others_than_now(),)) as made:
        made.owe(made.store.add(1))
        made.owe(made.store.add(2), priority=0)
        made.start()
        wait_until(lambda: made.site().window_s > 3600, "the wait for the window")

        assert not peer.calls
        assert "outside of its hours" in made.site().remark
        made.change({"SINK": NodeSettings(window=(around_now(),))})
        made.await_states(done=2)
        assert made.site().window_s == 0


def test_bulk_waits_for_its_own_window_and_the_rest_does_not(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, bulk_window=(others_than_now(),)) as made:
        made.owe(made.store.add(1), priority=2)
        made.owe(made.store.add(2), priority=1)
        made.owe(made.store.add(3), priority=0)
        made.start()
        made.await_states(queued=1, done=2)

        assert sorted(peer.arrived) == ["1.2.3.2", "1.2.3.3"]
        made.change({})
        made.await_states(done=3)


def test_object_that_is_being_sent_when_the_window_closes_is_finished(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer) as made:

        def reply(guest: scp.Guest, command: Any) -> None:
            if command.sop_instance == "1.2.3.1":
                made.change({"SINK": NodeSettings(window=(others_than_now(),))})
            guest.answer(command)

        peer.reply = reply
        made.owe(*numbered(made, 3))
        made.start()
        made.await_states(queued=2, done=1)

        assert peer.arrived == ["1.2.3.1"]


# Priorities.


def test_what_is_urgent_overtakes_what_was_claimed(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer) as made:

        def reply(guest: scp.Guest, command: Any) -> None:
            if command.sop_instance == "1.2.3.2":
                made.owe(made.store.add(90), priority=0)
                worker = made.dispatcher._workers["SINK", 0]
                wait_until(lambda: worker._urgent == 0, "the worker knows of it")
            guest.answer(command)

        peer.reply = reply
        made.owe(*numbered(made, 5), priority=2)
        made.start()
        made.await_states(done=6)

        assert peer.arrived[:3] == ["1.2.3.1", "1.2.3.2", "1.2.3.90"]
        assert [entry.attempts for entry in made.entries()] == [1] * 6
        assert [entry.repeats for entry in made.entries()] == [0] * 6


def test_stat_goes_before_normal_before_bulk(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer) as made:
        for number, priority in enumerate((2, 1, 0, 2, 1, 0), 1):
            made.owe(made.store.add(number), priority=priority)
        made.start()
        made.await_states(done=6)

        assert peer.arrived == [f"1.2.3.{number}" for number in (3, 6, 2, 5, 1, 4)]


# Bandwidth.


def test_bandwidth_is_shared_by_all_associations(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, associations=3) as made:
        refs = numbered(made, 24)
        total = sum(len(data) for data in made.store.bytes.values())
        # All of it takes about a second.
        limit = total * 8 / 1000
        made.change({"SINK": NodeSettings(associations=3, bandwidth=(Rate(limit),))})
        made.owe(*refs)
        begun = time.monotonic()
        made.start()
        made.await_states(done=24)

        # Not faster than the limit; how much slower is the machine's affair.
        assert time.monotonic() - begun >= 0.7


def test_what_waits_for_bandwidth_is_cut_at_stop(tmp_path: Path) -> None:
    with scripted_scp() as peer:
        made = gate(tmp_path, peer, bandwidth=(Rate(0.001),))
        made.owe(*numbered(made, 2))
        made.start()
        # The second one would have to wait for an hour.
        wait_until(lambda: peer.arrived, "the first object")
        made.close()

        assert peer.arrived == ["1.2.3.1"]


def test_bandwidth_of_some_hours_counts_in_these_only(tmp_path: Path) -> None:
    rates = (Rate(0.001, others_than_now()), Rate(0.0))
    with scripted_scp() as peer, gate(tmp_path, peer, bandwidth=rates) as made:
        made.owe(*numbered(made, 3))
        made.start()
        made.await_states(done=3)


# Transfer syntaxes.


@pytest.mark.parametrize(
    ("wanted", "stored", "taken", "expected"),
    [
        ((IMPLICIT_LE, EXPLICIT_LE), EXPLICIT_LE, None, IMPLICIT_LE),
        (("as", IMPLICIT_LE), EXPLICIT_LE, None, EXPLICIT_LE),
        (("as", IMPLICIT_LE), EXPLICIT_LE, IMPLICIT_LE, IMPLICIT_LE),
        ((RLE_LOSSLESS, "as"), EXPLICIT_LE, EXPLICIT_LE, EXPLICIT_LE),
        (("1.2.840.10008.1.2.4.80", EXPLICIT_LE), EXPLICIT_LE, None, EXPLICIT_LE),
    ],
    ids=["first", "as stored", "as stored is refused", "first is refused", "no encoder for it"],
)
def test_syntaxes_are_proposed_and_chosen_in_the_nodes_order(
    tmp_path: Path, wanted: tuple[str, ...], stored: str, taken: str | None, expected: str
) -> None:
    welcome = scp.accept_only(lambda _, syntax: 0 if taken in (None, syntax) else 4)
    with (
        scripted_scp(welcome=welcome) as peer,
        gate(tmp_path, peer, transfer_syntaxes=wanted) as made,
    ):
        made.owe(made.store.add(1, syntax=stored))
        made.start()
        made.await_states(done=1)

        assert peer.syntaxes == [expected]


def test_syntaxes_of_which_none_can_be_made_leave_the_delivery_stuck(tmp_path: Path) -> None:
    with (
        scripted_scp() as peer,
        gate(tmp_path, peer, transfer_syntaxes=("1.2.840.10008.1.2.4.80",)) as made,
    ):
        made.owe(made.store.add(1))
        made.start()
        made.await_states(stuck=1)

        assert "TransferSyntaxes" in made.entry().last_error


# Refusals.


def test_refusals_are_listed_and_forgotten_when_the_peer_takes_it(tmp_path: Path) -> None:
    refusing = scp.accept_only(lambda _, syntax: 4 if syntax == EXPLICIT_LE else 0)
    with scripted_scp(welcome=refusing) as peer, gate(tmp_path, peer) as made:
        made.owe(made.store.add(1))
        made.start()
        made.await_states(done=1)
        wait_until(lambda: len(made.refusals.all("sink")) == 1, "the note")

        # It was converted, not dropped.
        assert peer.syntaxes == [IMPLICIT_LE]
        [refusal] = made.refusals.all()
        assert (refusal.node, refusal.syntax, refusal.result) == ("SINK", EXPLICIT_LE, 4)
        assert made.refusals.all("OTHER") == []
        peer.welcome = scp.accept
        wait_until(lambda: peer.at_once == 0, "the end of the association")
        made.owe(made.store.add(2))
        made.await_states(done=2)
        wait_until(lambda: made.refusals.all() == [], "that it is forgotten")


def test_more_classes_than_an_association_holds_need_a_further_one(tmp_path: Path) -> None:
    with scripted_scp() as peer, gate(tmp_path, peer, objects_per_association=0) as made:
        refs = [made.store.add(n, sop_class=f"1.2.840.10008.5.1.4.1.1.{n}") for n in range(1, 131)]
        made.owe(*refs)
        made.start()
        made.await_states(done=130)

        assert len(peer.proposed) >= 2
        assert all(len(contexts) <= 128 for contexts in peer.proposed)


# Fallback.


def test_what_is_not_taken_in_time_goes_to_the_fallback(tmp_path: Path) -> None:
    with dead_port() as dead, scripted_scp() as peer:
        nodes = {"SINK": NodeSettings(fallback="spare", fallback_after_min=0.01, **HURRIED)}
        with Gate(tmp_path, {"SINK": dead, "SPARE": peer.port}, nodes) as made:
            made.owe(*numbered(made, 3))
            made.start()
            made.await_states(done=3)

            assert {entry.destination for entry in made.entries()} == {"SPARE"}
            assert {entry.origin for entry in made.entries()} == {"SINK"}
            [life] = made.desk.lives(str(made.entry().id))
            assert [one.decision for one in life.decisions] == ["fallback"]
            assert "not delivered to SINK" in life.decisions[0].why


def test_chain_of_fallbacks_ends(tmp_path: Path) -> None:
    with dead_port() as dead, scripted_scp() as peer:
        nodes = {
            "SINK": NodeSettings(fallback="SECOND", fallback_after_min=0.005, **HURRIED),
            "SECOND": NodeSettings(fallback="THIRD", fallback_after_min=0.005, **HURRIED),
        }
        ports = {"SINK": dead, "SECOND": dead, "THIRD": peer.port}
        with Gate(tmp_path, ports, nodes) as made:
            made.owe(made.store.add(1))
            made.start()
            made.await_states(done=1)

            assert made.entry().destination == "THIRD"
            assert made.entry().origin == "SINK"


def test_what_waits_for_its_window_does_not_fall_back(tmp_path: Path) -> None:
    with scripted_scp() as peer, scripted_scp() as spare:
        nodes = {
            "SINK": NodeSettings(
                fallback="SPARE", fallback_after_min=0.001, window=(others_than_now(),)
            )
        }
        with Gate(tmp_path, {"SINK": peer.port, "SPARE": spare.port}, nodes) as made:
            made.owe(made.store.add(1))
            made.start()
            wait_until(lambda: made.site().window_s > 0, "the wait for the window")
            time.sleep(0.5)

            assert made.entry().destination == "SINK"
            assert not spare.calls


# Groups.


def test_each_study_of_a_group_goes_to_one_member(tmp_path: Path) -> None:
    with scripted_scp() as one, scripted_scp() as two:
        nodes = {"ONE": NodeSettings(group="READERS"), "TWO": NodeSettings(group="Readers")}
        with Gate(tmp_path, {"ONE": one.port, "TWO": two.port}, nodes) as made:
            refs = [with_study(made.store.add(n), f"9.{n % 12}") for n in range(1, 61)]
            made.owe(*refs, to="readers")
            made.start()
            made.await_states(done=60)

            members: dict[str, set[str]] = {}
            for entry in made.entries():
                members.setdefault(entry.study, set()).add(entry.destination)
                assert entry.origin == "readers"
            assert all(len(found) == 1 for found in members.values())
            assert {name for found in members.values() for name in found} == {"ONE", "TWO"}


def test_deliveries_of_a_member_that_is_down_move_on(tmp_path: Path) -> None:
    with dead_port() as dead, scripted_scp() as two:
        nodes = {
            "ONE": NodeSettings(group="READERS", fallback_after_min=0.005, **HURRIED),
            "TWO": NodeSettings(group="READERS", fallback_after_min=0.005, **HURRIED),
        }
        with Gate(tmp_path, {"ONE": dead, "TWO": two.port}, nodes) as made:
            refs = [with_study(made.store.add(n), f"9.{n}") for n in range(1, 31)]
            made.owe(*refs, to="READERS")
            # One that is meant for the member itself stays with it.
            own = made.store.add(99)
            made.owe(own, to="ONE")
            made.start()
            wait_until(lambda: len(two.arrived) == 30, "all at the other member")
            made.await_states(done=30, queued=1)

            [left] = [entry for entry in made.entries() if entry.state == "queued"]
            assert (left.destination, left.sop_instance) == ("ONE", own.sop_instance)


def test_nothing_is_ever_sent_to_the_group_itself(tmp_path: Path) -> None:
    with scripted_scp() as one, scripted_scp() as two:
        nodes = {"ONE": NodeSettings(group="READERS"), "TWO": NodeSettings(group="READERS")}
        with Gate(tmp_path, {"ONE": one.port, "TWO": two.port}, nodes) as made:
            share = made.mover.share

            def busy(*arguments: Any) -> Moved:
                moved = share(*arguments)
                if len(made.entries()) < 20:
                    # Comes between two looks at the ledger.
                    made.owe(made.store.add(len(made.entries()) + 1), to="READERS")
                return moved

            made.mover.share = busy  # type: ignore[method-assign]
            made.owe(made.store.add(1), to="READERS")
            made.start()
            made.await_states(done=20)

            assert {entry.destination for entry in made.entries()} <= {"ONE", "TWO"}


def test_member_that_is_back_gets_studies_again(tmp_path: Path) -> None:
    with scripted_scp(welcome=scp.reject(2, 3, 2)) as one, scripted_scp() as two:
        nodes = {
            "ONE": NodeSettings(group="READERS", fallback_after_min=0.0, **HURRIED),
            "TWO": NodeSettings(group="READERS", fallback_after_min=0.0, **HURRIED),
        }
        with Gate(tmp_path, {"ONE": one.port, "TWO": two.port}, nodes) as made:
            refs = [with_study(made.store.add(n), f"9.{n}") for n in range(1, 31)]
            made.owe(*refs, to="READERS")
            made.start()
            made.await_states(done=30)
            assert {entry.destination for entry in made.entries()} == {"TWO"}

            # Nothing is left for ONE: only a new study can show that it is back.
            one.welcome = scp.accept
            number = 31

            def is_back() -> bool:
                nonlocal number
                made.owe(with_study(made.store.add(number), f"9.{number}"), to="READERS")
                number += 1
                return bool(one.arrived) and made.site("ONE").state == "closed"

            wait_until(is_back, "a study at the member that is back")
            made.await_states(done=number - 1)
