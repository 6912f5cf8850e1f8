"""The whole program on a real database server, which is killed and started again under load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import Answer, find, store
from tests.acceptance.processes import TOOL_DEADLINE_S, files_below, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, Plan, data_set_of, write_files
from tests.servers import DatabaseServer, MariaServer, PostgresServer

FAST = {"RetryFirst": 0.1, "RetryMax": 0.5}
OUT_OF_RESOURCES = 0xA700
HOLDING_UP = (
    "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$",
    "CREATE TRIGGER hold_up BEFORE INSERT ON dgate_debts FOR EACH ROW EXECUTE FUNCTION hold_up()",
)
"""Who enters a debt waits for who has the lock."""
HELD_UP = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO dgate_debts%'"
)


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


@pytest.mark.parametrize(
    "rules",
    [
        {"ImportConverters": 1, "ImportConverter0": "forward to SINK; destroy"},
        {"ExportConverters": 1, "ExportConverter0": "forward to SINK"},
    ],
    ids=["passed on", "stored"],
)
def test_gateway_that_starts_leaves_alone_what_another_has_not_committed(
    farm: Farm,
    postgres: PostgresServer,
    objects: list[Generated],
    tmp_path: Path,
    rules: dict[str, object],
) -> None:
    sink = farm.sink()
    name = postgres.new_database()
    images = tmp_path / "images"
    images.mkdir()
    settings = postgres.lines(name) | rules | FAST | {"MAGDevice0": images}
    first, second = (
        farm.gateway(each, settings=settings, nodes=[sink.node], start=False)
        for each in ("first", "second")
    )
    first.start()
    answers: list[Answer] = []
    sender = threading.Thread(
        target=lambda: answers.extend(store(first.port, objects[0].path, check=False))
    )
    for statement in HOLDING_UP:
        postgres.administer(statement, name)
    with postgres.holding(name, "SELECT pg_advisory_xact_lock(4711)"):
        sender.start()
        # What comes before the commit is done by then.
        wait_until(lambda: postgres.query(name, HELD_UP)[0][0] > 0, "an entry that is held up")
        written = files_below(images)
        assert written

        second.start()
        wait_until(lambda: second.process.has_said("Spool: "), "the look through the spool")
        assert files_below(images) == written

    sender.join(TOOL_DEADLINE_S)
    assert not sender.is_alive()
    assert [answer.is_success for answer in answers] == [True]
    wait_until(lambda: set(sink.files()) == {objects[0].sop_instance}, "the delivery")
    wait_until(lambda: undelivered(postgres, name) == 0, "an empty ledger")
    assert not list(images.rglob("*.held"))
