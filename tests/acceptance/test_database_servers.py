"""The whole program on a real database server, which is killed and started again under load."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import Answer, find, store, store_answers
from tests.acceptance.processes import find_program, peer_environment, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, Plan, data_set_of, write_files
from tests.servers import DatabaseServer, MariaServer, PostgresServer

FAST = {"RetryFirst": 0.1, "RetryMax": 0.5}


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


def send_all(gateway: Gateway, folder: Path) -> list[Answer]:
    """Send a folder once, whatever is refused; return every answer."""
    command = [find_program("storescu"), "-v", "-nh", "+sd", "127.0.0.1", str(gateway.port), folder]
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=peer_environment(),
    ) as sender:
        assert sender.stdout is not None
        return list(store_answers(sender.stdout))


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
    answers: list[Answer] = []
    sender = threading.Thread(target=lambda: answers.extend(send_all(gateway, folder)))
    sender.start()
    # Debts, whose table has one name on all engines.
    entered = "SELECT count(*) FROM dgate_debts"
    wait_until(lambda: server.query(name, entered)[0][0] > 20, "some objects")

    server.kill()
    sender.join(60)
    assert not sender.is_alive()
    taken = {answer.path for answer in answers if answer.is_success}
    assert 20 < len(taken) < len(answers) == len(items)
    with RawAssociation.open(gateway.port, [Offer(items[0].sop_class)]) as association:
        last = items[-1]
        data = data_set_of(last.path.read_bytes())
        assert association.store(last.sop_class, last.sop_instance, [data]).status == 0xA700
    server.start()

    # What was taken is there; what was refused is taken now.
    wait_until(lambda: gateway.command("status", check=False).returncode == 0, "the database")
    known = {item.sop_instance for item in items if item.path in taken}
    assert known <= found_objects(gateway, tmp_path)
    assert all(answer.is_success for answer in store(gateway.port, folder))
    assert found_objects(gateway, tmp_path) == {item.sop_instance for item in items}
    wait_until(lambda: len(sink.files()) == len(items), "every delivery", deadline_s=60)
    wait_until(lambda: undelivered(server, name) == 0, "an empty ledger", deadline_s=60)
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
