"""Objects that were put aside: their SOP instance is stored already with other content.

Each is a Part 10 file in `<base folder>/dgate/aside` with a report beside it: `.dcm` and `.json`
behind the SOP instance and the begin of the hash. Not for deciding what goes there
(`dgate.archive.duplicates`). Any thread may use it; the same content is kept once.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dgate.archive.files import (
    Part,
    create_folders,
    storage_failure,
    unlink_quietly,
    write_file,
)
from dgate.disk import sync_folder
from dgate.errors import StoreError

log = logging.getLogger(__name__)

FOLDER = "aside"
_UNFINISHED = ".part"
_HASH_DIGITS = 16
_ENTRY = re.compile(r"([0-9.]{1,64})\.([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Content:
    """One of the two contents of an instance."""

    sha256: str
    """Of the data set, without file header."""
    size: int
    """Bytes of the data set."""
    syntax: str
    where: str
    """The device and name of the stored one, or what brought the other."""


@dataclass(frozen=True, slots=True)
class Report:
    """Why an object was put aside."""

    sop_class: str
    sop_instance: str
    patient_id: str
    study: str
    series: str
    calling: str
    called: str
    host: str
    """Address of the sender."""
    first: float
    """When this content came first, seconds since the epoch."""
    last: float
    times: int
    """How often it came."""
    stored: Content
    aside: Content
    differences: tuple[dict[str, str | None], ...] = ()
    """Elements that differ: `tag`, `name`, `stored` and `aside`, None where it is not there."""
    more: int = 0
    """Further elements that differ."""

    @property
    def name(self) -> str:
        """The name of the entry, without ending."""
        return f"{self.sop_instance}.{self.aside.sha256[:_HASH_DIGITS]}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"id": self.name, **dataclasses.asdict(self)}

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a report; raises ValueError, KeyError or TypeError for what is none."""
        values = json.loads(data)
        values.pop("id", None)
        values["stored"] = Content(**values["stored"])
        values["aside"] = Content(**values["aside"])
        values["differences"] = tuple(values["differences"])
        return cls(**values)


@dataclass(slots=True)
class Aside:
    """The folder of objects that were put aside; one object for each folder that is changed.

    Reading needs no lock, so others may only read the same folder.
    """

    folder: Path
    durable: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the files."""

    @classmethod
    def below(cls, base_folder: Path, *, durable: bool = True) -> Self:
        """Return the one of a base folder; nothing is created."""
        return cls(base_folder / "dgate" / FOLDER, durable)

    def put(
        self, report: Report, parts: Sequence[Part], check: Callable[[], None] | None = None
    ) -> Report:
        """Keep an object with its report, durably; return the report as it is kept.

        Content that is there already is only counted. A crash leaves unfinished files, which the
        next `tidy` removes, or the object with its report.

        Args:
            check: raises a StoreError when what was read of the parts need not be what arrived.

        Raises:
            OutOfSpace: the disk cannot take it. What `check` raises passes through; nothing is
                kept.
        """
        path = self.folder / f"{report.name}.dcm"
        with self._lock:
            known = self._read(report.name) if path.exists() else None
            if known is not None:
                report = dataclasses.replace(
                    report, first=known.first, times=known.times + report.times
                )
            try:
                create_folders(self.folder)
                self.folder.chmod(0o700)
                if known is None:
                    self._write(path, parts, check)
                text = json.dumps(report.as_dict(), ensure_ascii=False, indent=1)
                self._write(path.with_suffix(".json"), [text.encode("utf-8", "replace")])
                if self.durable:
                    sync_folder(self.folder)
            except OSError as exc:
                raise storage_failure(exc, str(path)) from exc
        return report

    def reports(self) -> Iterator[Report]:
        """Yield what is there, in order of names; an entry without a readable report is logged."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder))
        except FileNotFoundError:
            return
        for name in names:
            stem, dot, ending = name.rpartition(".")
            if not dot or ending != "dcm" or not _ENTRY.fullmatch(stem):
                continue
            report = self._read(stem)
            if report is None:
                log.warning("The report of %s in %s cannot be read.", name, self.folder)
            else:
                yield report

    def count(self) -> int:
        """Return how many objects are there."""
        try:
            return sum(entry.name.endswith(".dcm") for entry in os.scandir(self.folder))
        except FileNotFoundError:
            return 0

    def instances(self) -> frozenset[str]:
        """Return the SOP instances of which something is there, by the names of files alone.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
        except FileNotFoundError:
            return frozenset()
        stems = (_ENTRY.fullmatch(name.removesuffix(".dcm")) for name in names)
        return frozenset(found[1] for found in stems if found is not None)

    def find(self, name: str) -> list[Report]:
        """Return the entry of this name, or all of a SOP instance.

        Raises:
            StoreError: there is none.
        """
        if _ENTRY.fullmatch(name) and (self.folder / f"{name}.dcm").exists():
            report = self._read(name)
            found = [] if report is None else [report]
        else:
            found = [each for each in self.reports() if each.sop_instance == name]
        if not found:
            raise StoreError(
                f"nothing called {name} was put aside",
                where=str(self.folder),
                remedy="dgate aside list",
            )
        return found

    def path(self, report: Report) -> Path:
        """Return the file of an entry."""
        return self.folder / f"{report.name}.dcm"

    def remove(self, report: Report) -> None:
        """Remove an entry; a crash leaves it, or its report alone, which `tidy` removes.

        Raises:
            OutOfSpace: the disk does not allow it.
        """
        path = self.path(report)
        with self._lock:
            try:
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)
                if self.durable:
                    sync_folder(self.folder)
            except OSError as exc:
                raise storage_failure(exc, str(path)) from exc

    def tidy(self) -> None:
        """Remove what a crash left; called once, before anything is put there."""
        try:
            names = {entry.name for entry in os.scandir(self.folder)}
        except OSError:
            return
        for name in names:
            is_alone = name.endswith(".json") and f"{name.removesuffix('.json')}.dcm" not in names
            if name.endswith(_UNFINISHED) or is_alone:
                unlink_quietly(str(self.folder / name))

    def _write(
        self, path: Path, parts: Sequence[Part], check: Callable[[], None] | None = None
    ) -> None:
        """Write a complete, synced file under its name; any error leaves none of it."""
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
        write_file(str(fresh), parts, durable=self.durable)
        try:
            if check is not None:
                check()
            fresh.replace(path)
        except (OSError, StoreError):
            unlink_quietly(str(fresh))
            raise

    def _read(self, name: str) -> Report | None:
        try:
            return Report.parse((self.folder / f"{name}.json").read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as exc:
            log.debug("The report of %s cannot be read: %s", name, exc)
            return None
