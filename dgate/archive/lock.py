"""The lock of a data folder: one dgate process at a time may write there.

Not for locks between threads. `ServerLock` belongs to the thread that acquires it; the lock itself
is the kernel's and ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dgate.errors import DgateError

LOCK_NAME = "dgate.lock"
_LONGEST_CONTENT = 8192


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The process that holds the lock of a data folder."""

    pid: int
    """Process number; 0 while the holder has not written it yet."""
    control_socket: Path | None
    """Where it takes commands (rulings.md 20); None when it takes none."""


class ServerLock:
    """The exclusive right to write in one base folder, held by an open, locked file.

    A crash leaves the file behind but not the lock: the next server takes it at once.
    """

    def __init__(self, base_folder: Path) -> None:
        self._path = base_folder / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self, control_socket: Path | None = None) -> None:
        """Take the lock and leave our process number and control socket for others to read.

        Raises:
            DgateError: another process holds it (its number is named), or the folder cannot be
                written.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise DgateError(
                f"the data folder cannot be locked: {exc.strerror}",
                where=str(self._path),
                remedy="the folder must exist and be writable for the server",
            ) from exc
        try:
            if not _try_lock(descriptor):
                raise self._already_held(_read_holder(descriptor))
            _write_holder(descriptor, control_socket)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; safe to call twice.

        The file stays: removing it would let two later servers lock two different files.
        """
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> LockHolder | None:
        """Return who holds the lock now, or None when nobody does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return None if _try_lock(descriptor) else _read_holder(descriptor)
        finally:
            os.close(descriptor)

    def __enter__(self) -> ServerLock:
        """Return the lock, acquired if it was not yet."""
        if self._descriptor is None:
            self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        self.release()

    def _already_held(self, holder: LockHolder) -> DgateError:
        process = f"process {holder.pid}" if holder.pid else "another process"
        return DgateError(
            f"a dgate server is running on this data folder already ({process})",
            where=str(self._path.parent),
            remedy="stop that server, or give this one a data folder of its own",
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(descriptor: int, control_socket: Path | None) -> None:
    content = f"{os.getpid()}\n{control_socket or ''}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, os.fsencode(content), 0)


def _read_holder(descriptor: int) -> LockHolder:
    lines = os.fsdecode(os.pread(descriptor, _LONGEST_CONTENT, 0)).split("\n")
    pid = int(lines[0]) if lines[0].isdecimal() else 0
    socket = lines[1] if len(lines) > 1 else ""
    return LockHolder(pid, Path(socket) if socket else None)
