"""Files as the archive writes and reads them: whole at once, synced, read in large pieces.

Not for where they lie or what they are called (`dgate.archive.devices`). Functions may be called
from any thread; a `FileReader` belongs to one thread at a time.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH108
from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dgate.dicom.filedata import FileData
from dgate.dicom.payload import SpillFile
from dgate.disk import sync_folder
from dgate.errors import OutOfSpace, StoreError, TooManyFiles, Unreadable

COPY_BYTES = 1 << 20
_LOADED_BYTES = 4 << 20
"""Files up to this size are read as a whole, of longer ones what is looked at."""
_MOST_BUFFERS = 1000
"""Buffers per writev; the kernel takes 1024."""
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


TOO_MANY_FILES = {
    errno.EMFILE: "raise the limit of open files (LimitNOFILE in the service file, or ulimit -n), "
    "or lower MaxAssociations",
    errno.ENFILE: "raise fs.file-max of this machine (sysctl)",
}
_REMEDIES = {
    errno.ENOSPC: "free space or inodes (df, df -i), or add a MAGDevice",
    errno.EDQUOT: "raise the disk quota of the server's user, or free space",
    errno.EROFS: "look for disk errors in the system's log, then mount the disk for writing",
    errno.EIO: "the disk fails: look into the system's log, and replace it",
    errno.EACCES: "give the server's user write permission",
    errno.EPERM: "give the server's user write permission",
    errno.ESTALE: "mount the network disk anew",
    errno.ENODEV: "mount the disk",
    errno.ENOENT: "mount the disk, or create the folder",
}


class FileRange(NamedTuple):
    """Bytes of an open file that are to be copied without being loaded."""

    descriptor: int
    offset: int
    length: int


Buffer = bytes | bytearray | memoryview
Part = Buffer | FileRange


class FileReader:
    """An open file, read by position."""

    __slots__ = ("_descriptor", "size")

    def __init__(self, descriptor: int) -> None:
        """Read an open file, which is closed with the reader."""
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @classmethod
    def of(cls, path: str) -> FileReader:
        """Open a file; raises OSError, which is FileNotFoundError for what is no plain file."""
        # Without blocking: a name out of a database may be that of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a plain file", path)
        return cls(descriptor)

    @property
    def descriptor(self) -> int:
        """The open file, for copies that the kernel makes; valid until `close`."""
        return self._descriptor

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the file."""
        return os.pread(self._descriptor, size, offset)

    def data(self, start: int = 0, folder: Path | None = None) -> memoryview | FileData:
        """Return what stands from `start` on; a long file stays on disk, so memory is bounded.

        It stays readable when the reader is closed. A file is never mapped: whoever cuts it short
        would kill the process with the next look at a page that is gone.

        Args:
            folder: for a temporary file, should somebody need all of a long file as one buffer.

        Raises:
            OSError: the file cannot be read, or is shorter than it was.
        """
        if self.size > _LOADED_BYTES:
            own = _OwnFile(os.dup(self._descriptor))
            return FileData(own, start, max(0, self.size - start), folder)
        buffer = memoryview(bytearray(max(0, self.size - start)))
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], start + done)
            if count == 0:
                raise OSError(errno.EIO, "the file is shorter than it was")
            done += count
        return buffer.toreadonly()

    def close(self) -> None:
        """Close the file; views of it stay valid. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _OwnFile:
    """An open file that is closed when nobody uses it any more."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the file."""
        return os.pread(self._descriptor, size, offset)

    def __del__(self) -> None:
        os.close(self._descriptor)


def write_file(path: str, parts: Sequence[Part], *, durable: bool) -> None:
    """Write a new file in one go, synced when `durable`.

    A crash leaves a part of it. Any error leaves nothing.

    Raises:
        OutOfSpace: the disk cannot take it.
        Unreadable: a file that a part of it is copied from cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        raise storage_failure(exc, path) from exc
    try:
        try:
            write_parts(descriptor, parts)
            if durable:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        unlink_quietly(path)
        raise storage_failure(exc, path) from exc
    except BaseException:
        unlink_quietly(path)
        raise


def open_spill(path: str, header: bytes) -> SpillFile:
    """Create the file for an object that is still arriving, with its header; raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        write_parts(descriptor, [header])
    except BaseException:
        os.close(descriptor)
        unlink_quietly(path)
        raise
    return SpillFile(descriptor, Path(path), len(header))


