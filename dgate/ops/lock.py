"""The lock file of a base folder: one process at a time works on the archive there.

The lock is the kernel's (`flock`), so it vanishes with its process; the file's text only tells
others whom to ask. Not for leases in a shared database (`dgate.delivery.ledger`). An instance is
owned by one thread.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from dgate.errors import DgateError

LOCK_NAME = "dgate.lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who works on a base folder, as the lock file tells; unknown values are empty."""

    pid: int | None = None
    host: str = ""
    socket: Path | None = None
    """Control socket of a running server; None for a command that only works for a moment."""

    def is_alive(self) -> bool:
        """Tell whether the process that wrote this may still be there."""
        if self.pid is None:
            return False
        if self.host not in ("", platform.node()):
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Another user's process is one, too.
            return True
        return True

    def __str__(self) -> str:
        """Name the holder for a message."""
        what = "server" if self.socket else "command"
        return f"a dgate {what} (process {self.pid or '?'} on {self.host or 'this machine'})"


class FolderLock:
    """Keeps a second server, or a command that writes, out of a base folder.

    A crash releases the lock with the process and leaves the file, which the next owner overwrites.
    """

    def __init__(self, base_folder: Path) -> None:
        self.path = base_folder / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self, socket: Path | None = None) -> Holder | None:
        """Take the lock and return None, or return who has it.

        `socket` is where the new owner will listen for commands. Raises DgateError when the folder
        cannot be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise DgateError(
                f"the lock file cannot be opened: {exc.strerror}",
                where=str(self.path),
                remedy="the base folder must exist and be writable",
            ) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            return holder
        text = {
            "pid": os.getpid(),
            "host": platform.node(),
            "socket": os.fspath(socket) if socket else None,
            "since": time.time(),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(text).encode() + b"\n", 0)
        self._descriptor = descriptor
        return None

    @property
    def is_taken(self) -> bool:
        """Whether this object has the lock."""
        return self._descriptor is not None

    def is_held(self) -> bool:
        """Tell whether somebody has the lock, without creating or changing anything."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Give the lock back; safe to call twice. The file stays: removing it would be a race."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def take(lock: FolderLock, socket: Path | None) -> None:
    """Take a lock for good; raises DgateError with the name of whoever has it."""
    holder = lock.acquire(socket)
    if holder is not None:
        raise DgateError(
            f"{holder} is working on this folder already",
            where=str(lock.path.parent),
            remedy="stop it first, or give this server a folder of its own",
        )


def holder_of(base_folder: Path) -> Holder | None:
    """Return whom the lock file names, without touching the lock; None without such a file.

    The holder may have ended without a word: whoever needs to know has to ask it.
    """
    try:
        return _holder((base_folder / LOCK_NAME).read_bytes()[:4096])
    except OSError:
        # Nobody ever locked this folder, or another user's server keeps the file to itself.
        return None


def _holder(text: bytes) -> Holder:
    """Read the lock file; its owner may be about to write it, so anything may be missing."""
    try:
        found = json.loads(text)
        socket = found.get("socket")
        return Holder(int(found["pid"]), str(found["host"]), Path(socket) if socket else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Holder()
