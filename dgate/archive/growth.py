"""How fast disks fill up, and in how many days they will be full.

Remembers the free space of each area by the hour, in a small file beside the archive, so that a
restart forgets nothing. Not for what is done about it (`dgate.archive.diskwatch`). Thread-safe.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from pathlib import Path

from dgate.archive.files import unlink_quietly

log = logging.getLogger(__name__)

DAY_S = 86400.0
STEP_S = 3600.0
"""So often a sample is kept."""
KEPT_S = 14 * DAY_S
SHORTEST_S = DAY_S / 4
"""Fewer hours say nothing about a day."""

Sample = tuple[float, int]
"""Seconds since the epoch, free bytes."""


class Growth:
    """Samples of free space."""

    def __init__(self, path: Path) -> None:
        """`path` is the file that keeps them; it is read at once, and need not be there."""
        self._path = path
        self._lock = threading.Lock()
        """Guards `_samples` and the file."""
        self._samples = _read(path)

    def note(self, area: str, now: float, free_bytes: int) -> None:
        """Remember how much is free; only once an hour."""
        with self._lock:
            samples = self._samples.setdefault(area, [])
            if samples and now < samples[-1][0]:
                # The clock was set back: what it said before cannot be compared any more.
                samples.clear()
            if not samples or now - samples[-1][0] >= STEP_S:
                samples.append((now, free_bytes))
            while samples[0][0] < now - KEPT_S:
                del samples[0]

    def save(self) -> None:
        """Write the file; a disk that does not take it is no reason to complain twice."""
        fresh = f"{self._path}.part"
        try:
            with self._lock:
                text = json.dumps(self._samples)
                # Never more than one writer, and nothing that a crash could make dangerous.
                Path(fresh).write_text(text)
                os.replace(fresh, self._path)  # noqa: PTH105 - the pair of the line above
        except OSError as exc:
            unlink_quietly(fresh)
            log.debug("The growth of the disks could not be written down: %s", exc)

    def per_day(self, area: str, now: float, free_bytes: int) -> float | None:
        """Return the bytes that are taken in a day; None as long as too little was seen.

        Only what was taken counts: space that was made by deleting says nothing about tomorrow.
        """
        with self._lock:
            samples: list[Sample] = [*self._samples.get(area, []), (now, free_bytes)]
        span = now - samples[0][0]
        if span < SHORTEST_S:
            return None
        taken = sum(max(0, one[1] - two[1]) for one, two in itertools.pairwise(samples))
        return taken * DAY_S / span

    def days_left(self, area: str, now: float, free_bytes: int, least_bytes: int) -> float | None:
        """Return the days until no more than `least_bytes` are free; None where it does not fill
        up, or too little was seen."""
        per_day = self.per_day(area, now, free_bytes)
        if not per_day:
            return None
        return max(0, free_bytes - least_bytes) / per_day


def _read(path: Path) -> dict[str, list[Sample]]:
    try:
        found = json.loads(path.read_bytes())
        return {
            str(area): [(float(when), int(free)) for when, free in samples]
            for area, samples in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        log.debug("The growth of the disks begins anew: %s", exc)
        return {}
