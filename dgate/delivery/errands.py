"""What a worker does that is no delivery of an object, and what became of it.

Not for the errands themselves (`dgate.delivery.commitment.asking`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dgate.archive.records import DebtKind
from dgate.delivery.failures import Fate
from dgate.delivery.records import Debt
from dgate.net import Association


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one try."""

    fate: Fate = Fate.DONE
    status: int | None = None
    """The peer's answer."""
    text: str = ""
    """What was done, or why it failed."""
    wait_s: float | None = None
    """It is not over: the debt waits so long, and nothing has failed."""


class Leash:
    """Lets other threads end an errand that waits for its peer. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._association: Association | None = None
        self._idle = False
        self._stopping = False

    @contextmanager
    def on(self, association: Association) -> Iterator[None]:
        """Let this association be ended meanwhile."""
        with self._guard:
            self._association = association
        try:
            yield
        finally:
            with self._guard:
                self._association = None

    @contextmanager
    def waiting(self) -> Iterator[bool]:
        """Wait for what need not come; tells whether it is worth to begin."""
        with self._guard:
            self._idle = True
            stopping = self._stopping
        try:
            yield not stopping
        finally:
            with self._guard:
                self._idle = False

    @property
    def is_stopping(self) -> bool:
        """Whether what takes long should be left for another time."""
        return self._stopping

    def stop(self) -> None:
        """End what only waits for what need not come, now and later."""
        with self._guard:
            self._stopping = True
            if self._idle and self._association is not None:
                self._association.cut()

    def cut(self) -> None:
        """End whatever is under way."""
        with self._guard:
            if self._association is not None:
                self._association.cut()


Errand = Callable[[Debt, Leash], Done]
"""Works a debt off. Raises what `dgate.delivery.failures.fate_of_error` knows."""
Errands = Mapping[DebtKind, Errand]
