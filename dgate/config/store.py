"""Replacing configuration files: all of a set or none of it, whatever fails and whenever it ends.

Every new file is written and synced under a temporary name first, and every old one gets a second
name, `dicom.ini.bak.1`, `dicom.ini.bak.2` and so on (the highest is the newest), which stays. Then
a note in the base folder says what is about to be replaced, and the files take their names one
after the other. What fails meanwhile is undone. What a crash leaves, `settle` completes or undoes:
at a start, before a reload, or before the next change.

A writer holds a lock on the note, so writers of one base folder wait for each other, and `settle`
waits for them. Functions may be called from any thread and process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from dgate.config.text import read_file
from dgate.disk import sync_file, sync_folder
from dgate.errors import ConfigError

log = logging.getLogger(__name__)

NOTE = ".dgate-replacing"
"""The note in the base folder; it is there only while files are being replaced, or after a crash
of that."""
WAIT_S = 5.0
"""How long to wait for another writer."""
_LOOK_AGAIN_S = 0.02
_BACKUP = ".bak."
_TRIES = 100


class Written(NamedTuple):
    """A file that was replaced or removed."""

    path: Path
    backup: Path | None
    """What it was before; None when there was no file."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One file of a set, as the note has it. Paths are absolute, without symbolic links."""

    real: str
    temporary: str | None
    """The new file until it has its name; None when the file is to be removed."""
    new: str | None
    """SHA-256 of the new content in hex; None for no file."""
    backup: str | None
    """Second name of the old file; None when there was none."""
    old: str | None
    """SHA-256 of the old content."""

    def is_sound(self) -> bool:
        """Tell whether the three names are of one file."""
        real = Path(self.real)
        new, backup = f".{real.name}.new.", f"{real.name}{_BACKUP}"
        return (
            real.is_absolute()
            and (self.temporary is None or _is_sibling(Path(self.temporary), real, new))
            and (self.backup is None or _is_sibling(Path(self.backup), real, backup))
        )

    def now(self) -> str | None:
        """Return what the file is at present, as `new` and `old` say it; raises OSError."""
        return _hash(_content(Path(self.real)))

    def has_temporary(self) -> bool:
        """Tell whether the new content is still there to take its name; raises OSError."""
        if self.temporary is None:
            return True
        return _hash(_content(Path(self.temporary))) == self.new


def write_files(
    base: Path, files: Mapping[Path, bytes | None], expected: Mapping[Path, bytes | None]
) -> list[Written]:
    """Give all files their new content, or none; None removes a file.

    They are replaced in the order given. Owner and mode are kept, and a symbolic link stays one.
    `expected` is the content that the change was made for (None: no file).

    Raises ConfigError: a file holds something else by now, or cannot be written; all are as before
    then.
    """
    with _turn(base) as note:
        steps: list[_Step] = []
        try:
            for place, (path, content) in enumerate(files.items()):
                steps.append(_prepare(path, content, expected[path], place))
            _sync_folders(steps)
            if len(steps) > 1:
                note.write(steps)
        except BaseException as exc:
            # No file has its new name yet: at worst, hidden files stay behind.
            with contextlib.suppress(OSError):
                _undo(steps)
                note.remove()
            _raise_not_written(exc, base)
        try:
            _apply(steps)
        except BaseException as exc:
            _take_back(steps, exc, base)
            with contextlib.suppress(OSError):
                note.remove()
            _raise_not_written(exc, base)
        # One that cannot be removed is no harm: all that it says has been done.
        with contextlib.suppress(OSError):
            note.remove()
    return [
        Written(path, None if step.backup is None else Path(step.backup))
        for path, step in zip(files, steps, strict=True)
    ]


def settle(base: Path) -> None:
    """Complete or undo a change of files that a crash cut off; wait for one that is under way.

    Raises ConfigError: it takes too long, or the files cannot be written.
    """
    if os.path.lexists(base / NOTE):
        with _turn(base):
            pass


