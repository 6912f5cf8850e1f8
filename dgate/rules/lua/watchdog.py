"""Says in the log which Lua code has been running for long.

Limits stop code between two instructions of its own; a pattern search, or waiting for another node,
cannot be stopped so, and this is how one learns of it. The thread of a watchdog lives as long as
code runs, and a little longer; nothing wakes up where no Lua is used. Any thread may enter code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger("dgate.lua")

FIRST_S: Final = 10.0
"""After so long code is named for the first time; then after twice as long, and so on."""


@dataclass(slots=True)
class Watched:
    """A call of Lua code, from its begin to its end."""

    name: str
    session: str
    began_at: float
    next_s: float
    """After how long it is named the next time."""
    thread: str
    is_waiting: Callable[[], bool]


class Watchdog:
    """Watches the calls of one engine."""

    def __init__(self, first_s: float = FIRST_S) -> None:
        self._first_s = first_s
        self._guard = threading.Lock()
        """Guards `_calls` and `_thread`."""
        self._calls: dict[int, Watched] = {}
        self._thread: threading.Thread | None = None

    def enter(self, name: str, session: str, is_waiting: Callable[[], bool]) -> int:
        """Note that code begins, and return what `leave` takes.

        Args:
            name: how messages call the code.
            session: whose it is; may be empty.
            is_waiting: tells whether the code waits for something else just now.
        """
        thread = threading.current_thread().name
        watched = Watched(name, session, time.monotonic(), self._first_s, thread, is_waiting)
        key = id(watched)
        with self._guard:
            self._calls[key] = watched
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lua-watchdog", daemon=True)
                self._thread.start()
        return key

    def leave(self, key: int) -> None:
        """Note that code has ended."""
        with self._guard:
            del self._calls[key]

    def _work(self) -> None:
        while True:
            # Not a condition: a call that begins or ends costs no more than an entry of a table.
            time.sleep(self._first_s / 2)
            with self._guard:
                if not self._calls:
                    self._thread = None
                    return
                late = self._late()
            for watched, seconds in late:
                _tell(watched, seconds)

    def _late(self) -> list[tuple[Watched, float]]:
        now = time.monotonic()
        late = []
        for watched in self._calls.values():
            seconds = now - watched.began_at
            if seconds >= watched.next_s:
                watched.next_s = max(2 * watched.next_s, seconds + self._first_s)
                late.append((watched, seconds))
        return late


def _tell(watched: Watched, seconds: float) -> None:
    doing = "is waiting for another node or program" if watched.is_waiting() else "is still running"
    log.warning(
        "The Lua code of %s%s %s after %.0f s, in thread %s.",
        watched.name,
        f" ({watched.session})" if watched.session else "",
        doing,
        seconds,
        watched.thread,
    )
