"""Rules of dicom.ini at work in the real server: what is stored, changed, refused and sent on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pydicom

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import find, store
from tests.acceptance.processes import files_below, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, Kind, Plan, data_set_of, write_files

FAST_RETRY = {"RetryFirst": 0.1, "RetryMax": 0.2}


def rules(*lines: str) -> dict[str, object]:
    """Return the settings for export converters with these texts."""
    converters = {f"ExportConverter{number}": line for number, line in enumerate(lines)}
    return {"ExportConverters": len(lines), **converters, **FAST_RETRY}


def undelivered(gateway: Gateway) -> int:
    """Return how many debts are open, as the ledger's table has them."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        query = "SELECT count(*) FROM dgate_debts WHERE state NOT IN ('done', 'cancelled')"
        return int(connection.execute(query).fetchone()[0])


def test_a_rule_forwards_every_object_with_the_same_bytes(
    farm: Farm, objects: list[Generated]
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=rules("forward to SINK"), nodes=[sink.node])

    store(gateway.port, objects[0].path.parent)

    sink.wait_for(len(objects))
    wait_until(lambda: undelivered(gateway) == 0, "an empty ledger")
    received = {data_set_of(path.read_bytes()) for path in sink.files().values()}
    assert received == {data_set_of(item.path.read_bytes()) for item in objects}


def test_two_rules_deliver_to_two_destinations(farm: Farm, objects: list[Generated]) -> None:
    first, second = farm.sink("SINK1"), farm.sink("SINK2")
    gateway = farm.gateway(
        settings=rules("forward to SINK1", "forward to SINK2"), nodes=[first.node, second.node]
    )

    store(gateway.port, objects[0].path.parent)

    first.wait_for(len(objects))
    second.wait_for(len(objects))


def test_filters_and_tests_choose_what_is_sent(farm: Farm, tmp_path: Path) -> None:
    sink = farm.sink()
    settings = rules(
        'ifequal "%m", "CT"; forward to SINK',
        "forward to SINK",
    ) | {"ExportCallingAE1": "SCANNER*", "ExportModality1": "MR"}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    ct = write_files(tmp_path / "ct", Plan(2, Kind.CT, seed=1))
    from_scanner = write_files(tmp_path / "mr1", Plan(3, seed=2))
    from_others = write_files(tmp_path / "mr2", Plan(4, seed=3))

    store(gateway.port, from_others[0].path.parent, calling="OTHER")
    store(gateway.port, from_scanner[0].path.parent, calling="SCANNER1")
    store(gateway.port, ct[0].path.parent, calling="OTHER")

    sink.wait_for(5)
    wait_until(lambda: undelivered(gateway) == 0, "an empty ledger")
    assert set(sink.files()) == {item.sop_instance for item in [*ct, *from_scanner]}


def test_an_sql_filter_chooses_what_is_sent(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink()
    settings = rules("forward to SINK") | {"ExportFilter0": f"ImagePat = '{objects[0].patient_id}'"}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])

    store(gateway.port, objects[0].path.parent)

    sink.wait_for(10)
    wait_until(lambda: undelivered(gateway) == 0, "an empty ledger")
    assert set(sink.files()) == {item.sop_instance for item in objects[:10]}


