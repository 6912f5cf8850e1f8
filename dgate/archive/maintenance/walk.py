"""The image files below a folder of a device, in an order that can be taken up again.

Which names count is spec dicom-sql.md section 5. Not for what is in the files
(`dgate.archive.maintenance.scanner`). Memory is constant: a folder with very many names is sorted
on disk. A walk belongs to one thread.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from dgate.archive.devices import PREVIOUS
from dgate.ops.lock import LOCK_NAME

SKIPPED_FOLDERS = frozenset({"incoming", "printer_files", "bin", "dgate", "lost+found"})
"""In whatever letter case: what is on its way, and what is no object."""
IMAGE_ENDINGS = (".v2", ".dcm", ".img")
_OWN_ENDINGS = (PREVIOUS, ".part", "-wal", "-shm", "-journal")
"""Replaced and unfinished files, and what SQLite puts beside a database."""
_SORTED_IN_MEMORY = 20_000
"""So many names of one folder are sorted in memory."""

BATCH_FILES = 128
_BATCH_CHARACTERS = 16_000
"""The names of a batch must fit into a pipe."""

Trouble = Callable[[str, str], None]
"""Told of a folder that cannot be read: path, reason."""


def is_taken(name: str) -> bool:
    """Tell whether a file of this name, without its folder, may hold an object."""
    lower = name.lower()
    if lower.endswith(IMAGE_ENDINGS):
        return True
    if "." in name[-4:] or lower.startswith(".") or lower == LOCK_NAME:
        return False
    return lower != "dicomdir" and not lower.endswith(_OWN_ENDINGS)


def index_name(name: str) -> str:
    """Return a file's name as the index has it; Latin-1 where the bytes are not UTF-8."""
    if name.isascii():
        return name
    raw = os.fsencode(name)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def walk(root: Path, below: str = "", after: str = "", trouble: Trouble | None = None) -> Walk:
    """Return the names of the files below `root`/`below`, relative to `root`, as the system has
    them.

    `after` is a name that an earlier walk yielded: the walk begins behind it. `trouble` is told
    of folders that cannot be read.
    """
    return Walk(root, below, after, trouble or (lambda path, reason: None))


class Walk:
    """An iterator over names, each part of a path in byte order."""

    def __init__(self, root: Path, below: str, after: str, trouble: Trouble) -> None:
        self._root = str(root)
        self._trouble = trouble
        self._below = below.strip("/")
        cursor = after.split("/") if after else []
        depth = len(self._below.split("/")) if self._below else 0
        self._cursor: Sequence[str] = cursor[depth:]

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        start = f"{self._root}/{self._below}" if self._below else self._root
        prefix = f"{self._below}/" if self._below else ""
        yield from self._folder(start, prefix, self._cursor, frozenset((os.path.realpath(start),)))

    def _folder(
        self, path: str, prefix: str, cursor: Sequence[str], above: frozenset[str]
    ) -> Iterator[str]:
        """Yield what is in one folder; `above` are the folders that it is in, links resolved."""
        first = os.fsencode(cursor[0]) if cursor else b""
        for raw, kind in self._sorted(path, first):
            name = os.fsdecode(raw)
            if kind == _FILE:
                if raw != first and is_taken(name):
                    yield prefix + name
                continue
            if name.lower() in SKIPPED_FOLDERS:
                continue
            inner = f"{path}/{name}"
            around = above
            if kind == _LINK:
                target = os.path.realpath(inner)
                if target in above:
                    self._trouble(inner, "the link leads back to a folder that it is in")
                    continue
                around = above | {target}
            rest = cursor[1:] if raw == first else ()
            yield from self._folder(inner, f"{prefix}{name}/", rest, around)

    def _sorted(self, path: str, first: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield name and kind of the entries from `first` on."""
        try:
            with os.scandir(path) as found:
                entries = self._entries(found, first)
                head = list(islice(entries, _SORTED_IN_MEMORY))
                if len(head) < _SORTED_IN_MEMORY:
                    ordered: Iterator[tuple[bytes, int]] = iter(sorted(head))
                else:
                    ordered = _sorted_on_disk(head, entries)
        except OSError as exc:
            self._trouble(path, exc.strerror or str(exc))
            return
        yield from ordered

    def _entries(
        self, found: Iterator[os.DirEntry[str]], first: bytes
    ) -> Iterator[tuple[bytes, int]]:
        for entry in found:
            raw = os.fsencode(entry.name)
            if raw < first:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield raw, _FOLDER
                elif entry.is_file():
                    yield raw, _FILE
                elif entry.is_dir():
                    yield raw, _LINK
            except OSError as exc:
                if exc.errno != errno.ENOENT:
                    self._trouble(entry.path, exc.strerror or str(exc))


_FILE, _FOLDER, _LINK = range(3)


def _sorted_on_disk(
    head: list[tuple[bytes, int]], rest: Iterator[tuple[bytes, int]]
) -> Iterator[tuple[bytes, int]]:
    """Sort the entries of a huge folder in a temporary database, which SQLite keeps in a file."""
    connection = sqlite3.connect("")
    connection.execute("CREATE TABLE names (name BLOB PRIMARY KEY, kind INT) WITHOUT ROWID")
    connection.execute("BEGIN")
    insert = "INSERT OR IGNORE INTO names VALUES (?, ?)"
    connection.executemany(insert, head)
    head.clear()
    connection.executemany(insert, rest)

    def ordered() -> Iterator[tuple[bytes, int]]:
        with closing(connection):
            yield from connection.execute("SELECT name, kind FROM names ORDER BY name")

    return ordered()


def batched(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield the names in batches that a worker process takes at a time."""
    batch: list[str] = []
    characters = 0
    for name in names:
        batch.append(name)
        characters += len(name)
        if len(batch) >= BATCH_FILES or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
