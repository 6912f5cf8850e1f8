"""C-STORE while a disk breaks under an object that has arrived: which status the sender hears."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.ingest import Ingest
from dgate.archive.records import Arrival, Receipt
from dgate.config.settings import DuplicateContent, V2Content
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.rules.effects import Forward, ImportForward
from dgate.rules.effects import Outcome as RuleOutcome
from tests.archive.intake_kit import SOP, Hooks, Station, data_set, large_data_set, open_station
from tests.services.test_storage import send, sending

pytestmark = pytest.mark.integration

OUT_OF_RESOURCES = 0xA700
OTHER_SOP = "1.2.9"

NAMING = ("rename", "unlink")
"""Calls that a disk refuses that was mounted read-only beneath an open file, with MAKING."""
MAKING = ("open", "makedirs", "link", "mkdir")


@dataclass
class Disk:
    """A folder whose disk breaks as soon as an object is there, and only until it was answered."""

    folder: Path
    calls: tuple[str, ...]
    code: int = errno.EROFS
    is_broken: bool = False
    refused: list[str] = field(default_factory=list)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let system calls of this process see the disk as it is."""
        for call in self.calls:
            monkeypatch.setattr(os, call, self._guarded(call, getattr(os, call)))
        real = Ingest.store

        def store(ingest: Ingest, arrival: Arrival) -> Receipt:
            self.is_broken = True
            try:
                return real(ingest, arrival)
            finally:
                self.is_broken = False

        monkeypatch.setattr(Ingest, "store", store)

    def _guarded(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*places: Any, **more: Any) -> Any:
            named = places[:2] if call in ("rename", "link") else places[:1]
            reads = call == "open" and not places[1] & os.O_CREAT
            if self.is_broken and not reads and any(f"{self.folder}/" in str(p) for p in named):
                self.refused.append(call)
                raise OSError(self.code, os.strerror(self.code), str(places[0]))
            return real(*places, **more)

        return guarded


@contextmanager
def station_on(base: Path, devices: int, **changes: Any) -> Iterator[Station]:
    """Open an archive with so many devices."""
    folders = tuple(base / f"mag{number}" for number in range(devices))
    station = open_station(base, mag_devices=folders, **changes)
    yield station
    station.close()


