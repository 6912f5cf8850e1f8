"""Rebuilding and verifying an index that a database server keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.devices import FolderDevice
from dgate.archive.maintenance.catalog import read_catalog
from dgate.archive.maintenance.readonly import open_read_only
from dgate.archive.maintenance.verify import Verification
from dgate.config.layout import default_layout
from tests.archive.intake_kit import Station, data_set, open_station
from tests.archive.maintenance.regen_kit import put, rebuild

pytestmark = pytest.mark.integration


@pytest.fixture(params=["postgres", "mariadb"])
def station(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Station]:
    server = request.getfixturevalue(request.param)
    station = open_station(tmp_path, **server.settings())
    for number in range(4):
        station.send(
            data_set(
                SOPInstanceUID=f"1.2.3.{number}.1.1",
                SeriesInstanceUID=f"1.2.3.{number}.1",
                StudyInstanceUID=f"1.2.3.{number}",
                PatientID=f"P{number}",
                PatientName="Müller^Jürgen",
                SpecificCharacterSet="ISO_IR 192",
            ),
            sop_instance=f"1.2.3.{number}.1.1",
        )
    yield station
    station.index.close()
    station.close()


def rows(station: Station) -> list[tuple[Any, ...]]:
    """Return the texts of all four tables and of the side table."""
    tables = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages", "dgate_folded")
    with station.database.reader() as connection:
        return [
            tuple(cell for cell in row if isinstance(cell, str))
            for table in tables
            for row in sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
        ]


def test_rebuild_gives_the_rows_that_ingest_gave(station: Station) -> None:
    before = rows(station)

    summary = rebuild(station, from_empty=True)
    again = rebuild(station)

    assert (summary["entered"], again["known"]) == (4, 4)
    assert sorted(rows(station)) == sorted(before)


def test_conflict_undoes_its_own_rows_only(station: Station) -> None:
    put(station, "a.dcm", "1.2.3.0.1.2", SeriesInstanceUID="1.2.3.0.1", PatientID="OTHER")
    put(
        station,
        "b.dcm",
        "1.2.3.0.1.3",
        PatientID="P0",
        StudyInstanceUID="1.2.3.0",
        SeriesInstanceUID="1.2.3.0.1",
    )

    summary = rebuild(station)

    assert (summary["known"], summary["refused"], summary["entered"]) == (4, 1, 1)
    assert station.find("1.2.3.0.1.2") is None
    assert station.find("1.2.3.0.1.3") is not None


def test_row_without_file_is_found_and_removed(station: Station) -> None:
    station.path("1.2.3.2.1.1").unlink()

    found = verify(station)
    summary = rebuild(station, prune=True)

    assert (found["without_file"], found["sound"]) == (1, 3)
    assert (summary["missing"], summary["pruned"]) == (1, 1)
    assert verify(station)["clean"]


def verify(station: Station) -> dict[str, Any]:
    """Look at everything and return the summary."""
    settings = station.settings
    devices = [FolderDevice("MAG0", settings.mag_devices[0])]
    with open_read_only(settings, in_use=True) as opened:
        catalog = read_catalog(opened.connection, opened.database, default_layout(10, 0), settings)
        work = Verification(
            opened.database, opened.connection, catalog.required(), devices, True, 0
        )
        return list(work.run())[-1]


def test_read_only_connection_writes_nothing(station: Station) -> None:
    with open_read_only(station.settings, in_use=True) as opened:
        errors = opened.database.errors
        with pytest.raises(errors, match=r"(?i)read.only"):
            opened.connection.execute("DELETE FROM DICOMImages")
