"""The whole program on a real database server, which is killed and started again under load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find, store
from tests.acceptance.processes import TOOL_DEADLINE_S, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, Plan, data_set_of, write_files
from tests.servers import DatabaseServer, MariaServer, PostgresServer

FAST = {"RetryFirst": 0.1, "RetryMax": 0.5}
OUT_OF_RESOURCES = 0xA700


@pytest.fixture(params=[PostgresServer, MariaServer], ids=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """Return a server of the test's own, since it is killed."""
    started: DatabaseServer = request.param()
    yield started
    started.close()


def undelivered(server: DatabaseServer, name: str) -> int:
    """Return how many debts are open."""
    query = "SELECT count(*) FROM dgate_debts WHERE state NOT IN ('done', 'cancelled')"
    return int(server.query(name, query)[0][0])


def send_all(gateway: Gateway, items: list[Generated], killed: threading.Event) -> set[str]:
    """Send objects over one association, whatever is refused; return those that were taken.

    The last ones are sent only when the database server is dead, should that take so long.
    """
    taken = set()
    with RawAssociation.open(gateway.port, [Offer(items[0].sop_class)]) as association:
        for number, item in enumerate(items):
            if number >= len(items) - 20:
                assert killed.wait(TOOL_DEADLINE_S)
            content = data_set_of(item.path.read_bytes())
            reply = association.store(item.sop_class, item.sop_instance, content)
            assert reply.status in (0, OUT_OF_RESOURCES)
            if reply.status == 0:
                taken.add(item.sop_instance)
    return taken


def test_server_that_is_killed_under_load_costs_nothing_that_was_acknowledged(
    farm: Farm, server: DatabaseServer, tmp_path: Path
) -> None:
    sink = farm.sink()
    name = server.new_database()
    gateway = farm.gateway(
        settings=server.lines(name)
        | {"ExportConverters": 1, "ExportConverter0": "forward to SINK"}
        | FAST,
        nodes=[sink.node],
    )
    items = write_files(tmp_path / "objects", Plan(300, per_series=50))
    folder = items[0].path.parent
    taken: set[str] = set()
    killed = threading.Event()
    sender = threading.Thread(target=lambda: taken.update(send_all(gateway, items, killed)))
    sender.start()
    # Debts, whose table has one name on all engines.
    entered = "SELECT count(*) FROM dgate_debts"
    wait_until(lambda: server.query(name, entered)[0][0] > 20, "some objects")

    server.kill()
    killed.set()
    sender.join(TOOL_DEADLINE_S)
    assert not sender.is_alive()
    # Of the last object that the database took, the gateway may not have heard.
    assert 20 <= len(taken) < len(items)
    with RawAssociation.open(gateway.port, [Offer(items[0].sop_class)]) as association:
        last = items[-1]
        data = data_set_of(last.path.read_bytes())
        assert association.store(last.sop_class, last.sop_instance, [data]).status == (
            OUT_OF_RESOURCES
        )
    server.start()

    # What was taken is there; what was refused is taken now.
    wait_until(lambda: gateway.command("status", check=False).returncode == 0, "the database")
    assert taken <= found_objects(gateway, tmp_path)
    assert all(answer.is_success for answer in store(gateway.port, folder))
    assert found_objects(gateway, tmp_path) == {item.sop_instance for item in items}
    wait_until(lambda: len(sink.files()) == len(items), "every delivery")
    wait_until(lambda: undelivered(server, name) == 0, "an empty ledger")
    assert len(gateway.stored_files()) == len(items)


def found_objects(gateway: Gateway, folder: Path) -> set[str]:
    """Return the SOP instances that C-FIND gives."""
    answers = find(gateway.port, {"SOPInstanceUID": ""}, folder, level="IMAGE")
    return {str(answer.SOPInstanceUID) for answer in answers}


def test_two_gateways_share_one_server(
    farm: Farm, server: DatabaseServer, objects: list[Generated], tmp_path: Path
) -> None:
    sink = farm.sink()
    name = server.new_database()
    rules = {
        "ExportConverters": 1,
        "ExportConverter0": "forward to SINK",
        "MAGDevice0": tmp_path / "images",
    }
    (tmp_path / "images").mkdir()
    first, second = (
        farm.gateway(each, settings=server.lines(name) | rules | FAST, nodes=[sink.node])
        for each in ("first", "second")
    )

    store(first.port, objects[0].path.parent)

    wait_until(lambda: len(sink.files()) == len(objects), "every delivery")
    wait_until(lambda: undelivered(server, name) == 0, "an empty ledger")
    assert found_objects(second, tmp_path) == {item.sop_instance for item in objects}
