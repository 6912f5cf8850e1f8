"""Two real servers whose rules forward to each other."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.delivery.failure_rows import plays
from tests.generate import Generated

pytestmark = pytest.mark.acceptance

RULE = {
    "ExportConverters": 1,
    "ExportConverter0": "forward to {}",
    "RetryFirst": 0.1,
    "RetryMax": 0.2,
    "ForwardAssociationCloseDelay": 1,
}


def states(gateway: Gateway) -> Counter[str]:
    """Return how many debts are in which state, as the ledger's table has them."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT state, count(*) FROM dgate_debts GROUP BY state")
        return Counter(dict(rows.fetchall()))


def pair(farm: Farm, rule: str, **of_first: object) -> tuple[Gateway, Gateway]:
    """Start two servers, A and B, each with a rule that forwards to the other; A has more
    settings.
    """
    gateways = []
    for title, other in (("A", "B"), ("B", "A")):
        settings = RULE | {"MyACRNema": title, "ExportConverter0": rule.format(other)}
        settings |= of_first if title == "A" else {}
        gateways.append(farm.gateway(title.lower(), settings=settings, start=False))
    nodes = [Node("A", gateways[0].port), Node("B", gateways[1].port)]
    for gateway in gateways:
        gateway.name_nodes(nodes)
        gateway.start()
    return gateways[0], gateways[1]


def is_over(pair: tuple[Gateway, Gateway], objects: int) -> bool:
    """Tell whether every object is stopped somewhere, and nothing is on its way."""
    found = states(pair[0]) + states(pair[1])
    return found["stuck"] == objects and not found["queued"] + found["leased"]


@plays("loop")
@pytest.mark.parametrize(
    "rule",
    ["forward to {}", 'ifnotempty "%f"; forward to {}'],
    ids=["decided while storing", "expanded later"],
)
def test_objects_that_go_round_are_stopped_with_a_reason(
    farm: Farm, objects: list[Generated], rule: str
) -> None:
    servers = pair(farm, rule)
    some = objects[:5]
    for item in some:
        store(servers[0].port, item.path)

    wait_until(lambda: is_over(servers, len(some)), "an end of the loop")

    for server in servers:
        assert len(server.stored_files()) == len(some)
    rows = [
        json.loads(line)
        for server in servers
        for line in server.command("queue", "list", "--state", "stuck", "--json").stdout.split("\n")
        if line
    ]
    assert len(rows) == len(some)
    for row in rows:
        assert "loop: " in row["last_error"]
        assert "sent this object back unchanged 3 times" in row["last_error"]
        # Each was sent there twice before; the third time is the one that waits.
        assert row["rule"].startswith("ExportConverter0")
    assert {row["sop_instance"] for row in rows} == {item.sop_instance for item in some}


def test_objects_that_change_with_every_round_are_stopped_too(
    farm: Farm, objects: list[Generated]
) -> None:
    change = {"ImportConverters": 1, "ImportConverter0": 'set PatientComments to "%g"'}
    servers = pair(farm, "forward to {}", **change)
    store(servers[0].port, objects[0].path)

    wait_until(lambda: is_over(servers, 1), "an end of the loop")

    said = "".join(
        server.command("queue", "list", "--state", "stuck", "--json").stdout for server in servers
    )
    (row,) = map(json.loads, said.splitlines())
    assert "loop: " in row["last_error"]
    assert "sent this object back 30 times within an hour, with changes" in row["last_error"]
    # It went round until then.
    assert states(servers[0])["done"] >= 30
    assert states(servers[1])["done"] >= 30


def test_same_object_sent_often_by_a_modality_is_forwarded_each_time(
    farm: Farm, objects: list[Generated]
) -> None:
    sink = farm.sink()
    settings = RULE | {"ExportConverter0": "forward to SINK"}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    for _ in range(5):
        store(gateway.port, objects[0].path)
    wait_until(lambda: states(gateway)["done"] == 5, "five deliveries")
    assert states(gateway)["stuck"] == 0
