"""Gateways that share a database, with a peer that takes its time: leases, copies, orders."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node, run_dgate
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.scripted_scp import ScriptedScp, scripted_scp
from tests.generate import Generated
from tests.servers import PostgresServer

RULE = {"ExportConverters": 1, "ExportConverter0": "forward to SINK", "RetryFirst": 0.1}


@dataclass
class Peer:
    """A store provider that answers no object before it is told to."""

    scp: ScriptedScp
    opened: threading.Event = field(default_factory=threading.Event)

    def reply(self, guest: scp.Guest, command: scp.Command) -> None:
        while not (self.opened.wait(0.05) or guest.peer.over.is_set()):
            pass
        guest.answer(command)

    @property
    def node(self) -> Node:
        return Node("SINK", self.scp.port)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with scripted_scp() as started:
        made = Peer(started)
        started.reply = made.reply
        yield made


def states(server: PostgresServer, name: str) -> list[str]:
    """Return the states of all debts."""
    return [row[0] for row in server.query(name, "SELECT state FROM dgate_debts ORDER BY id")]


def has_begun(gateway: Gateway, peer: Peer, objects: list[Generated]) -> None:
    """Send the objects and wait until the first is at the peer."""
    answers = store(gateway.port, *(each.path for each in objects))
    assert all(answer.is_success for answer in answers)
    wait_until(lambda: len(peer.scp.arrived) > 0, "the first delivery")


def test_copy_of_a_base_folder_does_not_start_and_a_crash_costs_no_waiting(
    farm: Farm, postgres: PostgresServer, peer: Peer, objects: list[Generated]
) -> None:
    name = postgres.new_database()
    gateway = farm.gateway(settings=postgres.lines(name) | RULE, nodes=[peer.node])
    has_begun(gateway, peer, objects)
    copy = farm.folder / "copy"
    shutil.copytree(gateway.folder, copy, ignore=shutil.ignore_patterns("*.sock"))

    refused = run_dgate("serve", "-c", str(copy))

    assert refused.returncode != 0
    assert "another gateway in the same database goes by the name of this one" in refused.stdout
    assert "remove this file and start again" in refused.stdout
    assert "leased" in states(postgres, name)
    gateway.kill()
    gateway.start()
    assert "deliveries were under way when a server ended" in gateway.log
    peer.opened.set()
    wait_until(lambda: set(states(postgres, name)) == {"done"}, "every delivery")
    assert set(peer.scp.arrived) == {each.sop_instance for each in objects}


def test_order_of_an_operator_reaches_what_a_worker_has_in_hand(
    farm: Farm, postgres: PostgresServer, peer: Peer, objects: list[Generated]
) -> None:
    name = postgres.new_database()
    gateway = farm.gateway(settings=postgres.lines(name) | RULE, nodes=[peer.node])
    has_begun(gateway, peer, objects)

    said = gateway.command(
        "queue", "cancel", "--destination", "SINK", "--why", "wrong node", "--yes"
    )

    assert f"{len(objects) - 1} cancelled. 1 is being worked on and was left." in said.stdout
    peer.opened.set()
    expected = ["cancelled"] * (len(objects) - 1) + ["done"]
    wait_until(lambda: sorted(states(postgres, name)) == expected, "the end of the one in hand")
    assert len(peer.scp.arrived) == 1
