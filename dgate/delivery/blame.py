"""Tells whether a destination or one object is to blame when it is said that nothing can be taken.

A peer that has no room answers so to every object; one that answers so to a single object, for its
size as a rule, takes others meanwhile. Shared by the workers of a destination; any thread.
"""

from __future__ import annotations

import math
import threading

MOST_SUSPECTS = 10_000
"""Objects of which a destination remembers that it could not take them."""
PROPOSES_LITTLE_S = 3600.0
"""So long after an abort nothing is proposed for others."""


class Blame:
    """What is known about the objects that a destination could not take."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        """Guards everything below."""
        self._answers = 0
        self._suspects: dict[int, int] = {}
        """By the number of the debt: how many answers there were when it first failed."""
        self._proposes_little_until = -math.inf

    def answered(self, debt_id: int) -> None:
        """Note that the destination has dealt with what this debt asks for."""
        with self._guard:
            self._answers += 1
            if self._suspects:
                self._suspects.pop(debt_id, None)

    def is_alone(self, debt_id: int) -> bool:
        """Note that the destination could not take this one; tell whether it has dealt with others
        since it first could not."""
        with self._guard:
            if len(self._suspects) >= MOST_SUSPECTS and debt_id not in self._suspects:
                self._suspects.clear()
            return self._suspects.setdefault(debt_id, self._answers) != self._answers

    def propose_little(self, now: float) -> None:
        """Note that the peer has aborted an association before it came about; `now` is monotonic.

        What was proposed may be why: each object is proposed when its turn comes, for a while.
        """
        self._proposes_little_until = now + PROPOSES_LITTLE_S

    def propose_all(self) -> None:
        """Propose what is needed for others, too, from now on."""
        self._proposes_little_until = -math.inf

    def proposes_little(self, now: float) -> bool:
        """Tell whether only what the object in hand needs is to be proposed."""
        return now < self._proposes_little_until
