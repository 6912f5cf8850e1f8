"""Background housekeeping: it hears the alarm, keeps its hours, and lives on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.changes import ChangeLog, record_of
from dgate.archive.housekeeping import IN_VAIN_S, Housekeeper, next_time
from tests.archive.maintenance.ward import Disk, Ward, open_ward
from tests.rules import kit

MB = 1 << 20
DAY = 86400.0
# Thresholds are in megabytes, so the pretended disk is as large as they are.
LOW = 10


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time of a place with summer time."""
    monkeypatch.setenv("TZ", "Europe/Amsterdam")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def opened(tmp_path: Path, free_mb: float, **settings: Any) -> tuple[Ward, Disk, Housekeeper]:
    disk = Disk({"mag0": int(free_mb * MB), "mag1": 1 << 40})
    settings = {"mag_devices": (tmp_path / "mag0",), **settings}
    ward = open_ward(tmp_path, disk=disk, **settings)
    keeper = Housekeeper(lambda: ward.caretaker, ward.devices.alarm, ward.clock)
    return ward, disk, keeper


def store(ward: Ward, *patients: str) -> None:
    for patient in patients:
        ward.add(1, patient=patient, PixelData=bytes(MB // 2))
        ward.clock.seconds += 2 * 3600


def left(ward: Ward) -> list[str]:
    return sorted({ref.patient_id for ref in ward.refs()})


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_above_the_threshold_an_alarm_deletes_nobody(tmp_path: Path) -> None:
    """Also where less than 1005 MB more than the threshold are free."""
    ward, _, keeper = opened(tmp_path, LOW + 3, mag_device_threshold_mb=LOW)
    store(ward, "P1", "P2", "P3", "P4")

    keeper.clean_device("MAG0")

    assert len(left(ward)) == 4
    ward.close()


def test_cleaning_ends_1005_megabytes_above_the_threshold(tmp_path: Path) -> None:
    """MAGDeviceThreshold; the files are sparse, so they only look large."""
    ward, disk, keeper = opened(tmp_path, 1 << 20, mag_device_threshold_mb=LOW)
    store(ward, "P1", "P2", "P3", "P4", "P5")
    for ref in ward.refs():
        with ward.path(ref.sop_instance).open("r+b") as file:
            file.truncate(400 * MB)
    disk.free["mag0"] = 5 * 400 * MB + (LOW - 1) * MB

    keeper.clean_device("MAG0")

    # 9, 409, 809, 1209: the first that is 1015 or more.
    assert left(ward) == ["P4", "P5"]
    assert ward.caretaker.cleaner.free("MAG0") == 1209 * MB
    ward.close()


def test_storing_below_the_threshold_starts_a_clean_up(tmp_path: Path) -> None:
    ward, disk, keeper = opened(tmp_path, LOW + 3000, mag_device_threshold_mb=LOW)
    store(ward, "P1", "P2", "P3", "P4")
    disk.free["mag0"] = int(LOW * MB)
    keeper.start()
    try:
        ward.add(2, patient="P4")
        until(lambda: left(ward) == ["P4"], "the old patients are gone, the new one is spared")
    finally:
        keeper.stop()
    [*_, record] = ward.recorded()
    assert (record["who"], record["why"]) == ("the server", f"MAGDeviceThreshold = {LOW}")
    ward.close()


def test_ignoring_the_thresholds_cleans_nothing(tmp_path: Path) -> None:
    """IgnoreMAGDeviceThreshold."""
    ward, _, keeper = opened(
        tmp_path,
        1,
        mag_device_threshold_mb=LOW,
        nightly_clean_threshold_mb=LOW,
        ignore_mag_device_threshold=True,
    )
    store(ward, "P1", "P2")

    assert ward.devices.alarm.take() == frozenset()
    keeper._plan()
    assert keeper._due == {}
    ward.close()


def test_without_threshold_storing_never_rings(tmp_path: Path) -> None:
    ward, _, _ = opened(tmp_path, 2)

    store(ward, "P1")

    assert ward.devices.alarm.take() == frozenset()
    ward.close()


def test_a_clean_up_in_vain_is_said_and_not_repeated_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ward, _, keeper = opened(tmp_path, 5, mag_device_threshold_mb=LOW)
    store(ward, "P1")
    ward.owe("1.2.801.1.1.1")

    keeper.clean_device("MAG0")
    assert "not enough could be deleted from MAG0" in caplog.text
    assert left(ward) == ["P1"]

    ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = 'done'"))
    keeper.clean_device("MAG0")
    assert left(ward) == ["P1"]

    ward.clock.seconds += IN_VAIN_S
    keeper.clean_device("MAG0")
    assert left(ward) == []
    ward.close()


def test_nightly_cleaning_frees_five_megabytes_more_than_asked(tmp_path: Path) -> None:
    """NightlyCleanThreshold, whatever the log is written to."""
    ward, disk, keeper = opened(tmp_path, LOW + 40, nightly_clean_threshold_mb=LOW)
    store(ward, *(f"P{number}" for number in range(1, 10)), *(f"Q{n}" for n in range(1, 10)))
    keeper.clean_by_night()
    assert len(left(ward)) == 18

    # 9 MB of files lie there; 1 MB less than the threshold is free.
    used = 18 * (MB // 2 + 2000)
    disk.free["mag0"] = (LOW - 1) * MB + used
    keeper.clean_by_night()

    free = ward.caretaker.cleaner.free()
    assert (LOW + 5) * MB <= free < (LOW + 5.6) * MB
    # From 9 to 15 MB, half a megabyte each: twelve had to go.
    assert left(ward) == ["Q4", "Q5", "Q6", "Q7", "Q8", "Q9"]
    ward.close()


def test_the_night_comes_once_a_day_and_the_thread_sleeps_until_then(
    tmp_path: Path, zone: None
) -> None:
    ward, _, keeper = opened(tmp_path, 1, nightly_clean_threshold_mb=LOW)
    ward.clock.seconds = time.mktime((2026, 3, 10, 23, 0, 0, 0, 0, -1))

    assert keeper._until_due() == 2 * 3600
    ward.clock.seconds += 2 * 3600
    assert [job.__name__ for job in keeper._jobs_due()] == ["clean_by_night"]
    assert keeper._jobs_due() == []
    assert keeper._until_due() == DAY
    ward.close()


def test_a_changed_configuration_is_heard_at_once(tmp_path: Path) -> None:
    ward, _, keeper = opened(tmp_path, 1)
    keeper.start()
    try:
        # Without anything to do the thread would sleep for an hour; a stop must not wait for it.
        keeper.apply(object())
    finally:
        started = time.monotonic()
        keeper.stop()
        keeper.stop()
    assert time.monotonic() - started < 600
    ward.close()


@pytest.mark.parametrize(
    ("now", "minute", "then"),
    [
        ((2026, 1, 10, 0, 59), 60, (2026, 1, 10, 1, 0)),
        ((2026, 1, 10, 1, 0), 60, (2026, 1, 11, 1, 0)),
        ((2026, 12, 31, 23, 0), 120, (2027, 1, 1, 2, 0)),
        ((2026, 3, 28, 23, 0), 60, (2026, 3, 29, 1, 0)),
        ((2026, 10, 24, 23, 0), 210, (2026, 10, 25, 3, 30)),
    ],
)
def test_the_next_time_of_day_is_by_the_local_clock(
    zone: None, now: tuple[int, ...], minute: int, then: tuple[int, ...]
) -> None:
    def at(moment: tuple[int, ...]) -> float:
        return time.mktime((*moment, 0, 0, 0, -1))  # type: ignore[arg-type]

    assert next_time(at(now), minute) == at(then)


def test_the_hour_that_summer_time_skips_does_not_skip_the_night(zone: None) -> None:
    now = time.mktime((2026, 3, 29, 1, 30, 0, 0, 0, -1))

    assert now < next_time(now, 150) <= now + 2 * 3600


def test_a_clock_that_was_set_back_does_not_postpone_the_night(tmp_path: Path) -> None:
    ward, _, keeper = opened(tmp_path, 1, nightly_clean_threshold_mb=LOW)
    keeper._until_due()

    ward.clock.seconds -= 400 * DAY

    assert keeper._until_due() <= DAY + 3600
    ward.close()


def test_old_patients_move_to_the_target_by_night(tmp_path: Path) -> None:
    """NightlyMoveThreshold and NightlyMoveTarget; open deliveries do not keep anybody."""
    ward, disk, keeper = opened(
        tmp_path,
        LOW + 40,
        mag_devices=(tmp_path / "mag0", tmp_path / "mag1"),
        nightly_move_threshold_mb=LOW,
        nightly_move_target="MAG1",
    )
    store(ward, *(f"P{number}" for number in range(1, 10)), *(f"Q{n}" for n in range(1, 10)))
    ward.owe("1.2.801.1.1.1")
    keeper.move_by_night()
    assert {ref.device for ref in ward.refs()} == {"MAG0"}

    disk.free["mag0"] = (LOW - 1) * MB + 18 * (MB // 2 + 2000)
    keeper.move_by_night()

    moved = sorted(ref.patient_id for ref in ward.refs() if ref.device == "MAG1")
    assert moved[:9] == [f"P{number}" for number in range(1, 10)]
    assert 11 <= len(moved) <= 13
    assert ward.caretaker.cleaner.free("MAG0") >= (LOW + 5) * MB
    assert len(ward.refs()) == 18
    records = [record for record in ward.recorded() if record["action"] == "move"]
    assert [record["patient"] for record in records] == moved
    ward.close()


def test_the_time_of_moving_is_the_one_in_dicom_ini(tmp_path: Path, zone: None) -> None:
    """NightlyStrTimeToMove."""
    ward, _, keeper = opened(
        tmp_path,
        1,
        mag_devices=(tmp_path / "mag0", tmp_path / "mag1"),
        nightly_move_threshold_mb=LOW,
        nightly_move_target="MAG1",
        nightly_move_minute=4 * 60 + 30,
    )
    ward.clock.seconds = time.mktime((2026, 3, 10, 4, 0, 0, 0, 0, -1))

    assert keeper._until_due() == 1800
    ward.close()


def test_a_job_that_fails_does_not_end_the_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ward, _, keeper = opened(tmp_path, 5, mag_device_threshold_mb=LOW)
    store(ward, "P1")
    ward.devices.alarm.take()
    elsewhere = tmp_path / "elsewhere"
    keeper.start()
    try:
        (tmp_path / "mag0").rename(elsewhere)
        ward.devices.alarm.ring("MAG0")
        until(lambda: "folder of MAG0 is not there" in caplog.text, "the failure is logged")
        assert left(ward) == ["P1"]
        elsewhere.rename(tmp_path / "mag0")
        ward.devices.alarm.ring("MAG0")
        until(lambda: left(ward) == [], "the next alarm is heard")
    finally:
        keeper.stop()
    ward.close()


def test_old_records_of_change_are_forgotten_by_night(tmp_path: Path) -> None:
    """ChangeLogDays."""
    ward, _, keeper = opened(tmp_path, 1 << 20, change_log=True, change_log_days=3)
    changes = ChangeLog(ward.database)
    table = kit.table()
    original = table.snapshot()
    table.set_text(0x00100020, "X")
    record = record_of(original, table, ["ImportConverter0"])
    assert record is not None
    for days in (1.0, 2.9, 3.1, 9.0):
        made = ward.clock.now() - days * DAY
        ward.writer.transact(lambda transaction, made=made: changes.add(record, transaction, made))

    keeper.forget_by_night()

    ages = [(ward.clock.now() - one.made) / DAY for one in changes.of(record.sop_instance)]
    assert [round(age, 1) for age in ages] == [1.0, 2.9]
    ward.close()
