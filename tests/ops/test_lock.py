"""The lock file of a base folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dgate.errors import DgateError
from dgate.ops.lock import FolderLock, Holder


def test_first_owner_gets_the_lock_and_the_second_learns_who_has_it(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)

    assert first.acquire(tmp_path / "dgate.sock") is None
    holder = second.acquire()

    assert holder is not None
    assert (holder.pid, holder.socket) == (os.getpid(), tmp_path / "dgate.sock")
    assert str(os.getpid()) in str(holder)
    first.release()


def test_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    first.release()
    first.release()

    assert second.acquire() is None
    second.release()


def test_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from dgate.ops.lock import FolderLock;"
        "FolderLock(Path(sys.argv[1])).acquire(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    lock = FolderLock(tmp_path)

    assert lock.path.exists()
    assert lock.acquire() is None
    lock.release()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"pid": null, "host": 1}'])
def test_unreadable_lock_file_names_an_unknown_holder(tmp_path: Path, text: bytes) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    first.path.write_bytes(text)

    assert second.acquire() == Holder()
    assert "?" in str(Holder())
    first.release()


def test_missing_base_folder_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DgateError, match="must exist and be writable"):
        FolderLock(tmp_path / "nowhere").acquire()


def test_lock_can_be_asked_after_without_a_trace(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)

    assert not FolderLock(tmp_path).is_held()
    assert list(tmp_path.iterdir()) == []
    assert lock.acquire() is None
    assert FolderLock(tmp_path).is_held()
    lock.release()
    assert not FolderLock(tmp_path).is_held()