class _Note:
    """The note of a base folder, locked."""

    def __init__(self, path: Path, descriptor: int, *, is_writable: bool) -> None:
        self.path = path
        self._descriptor = descriptor
        self._is_there = True
        self.is_writable = is_writable

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return os.fstat(self._descriptor).st_size == 0

    def read(self) -> list[_Step]:
        """Return what was about to be done; nothing when the note was not written to its end, as
        nothing had been done then. Raises OSError, ConfigError.
        """
        state = os.fstat(self._descriptor)
        text = os.pread(self._descriptor, state.st_size, 0)
        if not text.endswith(b"\n"):
            return []
        if os.geteuid() == 0 != state.st_uid:
            # What it says is done with the rights of whoever does it.
            raise ConfigError(
                "files were being replaced by another user when the power failed or a command was "
                "killed, and root does not finish what others wrote down",
                where=str(self.path),
                remedy="start the server, or give the command again, as that user",
            )
        try:
            steps = [_Step(**entry) for entry in json.loads(text)]
            if not all(step.is_sound() for step in steps):
                raise ValueError("names that do not belong together")
        except (ValueError, TypeError, AttributeError) as exc:
            raise ConfigError(
                "the note about files that are being replaced is damaged",
                where=str(self.path),
                remedy="look at the four files and the newest .bak files beside them, then "
                "remove the note",
            ) from exc
        return steps

    def write(self, steps: Sequence[_Step]) -> None:
        """Write down what is about to be done, durably; raises OSError."""
        rest = memoryview(json.dumps([asdict(step) for step in steps]).encode() + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        os.fsync(self._descriptor)
        sync_folder(self.path.parent)

    def remove(self) -> None:
        """Take the note away, as nothing is left to do, and with it the turn; safe to call twice.

        Raises OSError.
        """
        if self._is_there:
            self._is_there = False
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the turn to the next; what the note says stays."""
        with contextlib.suppress(OSError):
            # One that cannot be removed is no harm: it is empty.
            if self._is_there and self.is_empty:
                self.remove()
        os.close(self._descriptor)


@contextmanager
def _turn(base: Path) -> Iterator[_Note]:
    """Hold the lock that all who write the files of a base folder share; the note is empty.

    Finishes what a crash left. Raises ConfigError.
    """
    while True:
        note = _locked(base.absolute() / NOTE)
        try:
            if note.is_empty and note.is_writable:
                yield note
                return
            try:
                _finish(note.read())
                note.remove()
            except OSError as exc:
                raise ConfigError(
                    "a change of the files that was interrupted cannot be finished: "
                    f"{exc.strerror}",
                    where=str(exc.filename or note.path),
                    remedy="the folder must be writable, and the .bak file must be there",
                ) from exc
        finally:
            note.close()


def _locked(path: Path) -> _Note:
    """Open and lock the note, which is made when there is none; raises ConfigError."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        descriptor, is_writable = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The writer before may have taken the note away after it was opened here.
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return _Note(path, descriptor, is_writable=is_writable)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            time.sleep(_LOOK_AGAIN_S)
        os.close(descriptor)
    raise ConfigError(
        "the files are being written by somebody else just now",
        where=str(path.parent),
        remedy="try again when that is done",
    )


def _opened(path: Path) -> tuple[int, bool]:
    """Open the note; returns the descriptor, and whether it can be written."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644), True
        except PermissionError:
            # One that another user's command left: enough to finish what it says.
            return os.open(path, os.O_RDONLY | flags), False
    except OSError as exc:
        raise ConfigError(
            f"the files cannot be replaced: {exc.strerror}",
            where=str(path),
            remedy="the folder must be writable",
        ) from exc


def _prepare(path: Path, content: bytes | None, expected: bytes | None, place: int) -> _Step:
    """Put everything beside a file that its replacement needs.

    Raises OSError, or ConfigError when the file is not as expected; leaves nothing then.
    """
    real = Path(os.path.realpath(path))
    temporary = real.with_name(f".{real.name}.new.{os.getpid()}.{place}")
    try:
        if content is not None:
            _write(temporary, content, real)
        if _content(real) != expected:
            raise ConfigError(
                "the file was changed by somebody else meanwhile, so it was not written",
                where=str(path),
                remedy="look at the change and try again",
            )
        backup = None if expected is None else _keep(real)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return _Step(
        str(real),
        None if content is None else str(temporary),
        _hash(content),
        None if backup is None else str(backup),
        _hash(expected),
    )


def _apply(steps: Sequence[_Step]) -> None:
    """Let the new files take their names; raises OSError."""
    for step in steps:
        if step.temporary is not None:
            Path(step.temporary).replace(step.real)
        else:
            Path(step.real).unlink(missing_ok=True)
    _sync_folders(steps)


def _undo(steps: Sequence[_Step]) -> None:
    """Put the old files back; raises OSError. What is as it was, or is somebody else's, stays."""
    for step in steps:
        real, now = Path(step.real), step.now()
        if now == step.new and step.new != step.old:
            if step.backup is None:
                real.unlink(missing_ok=True)
            else:
                Path(step.backup).replace(real)
        elif now == step.old and step.backup is not None:
            Path(step.backup).unlink(missing_ok=True)
        if step.temporary is not None:
            Path(step.temporary).unlink(missing_ok=True)
    _sync_folders(steps)


def _sync_folders(steps: Sequence[_Step]) -> None:
    for folder in {Path(step.real).parent for step in steps}:
        sync_folder(folder)


def _take_back(steps: Sequence[_Step], why: BaseException, base: Path) -> None:
    """Undo a change that failed in the middle; raises ConfigError when that fails, too."""
    try:
        _undo(steps)
    except OSError as exc:
        raise ConfigError(
            f"files could not be replaced ({why}), nor could the old ones be put back: "
            f"{exc.strerror}",
            where=str(exc.filename or base),
            remedy="repair the disk and start the server: it puts the set in order first",
        ) from exc


def _finish(steps: Sequence[_Step]) -> None:
    """Do what is left of a change that was cut off, or undo it when a new file is missing.

    What somebody has changed since then is left as it is. Raises OSError.
    """
    if not steps:
        return
    states = [(step, step.now()) for step in steps]
    left = [step for step, now in states if now == step.old != step.new]
    if all(step.has_temporary() for step in left):
        log.warning("A change of the configuration that was interrupted is being finished.")
        _apply(left)
        for step in steps:
            if step.temporary is not None:
                Path(step.temporary).unlink(missing_ok=True)
    else:
        log.warning("A change of the configuration that was interrupted is being undone.")
        _undo(steps)
    for step, now in states:
        if now not in (step.old, step.new):
            log.warning("%s was changed by somebody else since, so it was left alone.", step.real)


def _raise_not_written(exc: BaseException, base: Path) -> NoReturn:
    if not isinstance(exc, OSError):
        raise exc
    raise ConfigError(
        f"the file cannot be written: {exc.strerror}",
        where=str(exc.filename or base),
        remedy="the folder must be writable too, for the copy that is kept",
    ) from exc


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None


def _is_sibling(path: Path, real: Path, begin: str) -> bool:
    return path.parent == real.parent and path.name.startswith(begin)


def _hash(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


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
            sync_file(backup)
        return backup
    raise FileExistsError(errno.EEXIST, "there are too many backups", str(path))
