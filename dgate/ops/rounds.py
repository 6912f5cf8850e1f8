"""A thread that makes rounds: does something, pauses, and does it again until it is stopped.

What parts of the server do in the background all the time. Not for threads that wait on sockets,
nor for work that somebody hands over. `start` and `stop` belong to the owner of the rounds; the
rest is for any thread.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

UNTIL_WOKEN = math.inf
"""A pause that only `wake` ends."""

Step = Callable[[], float | None]
"""Does one round. Returns the seconds until the next one, None when there is to be no other."""


class Rounds:
    """Does a step in a thread of its own, again and again."""

    def __init__(
        self,
        name: str,
        step: Step,
        failure: str,
        *,
        trouble_s: float,
        gather_s: float = 0.0,
        bell: threading.Event | None = None,
    ) -> None:
        """Get ready; the first step is done when the thread starts.

        Args:
            name: of the thread.
            failure: what is logged when a step fails unexpectedly, a sentence. What a step expects
                to go wrong is its own affair.
            trouble_s: pause after such a failure.
            gather_s: least pause; what comes meanwhile shares the next step.
            bell: what wakes the thread when it is set, where that is there before the rounds are.
                Nobody else may wait for it or clear it.
        """
        self._name = name
        self._step = step
        self._failure = failure
        self._trouble_s = trouble_s
        self._gather_s = gather_s
        self._bell = bell or threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with the first step. After `stop` none is done."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """End the pause, or leave out the one that follows the step in hand."""
        self._bell.set()

    def stop(self) -> None:
        """End after the step in hand; safe to call twice, or without `start`."""
        self._stopping.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def rest(self, seconds: float) -> None:
        """Pause in the step in hand, whatever wakes the thread; ends when it is to stop."""
        self._stopping.wait(seconds)

    def is_stopping(self) -> bool:
        """Whether a step that takes long is to come to its end."""
        return self._stopping.is_set()

    def await_end(self, timeout_s: float) -> None:
        """Wait until a step has said that there is to be no other; at once when none was begun."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            # Before the step: what changes while it runs is looked at in another one.
            self._bell.clear()
            if self._stopping.is_set():
                return
            try:
                pause_s = self._step()
            except Exception:
                # The border of the thread, which must live: nobody else does what it does.
                log.exception("%s", self._failure)
                pause_s = self._trouble_s
            if pause_s is None or self._stopping.wait(self._gather_s):
                return
            self._bell.wait(None if pause_s == UNTIL_WOKEN else pause_s)
