"""Names of files that gateways hold on a device that they share, so that no two give the same one.

A claim is a symbolic link `<hash of the name>.held` in the device's incoming folder: creating it is
the one step that only one of several machines succeeds in. It points to no file: where it leads is
the mark of its gateway, which is there with the link itself, so that no power cut leaves a claim of
nobody. Where the file system has no such links, a small synced file takes its place. A claim stays
behind a crash, until its gateway has started again and given the name to what it was for. May be
used by any thread.
"""

# Paths are text here: this runs for every object, and a Path costs microseconds.
# ruff: noqa: PTH115, PTH211
from __future__ import annotations

import errno
import hashlib
import os

from dgate.archive.files import storage_failure, unlink_quietly
from dgate.archive.ownership import Owner

HELD = ".held"
"""Ending of a claim's name."""


class Claims:
    """The claims of one gateway in one folder; without others there is nothing to claim."""

    def __init__(self, folder: str, owner: Owner) -> None:
        """`folder` ends with a slash."""
        self._folder = folder
        self._shared = owner.shared
        self._mark = owner.mark

    def take(self, name: str) -> bool:
        """Claim a name; False when it is claimed already, by whomever.

        A crash leaves the claim; on a file system without symbolic links, perhaps an empty one,
        which counts as another gateway's.

        Raises:
            OutOfSpace: the folder cannot be written.
        """
        if not self._shared:
            return True
        path = self._path(name)
        try:
            os.symlink(self._mark, path)
        except FileExistsError:
            return False
        except OSError:
            # There are no links here, or nothing can be written: a file will tell.
            return self._write(path)
        return True

    def _write(self, path: str) -> bool:
        """Make a claim that is a file; False when there is a claim. Raises OutOfSpace."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return False
        except OSError as exc:
            raise storage_failure(exc, path) from exc
        try:
            try:
                os.write(descriptor, self._mark.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            unlink_quietly(path)
            raise storage_failure(exc, path) from exc
        return True

    def is_own(self, file: str) -> bool:
        """Tell whether the claim in a file is this gateway's, of this run or of one before; raises
        OSError."""
        try:
            return os.readlink(self._folder + file) == self._mark
        except FileNotFoundError:
            return False
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
        # It is no link.
        try:
            descriptor = os.open(self._folder + file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return os.read(descriptor, len(self._mark) + 1) == self._mark.encode()
        finally:
            os.close(descriptor)

    def drop(self, name: str) -> None:
        """Give a name up; never raises."""
        if self._shared:
            unlink_quietly(self._path(name))

    def _path(self, name: str) -> str:
        return self._folder + self.file(name)

    def file(self, name: str) -> str:
        """Return the name of the file that claims a name."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return digest[:40] + HELD
