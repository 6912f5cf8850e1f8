"""Keeps pynetdicom's own thread from taking the response that a test waits for.

An association of pynetdicom has a thread that serves what comes from the peer, and a method that
sends first has it stop. It goes by a flag that the thread clears a moment too late: one that was
held up there by a busy machine serves once more, finds the response and drops it ("Received
unexpected ... service message"), and the caller gets none.
"""

from __future__ import annotations

import threading

from pynetdicom import Association


class _Checkpoint(threading.Event):
    """An event whose `clear` returns when the thread waits for it, or has ended."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._turn = threading.Condition()
        self._is_waiting = False
        self.set()

    def set(self) -> None:
        """Let the thread go on."""
        with self._turn:
            super().set()
            self._turn.notify_all()

    def clear(self) -> None:
        """Stop the thread."""
        with self._turn:
            super().clear()
            if threading.current_thread() is self._association:
                return
            while not self._is_waiting:
                if not self._association.is_alive():
                    # The caller goes by this, and would wait for ever for a thread that has ended.
                    self._association._is_paused = True
                    return
                self._turn.wait(0.05)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as the thread does."""
        with self._turn:
            self._is_waiting = True
            self._turn.notify_all()
            try:
                return self._turn.wait_for(self.is_set, timeout)
            finally:
                self._is_waiting = False


def steadied(association: Association) -> Association:
    """Return an association of a requestor whose responses come to those who wait for them."""
    association._reactor_checkpoint = _Checkpoint(association)
    return association
