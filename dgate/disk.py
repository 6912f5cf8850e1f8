"""Making durable what was written to a disk; not for what is written, or where.

Functions may be called from any thread.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make the content of a file that was written and closed durable; raises OSError."""
    # Without blocking: the name may be that of a pipe by now.
    _sync(path, os.O_NONBLOCK)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
