"""The sets of the four files that a server has applied: the last twenty, and the way back to one.

Each set is a folder `<base folder>/dgate/history/NNNNNN` with the files as they were read and a
`set.json` about them. They hold passwords, so only their owner may read them. One process at a time
writes (the server, or a command while none runs); within it, one thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgate.config.model import Configuration
from dgate.config.reload import set_files
from dgate.config.store import Written, write_files
from dgate.config.text import read_file
from dgate.disk import sync_file, sync_folder
from dgate.errors import ConfigError

log = logging.getLogger(__name__)

KEPT_SETS = 20
_MOST_CHANGES = 200
_ABOUT = "set.json"
_NEW = ".new"
_REMEDY = "`dgate config history` shows the sets that there are"


@dataclass(frozen=True, slots=True)
class AppliedSet:
    """What is known of one set."""

    number: int
    applied_at: float
    """Unix time in seconds."""
    why: str
    """`start`, `SIGHUP`, `file change`, ..."""
    changes: tuple[str, ...]
    """What it changed of the set before, a line for each; empty for the first one."""


class History:
    """The applied sets below one base folder."""

    def __init__(self, base_folder: Path) -> None:
        self._base = base_folder
        self.folder = base_folder / "dgate" / "history"

    def sets(self) -> list[AppliedSet]:
        """Return the sets, newest first; one that cannot be read is left out and logged."""
        found = []
        for number in sorted(self._numbers(), reverse=True):
            try:
                about = self._about(number)
                changes = tuple(str(line) for line in about["changes"])
                found.append(
                    AppliedSet(number, float(about["applied_at"]), str(about["why"]), changes)
                )
            except (ConfigError, KeyError, TypeError, ValueError) as exc:
                log.warning("Set %d of the configuration's history is damaged: %s", number, exc)
        return found

    def files(self, number: int) -> dict[Path, bytes | None]:
        """Return the four files of a set by absolute path; None for one that was missing.

        Raises ConfigError: there is no such set, or it is damaged.
        """
        about = self._about(number)
        try:
            entries = [(entry["path"], entry["name"], entry["sha256"]) for entry in about["files"]]
        except (KeyError, TypeError) as exc:
            raise self._damaged(number) from exc
        found: dict[Path, bytes | None] = {}
        for path, name, sha256 in entries:
            content = None
            if name is not None:
                try:
                    # The name only: what stands there must not lead out of the set's folder.
                    content = (self._place(number) / Path(name).name).read_bytes()
                except OSError as exc:
                    raise self._damaged(number) from exc
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise self._damaged(number)
            found[self._base / path] = content
        return found

    def record(
        self, configuration: Configuration, why: str, changes: Sequence[str], now: float
    ) -> int | None:
        """Keep a set that has been applied, and forget the oldest; returns its number.

        None when the newest set has the same files. A crash leaves the set whole or not at all.
        Raises ConfigError: it cannot be written.
        """
        paths = dict.fromkeys(set_files(configuration))
        files = {path: configuration.contents.get(path) for path in paths}
        numbers = sorted(self._numbers())
        try:
            if numbers and self._is_same(numbers[-1], files):
                return None
            number = numbers[-1] + 1 if numbers else 1
            self._write(number, files, why, changes, now)
            for old in numbers[: max(0, len(numbers) + 1 - KEPT_SETS)]:
                shutil.rmtree(self._place(old))
        except OSError as exc:
            raise ConfigError(
                f"the applied configuration cannot be kept: {exc.strerror}",
                where=str(self.folder),
                remedy="the folder must be writable for the server",
            ) from exc
        return number

    def write_back(self, number: int) -> list[Written]:
        """Write the files of a set to their places, all or none; returns those that changed.

        Raises ConfigError: a file cannot be written, or is changed by somebody else just now.
        """
        files = self.files(number)
        now = {path: _content(path) for path in files}
        # The ini file last, as it names the others.
        changing = {path: files[path] for path in reversed(files) if files[path] != now[path]}
        return write_files(self._base, changing, now) if changing else []

    def take_back(self, written: Sequence[Written]) -> None:
        """Undo a `write_back` whose files could not be put into effect; raises ConfigError."""
        before = {path: None if backup is None else _content(backup) for path, backup in written}
        if before:
            write_files(self._base, before, {path: _content(path) for path in before})

    def _numbers(self) -> Iterator[int]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            for entry in self.folder.iterdir():
                if entry.name.isdecimal():
                    yield int(entry.name)

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}"

    def _about(self, number: int) -> dict[str, Any]:
        try:
            text = (self._place(number) / _ABOUT).read_bytes()
        except FileNotFoundError as exc:
            raise ConfigError(
                f"there is no set {number} of the configuration", remedy=_REMEDY
            ) from exc
        except OSError as exc:
            raise ConfigError(
                f"set {number} of the configuration cannot be read: {exc.strerror}",
                where=str(self._place(number)),
                remedy="it belongs to the user that the server runs as",
            ) from exc
        try:
            found = json.loads(text)
        except ValueError as exc:
            raise self._damaged(number) from exc
        if not isinstance(found, dict):
            raise self._damaged(number)
        return found

    def _damaged(self, number: int) -> ConfigError:
        return ConfigError(
            f"set {number} of the configuration is damaged",
            where=str(self._place(number)),
            remedy="choose another one",
        )

    def _is_same(self, number: int, files: Mapping[Path, bytes | None]) -> bool:
        try:
            return self.files(number) == files
        except ConfigError:
            return False

    def _write(
        self,
        number: int,
        files: Mapping[Path, bytes | None],
        why: str,
        changes: Sequence[str],
        now: float,
    ) -> None:
        """Write a set's folder under a temporary name, then give it its own."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        place = self.folder / f"{number:06d}{_NEW}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        entries = []
        for role, (path, content) in enumerate(files.items()):
            name = None if content is None else f"{role}-{path.name}"
            if name is not None and content is not None:
                _write(place / name, content, 0o600)
            entries.append(
                {
                    "path": _relative(path, self._base),
                    "name": name,
                    "sha256": None if content is None else hashlib.sha256(content).hexdigest(),
                }
            )
        about = {
            "number": number,
            "applied_at": now,
            "why": why,
            "changes": list(changes[:_MOST_CHANGES]),
            "files": entries,
        }
        _write(place / _ABOUT, json.dumps(about, indent=1).encode(), 0o600)
        # All together: the first sync carries the rest with it, and objects that are being stored
        # have to wait for one only.
        for path in place.iterdir():
            sync_file(path)
        sync_folder(place)
        place.rename(self._place(number))
        sync_folder(self.folder)


def _relative(path: Path, base: Path) -> str:
    """Return the path as it is found after the whole folder has moved elsewhere."""
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigError(f"the file cannot be read: {exc.strerror}", where=str(path)) from exc


def _write(path: Path, content: bytes, mode: int) -> None:
    # Removed first: neither the mode of an old file counts, nor is a link followed.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
