"""C-STORE over a whole archive: success only after it is stored, each failure with its status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.ingest import Ingest
from dgate.archive.records import Arrival
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import DatabaseAway, NotDicom, OutOfSpace, Refused, StoreError
from dgate.net import Association, CommandField, ContextProposal, Router, connect
from dgate.net.dimse import Command
from dgate.net.scu import store
from dgate.ops.log import UserLog
from dgate.services.storage import StorageService
from tests.archive.intake_kit import (
    CT,
    SOP,
    Hooks,
    Station,
    data_set,
    large_data_set,
    open_station,
)
from tests.net.kit import FAST, Server

pytestmark = pytest.mark.integration


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path / "site")
    yield made
    made.close()


class _Serving(Server):
    """A server whose C-STORE is the service's, payloads included."""

    def __init__(self, service: StorageService) -> None:
        super().__init__(handlers={(CommandField.C_STORE_RQ, CT): service.store})
        self.router = Router({(CommandField.C_STORE_RQ, CT): service.store}, service.payload)

    def _serve(self, association: Association) -> None:
        self.router.run(association)


@contextmanager
def sending(station: Station, folder: Path, syntax: str = EXPLICIT_LE) -> Iterator[Association]:
    """Serve C-STORE and yield an association with the service."""
    service = StorageService(station.settings, station.ingest, UserLog(folder / "user.log"))
    server = _Serving(service)
    try:
        proposal = ContextProposal(CT, (syntax,))
        with connect(
            "127.0.0.1", server.listener.port, "CT1", "GATE", (proposal,), timeouts=FAST
        ) as association:
            yield association
    finally:
        server.listener.stop(0.0)


def send(association: Association, data: bytes, sop_instance: str = SOP) -> Command:
    """Send an object and return the response."""
    return store(association, 1, CT, sop_instance, [data])


@pytest.mark.parametrize("data", [data_set(), large_data_set()], ids=["small", "large"])
def test_success_means_that_the_object_is_there(
    station: Station, tmp_path: Path, data: bytes
) -> None:
    with sending(station, tmp_path) as association:
        response = send(association, data)
        assert station.content() == data

    assert (response.status, response.sop_instance) == (0, SOP)
    assert (tmp_path / "user.log").read_text().endswith('"C-Store","CT1             "\n')


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OutOfSpace("all storage devices are full"), 0xA700),
        (DatabaseAway("the index is away"), 0xA700),
        (NotDicom("it is garbage"), 0xC000),
        (Refused("a rule refused it"), 0x0110),
        (StoreError("something else"), 0x0110),
    ],
)
def test_failure_has_its_status_and_its_reason_and_the_next_object_goes_on(
    station: Station,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: StoreError,
    status: int,
) -> None:
    def fail(ingest: Ingest, arrival: Arrival) -> Any:
        arrival.payload.close()
        raise error

    with sending(station, tmp_path) as association:
        with monkeypatch.context() as patch:
            patch.setattr(Ingest, "store", fail)
            response = send(association, data_set())
        again = send(association, data_set())

    assert (response.status, response.error_comment) == (status, error.what)
    assert again.status == 0


def test_object_that_differs_from_the_command_is_a_mismatch(
    station: Station, tmp_path: Path
) -> None:
    with sending(station, tmp_path) as association:
        response = send(association, data_set(), "1.2.3.99")

    assert response.status == 0xA900
    assert station.files() == []


def test_command_without_instance_is_a_mismatch(station: Station, tmp_path: Path) -> None:
    with sending(station, tmp_path) as association:
        response = send(association, data_set(), "")

    assert response.status == 0xA900
    assert station.files() == []


@pytest.mark.parametrize(("classic", "status"), [(False, 0xC000), (True, 0x0123)])
def test_classic_codes_give_the_one_that_is_configured(
    tmp_path: Path, classic: bool, status: int
) -> None:
    station = open_station(
        tmp_path / "site", classic_status_codes=classic, storage_failed_error_code=0x0123
    )
    with sending(station, tmp_path) as association:
        response = send(association, b"\xff" * 100)
    station.close()

    assert response.status == status


def test_rule_that_drops_an_object_is_a_success(tmp_path: Path) -> None:
    from dgate.rules.effects import ImportVerdict, Outcome

    def drop(table: object, verdict: ImportVerdict) -> None:
        verdict.outcome = Outcome.DESTROY

    station = open_station(tmp_path / "site", hooks=Hooks(on_import=drop))
    with sending(station, tmp_path) as association:
        assert send(association, data_set()).status == 0
    assert station.find() is None
    station.close()
