"""The files of the disk that rules and scripts may touch, confined to some folders (rulings.md 11).

What a statement does with them: `dgate.rules.statements.files`. What a rule writes is not synced,
but is there as a whole or not at all. Any thread may ask.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dgate.config.text import read_file
from dgate.errors import RuleError

_COPY_BYTES = 1 << 20
_LARGEST_READ = 64 << 20
"""Bytes that a script gets of a file at once."""
_REMEDY = "rules may use the base folder, the devices, TempDir and the folders of ScriptFolders"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class ConfinedFiles:
    """Files below the base folder, the devices, TempDir and ScriptFolders.

    Symbolic links are followed to where they lead, and that has to be below one of the folders.
    """

    def __init__(
        self,
        base: Path,
        areas: Sequence[Path],
        temporary: Path,
        *,
        unrestricted: bool = False,
    ) -> None:
        """Relative names are below `base`, which is allowed, as `temporary` and all `areas` are.

        `unrestricted`: `LuaUnrestricted`, every path is allowed.
        """
        self._base = base
        self._temporary = temporary
        self._areas = tuple(dict.fromkeys((base, temporary, *areas)))
        self._unrestricted = unrestricted
        self._aliases = _Aliases((Path(), base))

    def place(self, name: str) -> Path:
        """Return the absolute path that a name means, below the base folder when it is relative.

        Raises RuleError: it leads out of the allowed folders, also through a symbolic link.
        """
        if not name.strip() or "\0" in name:
            raise RuleError("the name of a file is empty or contains a NUL character")
        try:
            found = Path(os.path.realpath(self._base / name))
        except (OSError, ValueError) as exc:
            raise RuleError(f"{_shown(name)} is no path: {exc}") from exc
        # Resolved now: a folder may be moved, and a link to it changed, while the server runs.
        if not self._unrestricted and not any(
            found.is_relative_to(os.path.realpath(area)) for area in self._areas
        ):
            raise RuleError(f"{_shown(name)} is outside the folders for rules", remedy=_REMEDY)
        return found

    def read(self, name: str) -> bytes:
        """Return the content of an ordinary file of at most 64 MiB."""
        with _explained("read", name), _opened(self.place(name)) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > _LARGEST_READ:
                raise RuleError(f"{_shown(name)} is too long to be read: {size} bytes")
            return b"".join(_content(descriptor))

    def write(self, name: str, content: bytes, *, append: bool = False) -> None:
        """Write a file anew, or append to it with a single write."""
        if not append:
            self.save(name, (content,))
            return
        place = self.place(name)
        with _explained("written", name):
            descriptor = os.open(place, _APPENDING, 0o666)
            try:
                _check_ordinary(descriptor, place)
                # In one call, so that what others append at the same time does not get into it.
                written = os.write(descriptor, content)
            finally:
                os.close(descriptor)
            if written < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file in parts; it has its name only when all of it is written."""
        place = self.place(name)
        with _explained("written", name):
            _replace(place, parts)

    def copy(self, source: str, target: str) -> None:
        """Copy a file byte for byte; into a folder, under its own name."""
        origin, place = self.place(source), self.place(target)
        with _explained("copied", source):
            if place.is_dir():
                place = self.place(os.path.join(target, origin.name))  # noqa: PTH118 - checked text
            with _opened(origin) as descriptor:
                _replace(place, _content(descriptor))

    def make_folder(self, name: str) -> None:
        """Create a folder with all those above it; no error when it is there."""
        place = self.place(name)
        with _explained("created", name):
            place.mkdir(parents=True, exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove one file; no error when it is absent."""
        place = self.place(name)
        with _explained("removed", name):
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            place.unlink(missing_ok=True)

    def to_write(self, name: str) -> Path:
        """Return the path at which a script opens a file itself, to write, change or append."""
        return self.place(name)

    def rename(self, source: str, target: str) -> None:
        """Give a file or folder another name; a file of that name is replaced."""
        origin, place = self.place(source), self.place(target)
        with _explained("renamed", source):
            origin.replace(place)

    def temporary(self, extension: str) -> Path:
        """Return an unused path below TempDir, else below the first device's `printer_files`."""
        with _explained("created", str(self._temporary)):
            self._temporary.mkdir(parents=True, exist_ok=True)
        return self._temporary / f"dgate-{secrets.token_hex(8)}{extension}"

    def alias(self, letter: str, value: str) -> str:
        """Return what `aliasfileq<letter>.txt` gives a value, the value itself when it does not."""
        return self._aliases.replaced(letter, value)


class _Aliases:
    """Alias files, in the first folder that has one, read again when they change."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._guard = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int, int], dict[str, str]]] = {}

    def replaced(self, letter: str, value: str) -> str:
        """Return the new value; raises RuleError where a file is there and cannot be read."""
        for folder in self._folders:
            path = folder / f"aliasfileq{letter}.txt"
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise RuleError(f"{path} cannot be read: {exc.strerror}") from exc
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            return self._table(path, stamp).get(value.lower(), value)
        return value

    def _table(self, path: Path, stamp: tuple[int, int, int]) -> dict[str, str]:
        with self._guard:
            known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            content = read_file(path)
        except OSError as exc:
            raise RuleError(f"{path} cannot be read: {exc.strerror}") from exc
        table = _alias_lines(content)
        with self._guard:
            self._known[path] = (stamp, table)
        return table


def _alias_lines(content: bytes) -> dict[str, str]:
    """Return the new values by the old ones in lower case; the first line counts."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    table: dict[str, str] = {}
    for line in text.split("\n"):
        old, tab, new = line.rstrip("\r").partition("\t")
        if tab:
            table.setdefault(old.lower(), new)
    return table


@contextmanager
def temporary_file(path: Path, parts: Iterable[bytes | memoryview]) -> Iterator[Path]:
    """Write a new file for a program and remove it afterwards."""
    with _explained("written", str(path)):
        descriptor = os.open(path, _NEW_FILE, 0o600)
    try:
        with _explained("written", str(path)):
            _write_all(descriptor, parts)
        yield path
    finally:
        path.unlink(missing_ok=True)


def private_copy(path: Path) -> memoryview:
    """Return the content of a file that a program has written, such that nobody can change it.

    A mapping of the file itself would be lost with the program that still writes to it.
    """
    with _explained("read", str(path)), _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size <= _COPY_BYTES:
            return memoryview(b"".join(_content(descriptor)))
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as own:
            for chunk in _content(descriptor):
                own.write(chunk)
            return memoryview(mmap.mmap(own.fileno(), 0, access=mmap.ACCESS_READ))


def _replace(place: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a file beside the one of that name, then put it in its place."""
    if place.exists() and not place.is_file():
        raise OSError(errno.EINVAL, "it is not an ordinary file")
    scratch = place.with_name(f".dgate-{secrets.token_hex(8)}")
    descriptor = os.open(scratch, _NEW_FILE, 0o666)
    try:
        _write_all(descriptor, parts)
        scratch.replace(place)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _write_all(descriptor: int, parts: Iterable[bytes | memoryview]) -> None:
    """Write everything and close the descriptor."""
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Opening a named pipe would wait for somebody to write into it.
    descriptor = os.open(path, _READING)
    try:
        _check_ordinary(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_ordinary(descriptor: int, path: Path) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file", str(path))


def _content(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _COPY_BYTES):
        yield chunk


@contextmanager
def _explained(verb: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RuleError(f"{_shown(name)} cannot be {verb}: {exc.strerror}") from exc


def _shown(name: str) -> str:
    """Return a name that may come from a header, fit for a log line."""
    return repr(name[:200])
