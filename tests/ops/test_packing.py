"""Packing the logs away: when, what, and that no line is lost."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from dgate.ops import packing
from dgate.ops.logfile import LogFile
from dgate.ops.packing import Packer, archive_name, first_match


class HandClock:
    """A clock that the test sets, in local time."""

    def __init__(self, text: str) -> None:
        self.seconds = seconds(text)

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "WRITERS_S", 0.0)


@pytest.mark.parametrize(
    ("prefix", "second"),
    [
        ("05:", 5 * 3600),
        ("05", 5 * 3600),
        ("23:59:59", 86399),
        ("0", 0),
        ("2", 20 * 3600),
        ("13:4", 13 * 3600 + 40 * 60),
        ("", None),
        ("5:", None),
        ("24:", None),
        ("invalid", None),
        ("12:00:00x", None),
    ],
)
def test_prefix_of_a_time_is_understood(prefix: str, second: int | None) -> None:
    assert first_match(prefix) == second


@pytest.mark.parametrize(
    ("now", "name"),
    [
        ("2026-03-02 05:00:00", "logs_20260301.zip"),
        ("2026-03-01 07:59:59", "logs_20260228.zip"),
        ("2026-01-01 00:00:00", "logs_20251231.zip"),
        ("2026-03-02 08:00:00", "logs_20260302.zip"),
        ("2026-03-02 23:30:00", "logs_20260302.zip"),
    ],
)
def test_what_is_packed_by_night_is_of_the_day_before(now: str, name: str) -> None:
    assert archive_name(seconds(now)) == name


@pytest.mark.parametrize(
    ("now", "pause"),
    [
        ("2026-03-02 04:59:00", 60.0),
        ("2026-03-02 05:00:00", 0.0),
        ("2026-03-02 05:59:59", 0.0),
        ("2026-03-02 06:00:00", 3600.0),
    ],
)
def test_packer_sleeps_until_the_time(tmp_path: Path, now: str, pause: float) -> None:
    packer = Packer(tmp_path / "logs", [], "05:", HandClock(now))

    assert packer.pause_s() == pause


def test_packing_happens_once_a_day(tmp_path: Path) -> None:
    clock = HandClock("2026-03-02 05:00:00")
    (tmp_path / "a.log").write_text("line\n")
    packer = Packer(tmp_path / "logs", [tmp_path / "a.log"], "05:", clock)
    packer.pack()

    assert packer.pause_s() == 3600.0
    # A server that starts later within the time sees what was done.
    assert Packer(tmp_path / "logs", [], "05:", clock).pause_s() == 3600.0
    clock.seconds += 86400
    assert packer.pause_s() == 0.0


def test_log_files_are_packed_and_begin_anew(tmp_path: Path) -> None:
    for name in ("PacsUser.log", "PacsTrouble.log"):
        (tmp_path / name).write_text(f"in {name}\n")
    (tmp_path / "dicom.ini").write_text("Password = secret\n")
    files = [tmp_path / "PacsUser.log", tmp_path / "PacsTrouble.log", tmp_path / "missing.log"]

    made = Packer(tmp_path / "logs", files, "05:", HandClock("2026-03-02 05:00:00")).pack()

    assert made == tmp_path / "logs" / "logs_20260301.zip"
    with zipfile.ZipFile(made) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    assert len(content) == 2
    assert sorted(content.values()) == [b"in PacsTrouble.log\n", b"in PacsUser.log\n"]
    assert all(name.startswith(("PacsUser.log.", "PacsTrouble.log.")) for name in content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dicom.ini", "logs"]


def test_second_packing_of_a_day_replaces_nothing(tmp_path: Path) -> None:
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:00:00")
    )
    for text in ("one\n", "two\n"):
        (tmp_path / "a.log").write_text(text)
        packer.pack()

    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "logs_20260301.zip",
        "logs_20260301_1.zip",
    ]


def test_nothing_to_pack_makes_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("")
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:00:00")
    )

    assert packer.pack() is None
    assert not (tmp_path / "logs").exists()


def test_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.log").write_text("line\n")
    (tmp_path / "a.log").symlink_to(tmp_path / "elsewhere.log")
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:00:00")
    )

    assert packer.pack() is None
    assert (tmp_path / "elsewhere.log").exists()


def test_what_a_crash_left_is_packed_with_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.log.17.packing").write_text("from before\n")
    (tmp_path / "a.log").write_text("new\n")
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:00:00")
    )

    made = packer.pack()

    assert made is not None
    with zipfile.ZipFile(made) as archive:
        assert sorted(archive.read(name) for name in archive.namelist()) == [
            b"from before\n",
            b"new\n",
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_disk_that_is_full_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.log").write_text("line\n")
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:00:00")
    )

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packing.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            packer.pack()
    assert list((tmp_path / "logs").iterdir()) == []

    made = packer.pack()
    assert made is not None
    with zipfile.ZipFile(made) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [b"line\n"]


def test_old_file_times_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("line\n")
    os.utime(tmp_path / "a.log", (0, 0))
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:00:00")
    )

    assert packer.pack() is not None


def test_thread_packs_when_the_time_has_come_and_stops(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("line\n")
    packer = Packer(
        tmp_path / "logs", [tmp_path / "a.log"], "05:", HandClock("2026-03-02 05:10:00")
    )
    packer.start()
    end = time.monotonic() + 60
    while not list((tmp_path / "logs").glob("*.zip")) and time.monotonic() < end:
        time.sleep(0.01)
    packer.stop()

    assert (tmp_path / "logs" / "logs_20260301.zip").exists()


def test_no_line_of_a_writer_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path)
    log.write("one\n")
    packer = Packer(tmp_path / "logs", [path], "05:", HandClock("2026-03-02 05:00:00"))
    made = packer.pack()
    log.reopen()
    log.write("two\n")

    assert made is not None
    with zipfile.ZipFile(made) as archive:
        assert archive.read(archive.namelist()[0]) == b"one\n"
    assert path.read_text() == "two\n"
