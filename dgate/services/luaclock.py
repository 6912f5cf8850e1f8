"""Runs the Lua code of `[lua] nightly` and `[lua] background` when its time has come.

One thread sleeps until the next of them is due, or until the configuration changes; without such
keys it sleeps all the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from dgate.clock import Clock
from dgate.rules.effects import Captured
from dgate.rules.lua.events import LuaEvents, Moment
from dgate.rules.run import Environment
from dgate.rules.session import Session

log = logging.getLogger(__name__)

_NIGHTLY_HOUR: Final = 3
_BACKGROUND_S: Final = 1.0
_NOBODY: Final = Captured("", "", "", "", "", "")

Happening = tuple[LuaEvents, Callable[[Captured], Environment]]
"""The events of the configuration that counts now, and what their code may ask."""


class LuaClock:
    """A background part of the gateway."""

    def __init__(self, current: Callable[[], Happening], session: Session, clock: Clock) -> None:
        """`session` is the one of the server as a whole."""
        self._current = current
        self._session = session
        self._clock = clock
        self._changed = threading.Event()
        self._stopping = False
        self._night = 0.0
        """When the nightly code is due."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._stopping = False
        self._night = next_nightly(self._clock.now())
        self._thread = threading.Thread(target=self._work, name="lua-clock", daemon=True)
        self._thread.start()

    def apply(self, generation: object) -> None:
        """Look at the changed configuration."""
        self._changed.set()

    def stop(self) -> None:
        """End; code that runs just now is waited for a moment."""
        self._stopping = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None

    def _work(self) -> None:
        while not self._stopping:
            # Cleared before looking: a change made meanwhile wakes the next wait.
            self._changed.clear()
            events, _ = self._current()
            self._changed.wait(self._pause_s(events))
            if self._stopping:
                return
            now = self._clock.now()
            if now >= self._night:
                self._night = next_nightly(now)
                # Code that was not there when its time came waits for the next night.
                if Moment.NIGHTLY in events:
                    self._run(Moment.NIGHTLY)
            self._run(Moment.BACKGROUND)

    def _pause_s(self, events: LuaEvents) -> float | None:
        if Moment.BACKGROUND in events:
            return _BACKGROUND_S
        if Moment.NIGHTLY in events:
            # A wall clock that is set meanwhile is noticed within the hour.
            return min(max(0.0, self._night - self._clock.now()), _LONGEST_PAUSE_S)
        return None

    def _run(self, moment: Moment) -> None:
        try:
            events, surroundings = self._current()
            if moment in events:
                events.run(moment, surroundings(_NOBODY), self._session, _NOBODY)
        except Exception:
            # The border of the thread: the next time comes all the same.
            log.exception("The Lua code of %s could not be run.", moment.value)


_STOP_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 3600.0


def next_nightly(now: float) -> float:
    """Return the next three o'clock, local time, as a Unix time after `now`."""
    year, month, day, *_ = time.localtime(now)
    due = time.mktime((year, month, day, _NIGHTLY_HOUR, 0, 0, 0, 0, -1))
    if due <= now:
        due = time.mktime((year, month, day + 1, _NIGHTLY_HOUR, 0, 0, 0, 0, -1))
    return due
