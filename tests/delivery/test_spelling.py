"""One destination is one lane, however rules and operators spell it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import InstanceRef
from dgate.config.node_settings import NodeSettings, Rate
from dgate.config.targets import owed_as
from dgate.delivery.records import Selection
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.gate_kit import Gate
from tests.delivery.peer_kit import provider
from tests.delivery.scripted_scp import scripted_scp

LONG_S = 3600.0
"""A pause that no test lives to see the end of."""
SPELLINGS = ("SINK", "sink", "Sink")


def owe_as(made: Gate, ref: InstanceRef, target: str, called: str = "") -> None:
    """Owe an object to the target of a rule, as they are entered."""
    destination, called = owed_as(target, called, made.nodes)
    made.owe(ref, to=destination, called=called)


def owe_spelled(made: Gate, count: int) -> None:
    """Owe objects under one spelling after the other."""
    for number in range(count):
        owe_as(made, made.store.add(number + 1), SPELLINGS[number % len(SPELLINGS)])


def destinations(made: Gate) -> set[str]:
    return {entry.destination for entry in made.entries()}


def test_breaker_is_shared_by_all_spellings(tmp_path: Path) -> None:
    node = NodeSettings(retry_first_s=LONG_S, retry_max_s=LONG_S)
    with (
        scripted_scp(reply=scp.status(0xA700)) as peer,
        Gate(tmp_path, {"SINK": peer.port}, {"SINK": node}) as made,
    ):
        owe_spelled(made, 9)
        made.start()
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.site().workers == 0, "the end of the work")
        for spelling in SPELLINGS:
            owe_as(made, made.store.add(50), spelling)

        # One failure lets all of them wait.
        assert len(peer.arrived) == 1
        assert [site.destination for site in made.dispatcher.sites()] == ["SINK"]
        assert made.site().failures == 1

        peer.reply = scp.status(0)
        made.desk.retry(Selection(destination="SINK"))
        made.dispatcher.retry_now("SINK")
        made.await_states(done=12)


def test_associations_are_shared_by_all_spellings(tmp_path: Path) -> None:
    go_on = threading.Event()

    def reply(guest: scp.Guest, command: Any) -> None:
        assert go_on.wait(scp.PATIENCE_S)
        guest.answer(command)

    with (
        scripted_scp(reply=reply) as peer,
        Gate(tmp_path, {"SINK": peer.port}, {"SINK": NodeSettings(associations=1)}) as made,
    ):
        try:
            owe_spelled(made, 9)
            made.start()
            wait_until(lambda: peer.at_once == 1, "an association")
            for spelling in SPELLINGS:
                owe_as(made, made.store.add(50), spelling)

            lanes = [(lane.destination, lane.slot) for lane in made.dispatcher.status()]
            assert lanes == [("SINK", 0)]
        finally:
            go_on.set()
        made.await_states(done=12)


def test_bandwidth_is_shared_by_all_spellings(tmp_path: Path) -> None:
    with scripted_scp() as peer, Gate(tmp_path, {"SINK": peer.port}) as made:
        refs = [made.store.add(number) for number in range(1, 25)]
        total = sum(len(data) for data in made.store.bytes.values())
        # All of it takes about a second; with a limit for each spelling it would be half of that.
        made.change({"SINK": NodeSettings(bandwidth=(Rate(total * 8 / 1000),))})
        for number, ref in enumerate(refs):
            owe_as(made, ref, SPELLINGS[number % 2])
        begun = time.monotonic()
        made.start()
        made.await_states(done=24)

        assert time.monotonic() - begun >= 0.7


def test_peer_is_called_as_it_was_written(tmp_path: Path) -> None:
    with provider() as peer, Gate(tmp_path, {"SINK": peer.destination().port}) as made:
        owe_spelled(made, 3)
        owe_as(made, made.store.add(9), "sink", "VIEWER")
        made.start()
        made.await_states(done=4)

        called = {item.sop_instance: item.called for item in peer.arrived}
        assert called == {
            "1.2.3.1": "SINK",
            "1.2.3.2": "sink",
            "1.2.3.3": "Sink",
            "1.2.3.9": "VIEWER",
        }
        assert destinations(made) == {"SINK"}


def test_two_nodes_that_differ_in_letter_case_stay_two(tmp_path: Path) -> None:
    with provider() as upper, provider() as lower:
        ports = {"SINK": upper.destination().port, "sink": lower.destination().port}
        with Gate(tmp_path, ports) as made:
            owe_as(made, made.store.add(1), "SINK")
            owe_as(made, made.store.add(2), "sink")
            # As acrnema.map is looked up, the first line is meant.
            owe_as(made, made.store.add(3), "Sink")
            made.start()
            made.await_states(done=3)

            assert sorted(item.sop_instance for item in upper.arrived) == ["1.2.3.1", "1.2.3.3"]
            assert [item.sop_instance for item in lower.arrived] == ["1.2.3.2"]
            assert destinations(made) == {"SINK", "sink"}


@pytest.mark.parametrize(
    ("spelling", "name", "called"),
    [("ward7", "WARD7", "ward7"), ("WARD7", "WARD7", "WARD7"), ("Ward7", "WARD7", "Ward7")],
)
def test_titles_below_a_wildcard_are_one_destination(
    tmp_path: Path, spelling: str, name: str, called: str
) -> None:
    with provider() as peer, Gate(tmp_path, {"WARD*": peer.destination().port}) as made:
        owe_as(made, made.store.add(1), spelling)
        made.start()
        made.await_states(done=1)

        assert destinations(made) == {name}
        assert [item.called for item in peer.arrived] == [called]


def test_delivery_that_goes_elsewhere_does_not_take_the_spelling_along(tmp_path: Path) -> None:
    with provider() as peer:
        ports = {"SINK": 1, "SPARE": peer.destination().port}
        with Gate(tmp_path, ports) as made:
            owe_as(made, made.store.add(1), "sink")
            owe_as(made, made.store.add(2), "sink", "VIEWER")
            made.desk.reroute(Selection(), "SPARE")
            made.start()
            made.await_states(done=2)

            called = {item.sop_instance: item.called for item in peer.arrived}
            assert called == {"1.2.3.1": "SPARE", "1.2.3.2": "VIEWER"}


def test_what_was_entered_otherwise_is_delivered_in_a_lane_of_its_own(tmp_path: Path) -> None:
    with provider() as peer, Gate(tmp_path, {"SINK": peer.destination().port}) as made:
        # As before a change of acrnema.map, or by another gateway.
        made.owe(made.store.add(1), to="sink")
        made.owe(made.store.add(2), to="SINK")
        made.start()
        made.await_states(done=2)

        assert destinations(made) == {"SINK", "sink"}
        assert sorted(item.called for item in peer.arrived) == ["SINK", "sink"]


def test_fallback_is_called_as_it_is_written(tmp_path: Path) -> None:
    with (
        scripted_scp(welcome=scp.reject(2, 1, 1)) as dead,
        provider() as peer,
    ):
        ports = {"SINK": dead.port, "SPARE": peer.destination().port}
        node = NodeSettings(fallback="spare", fallback_after_min=0.001)
        with Gate(tmp_path, ports, {"SINK": node}) as made:
            owe_as(made, made.store.add(1), "sink")
            made.start()
            made.await_states(done=1)

            assert made.entry().destination == "SPARE"
            assert made.entry().origin == "SINK"
            assert [item.called for item in peer.arrived] == ["spare"]
