"""The mounted disk: a file system like any other until it is full, fails, or loses its power."""

# The calls of os are what is tried here.
# ruff: noqa: PTH116, PTH208
from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.disk import Disk, why_not_possible
from tests.campaign.volatile import Ordering


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a mounted disk."""
    reason = why_not_possible(tmp_path)
    if reason:
        pytest.skip(f"no disk can be mounted: {reason}")
    with Disk(tmp_path / "disk", tmp_path / "disk.log", 1, Ordering.STRICT) as disk:
        yield disk


def test_it_is_a_file_system(disk: Disk) -> None:
    top = disk.folder
    (top / "a").mkdir()
    (top / "a" / "x").write_bytes(b"12345")
    with (top / "a" / "x").open("r+b") as file:
        file.seek(2)
        file.write(b"--")
        file.truncate(4)
    os.link(top / "a" / "x", top / "y")
    (top / "a" / "x").rename(top / "a" / "z")
    assert (top / "y").read_bytes() == b"12--"
    assert os.stat(top / "y").st_nlink == 2
    assert sorted(os.listdir(top)) == ["a", "y"]
    assert os.listdir(top / "a") == ["z"]
    with pytest.raises(OSError, match="not empty"):
        (top / "a").rmdir()
    (top / "a" / "z").unlink()
    (top / "a").rmdir()
    assert os.stat(top / "y").st_nlink == 1


def test_long_files_come_back_as_they_were_written(disk: Disk) -> None:
    content = os.urandom(5_000_001)
    (disk.folder / "long").write_bytes(content)
    subprocess.run(["cp", disk.folder / "long", disk.folder / "copy"], check=True)
    assert (disk.folder / "copy").read_bytes() == content


def test_folder_with_many_names_can_be_listed(disk: Disk) -> None:
    names = {f"file-{number:04d}" for number in range(700)}
    for name in names:
        (disk.folder / name).touch()
    assert set(os.listdir(disk.folder)) == names


def test_two_processes_share_a_database_on_it(disk: Disk) -> None:
    path = disk.folder / "db"
    first = sqlite3.connect(path)
    first.execute("PRAGMA journal_mode = WAL")
    first.execute("CREATE TABLE t (a)")
    first.execute("INSERT INTO t VALUES (1)")
    first.commit()
    program = f"import sqlite3; c = sqlite3.connect({str(path)!r}); "
    program += "c.execute('INSERT INTO t VALUES (2)'); c.commit()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert first.execute("SELECT a FROM t ORDER BY a").fetchall() == [(1,), (2,)]
    first.close()


def test_full_disk_takes_what_fits_and_then_nothing(disk: Disk) -> None:
    disk.fill(1001, honest=True)
    with (disk.folder / "a").open("wb", buffering=0) as file:
        # One byte was for the name.
        assert file.write(bytes(5000)) == 1000
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write(b"x")
    assert os.statvfs(disk.folder).f_bavail == 0
    assert disk.heal() == 1
    (disk.folder / "a").write_bytes(bytes(5000))
    assert os.statvfs(disk.folder).f_bavail > 0


@pytest.mark.parametrize("kind", ["write", "sync", "name", "read"])
def test_failing_disk_fails_in_what_it_was_told_to(disk: Disk, kind: str) -> None:
    def attempt(what: str) -> bool:
        try:
            if what == "name":
                (disk.folder / "new").touch()
            elif what == "read":
                (disk.folder / "old").read_bytes()
            else:
                with (disk.folder / "open").open("wb") as file:
                    file.write(b"x")
                    file.flush()
                    if what == "sync":
                        os.fsync(file.fileno())
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return False
        return True

    (disk.folder / "open").touch()
    (disk.folder / "old").touch()
    with (disk.folder / "old").open("r+b") as file:
        file.truncate(100_000)
    # A sync is asked for behind a write, which must succeed then.
    others = {"write": ["read"], "sync": ["write"], "name": ["write", "sync"], "read": ["name"]}
    disk.fail([kind], 1.0)
    assert not attempt(kind)
    assert all(attempt(other) for other in others[kind])
    assert disk.heal() >= 1
    assert attempt(kind)


def test_power_cut_stops_a_program_and_keeps_every_commit_that_it_knows_of(disk: Disk) -> None:
    path = disk.folder / "db"
    program = f"""
import sqlite3
c = sqlite3.connect({str(path)!r})
c.execute("PRAGMA journal_mode = WAL")
c.execute("PRAGMA synchronous = FULL")
c.execute("CREATE TABLE t (a)")
for number in range(100000):
    c.execute("INSERT INTO t VALUES (?)", (number,))
    c.commit()
    print(number, flush=True)
"""
    disk.cut_at("sync", 300)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert disk.was_cut(60)
        writer.send_signal(signal.SIGKILL)
        disk.restore()
        known = [int(line) for line in writer.stdout.read().split()]
    connection = sqlite3.connect(path)
    rows = [row[0] for row in connection.execute("SELECT a FROM t ORDER BY a")]
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert known
    # One more may have been committed, and not yet been told of.
    assert rows in (known, [*known, len(known)])


def test_power_cut_loses_what_was_not_synced(tmp_path: Path) -> None:
    reason = why_not_possible(tmp_path)
    if reason:
        pytest.skip(f"no disk can be mounted: {reason}")
    lost = 0
    for seed in range(5):
        with Disk(tmp_path / f"d{seed}", tmp_path / f"{seed}.log", seed, Ordering.STRICT) as disk:
            for number in range(20):
                (disk.folder / str(number)).write_bytes(b"x")
            disk.cut_now()
            disk.restore()
            lost += 20 - len(os.listdir(disk.folder))
    assert lost > 0
