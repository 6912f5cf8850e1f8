"""Files in a folder into which anybody may write: by name below an open folder, never by path.

Not for what is done with them (`dgate.archive.dropfolder`). Functions without state.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from typing import BinaryIO

from dgate.errors import NotDicom

REASON = ".reason.txt"
HIDDEN = ".dgate-taken."
"""Begins the name of a file that is about to be removed."""
_NAME_BYTES = 255
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Signature = tuple[int, int, int, int, int]
"""Device, inode, size, time of writing and time of change: the same file with the same content. The
last cannot be set by anybody, so it also tells of copies that keep the original's time of writing.
"""


def is_passing(name: str) -> bool:
    """Tell whether a name says that the file is not to be taken, or not yet."""
    lower = name.lower()
    if name.startswith(".") and not name.startswith("._"):
        return True
    return ".partial" in lower or lower.endswith((".part", ".filepart"))


@contextlib.contextmanager
def opened(folder: int, name: str) -> Iterator[BinaryIO]:
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise NotDicom("links are not followed; put the file itself here") from exc
        raise
    with os.fdopen(descriptor, "rb") as file:
        yield file


def is_being_written(descriptor: int) -> bool | None:
    """Tell whether any process has the file open for writing; None when that cannot be known.

    The kernel gives a read lease only on a file that nobody writes (fcntl(2)). It is given back at
    once; should somebody open the file in that instant, the notice is a signal that is ignored.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return True if exc.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def signature_of(status: os.stat_result) -> Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def hidden_name(name: str) -> str:
    """Return the hidden name of a file, with as much of its own as the file system takes."""
    stem, dot, ending = name.rpartition(".")
    room = _NAME_BYTES - len(HIDDEN)
    if len(os.fsencode(name)) <= room:
        return HIDDEN + name
    ending = os.fsdecode(os.fsencode(dot + ending)[:17]) if stem else ""
    kept = os.fsencode(stem or name)[: room - len(os.fsencode(ending))]
    return HIDDEN + os.fsdecode(kept) + ending


def is_still(folder: int, hidden: str, signature: Signature) -> bool:
    """Tell whether a file under its hidden name is the one that was read, and nobody writes it."""
    descriptor = os.open(hidden, _FILE_FLAGS, dir_fd=folder)
    try:
        # The renaming has changed the time of change.
        return (
            not is_being_written(descriptor)
            and signature_of(os.fstat(descriptor))[:-1] == signature[:-1]
        )
    finally:
        os.close(descriptor)


def free_name(folder: int, name: str) -> str:
    """Return the name, or the first with a number that neither a file nor a reason has."""
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    # Room for the number and for the reason's name, in what the file system takes.
    stem = os.fsdecode(os.fsencode(stem)[: _NAME_BYTES - len(REASON) - 24])
    ending = os.fsdecode(os.fsencode(ending)[:16])
    number = 0
    while True:
        candidate = f"{stem}_{number}{dot}{ending}" if number else f"{stem}{dot}{ending}"
        if not (_exists(folder, candidate) or _exists(folder, candidate + REASON)):
            return candidate
        number += 1


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def shown(name: str) -> str:
    """Return a file name, or a text with one, without the bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_text(folder: int, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name + REASON, flags, 0o644, dir_fd=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
