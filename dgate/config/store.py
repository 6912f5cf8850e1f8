"""Replacing a configuration file such that a crash leaves the old one or the new one.

The old one is kept as `dicom.ini.bak.1`, `dicom.ini.bak.2` and so on, the highest being the newest.
Used by the one thread of a command.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from dgate.config.text import read_file
from dgate.errors import ConfigError

_BACKUP = ".bak."
_TRIES = 100


def replace_file(path: Path, data: bytes, expected: bytes | None) -> Path | None:
    """Write `data` into `path` and return the backup of what was there, None when nothing was.

    Owner and mode are kept, and a symbolic link stays one. `expected` is the content that the
    change was made for (None: no file).

    Raises ConfigError: the file holds something else by now, or cannot be written; it is as before
    then.
    """
    real = Path(os.path.realpath(path))
    temporary = real.with_name(f".{real.name}.new.{os.getpid()}")
    try:
        _write(temporary, data, real)
        if _content(real) != expected:
            raise ConfigError(
                "the file was changed by somebody else meanwhile, so it was not written",
                where=str(path),
                remedy="look at the change and try again",
            )
        backup = None if expected is None else _keep(real)
        temporary.replace(real)
        sync(real.parent)
    except OSError as exc:
        raise ConfigError(
            f"the file cannot be written: {exc.strerror}",
            where=str(exc.filename or path),
            remedy="the folder must be writable too, for the copy that is kept",
        ) from exc
    finally:
        temporary.unlink(missing_ok=True)
    return backup


def remove_file(path: Path) -> Path:
    """Take a file away and return the backup of it; raises ConfigError."""
    real = Path(os.path.realpath(path))
    try:
        backup = _keep(real)
        real.unlink()
        sync(real.parent)
    except OSError as exc:
        raise ConfigError(
            f"the file cannot be removed: {exc.strerror}",
            where=str(exc.filename or path),
            remedy="the folder must be writable",
        ) from exc
    return backup


def replace_files(files: Mapping[Path, bytes], expected: Mapping[Path, bytes | None]) -> list[Path]:
    """Write several files and return the backups that were made.

    Each is replaced as a whole; a crash between two leaves some old and some new ones, all of them
    complete. The callers give the ini file last, as it names the others.
    """
    backups = [replace_file(path, data, expected[path]) for path, data in files.items()]
    return [backup for backup in backups if backup is not None]


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None


def _write(temporary: Path, data: bytes, real: Path) -> None:
    """Write and sync the new file, as readable as the old one and no more."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        try:
            state = real.stat()
        except FileNotFoundError:
            mode = 0o644
        else:
            mode = state.st_mode & 0o7777
            if (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
                _give(descriptor, state.st_uid, state.st_gid)
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _give(descriptor: int, user: int, group: int) -> None:
    try:
        os.fchown(descriptor, user, group)
    except PermissionError:
        # Only root may give files away. Whoever may write the folder may own the new file.
        return


def _keep(path: Path) -> Path:
    """Give the old content a further name."""
    pattern = re.compile(re.escape(path.name + _BACKUP) + r"(\d{1,9})")
    names = (pattern.fullmatch(other.name) for other in path.parent.iterdir())
    number = max((int(found[1]) for found in names if found), default=0)
    for free in range(number + 1, number + 1 + _TRIES):
        backup = path.with_name(f"{path.name}{_BACKUP}{free}")
        try:
            backup.hardlink_to(path)
        except FileExistsError:
            # Somebody else has just taken this number.
            continue
        except OSError as exc:
            if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV):
                raise
            # File systems of memory cards know no second names.
            shutil.copy2(path, backup)
        return backup
    raise FileExistsError(errno.EEXIST, "there are too many backups", str(path))


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
