"""Deliveries while the configuration changes: who notices, and who goes on as before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.delivery.destination import Destination
from dgate.delivery.dispatcher import Dispatcher
from dgate.delivery.schedule import RetryPolicy
from dgate.delivery.sender import Sender
from tests.delivery.kit import Books, draft, ref
from tests.delivery.twins import OK, Answer, Workshop


@pytest.fixture
def shop(books: Books, tmp_path: Path) -> Workshop:
    return Workshop(books, tmp_path)


def owe(shop: Workshop, count: int) -> None:
    for number in range(1, count + 1):
        shop.books.owe(draft(), to=ref(number))


def change(shop: Workshop, table: str | None = None, **settings: Any) -> None:
    """Use another configuration from now on."""
    changed = dataclasses.replace(shop.tools.settings, **settings)
    nodes = shop.tools.nodes
    if table is not None:
        nodes, _ = NodeMap.parse(table.encode(), "acrnema.map")
    policy = RetryPolicy.of(changed)
    shop.tools = dataclasses.replace(shop.tools, settings=changed, nodes=nodes, policy=policy)


def changing_at(shop: Workshop, sop_instance: str, table: str | None, **settings: Any) -> None:
    """Change the configuration while this object is being sent."""

    def script(which: Any) -> Answer:
        if which.sop_instance == sop_instance:
            change(shop, table, **settings)
        return OK

    shop.script = script


def test_a_node_with_another_address_gets_a_new_association_within_the_batch(
    shop: Workshop,
) -> None:
    owe(shop, 3)
    changing_at(shop, "1.2.3.1", "SINK 10.0.0.9 104 as\n")

    shop.work()

    assert shop.steps() == ["open", "send", "release", "open", "send", "send", "release"]
    hosts = [sender.destination.host for sender in shop.senders]
    assert (hosts[0], hosts[-1]) == ("10.0.0.1", "10.0.0.9")
    assert shop.books.states() == ["done"] * 3


def test_an_association_to_a_node_that_is_as_before_stays_open(shop: Workshop) -> None:
    owe(shop, 3)
    changing_at(shop, "1.2.3.1", "# more\nSINK 10.0.0.1 104 as\nNEW 10.0.0.3 104 as\n")

    shop.work()

    assert shop.steps() == ["open", "send", "send", "send", "release"]


def test_deliveries_to_a_node_that_is_gone_are_stuck_and_not_lost(shop: Workshop) -> None:
    owe(shop, 3)
    changing_at(shop, "1.2.3.1", "OTHER 10.0.0.2 104 as\n")

    shop.work()

    assert shop.sent() == ["1.2.3.1"]
    assert sorted(shop.books.states()) == ["done", "stuck", "stuck"]


def test_one_association_for_each_object_counts_at_once(shop: Workshop) -> None:
    owe(shop, 3)
    changing_at(shop, "1.2.3.1", None, forward_association_level="IMAGE")

    shop.work()

    assert shop.steps().count("open") >= 2
    assert shop.books.states() == ["done"] * 3


def test_a_shorter_longest_pause_does_not_make_waiting_debts_due(shop: Workshop) -> None:
    change(shop, retry_max_s=600.0)
    dispatcher = Dispatcher(lambda: shop.tools)
    dispatcher.start()
    try:
        assert shop.books.ledger.longest_pause_s == 600.0
        change(shop, retry_max_s=10.0)
        dispatcher.wake()
        dispatcher._survey()
        assert shop.books.ledger.longest_pause_s == 600.0
        change(shop, retry_max_s=900.0)
        dispatcher._survey()
        assert shop.books.ledger.longest_pause_s == 900.0
    finally:
        dispatcher.stop()


def test_a_sender_goes_on_only_in_the_same_manner(tmp_path: Path) -> None:
    settings = default_settings(tmp_path)
    there = Destination("10.0.0.1", 104, "GATE", "SINK", "as")

    def sender(destination: Destination = there, **changes: Any) -> Sender:
        exporter: Any = object()
        return Sender(destination, exporter, dataclasses.replace(settings, **changes))

    old = sender()
    fresh = sender(retry_first_s=1.0)
    assert old.go_on_as(fresh)
    assert old._exporter is fresh._exporter
    assert not old.go_on_as(sender(dataclasses.replace(there, port=105)))
    assert not old.go_on_as(sender(dataclasses.replace(there, code="un")))
    assert not old.go_on_as(sender(pdu_size=16384))
    assert not old.go_on_as(sender(tcpip_timeout_s=7))
    assert not old.go_on_as(sender(pad_ae_with_zeros=True))
