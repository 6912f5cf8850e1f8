"""Log files: lines, rotation, and disks that cannot take them; the user log."""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

import pytest

from dgate.ops import logfile
from dgate.ops.logfile import LogFile, UserLog


@pytest.fixture
def told() -> list[str]:
    return []


def opened(path: Path, told: list[str]) -> LogFile:
    return LogFile(path, told.append)


def let_it_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a log file look at its name, or at a lost disk, with each line."""
    monkeypatch.setattr(logfile, "LOOK_S", 0.0)


def test_lines_are_appended(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    log = opened(path, told)
    log.write("one\n")
    log.write("two\n")

    assert path.read_text() == "before\none\ntwo\n"
    assert told == []


def test_file_that_was_moved_away_is_made_anew(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_look(monkeypatch)
    path = tmp_path / "a.log"
    log = opened(path, told)
    log.write("one\n")
    path.rename(tmp_path / "a.log.1")
    log.write("two\n")

    assert path.read_text() == "two\n"
    assert (tmp_path / "a.log.1").read_text() == "one\n"


def test_reopen_does_not_wait_for_the_next_look(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "a.log"
    log = opened(path, told)
    log.write("one\n")
    path.rename(tmp_path / "a.log.1")
    log.reopen()
    log.write("two\n")

    assert path.read_text() == "two\n"


def test_missing_folder_is_told_once_and_forgiven(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_look(monkeypatch)
    log = opened(tmp_path / "logs" / "a.log", told)
    for _ in range(3):
        log.write("lost\n")
    assert len(told) == 1
    assert "cannot be written: No such file or directory" in told[0]

    (tmp_path / "logs").mkdir()
    log.write("kept\n")

    assert (tmp_path / "logs" / "a.log").read_text() == "kept\n"
    assert "3 line(s) were lost" in told[1]


def test_full_disk_is_not_asked_for_each_line(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    real = os.write

    def counted(descriptor: int, data: bytes) -> int:
        tries.append(data)
        return real(descriptor, data)

    monkeypatch.setattr(logfile.os, "write", counted)
    # However long the hundred lines take.
    monkeypatch.setattr(logfile, "LOOK_S", 3600.0)
    log = opened(Path("/dev/full"), told)
    for _ in range(100):
        log.write("line\n")

    assert len(tries) <= 2
    assert len(told) == 1
    assert "No space left" in told[0]


def test_line_that_was_cut_off_by_a_full_disk_does_not_spoil_the_next(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_it_look(monkeypatch)
    path = tmp_path / "a.log"
    log = opened(path, told)
    real = os.write
    room = [3]

    def short(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(logfile.os, "write", short)
    log.write("first\n")
    monkeypatch.setattr(logfile.os, "write", real)
    log.write("second\n")

    assert path.read_text() == "fir\nsecond\n"


def test_pipe_without_reader_does_not_stop_anybody(tmp_path: Path, told: list[str]) -> None:
    os.mkfifo(tmp_path / "a.log")
    log = opened(tmp_path / "a.log", told)
    log.write("line\n")

    assert len(told) == 1


def test_another_file_is_used_from_then_on(tmp_path: Path, told: list[str]) -> None:
    log = opened(tmp_path / "a.log", told)
    log.write("one\n")
    log.use(tmp_path / "b.log")
    log.write("two\n")

    assert (tmp_path / "b.log").read_text() == "two\n"


def test_lines_of_many_threads_stay_whole(tmp_path: Path, told: list[str]) -> None:
    log = opened(tmp_path / "a.log", told)

    def write(letter: str) -> None:
        for _ in range(200):
            log.write(letter * 300 + "\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = (tmp_path / "a.log").read_text().splitlines()
    assert len(lines) == 800
    assert {line for line in lines} == {letter * 300 for letter in "abcd"}


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path, told: list[str]) -> None:
    log = opened(tmp_path / "a.log", told)
    log.write("name \udcff\n")

    assert (tmp_path / "a.log").read_text() == "name \\udcff\n"


# The user log.


def test_each_transfer_is_one_line_with_the_padded_caller(tmp_path: Path) -> None:
    log = UserLog(tmp_path / "PacsUser.log")
    log.write("C-Store", "CT1")
    log.write("C-Move ", "VIEWER")
    log.close()
    lines = (tmp_path / "PacsUser.log").read_text().splitlines()
    assert [re.sub(r"^\[\d{8} \d\d:\d\d:\d\d\] ", "", line) for line in lines] == [
        '"C-Store","CT1             "',
        '"C-Move ","VIEWER          "',
    ]


def test_a_title_cannot_forge_a_line(tmp_path: Path) -> None:
    log = UserLog(tmp_path / "PacsUser.log")
    log.write("C-Store", 'X"\n[forged')
    log.close()
    assert len((tmp_path / "PacsUser.log").read_text().splitlines()) == 1


def test_a_user_log_that_cannot_be_written_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = UserLog(tmp_path / "missing" / "PacsUser.log")
    log.write("C-Store", "CT1")
    log.write("C-Store", "CT1")
    assert caplog.text.count("cannot be written") == 1
