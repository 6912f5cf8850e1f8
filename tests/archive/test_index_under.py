"""One index under several settings, as while a changed configuration is applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive.index import Index
from dgate.archive.ingest import Ingest, Traffic
from dgate.archive.naming import Naming
from dgate.archive.repair import repair
from dgate.archive.writer import Transaction
from dgate.dicom.table import ElementTable
from dgate.errors import Refused
from tests.archive.database_kit import Archive, image, open_archive, setup
from tests.archive.intake_kit import open_station


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(setup(tmp_path))
    yield opened
    opened.close()


def enter(archive: Archive, index: Index, table: ElementTable, name: str) -> None:
    """Store the rows of an object through one form of the index."""
    entry = index.entry(table, repair(table, archive.settings))
    archive.writer.transact(
        lambda transaction: index.enter(
            transaction, entry, "MAG0", name, index.stored(transaction, entry), 1000.0
        )
    )


def test_rows_that_one_form_removed_are_written_again_by_the_other(archive: Archive) -> None:
    old, new = archive.index, archive.index.under(archive.settings)
    enter(archive, old, image(), "a.dcm")
    archive.writer.transact(lambda tx: new.delete_instance(tx, "1.2.3.1.1.1"))

    enter(archive, old, image(SOPInstanceUID="1.2.3.1.1.2"), "b.dcm")

    assert archive.index.counts() == (1, 1, 1, 1)


def test_the_last_value_counts_whoever_wrote_it(archive: Archive) -> None:
    old, new = archive.index, archive.index.under(archive.settings)
    enter(archive, old, image(StudyDate="20240101"), "a.dcm")
    enter(archive, new, image(SOPInstanceUID="1.2.3.1.1.2", StudyDate="20240202"), "b.dcm")
    enter(archive, old, image(SOPInstanceUID="1.2.3.1.1.3", StudyDate="20240101"), "c.dcm")

    assert archive.value("SELECT StudyDate FROM DICOMStudies") == "20240101"


def test_each_form_judges_by_its_own_settings(archive: Archive) -> None:
    tolerant = archive.index.under(replace(archive.settings, allow_empty_patient_id=True))
    enter(archive, archive.index, image(), "a.dcm")
    other = image(SOPInstanceUID="1.2.3.1.1.2", PatientID="")

    entry = archive.index.entry(other, repair(other, tolerant._settings))

    def strictly(transaction: Transaction) -> None:
        archive.index.enter(transaction, entry, "MAG0", "b.dcm", None, 1000.0)

    with pytest.raises(Refused):
        archive.writer.transact(strictly)
    archive.writer.transact(lambda tx: tolerant.enter(tx, entry, "MAG0", "b.dcm", None, 1000.0))


def test_a_name_that_one_intake_has_promised_is_taken_for_the_other(tmp_path: Path) -> None:
    station = open_station(tmp_path, file_name_syntax="%id/same.dcm")
    traffic = Traffic.of(station.settings)

    def intake() -> Ingest:
        return Ingest(
            station.settings,
            station.index.under(station.settings),
            station.writer,
            station.devices,
            Naming(station.settings, station.clock),
            None,
            None,
            station.clock,
            lambda: None,
            traffic,
        )

    first, second = intake(), intake()
    device = station.devices.choose()
    promised = first._names.reserve(device, "X/same.dcm")

    assert promised == "X/same.dcm"
    assert second._names.reserve(device, "X/same.dcm") == "X/same_1.dcm"