def left_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log says of temporary files; a handler that raised is one too many."""
    assert [record for record in caplog.records if record.name == "dgate.net.router"] == []
    return [line for line in caplog.messages if "could not be removed" in line]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("calls", [NAMING, (*NAMING, *MAKING)], ids=["names", "all"])
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_disk_that_takes_no_names_any_more_is_out_of_resources_or_passed_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make: Callable[..., bytes],
    devices: int,
    calls: tuple[str, ...],
    code: int,
) -> None:
    disk = Disk(tmp_path / "mag0", calls, code)
    with station_on(tmp_path, devices) as station, sending(station, tmp_path) as association:
        assert send(association, make(SOPInstanceUID=OTHER_SOP), OTHER_SOP).status == 0
        with monkeypatch.context() as patch:
            disk.patch(patch)
            statuses = [send(association, make()).status for _ in range(3)]

        assert disk.refused
        # A small file whose name is refused has been entered by then: recovery gives it the name.
        entered = make is data_set and calls is NAMING
        refused = devices == 1 or entered
        assert statuses[0] == (OUT_OF_RESOURCES if refused else 0)
        if devices == 1:
            assert set(statuses) == {OUT_OF_RESOURCES}
        assert len(left_lines(caplog)) == (1 if make is large_data_set else 0)

        station.recover()
        assert send(association, make()).status == 0
    with station_on(tmp_path, devices) as station:
        station.recover()
        assert station.content() == make()
        assert station.files() == sorted([station.ref().name, station.ref(OTHER_SOP).name])


def change(table: Any, verdict: Any) -> None:
    """Stand for a rule that makes another object of what arrived."""
    table.set_text(0x00081030, "Changed")


def forward_and_destroy(table: Any, verdict: Any) -> None:
    """Stand for a rule that only passes on."""
    verdict.forwards.append(ImportForward(Forward("DEST", "R"), table.snapshot()))
    verdict.outcome = RuleOutcome.DESTROY


def forward_a_changed_copy(table: Any, verdict: Any) -> None:
    """Stand for a rule that passes on what did not arrive."""
    change(table, verdict)
    forward_and_destroy(table, verdict)


def destroy(table: Any, verdict: Any) -> None:
    """Stand for a rule that keeps nothing."""
    verdict.outcome = RuleOutcome.DESTROY


@pytest.mark.parametrize(
    ("rule", "debts"),
    [(None, 0), (change, 0), (forward_and_destroy, 1), (forward_a_changed_copy, 1), (destroy, 0)],
    ids=["kept", "changed", "forwarded", "forwarded changed", "dropped"],
)
@pytest.mark.parametrize("make", [data_set, large_data_set], ids=["small", "large"])
def test_temporary_file_that_stays_changes_no_answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make: Callable[..., bytes],
    rule: Callable[[Any, Any], None] | None,
    debts: int,
) -> None:
    disk = Disk(tmp_path / "mag0", ("unlink",), errno.EIO)
    instances = [f"1.2.9.{number}" for number in range(3)]
    with (
        station_on(tmp_path, 1, hooks=Hooks(on_import=rule)) as station,
        sending(station, tmp_path) as association,
    ):
        with monkeypatch.context() as patch:
            disk.patch(patch)
            statuses = [
                send(association, make(SOPInstanceUID=each), each).status for each in instances
            ]

        assert statuses == [0, 0, 0]
        assert len(station.debts()) == 3 * debts
        # What is kept as it arrived is not removed but renamed.
        stays = make is large_data_set and rule is not None
        assert len(left_lines(caplog)) == (1 if stays else 0)
        assert len(list((tmp_path / "mag0/dgate/incoming").iterdir())) == (3 if stays else 0)

        station.recover()

        assert list((tmp_path / "mag0/dgate/incoming").iterdir()) == []
        if rule in (None, change):
            for each in instances:
                assert station.content(each)
        assert len(station.debts()) == 3 * debts


def unreadable_when_stored(patch: pytest.MonkeyPatch) -> list[str]:
    """Let the disk refuse to give back the first object that is stored from now on, and return the
    calls that it refused."""
    broken: set[int] = set()
    refused: list[str] = []
    real_store = Ingest.store

    def store(ingest: Ingest, arrival: Arrival) -> Receipt:
        assert arrival.payload.spilled is not None
        broken.add(arrival.payload.spilled.descriptor)
        try:
            return real_store(ingest, arrival)
        finally:
            broken.clear()

    def guarded(call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def read(descriptor: int, *rest: Any, **more: Any) -> Any:
            if descriptor in broken:
                refused.append(call)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(descriptor, *rest, **more)

        return read

    patch.setattr(Ingest, "store", store)
    for call in ("pread", "preadv", "copy_file_range"):
        patch.setattr(os, call, guarded(call, getattr(os, call)))
    return refused


@pytest.mark.parametrize(
    ("rule", "settings", "is_known"),
    [
        (None, {}, False),
        (None, {}, True),
        (change, {}, False),
        (forward_a_changed_copy, {}, False),
        (None, {"incoming_compression": "ul"}, False),
        (None, {"file_name_syntax": "%sopuid.v2", "v2_content": V2Content.RAW}, False),
        (None, {"duplicate_content": DuplicateContent.ASIDE}, True),
    ],
    ids=["header", "hashed", "staged", "spool", "decoded", "without header", "compared"],
)
@pytest.mark.parametrize("devices", [1, 2])
def test_object_that_cannot_be_read_back_is_out_of_resources_wherever_it_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    rule: Callable[[Any, Any], None] | None,
    settings: dict[str, Any],
    is_known: bool,
    devices: int,
) -> None:
    syntax = IMPLICIT_LE if "incoming_compression" in settings else EXPLICIT_LE
    with (
        station_on(tmp_path, devices, hooks=Hooks(on_import=rule), **settings) as station,
        sending(station, tmp_path, syntax) as association,
    ):
        if is_known:
            assert send(association, large_data_set(syntax)).status == 0
        before = station.files()
        again = large_data_set(syntax, StudyDescription="Second")
        with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
            refused = unreadable_when_stored(patch)
            response = send(association, again)

        assert refused
        assert response.status == OUT_OF_RESOURCES
        assert "read" in str(response.error_comment)
        assert (station.files(), station.debts()) == (before, [])
        assert left_lines(caplog) == []
        lasting = [line for line in caplog.messages if "Objects are refused as long" in line]
        assert len(lasting) == 1
        assert "the disk fails" in lasting[0]

        # The sender comes again, and the disk that has lost it goes last.
        assert send(association, again).status == 0
        if rule is forward_a_changed_copy:
            assert len(station.debts()) == 1
        elif "duplicate_content" not in settings:
            assert station.ref(SOP).device == f"MAG{devices - 1}"
