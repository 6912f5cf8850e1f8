"""The thread that looks into watched folders: which, when, and what it says."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive import dropfolder, watcher
from dgate.archive.dropfolder import DropFolder, Tally
from dgate.archive.watcher import Watcher, Watching, _Place, watched_folders
from dgate.clock import SystemClock
from dgate.config.settings import Settings, default_settings
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE
from tests.archive.intake_kit import CT, SOP, FixedClock, Station, data_set, open_station

PATIENCE_S = 60.0


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    made = open_station(tmp_path / "site")
    yield made
    made.close()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, so that no test waits for seconds."""
    monkeypatch.setattr(watcher, "LOOK_S", 0.02)
    monkeypatch.setattr(dropfolder, "SETTLED_S", 0.02)


def image(path: Path, sop_instance: str = SOP) -> Path:
    """Write an image, complete from the first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    content = file_meta(CT, sop_instance, EXPLICIT_LE) + data_set(SOPInstanceUID=sop_instance)
    hidden.write_bytes(content)
    return hidden.rename(path)


def wait_for(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def with_watch(settings: Settings, path: Path | None, **changes: Any) -> Settings:
    return dataclasses.replace(settings, watch_folder=path, **changes)


def looker(path: Path, answers: list[Tally | Exception], named: bool = True) -> _Place:
    """Return a place whose looks have these results."""

    class Twin(DropFolder):
        def look(self) -> Tally:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    return _Place(Twin(path, lambda: None, FixedClock()), named)  # type: ignore[arg-type,return-value]


# Which.


def test_folder_of_the_settings_and_incoming_are_watched(tmp_path: Path) -> None:
    settings = default_settings(tmp_path, mag_devices=(tmp_path / "a", tmp_path / "b"))

    assert watched_folders(settings) == [(tmp_path / "a" / "incoming", False)]
    settings = with_watch(settings, tmp_path / "in")
    assert watched_folders(settings) == [
        (tmp_path / "a" / "incoming", False),
        (tmp_path / "in", True),
    ]


def test_one_folder_is_not_watched_twice(tmp_path: Path) -> None:
    (tmp_path / "a" / "incoming").mkdir(parents=True)
    (tmp_path / "in").symlink_to(tmp_path / "a" / "incoming")
    settings = default_settings(tmp_path, mag_devices=(tmp_path / "a",))

    assert watched_folders(with_watch(settings, tmp_path / "in")) == [(tmp_path / "in", True)]


def test_router_without_devices_watches_what_is_named(tmp_path: Path) -> None:
    settings = default_settings(tmp_path, mag_devices=())

    assert watched_folders(settings) == []
    assert watched_folders(with_watch(settings, tmp_path)) == [(tmp_path, True)]


# When.


@pytest.mark.parametrize(
    ("tally", "took_s", "pause_s"),
    [
        (Tally(), 0.0001, 1.0),
        (Tally(), 0.01, 3.0),
        (Tally(), 5.0, 60.0),
        (Tally(changing=1), 0.01, 1.0),
        (Tally(taken=1), 2.5, 2.5),
        (Tally(waiting="full"), 0.01, 5.0),
    ],
)
def test_pause_keeps_idle_looks_cheap(
    tmp_path: Path, tally: Tally, took_s: float, pause_s: float
) -> None:
    assert looker(tmp_path, [])._pause_s(tally, took_s) == pause_s


def test_pause_grows_while_the_archive_cannot_take_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    full = Tally(waiting="all storage devices are full")
    place, clock, pauses = looker(tmp_path, [full] * 6 + [Tally(taken=1)]), FixedClock(), []
    for _ in range(6):
        place.look(clock)
        pauses.append(place.look_at - clock.monotonic())
    place.look(clock)

    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert caplog.text.count("have to wait: all storage devices are full") == 1
    assert caplog.text.count("are taken again") == 1


@pytest.mark.parametrize(("named", "warnings"), [(True, 1), (False, 0)])
def test_folder_that_is_away_is_told_once_if_somebody_asked_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: bool, warnings: int
) -> None:
    caplog.set_level("INFO")
    gone = FileNotFoundError(2, "No such file or directory")
    place = looker(tmp_path, [gone, gone, gone, Tally(), gone, Tally()], named)
    clock = FixedClock()
    for _ in range(4):
        place.look(clock)

    assert caplog.text.count("cannot be used: No such file") == warnings
    assert caplog.text.count("can be used again") == warnings


def test_folder_that_may_not_be_written_is_told_in_any_case(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    denied = PermissionError(13, "the folder may not be written")
    place = looker(tmp_path, [denied, denied], named=False)
    for _ in range(2):
        place.look(FixedClock())

    assert caplog.text.count("may not be written") == 1


def test_fault_of_dgate_itself_does_not_end_the_watching(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, clock = looker(tmp_path, [ZeroDivisionError("oops"), Tally(taken=1)]), FixedClock()
    place.look(clock)
    place.look(clock)

    assert "failed unexpectedly" in caplog.text


# The thread.


@pytest.mark.usefixtures("_quick")
def test_files_are_taken_until_it_is_stopped(station: Station, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    running = Watcher([(folder, True)], lambda: station.ingest, SystemClock())
    running.start()
    image(folder / "1.dcm")

    assert wait_for(lambda: station.find() is not None and not (folder / "1.dcm").exists())
    running.stop()
    image(folder / "2.dcm", "1.2.3.2")
    time.sleep(0.2)
    assert (folder / "2.dcm").exists()
    assert [each.name for each in threading.enumerate() if each.name == "watcher"] == []


@pytest.mark.usefixtures("_quick")
def test_delay_of_the_settings_is_waited_for(station: Station, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    settings = with_watch(station.settings, folder, delay_incoming_file_open_ms=500)
    image(folder / "1.dcm")
    running = Watcher.of(settings, lambda: station.ingest, SystemClock())
    began = time.monotonic()
    running.start()

    assert wait_for(lambda: not (folder / "1.dcm").exists())
    assert time.monotonic() - began >= 0.5
    running.stop()


@pytest.mark.usefixtures("_quick")
def test_folder_may_go_and_come_again(station: Station, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    running = Watcher([(folder, True)], lambda: station.ingest, SystemClock())
    running.start()
    shutil.rmtree(folder)
    time.sleep(0.1)
    image(folder / "1.dcm")

    assert wait_for(lambda: station.find() is not None)
    running.stop()


@pytest.mark.usefixtures("_quick")
def test_changed_settings_are_followed(station: Station, tmp_path: Path) -> None:
    current = [with_watch(station.settings, tmp_path / "one")]
    part = Watching(lambda: current[0], lambda: station.ingest, SystemClock())
    part.start()
    first = part._watcher
    current[0] = with_watch(station.settings, tmp_path / "one", ae_title="OTHER")
    part.apply(None)
    assert part._watcher is first
    current[0] = with_watch(station.settings, tmp_path / "two")
    part.apply(None)
    image(tmp_path / "one" / "1.dcm", "1.2.3.1")
    image(tmp_path / "two" / "2.dcm", "1.2.3.2")

    assert wait_for(lambda: station.find("1.2.3.2") is not None)
    part.stop()
    assert (tmp_path / "one" / "1.dcm").exists()


def test_part_can_be_stopped_twice_and_without_a_start(station: Station) -> None:
    part = Watching(lambda: station.settings, lambda: station.ingest, SystemClock())
    part.stop()
    part.start()
    part.stop()
    part.stop()
