"""CACHESERIES and CACHESTUDIES: lists of images of a virtual server, remembered for a day.

One JSON file per list, below dgate's own folder on the first device. The lists name patients, so
only the server's user can read them. A study of today may still grow and is never remembered. Any
thread may use it; two that write the same list write the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from dgate.archive.levels import Level
from dgate.config.model import VirtualServer
from dgate.config.virtual import CACHE_SERIES, CACHE_STUDIES
from dgate.delivery.inquiry import STUDY, STUDY_DATE, Inquiry, Listed

log = logging.getLogger(__name__)

Ask = Callable[[], list[Listed]]
LIFE_S = 86_400.0


class ListCache:
    """The lists of all virtual servers."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def of(self, server: VirtualServer, inquiry: Inquiry) -> Recall:
        """Return what one server's lists are asked through."""
        return Recall(self, server, inquiry)

    def today(self) -> str:
        """Return the date here, as DICOM writes it."""
        return datetime.fromtimestamp(self._now()).astimezone().strftime("%Y%m%d")

    def load(self, key: tuple[str, ...]) -> list[Listed] | None:
        """Return a list that is young enough."""
        path = self._path(key)
        try:
            if self._now() - path.stat().st_mtime > LIFE_S:
                return None
            return [Listed(**row) for row in json.loads(path.read_bytes())]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as exc:
            log.warning("The list %s of a virtual server cannot be read: %s", path, exc)
            return None

    def save(self, key: tuple[str, ...], found: list[Listed]) -> None:
        """Remember a list; one that cannot be written is asked for again."""
        path = self._path(key)
        try:
            self._prepare()
            self._remove_old()
            staged = path.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump([asdict(each) for each in found], file)
            self._date(staged)
            staged.replace(path)
        except OSError as exc:
            log.warning("A list of a virtual server cannot be kept: %s", exc)

    def _prepare(self) -> None:
        """Make sure of the folder, and that nobody else can look into it, whatever the umask."""
        if not self._folder.is_dir():
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.stat().st_mode & 0o077:
            # Made by an earlier version.
            self._folder.chmod(0o700)

    def _path(self, key: tuple[str, ...]) -> Path:
        digest = hashlib.sha256("\0".join(key).encode()).hexdigest()
        return self._folder / f"{digest}.json"

    def _remove_old(self) -> None:
        """Remove what is too old, at most once an hour."""
        stamp = self._folder / "cleaned"
        if stamp.exists() and self._now() - stamp.stat().st_mtime < LIFE_S / 24:
            return
        stamp.touch(mode=0o600)
        self._date(stamp)
        for entry in self._folder.iterdir():
            if entry != stamp and self._now() - entry.stat().st_mtime > LIFE_S:
                entry.unlink(missing_ok=True)

    def _date(self, path: Path) -> None:
        """Date a file by our clock, which its age is measured with."""
        os.utime(path, (self._now(), self._now()))


class Recall:
    """The lists of one server, for one request."""

    def __init__(self, cache: ListCache, server: VirtualServer, inquiry: Inquiry) -> None:
        self._cache = cache
        self._server = server
        self._inquiry = inquiry
        self._dates: dict[str, str] = {}

    def of_study(self, key: tuple[str, ...], ask: Ask) -> list[Listed]:
        """Give the list of a study (its UID), remembered or fresh."""
        return self._recall(CACHE_STUDIES, key, ask)

    def of_series(self, key: tuple[str, ...], ask: Ask) -> list[Listed]:
        """Give the list of a series (study and series UID), remembered or fresh."""
        return self._recall(CACHE_SERIES, key, ask)

    def _recall(self, flag: str, key: tuple[str, ...], ask: Ask) -> list[Listed]:
        if flag not in self._server.flags:
            return ask()
        named = (self._server.title, *key)
        found = self._cache.load(named)
        if found is None:
            found = ask()
            # An empty list may only mean that the study is on its way there.
            if found and self._is_old(key[0]):
                self._cache.save(named, found)
        return found

    def _is_old(self, study: str) -> bool:
        """Tell whether a study is of a day before today, as far as its server says."""
        if study not in self._dates:
            answers = self._inquiry.find(Level.STUDY, {STUDY: study, STUDY_DATE: None})
            dates = [answer.get(STUDY_DATE, "").strip() for answer in answers]
            self._dates[study] = max(dates, default="")
        date = self._dates[study]
        return bool(date) and date < self._cache.today()
