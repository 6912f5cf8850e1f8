"""Cuts what takes longer than it may: a peer that takes or answers a byte now and then.

One thread for all associations, asleep until the earliest deadline. Each sender has a `Watch` of
its own; setting and clearing it costs next to nothing.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Watch:
    """The deadline of one sender. Set and cleared by its owner."""

    __slots__ = ("_at", "_cut", "_guard", "_watcher", "has_fired")

    def __init__(self, watcher: Deadlines, cut: Callable[[], None]) -> None:
        self._watcher = watcher
        self._cut = cut
        self._guard = threading.RLock()
        """Held while it fires, so that `clear` and `set` return before or after that. Taken before
        the lock of the thread that keeps the deadlines, never inside it."""
        self._at = math.inf
        self.has_fired = False
        """Whether the deadline has passed since it was set."""

    def set(self, seconds: float) -> None:
        """Call `cut` after so long, unless it is cleared before."""
        with self._guard:
            self.has_fired = False
            self._watcher._set(self, time.monotonic() + seconds)

    def clear(self) -> None:
        """Call it off: nothing is cut after this has returned."""
        with self._guard:
            self._at = math.inf

    def _fire(self, now: float) -> None:
        """Cut, unless the deadline was called off or set anew since it was seen to have passed."""
        with self._guard:
            if self._at > now:
                return
            self.has_fired = True
            self._at = math.inf
            self._cut()


class Deadlines:
    """The thread that keeps them."""

    def __init__(self) -> None:
        self._signal = threading.Condition()
        """Guards everything below; clearing a watch needs only the watch's own guard."""
        self._watches: set[Watch] = set()
        self._next = math.inf
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._is_missed = False
        """Whether the machine had no thread for it when it was last wanted."""

    def watch(self, cut: Callable[[], None]) -> Watch:
        """Return a watch that calls `cut`, from another thread."""
        watch = Watch(self, cut)
        with self._signal:
            self._watches.add(watch)
            self._begin()
        return watch

    def forget(self, watch: Watch) -> None:
        """Have no more to do with a watch."""
        watch.clear()
        with self._signal:
            self._watches.discard(watch)

    def stop(self) -> None:
        """End the thread; watches do nothing any more."""
        with self._signal:
            self._stopping = True
            self._signal.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        """Start the thread unless it runs; the caller holds the lock."""
        if self._thread is not None or self._stopping:
            return
        thread = threading.Thread(target=self._run, name="delivery-deadlines", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            # Deliveries go on without deadlines until the machine has a thread for them.
            if not self._is_missed:
                log.error("No thread for the deadlines of deliveries: %s.", exc)
            self._is_missed = True
            return
        self._thread, self._is_missed = thread, False

    def _set(self, watch: Watch, at: float) -> None:
        with self._signal:
            watch._at = at
            self._begin()
            if at < self._next:
                self._next = at
                self._signal.notify()

    def _run(self) -> None:
        while True:
            with self._signal:
                if self._stopping:
                    return
                now = time.monotonic()
                due = [watch for watch in self._watches if watch._at <= now]
                self._next = min((watch._at for watch in self._watches), default=math.inf)
                if not due:
                    self._signal.wait(None if self._next == math.inf else self._next - now)
                    continue
            for watch in due:
                watch._fire(now)
