"""Whether the files of a running configuration have changed, and whether they are whole.

Not for what a change means (`dgate.config.difference`) nor for applying it (`dgate.reloading`).
Polls instead of using inotify, which misses network shares: one stat a second for each file. A
`Watcher` owns one thread; the functions may be called from any.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dgate.config.model import Configuration
from dgate.config.problem import Problem, Severity
from dgate.config.settings import load
from dgate.config.text import read_file
from dgate.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""A changed file is read when it was the same at two looks in a row."""
_SETTLED_S = 0.02
"""A file that was written more recently than this may be about to be written further."""
_MOST_READS = 5

Stamp = tuple[int, int, int] | None
"""Modification time in nanoseconds, size in bytes, inode; None for a file that is not there."""
Stamps = Mapping[Path, Stamp]


def stamps_of(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Look at files; costs one stat each."""
    return {path: _stamp(path) for path in paths}


def looks_when_read(configuration: Configuration) -> dict[Path, Stamp]:
    """Return how the files of a configuration look, other than now for what has changed since."""
    stamps = stamps_of(configuration.contents)
    for path, content in configuration.contents.items():
        if _content(path) != content:
            stamps[path] = (0, 0, 0)
    return stamps


def read_whole(
    path: Path, former: Configuration | None = None
) -> tuple[Configuration, dict[Path, Stamp]]:
    """Load a configuration whose files did not change meanwhile, with what they looked like.

    `former` as in `load`.
    Raises ConfigError: the ini file cannot be read, or the files keep changing.
    """
    for _ in range(_MOST_READS):
        configuration = load(path, former=former)
        contents = configuration.contents
        stamps = stamps_of(contents)
        _await_settled(stamps)
        if stamps_of(contents) == stamps and all(
            _content(file) == content for file, content in contents.items()
        ):
            return configuration, stamps
    raise ConfigError(
        "the files change while they are being read",
        where=str(path),
        remedy="reload again when they are complete",
    )


def lost(old: Configuration, new: Configuration) -> list[Problem]:
    """Return what shows that a file of `new` is missing or incomplete that `old` had whole.

    At a start, a missing dgatesop.lst only means that everything is accepted; while a server runs,
    it is more likely that somebody is replacing it.
    """
    found = []
    for before, after in zip(set_files(old), set_files(new), strict=True):
        was, now = old.contents.get(before), new.contents.get(after)
        if not (was and was.strip()):
            continue
        if now is None:
            message = "the file is gone or cannot be read"
            advice = "put it back; a restart would take the set as it is"
        elif not now.strip():
            message = "the file is empty: it may be about to be written"
            advice = "write a comment line into it if it is meant to be empty"
        elif len(now) < len(was) and was.endswith(b"\n") and not now.endswith(b"\n"):
            message = "the last line has no end, and the file got shorter: it may be half-written"
            advice = "write the rest of it, or a line end"
        else:
            continue
        found.append(Problem(Severity.ERROR, str(after), None, message, advice))
    return found


def set_files(configuration: Configuration) -> tuple[Path, Path, Path, Path]:
    """Return the absolute paths of the four files: dicom.ini, acrnema.map, dicom.sql,
    dgatesop.lst.
    """
    settings = configuration.settings
    return (
        settings.ini_path.absolute(),
        settings.acrnema_map.absolute(),
        settings.k_factor_file.absolute(),
        settings.sop_class_list.absolute(),
    )


class Watcher:
    """Says when watched files are other than they were when they were last read.

    `seen` returns the files with their looks at that time; `changed` is called in the watcher's
    thread, and whatever it reads it has to enter into what `seen` returns.
    """

    def __init__(
        self,
        seen: Callable[[], Stamps],
        changed: Callable[[], None],
        *,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._seen = seen
        self._changed = changed
        self._look_every_s = look_every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="configuration", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; safe to call twice, or without `start`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        before: Stamps | None = None
        while not self._stopping.wait(self._look_every_s):
            before = self._look(before)

    def _look(self, before: Stamps | None) -> Stamps | None:
        """Look once; return what was seen when it is new and has to rest until the next look."""
        seen = self._seen()
        now = stamps_of(seen)
        if now == seen:
            return None
        if now != before:
            return now
        try:
            self._changed()
        except Exception:
            # The thread must live: without it no further change would be noticed.
            log.exception("A changed configuration could not be looked at.")
        return None


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except OSError:
        return None


def _await_settled(stamps: Stamps) -> None:
    """Wait until no file was written just now; a time in the future says nothing."""
    newest = max((stamp[0] for stamp in stamps.values() if stamp is not None), default=0)
    age_s = (time.time_ns() - newest) / 1e9
    if 0 <= age_s < _SETTLED_S:
        time.sleep(_SETTLED_S - age_s)