def test_org_and_dest_name_the_two_ends(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink(options=("+B", "-d"))
    gateway = farm.gateway(
        settings=rules("forward to SINK org ROUTER dest ELSEWHERE"), nodes=[sink.node]
    )

    store(gateway.port, objects[0].path)

    sink.wait_for(1)
    log = sink.process.text()
    assert "Calling Application Name:    ROUTER" in log
    assert "Called Application Name:     ELSEWHERE" in log


def test_objects_wait_for_a_destination_that_comes_up_later(
    farm: Farm, objects: list[Generated]
) -> None:
    sink = farm.sink(start=False)
    gateway = farm.gateway(settings=rules("forward to SINK"), nodes=[sink.node])
    answers = store(gateway.port, objects[0].path.parent)
    assert all(answer.is_success for answer in answers)
    wait_until(lambda: "SINK" in gateway.log, "a message about the dead destination")
    assert undelivered(gateway) == len(objects)

    sink.start()

    sink.wait_for(len(objects))
    wait_until(lambda: undelivered(gateway) == 0, "an empty ledger")


def test_objects_wait_through_a_restart_of_the_server(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink(start=False)
    gateway = farm.gateway(settings=rules("forward to SINK"), nodes=[sink.node])
    store(gateway.port, objects[0].path.parent)

    gateway.restart()
    sink.start()

    sink.wait_for(len(objects))


def test_a_dead_destination_does_not_delay_another(farm: Farm, objects: list[Generated]) -> None:
    alive = farm.sink("ALIVE")
    dead = Node("DEAD", farm.ports.take())
    gateway = farm.gateway(
        settings=rules("forward to DEAD", "forward to ALIVE"), nodes=[alive.node, dead]
    )

    store(gateway.port, objects[0].path.parent)

    alive.wait_for(len(objects))
    wait_until(lambda: undelivered(gateway) == len(objects), "only the dead node's debts open")


def test_the_queue_shows_what_is_not_delivered_and_why(
    farm: Farm, objects: list[Generated]
) -> None:
    dead = Node("DEAD", farm.ports.take())
    gateway = farm.gateway(
        settings=rules("forward to DEAD") | {"MaximumExportRetries": 1}, nodes=[dead]
    )
    store(gateway.port, objects[0].path)
    wait_until(
        lambda: "stuck" in gateway.command("queue", "list").stdout,
        "a stuck delivery",
    )

    listing = gateway.command("queue", "list").stdout
    identifier = listing_id(listing)
    shown = gateway.command("queue", "show", identifier).stdout

    assert "DEAD" in listing
    assert objects[0].sop_instance in shown
    assert str(dead.port) in shown or "refused" in shown.lower()


def test_a_stuck_delivery_is_sent_after_retry(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink(start=False)
    gateway = farm.gateway(
        settings=rules("forward to SINK") | {"MaximumExportRetries": 1}, nodes=[sink.node]
    )
    store(gateway.port, objects[0].path)
    wait_until(
        lambda: "stuck" in gateway.command("queue", "list").stdout,
        "a stuck delivery",
    )
    sink.start()

    gateway.command("queue", "retry", listing_id(gateway.command("queue", "list").stdout))

    sink.wait_for(1)


def listing_id(listing: str) -> str:
    """Return the first number in a listing's rows: the identifier of a debt."""
    return next(word for line in listing.splitlines() for word in line.split() if word.isdigit())


def test_an_import_rule_changes_what_is_stored_and_sent(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    sink = farm.sink()
    settings = rules("forward to SINK") | {
        "ImportConverter0": 'set PatientID to "X%i"; set InstitutionName to "Elsewhere"; '
        "delete 0008,1090"
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])

    store(gateway.port, objects[0].path)

    sink.wait_for(1)
    changed = pydicom.dcmread(sink.files()[objects[0].sop_instance])
    original = pydicom.dcmread(objects[0].path)
    assert changed.PatientID == "X" + original.PatientID
    assert changed.InstitutionName == "Elsewhere"
    assert "ManufacturerModelName" not in changed
    assert changed.PixelData == original.PixelData
    assert len(find(gateway.port, {"PatientID": changed.PatientID}, tmp_path)) == 1


def test_a_destroyed_object_is_acknowledged_and_not_kept(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'ifequal "%m", "MR"; destroy'})

    answers = store(gateway.port, objects[0].path)

    assert answers[0].is_success
    assert gateway.stored_files() == []
    assert find(gateway.port, {"PatientID": ""}, tmp_path) == []


def test_a_rejected_object_is_refused_with_the_configured_status(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(
        settings={"ImportConverter0": "reject", "StorageFailedErrorCode": 0xA789}
    )
    item = objects[0]

    with RawAssociation.open(gateway.port, [Offer(item.sop_class)]) as association:
        content = data_set_of(item.path.read_bytes())
        reply = association.store(item.sop_class, item.sop_instance, content)

    assert reply.status == 0xA789
    assert reply.comment
    assert gateway.stored_files() == []


def test_forwarding_without_storing_delivers_from_a_copy_that_then_goes_away(
    farm: Farm, objects: list[Generated]
) -> None:
    sink = farm.sink(start=False)
    settings = {"ImportConverter0": "forward to SINK; destroy", **FAST_RETRY}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    answers = store(gateway.port, objects[0].path.parent)
    assert all(answer.is_success for answer in answers)
    assert gateway.stored_files() == []
    gateway.kill()
    gateway.start()

    sink.start()

    sink.wait_for(len(objects))
    wait_until(lambda: spooled(gateway) == [], "an empty spool")
    received = {data_set_of(path.read_bytes()) for path in sink.files().values()}
    assert received == {data_set_of(item.path.read_bytes()) for item in objects}


def spooled(gateway: Gateway) -> list[Path]:
    """Return the copies that wait in the spool."""
    return files_below(gateway.device() / "dgate" / "spool")


def test_a_router_without_a_database_forwards(farm: Farm, objects: list[Generated]) -> None:
    sink = farm.sink()
    settings = {"SQLServer": "", "ImportConverter0": "forward to SINK; destroy", **FAST_RETRY}
    gateway = farm.gateway(settings=settings, nodes=[sink.node])

    store(gateway.port, objects[0].path.parent)

    sink.wait_for(len(objects))


def test_a_statement_that_this_version_does_not_execute_is_reported_and_never_skipped(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": "process with anonymise.sh"}, start=False)
    gateway.start()

    answers = store(gateway.port, objects[0].path)

    assert "ImportConverter0" in gateway.log
    assert not answers[0].is_success
    assert gateway.stored_files() == []
