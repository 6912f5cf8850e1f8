"""Quiet times that end early because the sender says how many objects there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import QrScp, StoreScp, store
from tests.acceptance.processes import wait_until
from tests.acceptance.test_delayed import idle, one_study, rows
from tests.acceptance.test_forward import rules
from tests.generate import Generated

SOURCE = "SOURCE"


def asking(
    farm: Farm, source: Node, rule: str = "forward study after 86400 to SINK"
) -> tuple[Gateway, StoreScp]:
    """Return a server that waits for a day unless the source says what there is."""
    sink = farm.sink()
    gateway = farm.gateway(settings=rules(rule), nodes=[sink.node, source], start=False)
    with gateway.ini.open("a") as ini:
        ini.write(f"\n[node {source.title}]\nExpectCounts = yes\n")
    return gateway.start(), sink


def send(gateway: Gateway, items: list[Generated]) -> None:
    """Send objects as the source does."""
    store(gateway.port, *(item.path for item in items), calling=SOURCE)


@pytest.fixture(params=["dgate", "dcmqrscp"])
def source(request: pytest.FixtureRequest, farm: Farm, tmp_path: Path) -> Node:
    """Return a node that has five objects of a study: dgate tells counts, dcmqrscp does not."""
    made = one_study(tmp_path / "in", 5)
    if request.param == "dgate":
        server = farm.gateway("source", settings={"MyACRNema": SOURCE})
        store(server.port, *(item.path for item in made))
        return Node(SOURCE, server.port)
    archive = QrScp.create(tmp_path / "qrscp", farm.ports, title=SOURCE)
    farm.add(archive.process)
    archive.start()
    store(archive.port, *(item.path for item in made), called=SOURCE)
    return archive.node


def test_complete_study_is_due_at_once_even_after_a_kill(
    farm: Farm, tmp_path: Path, source: Node
) -> None:
    made = one_study(tmp_path / "again", 5)
    gateway, sink = asking(farm, source)
    send(gateway, made[:3])
    wait_until(lambda: rows(gateway, "state") == [("queued",)], "the request")
    gateway.kill()
    gateway.start()
    assert sink.files() == {}
    send(gateway, made[3:])
    sink.wait_for(5)
    wait_until(lambda: idle(gateway), "the end of the deliveries")
    assert len(rows(gateway, "id", "kind = 'deliver'")) == 5


def test_node_that_does_not_answer_changes_nothing(farm: Farm, tmp_path: Path) -> None:
    made = one_study(tmp_path / "in", 2)
    gateway, sink = asking(farm, Node(SOURCE, farm.ports.take()), "forward study after 5 to SINK")
    send(gateway, made)
    sink.wait_for(2)
    complaint = f"{SOURCE} does not say how many objects there are"
    wait_until(lambda: complaint in gateway.log, "the complaint")
    store(gateway.port, *(item.path for item in one_study(tmp_path / "more", 2, 9)), calling=SOURCE)
    sink.wait_for(4)
    assert gateway.log.count(complaint) == 1
