"""What keeps objects out at the moment: one line in the log for each cause, not for each object.

Not for deciding what is refused. Thread-safe; where nothing is wrong, an object costs one look.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dgate.errors import DatabaseAway, OutOfSpace, StoreError

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""A cause is over when an object was stored and this long none was refused for it; large objects
may be refused while small ones are stored."""
REMIND_S = 600.0
"""So often a cause that lasts is told again."""
LATELY_S = 600.0
"""So long `dgate status` tells of objects that were refused when none has come since."""
_MOST_CAUSES = 32
_SAME = 60
"""Characters of a message that tell one cause from another."""


@dataclass(slots=True)
class _Cause:
    error: StoreError
    since: float
    """Seconds since the epoch."""
    told: float
    last: float
    refused: int = 0
    """Objects."""


@dataclass(slots=True)
class _Left:
    """What stays in a folder of temporary files."""

    told: float
    files: int = 0


class Troubles:
    """Counts objects that were refused for want of disk, files or database."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        """Guards `_causes` and `_left`."""
        self._causes: dict[tuple[type, str], _Cause] = {}
        self._left: dict[Path, _Left] = {}

    def refused(self, error: StoreError) -> bool:
        """Note a refusal; tell whether it is one of many of the same cause.

        What is wrong with the object itself is none of ours, and gives False.
        """
        if not isinstance(error, OutOfSpace | DatabaseAway):
            return False
        now = self._monotonic()
        with self._lock:
            key = (type(error), error.what[:_SAME])
            cause = self._causes.get(key)
            is_new = cause is None
            if cause is None:
                if len(self._causes) >= _MOST_CAUSES:
                    del self._causes[min(self._causes, key=lambda each: self._causes[each].last)]
                cause = self._causes[key] = _Cause(error, self._now(), now, now)
            cause.refused += 1
            cause.last = now
            is_due = not is_new and now - cause.told >= REMIND_S
            if is_due:
                cause.told = now
        if is_new:
            log.error(
                "Objects are refused as long as this lasts (further ones are not logged): %s", error
            )
        elif is_due:
            log.error("%d objects have been refused so far: %s", cause.refused, error)
        return True

    def left(self, path: Path, exc: OSError) -> None:
        """Note a temporary file that could not be removed; the next start removes it."""
        now = self._monotonic()
        folder = path.parent
        with self._lock:
            known = self._left.setdefault(folder, _Left(-math.inf))
            known.files += 1
            if now - known.told < REMIND_S:
                return
            known.told = now
            files = known.files
        log.warning(
            "%d temporary file(s) in %s could not be removed, the last one %s: %s. The next start "
            "removes them; further ones are told every %d minutes.",
            files,
            folder,
            path.name,
            exc.strerror or exc,
            REMIND_S // 60,
        )

    def stored(self) -> None:
        """Note that an object was stored: what has been quiet for a while is over."""
        if not self._causes:
            return
        now = self._monotonic()
        with self._lock:
            over = [key for key, each in self._causes.items() if now - each.last >= QUIET_S]
            ended = [self._causes.pop(key) for key in over]
        for cause in ended:
            log.warning(
                "Objects are stored again; %d had been refused: %s", cause.refused, cause.error.what
            )

    def problems(self) -> list[str]:
        """Return what has kept objects out lately, for `dgate status`.

        Not the database, which is asked itself when the state of the server is.
        """
        now = self._monotonic()
        with self._lock:
            causes = [
                (each.error, each.refused, each.since)
                for each in self._causes.values()
                if not isinstance(each.error, DatabaseAway) and now - each.last < LATELY_S
            ]
        return [
            f"{count} object(s) refused since {_clock_time(since)}: {error}"
            for error, count, since in causes
        ]


def _clock_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
