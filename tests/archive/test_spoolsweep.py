"""The look through the spool that follows a start."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.batches import AT_ONCE
from dgate.archive.spool import Spool
from dgate.archive.spoolsweep import SpoolSweep, Swept, sweep
from dgate.rules.effects import Forward, ImportForward
from dgate.rules.effects import Outcome as RuleOutcome
from tests.acceptance.processes import wait_until
from tests.archive.intake_kit import SOP, Hooks, Station, data_set, open_station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path)
    yield made
    made.close()


def forward_and_destroy(table: Any, verdict: Any) -> None:
    verdict.forwards.append(ImportForward(Forward("DEST", "R"), table.snapshot()))
    verdict.outcome = RuleOutcome.DESTROY


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_copy_goes_once_all_its_debts_are_closed(tmp_path: Path, state: str) -> None:
    station = open_station(tmp_path, hooks=Hooks(on_import=forward_and_destroy))
    station.send(data_set())
    owed = station.debts()[0]["name"]

    assert station.sweep() == Swept()
    assert list(station.devices.spool.names()) == [owed]

    sql = "UPDATE dgate_debts SET state = ?"
    station.writer.transact(lambda tx: tx.execute(sql, (state,)) and None)
    assert station.sweep() == Swept(removed=1)
    assert station.files() == []
    station.close()


def test_copy_with_one_open_debt_among_closed_ones_stays(tmp_path: Path) -> None:
    def forward_twice(table: Any, verdict: Any) -> None:
        verdict.forwards.append(ImportForward(Forward("OTHER", "R"), table.snapshot()))
        forward_and_destroy(table, verdict)

    station = open_station(tmp_path, hooks=Hooks(on_import=forward_twice))
    station.send(data_set())
    sql = "UPDATE dgate_debts SET state = 'done' WHERE destination = 'OTHER'"
    station.writer.transact(lambda tx: tx.execute(sql) and None)

    assert station.sweep() == Swept()
    assert len(station.files()) == 1
    station.close()


def test_copies_without_any_debt_are_set_aside_with_advice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An acknowledged object must survive the loss of the database with its queue."""
    station = open_station(tmp_path, hooks=Hooks(on_import=forward_and_destroy))
    station.send(data_set())
    owed = station.debts()[0]["name"]
    station.close()
    for path in tmp_path.glob("index.db3*"):
        path.unlink()

    station = open_station(tmp_path)
    assert station.sweep() == Swept(set_aside=1)

    lost = station.devices.spool.folder / "lost"
    assert (lost / owed).read_bytes().endswith(data_set())
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    for part in ("1 object", str(lost), "dgate send", "dgate import"):
        assert part in record.getMessage()
    assert station.sweep() == Swept()
    assert (lost / owed).exists()
    station.close()


def test_spool_without_lost_copies_gets_no_folder_for_them(station: Station) -> None:
    station.sweep()

    assert not (station.devices.spool.folder / "lost").exists()


def test_unfinished_copies_are_removed(station: Station) -> None:
    spill = station.devices.spool.spill(SOP, b"head")
    os.close(spill.descriptor)

    assert station.sweep() == Swept(removed=1)
    assert station.files() == []


def test_copies_of_this_run_are_left_alone(station: Station) -> None:
    """Their debts are perhaps being committed."""
    spool = station.devices.spool
    copy = spool.add([b"copy"])
    spill = spool.spill(SOP, b"head")
    os.close(spill.descriptor)

    assert sweep(spool, station.index) == Swept()
    assert set(spool.names()) == {copy, spill.path.name}


def test_copies_are_asked_for_in_lists(station: Station) -> None:
    """More copies than one statement names."""
    count = 2 * AT_ONCE + 3
    for _ in range(count):
        station.devices.spool.add([])

    assert station.sweep() == Swept(set_aside=count)
    assert list(station.devices.spool.names()) == []


def test_copy_that_vanishes_meanwhile_is_no_problem(station: Station) -> None:
    """Other gateways deliver, too."""
    spool = station.devices.spool

    assert list(spool.set_aside(["gone.dcm"]).iterdir()) == []


def test_sweep_that_is_to_stop_does_nothing(station: Station) -> None:
    station.devices.spool.add([b"copy"])

    assert sweep(Spool(station.devices.spool.folder), station.index, lambda: True) == Swept()
    assert len(station.files()) == 1


def test_part_of_the_server_sweeps_once_and_says_so(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    station.devices.spool.add([b"copy"])
    caplog.set_level(logging.INFO, "dgate.archive.spoolsweep")
    part = SpoolSweep(Spool(station.devices.spool.folder), station.index)

    part.start()
    wait_until(lambda: "0 leftover file(s) removed, 1 copies set aside" in caplog.text, "a sweep")
    part.apply(None)
    part.stop()
    part.stop()

    assert list(station.devices.spool.names()) == []


def test_sweep_that_fails_is_told(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    part = SpoolSweep(Spool(Path("/nowhere/spool")), station.index)

    part.start()
    wait_until(lambda: "could not be looked through" in caplog.text, "a warning")
    part.stop()
