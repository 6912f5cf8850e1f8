"""The lock of the data folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgate.archive.lock import LockHolder, ServerLock
from dgate.errors import DgateError


def test_second_server_on_the_same_folder_is_told_the_process_number(tmp_path: Path) -> None:
    with ServerLock(tmp_path), pytest.raises(DgateError, match=f"process {os.getpid()}"):
        ServerLock(tmp_path).acquire()


def test_lock_is_free_again_after_release(tmp_path: Path) -> None:
    first = ServerLock(tmp_path)
    first.acquire()
    first.release()
    first.release()
    with ServerLock(tmp_path) as second:
        assert second.holder() is not None


def test_holder_names_the_control_socket(tmp_path: Path) -> None:
    lock = ServerLock(tmp_path)
    lock.acquire(tmp_path / "dgate.sock")
    assert ServerLock(tmp_path).holder() == LockHolder(os.getpid(), tmp_path / "dgate.sock")
    lock.release()


def test_nobody_holds_the_lock_of_a_new_folder(tmp_path: Path) -> None:
    assert ServerLock(tmp_path).holder() is None


def test_file_left_by_a_killed_server_does_not_stop_the_next_one(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        ServerLock(tmp_path).acquire()
        os._exit(0)
    os.waitpid(child, 0)
    assert ServerLock(tmp_path).holder() is None
    with ServerLock(tmp_path) as lock:
        assert lock.holder() == LockHolder(os.getpid(), None)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DgateError, match="missing"):
        ServerLock(tmp_path / "missing").acquire()
