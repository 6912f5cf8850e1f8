"""Where objects came from: what the ledger keeps of their receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.importer import import_file
from dgate.archive.provenance import LONGEST
from dgate.config.node_settings import NodeSettings, NodeTable, Priority
from dgate.config.nodes import NodeMap
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE
from dgate.rules.effects import ExportPlan, Forward, ObjectScope, Request
from tests.archive.intake_kit import CT, SOP, Hooks, Station, data_set, large_data_set, open_station

FORWARD = Forward("SINK", "ExportConverter0.1")
COLUMNS = "source, source_host, received, digest, size, accession, priority"


def owing(forward: Forward = FORWARD) -> Hooks:
    """Return rules that forward everything."""
    return Hooks(plans=[ExportPlan(0, forwards=[forward])])


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    opened = open_station(tmp_path, hooks=owing())
    yield opened
    opened.close()


def rows(station: Station, columns: str = COLUMNS) -> list[tuple[Any, ...]]:
    with station.database.reader() as connection:
        found = connection.execute(f"SELECT {columns} FROM dgate_debts ORDER BY id").fetchall()
    return [tuple(row) for row in found]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["in memory", "in a file"])
def test_debt_tells_who_brought_which_bytes_and_when(station: Station, make: Any) -> None:
    data = make(AccessionNumber="A100")
    arrival = station.arrival(data)
    arrival.source_host = "10.0.0.5"

    station.ingest.store(arrival)

    now = station.clock.now()
    [row] = rows(station)
    assert row == ("MODALITY", "10.0.0.5", now, sha256(data), len(data), "A100", Priority.NORMAL)


def test_hash_is_of_what_came_not_of_what_rules_made_of_it(tmp_path: Path) -> None:
    hooks = owing()
    hooks.on_import = lambda table, verdict: table.set_text(0x00100010, "SOMEBODY^ELSE")
    station = open_station(tmp_path, hooks=hooks)
    data = data_set()

    station.send(data)

    assert rows(station, "digest, size") == [(sha256(data), len(data))]
    assert station.content() != data
    station.close()


def test_hash_is_of_what_came_not_of_what_it_was_compressed_to(tmp_path: Path) -> None:
    station = open_station(tmp_path, hooks=owing(), incoming_compression="rl")
    data = data_set(
        Rows=64,
        Columns=64,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        PixelData=bytes(4096),
    )

    station.send(data)

    assert rows(station, "digest, size") == [(sha256(data), len(data))]
    assert len(station.content()) < len(data)
    station.close()


def test_nothing_is_hashed_where_nothing_is_owed(tmp_path: Path) -> None:
    station = open_station(tmp_path)
    arrival = station.arrival(data_set())

    station.ingest.store(arrival)

    assert arrival.digest == ""
    station.close()


def test_imported_file_is_said_to_be_imported(station: Station, tmp_path: Path) -> None:
    data = data_set()
    file = tmp_path / "one.dcm"
    file.write_bytes(file_meta(CT, SOP, EXPLICIT_LE, "MODALITY") + data)

    import_file(station.ingest, file)

    assert rows(station, "source, digest") == [("import", sha256(data))]


def test_text_that_no_column_takes_is_cut_and_cleaned(station: Station) -> None:
    odd = "A\x1b" + "9" * 80
    station.hooks.on_import = lambda table, verdict: table.set_text(0x00080050, odd)

    station.send(data_set(), calling="X\0Y")

    [(source, accession)] = rows(station, "source, accession")
    assert source == "X?Y"
    assert accession == ("A?" + "9" * 80)[:LONGEST]


@pytest.mark.parametrize(
    ("asked", "priority"),
    [(0, Priority.STAT), (1, Priority.NORMAL), (2, Priority.BULK), (None, Priority.NORMAL)],
)
def test_priority_is_what_the_sender_says(
    station: Station, asked: int | None, priority: Priority
) -> None:
    arrival = station.arrival(data_set())
    arrival.priority = asked

    station.ingest.store(arrival)

    assert rows(station, "priority") == [(priority,)]


def test_priority_that_is_set_for_the_sender_outranks_what_it_says(tmp_path: Path) -> None:
    """[node] Priority."""
    peers = NodeTable({"modality": NodeSettings(priority=Priority.STAT)})
    station = open_station(tmp_path, hooks=owing(), peers=peers)
    arrival = station.arrival(data_set())
    arrival.priority = Priority.BULK

    station.ingest.store(arrival)
    station.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9", calling="OTHER")

    assert rows(station, "priority") == [(Priority.STAT,), (Priority.NORMAL,)]
    station.close()


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "operation": "forward",
        "rule": "ExportConverter0.1",
        "level": "study",
        "peer": "SINK",
        "scope": ObjectScope(study="1.2.3.1"),
        "delay_s": 60.0,
    }
    return Request(**(values | changes))


def test_delayed_operation_keeps_where_each_of_its_objects_came_from(tmp_path: Path) -> None:
    hooks = Hooks(on_import=lambda table, verdict: verdict.requests.append(request()))
    station = open_station(tmp_path, hooks=hooks)
    first = data_set(AccessionNumber="A100")
    second = data_set(SOPInstanceUID="1.2.9", AccessionNumber="A100")

    station.send(first)
    station.send(second, sop_instance="1.2.9", calling="OTHER")

    # One row stands for both, so it has no hash of its own.
    assert rows(station, "kind, source, digest, accession") == [
        ("request", "MODALITY", None, "A100")
    ]
    with station.database.reader() as connection:
        found = connection.execute(
            "SELECT sop, source, digest, accession FROM dgate_received ORDER BY id"
        ).fetchall()
    assert [tuple(row) for row in found] == [
        (SOP, "MODALITY", sha256(first), "A100"),
        ("1.2.9", "OTHER", sha256(second), "A100"),
    ]
    station.close()


def test_delayed_operation_becomes_as_urgent_as_the_most_urgent_of_its_objects(
    tmp_path: Path,
) -> None:
    hooks = Hooks(on_import=lambda table, verdict: verdict.requests.append(request()))
    station = open_station(tmp_path, hooks=hooks)
    for number, priority in enumerate((Priority.BULK, Priority.STAT, Priority.NORMAL)):
        uid = f"1.2.9.{number}"
        arrival = station.arrival(data_set(SOPInstanceUID=uid), sop_instance=uid)
        arrival.priority = priority
        station.ingest.store(arrival)

    assert rows(station, "priority") == [(Priority.STAT,)]
    station.close()


def test_delivery_is_entered_under_the_name_of_the_node(tmp_path: Path) -> None:
    plans = [
        ExportPlan(0, forwards=(Forward("sink", "ExportConverter0.1"),)),
        ExportPlan(1, forwards=(Forward("SINK", "ExportConverter1.0"),)),
        ExportPlan(2, forwards=(Forward("Sink", "ExportConverter2.0", called="VIEWER"),)),
        ExportPlan(3, deferred=True),
    ]
    nodes, _ = NodeMap.parse(b"SINK 10.0.0.1 104 as\n", "acrnema.map")
    station = open_station(tmp_path, hooks=Hooks(plans=plans), nodes=nodes)

    station.ingest.store(station.arrival(data_set()))

    assert rows(station, "destination, called") == [
        ("SINK", "sink"),
        ("SINK", ""),
        ("SINK", "VIEWER"),
        ("ExportConverter3", "DGATE"),
    ]
    station.close()