def write_parts(descriptor: int, parts: Sequence[Part]) -> None:
    """Write all parts at the file's position: buffers in one call, ranges copied by the kernel."""
    buffers: list[Buffer] = []
    for part in parts:
        if isinstance(part, FileRange):
            _write_buffers(descriptor, buffers)
            buffers = []
            _copy_range(descriptor, part)
        else:
            buffers.append(part)
    _write_buffers(descriptor, buffers)


def _write_buffers(descriptor: int, buffers: list[Buffer]) -> None:
    for start in range(0, len(buffers), _MOST_BUFFERS):
        batch = buffers[start : start + _MOST_BUFFERS]
        left = sum(map(len, batch)) - os.writev(descriptor, batch)
        if left:
            # Seen when the disk fills up, or beyond 2 GiB: the rest goes in plain writes.
            rest = memoryview(b"".join(batch))[-left:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]


def _copy_range(descriptor: int, part: FileRange) -> None:
    source, offset, left = part
    while left:
        try:
            copied = os.copy_file_range(source, descriptor, left, offset_src=offset)
            if copied == 0:
                raise _too_short()
        except OSError as exc:
            # By hand it also shows which of the two disks has failed.
            if exc.errno not in _NO_KERNEL_COPY and exc.errno != errno.EIO:
                raise
            copied = _copy_by_hand(descriptor, source, offset, left)
        offset += copied
        left -= copied


def _copy_by_hand(descriptor: int, source: int, offset: int, size: int) -> int:
    piece = read_piece(source, offset, size)
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(piece)


def read_piece(descriptor: int, offset: int, size: int) -> bytes:
    """Return up to `size` bytes of a file that has so many there: at most COPY_BYTES, but some.

    Raises:
        Unreadable: the disk does not give them, or the file ends before.
    """
    try:
        piece = os.pread(descriptor, min(size, COPY_BYTES), offset)
    except OSError as exc:
        raise _unreadable(exc) from exc
    if not piece and size:
        raise _too_short()
    return piece


def _unreadable(exc: OSError) -> Unreadable:
    return Unreadable(f"the file to be copied cannot be read: {exc.strerror or exc}")


def _too_short() -> Unreadable:
    return Unreadable("the file to be copied is shorter than expected")


def hash_parts(parts: Sequence[Part]) -> str:
    """Return the SHA-256, in hex, of the file that the parts make.

    Raises:
        Unreadable: a file that a part of it stands in cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, FileRange):
            _hash_range(digest, part)
        else:
            digest.update(part)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256, in hex, of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_range(digest: hashlib._Hash, part: FileRange) -> None:
    buffer = memoryview(bytearray(min(COPY_BYTES, part.length)))
    offset, left = part.offset, part.length
    while left:
        try:
            size = os.preadv(part.descriptor, [buffer[: min(left, len(buffer))]], offset)
        except OSError as exc:
            raise _unreadable(exc) from exc
        if size == 0:
            raise _too_short()
        digest.update(buffer[:size])
        offset += size
        left -= size


def storage_failure(exc: OSError, path: str) -> StoreError:
    """Return what a failed write means for the object.

    A disk that is full, read-only, failing, gone or forbidden is out of service for storing; only a
    name that the file system does not take is the object's own fault.
    """
    if exc.errno == errno.ENAMETOOLONG:
        return StoreError(
            "the file name is too long for the file system",
            where=path,
            remedy="set a smaller MaxFileNameLength or another FileNameSyntax",
        )
    if exc.errno in TOO_MANY_FILES:
        return TooManyFiles(
            f"the file cannot be opened: {exc.strerror}",
            where=path,
            remedy=TOO_MANY_FILES[exc.errno],
        )
    return OutOfSpace(
        f"the file cannot be written: {exc.strerror or exc}",
        where=path,
        remedy=_REMEDIES.get(exc.errno or 0, "repair the device, or add a MAGDevice"),
    )


def free_bytes(folder: str) -> int:
    """Return what the folder's file system lets an ordinary user write; raises OSError."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def create_folders(folder: Path) -> None:
    """Create a folder with its parents and make their names durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def unlink_quietly(path: str) -> None:
    """Remove a temporary file; one that cannot be removed now is left for recovery."""
    try:
        os.unlink(path)
    except OSError:
        return
