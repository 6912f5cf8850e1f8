"""The units that ingest hands to the writer: what is committed together, and what is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive.incoming import Incoming
from dgate.archive.jobs import DebtJob, Placing, StoreJob
from dgate.archive.obligations import Obligations
from dgate.archive.records import DebtDraft, DebtKind
from dgate.archive.repair import Repaired, repair
from dgate.archive.rewrites import CompletedRewrites
from dgate.archive.rows import Entry
from dgate.archive.writer import Transaction
from dgate.config.settings import Durability
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import StoreError
from tests.archive.intake_kit import SOP, Station, data_set, open_station

DEBT = DebtDraft(DebtKind.DELIVER, destination="SINK", rule="r")


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    opened = open_station(tmp_path, durability=Durability.NONE)
    yield opened
    opened.close()


def job(station: Station, *, name: str = "new/1.dcm", owed: bool = False) -> StoreJob:
    """Return the job for an object whose file has been staged."""
    data = data_set()
    table = ElementTable(data, EXPLICIT_LE)
    entry = station.index.entry(table, repair(table, station.settings))
    device = station.devices.choose()
    known = station.find(entry.sop_instance)
    replaces = known is not None and known.name == name
    staged = device.stage(entry.sop_instance, name, [data], rewrites=replaces)
    placing = Placing(device, name, known, replaces, by_hash=False, staged=staged, sha256="abc")
    return StoreJob(
        station.index, CompletedRewrites(), entry, placing, obligations(station, entry, owed),
        station.clock,
    )  # fmt: skip


def obligations(station: Station, entry: Entry, owed: bool) -> Obligations:
    item = Incoming(
        Payload(), ElementTable(b"", EXPLICIT_LE), "MODALITY", "DGATE", Repaired(), entry
    )
    found = Obligations(station.devices.spool, item, kept=True)
    if owed:
        found.drafts.append(DEBT)
    return found


def test_rows_debts_and_file_come_together(station: Station) -> None:
    storing = job(station, owed=True)

    assert station.writer.run(storing) is None

    assert (storing.entered, storing.published) == (True, True)
    assert station.ref().name == "new/1.dcm"
    assert [debt["destination"] for debt in station.debts()] == ["SINK"]
    assert station.files() == ["new/1.dcm"]
    assert storing.synced


def test_unexpected_object_is_returned_and_nothing_is_written(station: Station) -> None:
    """Another gateway stored the instance after it was looked up."""
    storing = job(station, owed=True)
    station.send(data_set())
    before = station.ref()
    station.index.is_alone = False

    assert station.writer.run(storing) == before

    assert (storing.entered, storing.published) == (False, False)
    assert (station.ref(), station.debts()) == (before, [])


def test_row_that_another_program_entered_is_the_databases_refusal(station: Station) -> None:
    storing = job(station, owed=True)
    station.send(data_set())
    before = station.ref()
    assert station.index.is_alone

    with pytest.raises(StoreError, match="the database refused a row"):
        station.writer.run(storing)

    assert not storing.published
    assert (station.ref(), station.debts()) == (before, [])


def test_object_that_moved_meanwhile_is_not_overwritten(station: Station) -> None:
    station.send(data_set())
    storing = job(station, name=station.ref().name, owed=True)
    known = station.ref()
    # It has got another name since.
    storing.placing.known = replace(known, name="elsewhere")

    found = station.writer.run(storing)

    assert found == known
    assert (storing.entered, storing.published, storing.publish()) == (False, False, frozenset())
    assert station.debts() == []
    assert station.rewrites() == []


def test_replaced_object_leaves_a_note_with_its_hash(station: Station) -> None:
    station.send(data_set())
    storing = job(station, name=station.ref().name)

    found = station.writer.run(storing)

    assert found is not None
    assert found.sop_instance == SOP
    assert storing.published
    [note] = station.index.rewrites()
    assert (note.sop_instance, note.sha256) == (SOP, "abc")


def test_job_that_is_run_again_forgets_its_first_run(station: Station) -> None:
    storing = job(station)

    class Conflict(Exception):
        """Another gateway got in the way."""

    def first(transaction: Transaction) -> None:
        storing.work(transaction)
        assert storing.entered
        raise Conflict

    with pytest.raises(Conflict):
        station.writer.transact(first)
    assert station.find() is None

    station.writer.run(storing)
    assert station.ref().name == "new/1.dcm"


def test_debts_alone_refer_to_the_copy_in_the_spool(station: Station) -> None:
    table = ElementTable(data_set(), EXPLICIT_LE)
    entry = station.index.entry(table, repair(table, station.settings))
    owing = DebtJob(station.index, entry, obligations(station, entry, True), station.clock)

    station.writer.run(owing)

    assert owing.committed
    [debt] = station.debts()
    assert (debt["destination"], debt["device"], debt["sop_instance"]) == ("SINK", "SPOOL", SOP)
    assert station.find() is None
