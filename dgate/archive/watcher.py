"""The thread that looks into the watched folders: `WatchFolder` and `<MAG0>/incoming`.

What happens to the files is `dgate.archive.dropfolder`'s. Looks at most once a second, and so
seldom that a large folder in which nothing happens costs no processor time worth speaking of.
`<MAG0>/incoming` has nothing to do with `<MAG0>/dgate/incoming`, where objects are written before
they get their names.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from dgate.archive.dropfolder import DropFolder, Hl7Loader, Tally
from dgate.archive.ingest import Ingest
from dgate.clock import Clock
from dgate.config.settings import Settings

log = logging.getLogger(__name__)

INCOMING = "incoming"
"""Folder of MAG0 that is watched when it is there (spec dimse.md section 9)."""
LOOK_S = 1.0
IDLE_SHARE = 300
"""A look that found nothing new may take one part in so many of the time."""
LONGEST_PAUSE_S = 60.0
FIRST_WAIT_S = 5.0
"""Pause while the archive cannot take anything; doubled each time up to LONGEST_PAUSE_S."""
STOP_S = 30.0
"""How long a stop waits for the file in hand, which may lie on a file system that hangs."""


def watched_folders(settings: Settings) -> list[tuple[Path, bool]]:
    """Return the folders to be watched, and whether each was asked for by name."""
    found: dict[Path, bool] = {}
    if settings.mag_devices:
        found[settings.mag_devices[0] / INCOMING] = False
    if settings.watch_folder is not None:
        # The same folder twice would be two that take each other's files.
        found = {path: named for path, named in found.items() if not _is_same(path, settings)}
        found[settings.watch_folder] = True
    return list(found.items())


def _is_same(path: Path, settings: Settings) -> bool:
    assert settings.watch_folder is not None
    return path.resolve() == settings.watch_folder.resolve()


class Watcher:
    """Looks into folders until it is stopped. `start` and `stop` belong to one thread."""

    def __init__(
        self,
        folders: Iterable[tuple[Path, bool]],
        ingest: Callable[[], Ingest],
        clock: Clock,
        *,
        delay_s: float = 0.0,
        load_hl7: Hl7Loader | None = None,
    ) -> None:
        """`ingest` returns the way in that counts when a file is taken."""
        self._stopping = threading.Event()
        self._clock = clock
        self._places = [
            _Place(
                DropFolder(
                    path,
                    ingest,
                    clock,
                    delay_s=delay_s,
                    load_hl7=load_hl7,
                    stopping=self._stopping.is_set,
                ),
                named,
            )
            for path, named in folders
        ]
        self._thread: threading.Thread | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        ingest: Callable[[], Ingest],
        clock: Clock,
        load_hl7: Hl7Loader | None = None,
    ) -> Watcher:
        """Return the watcher that a configuration asks for."""
        delay_s = settings.delay_incoming_file_open_ms / 1000
        folders = watched_folders(settings)
        return cls(folders, ingest, clock, delay_s=delay_s, load_hl7=load_hl7)

    def start(self) -> None:
        """Begin to watch, if there is anything to be watched."""
        if self._places:
            self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Finish the file in hand and end; a crash before leaves it to be imported again."""
        self._stopping.set()
        if self._thread is None:
            return
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            log.warning("The watched folders did not come to an end; they are left as they are.")
        self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = self._clock.monotonic()
            for place in self._places:
                if now >= place.look_at:
                    place.look(self._clock)
            look_at = min(place.look_at for place in self._places)
            self._stopping.wait(max(0.0, look_at - self._clock.monotonic()))


class Watching:
    """The watcher that the current configuration asks for; another one when that changes.

    A background part of the gateway: all methods are called by one thread at a time.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        ingest: Callable[[], Ingest],
        clock: Clock,
        load_hl7: Hl7Loader | None = None,
    ) -> None:
        """`settings` and `ingest` return what counts at the time."""
        self._settings = settings
        self._ingest = ingest
        self._clock = clock
        self._load_hl7 = load_hl7
        self._watcher: Watcher | None = None
        self._asked_for: object = None

    def start(self) -> None:
        """Begin to watch."""
        settings = self._settings()
        self._asked_for = _what_counts(settings)
        self._watcher = Watcher.of(settings, self._ingest, self._clock, self._load_hl7)
        self._watcher.start()

    def apply(self, _generation: object) -> None:
        """Watch other folders, or otherwise, if the settings say so now."""
        if _what_counts(self._settings()) != self._asked_for:
            self.stop()
            self.start()

    def stop(self) -> None:
        """Finish the file in hand and end."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None


def _what_counts(settings: Settings) -> object:
    return watched_folders(settings), settings.delay_incoming_file_open_ms


class _Place:
    """A folder with what is known about how it goes; belongs to the watcher's thread."""

    def __init__(self, folder: DropFolder, named: bool) -> None:
        self._folder = folder
        self._named = named
        """Somebody asked for it, and so has to hear when it cannot be used."""
        self._away = ""
        self._waits_s = 0.0
        self.look_at = 0.0

    def look(self, clock: Clock) -> None:
        """Look once and choose the time of the next look."""
        started = clock.monotonic()
        try:
            tally = self._folder.look()
        except OSError as exc:
            self._note_away(exc)
            self.look_at = clock.monotonic() + LOOK_S
            return
        except Exception:
            # The thread must live: the other folder, and this one later, depend on it.
            log.exception("Looking into %s failed unexpectedly.", self._folder.path)
            self.look_at = clock.monotonic() + LONGEST_PAUSE_S
            return
        self._note_back()
        self._report(tally)
        self.look_at = clock.monotonic() + self._pause_s(tally, clock.monotonic() - started)

    def _pause_s(self, tally: Tally, took_s: float) -> float:
        if tally.waiting:
            self._waits_s = min(max(FIRST_WAIT_S, 2 * self._waits_s), LONGEST_PAUSE_S)
            return self._waits_s
        if tally.taken or tally.failed or tally.changing:
            return max(LOOK_S, took_s)
        return min(max(LOOK_S, IDLE_SHARE * took_s), LONGEST_PAUSE_S)

    def _report(self, tally: Tally) -> None:
        path = self._folder.path
        if tally.waiting and not self._waits_s:
            log.warning("The files in %s have to wait: %s", path, tally.waiting)
        if not tally.waiting and self._waits_s:
            self._waits_s = 0.0
            log.info("The files in %s are taken again.", path)
        if tally.taken or tally.failed:
            log.info("%d file(s) of %s were imported, %d failed.", tally.taken, path, tally.failed)

    def _note_away(self, exc: OSError) -> None:
        reason = exc.strerror or str(exc)
        if reason == self._away:
            return
        self._away = reason
        if self._named or not isinstance(exc, FileNotFoundError):
            log.warning(
                "The watched folder %s cannot be used: %s. It is looked for again every second.",
                self._folder.path,
                reason,
            )

    def _note_back(self) -> None:
        if self._away and self._named:
            log.info("The watched folder %s can be used again.", self._folder.path)
        self._away = ""
