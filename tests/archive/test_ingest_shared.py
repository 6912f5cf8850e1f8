"""Storing by several gateways at once, with one PostgreSQL and one device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from dgate.archive import reservations
from dgate.archive.ownership import Owner
from dgate.config.settings import Durability
from tests.archive.intake_kit import SOP, Station, data_set, open_station

if TYPE_CHECKING:
    from tests.servers import PostgresServer

ROUNDS = 25


@pytest.fixture
def gateways(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Station]]:
    # However busy the machine is.
    monkeypatch.setattr(reservations, "OTHERS_WAIT_S", 600.0)
    settings = postgres.settings(
        # A name that tells instances apart by nothing: every two objects want the same.
        file_name_syntax="%id/image.dcm",
        durability=Durability.NONE,
    )
    made = [
        open_station(tmp_path, owner=Owner.named(name, shared=True), **settings)
        for name in ("one", "other", "third")
    ]
    yield made
    for station in made:
        station.index.close()
        station.close()


def at_once(gateways: list[Station], work: Callable[[Station, int], None]) -> None:
    """Work on all gateways at once; the first error of any is raised."""
    start = threading.Barrier(len(gateways))
    errors: list[BaseException] = []

    def run(number: int, station: Station) -> None:
        start.wait()
        try:
            work(station, number)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(number, station))
        for number, station in enumerate(gateways)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_objects_that_want_one_name_get_a_file_each(gateways: list[Station]) -> None:
    def work(station: Station, number: int) -> None:
        for each in range(ROUNDS):
            uid = f"1.2.{number + 1}.{each}"
            station.send(data_set(SOPInstanceUID=uid), sop_instance=uid)

    at_once(gateways, work)

    for number in range(len(gateways)):
        for each in range(ROUNDS):
            uid = f"1.2.{number + 1}.{each}"
            assert gateways[0].content(uid) == data_set(SOPInstanceUID=uid)
    assert len(gateways[0].files()) == len(gateways) * ROUNDS


def test_index_and_file_of_an_object_that_all_get_at_once_agree(gateways: list[Station]) -> None:
    """Each sends other contents under one UID: the last one counts, in both."""

    def work(station: Station, number: int) -> None:
        for each in range(ROUNDS):
            station.send(data_set(InstanceNumber=str(1000 * number + each)))

    at_once(gateways, work)

    station = gateways[0]
    with station.database.reader() as connection:
        [(indexed,)] = connection.execute("SELECT imagenumbe FROM dicomimages").fetchall()
    stored = dcmread(station.path())
    assert stored.SOPInstanceUID == SOP
    assert int(stored.InstanceNumber) == int(indexed)
    assert station.files() == [station.ref().name]
