"""Syncing of files and folders."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from dgate.disk import check_written, sync_file, sync_folder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was synced: whether it was a folder."""
    found: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_file_and_folder_are_synced(tmp_path: Path, synced: list[bool]) -> None:
    (tmp_path / "file").write_bytes(b"x")

    sync_file(tmp_path / "file")
    sync_folder(tmp_path)

    assert synced == [False, True]


def test_what_is_no_folder_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        sync_file(tmp_path / "nowhere")


def test_pipe_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Invalid argument"):
        sync_file(tmp_path / "pipe")


def test_what_was_written_is_found_to_be_on_its_way(tmp_path: Path, synced: list[bool]) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        check_written(file.fileno())
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        check_written(-1)

    # Nothing has to reach the disk for that.
    assert synced == []
