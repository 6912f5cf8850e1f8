"""Making durable what was written to a disk; not for what is written, or where.

Functions may be called from any thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_WAIT_BEFORE = 1
"""SYNC_FILE_RANGE_WAIT_BEFORE of <fcntl.h>."""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make the content of a file that was written and closed durable; raises OSError."""
    # Without blocking: the name may be that of a pipe by now.
    _sync(path, os.O_NONBLOCK)


def check_written(descriptor: int) -> None:
    """Raise the OSError of anything that was written since a file was opened and has not reached
    the disk; what is still to be written stays as it is.

    Linux tells of a failed write-back once per open file, and only those that were open then. After
    it, what is read may be what the disk had before.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if function is None:
        os.fdatasync(descriptor)
        return
    whole = ctypes.c_int64(0)
    if function(ctypes.c_int(descriptor), whole, whole, ctypes.c_uint(_WAIT_BEFORE)) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.ENOSYS:
        os.fdatasync(descriptor)
        return
    raise OSError(code, os.strerror(code))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
