"""What was sent, what was said about it, and what therefore has to be true.

The senders write it, from several threads; the check reads it when they have ended.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Stream(Enum):
    """A kind of traffic by its calling title: who gets it, and whether it is kept."""

    KEEP = (("SINK1", "SINK2"), True)
    """Constant forwards of export rules."""
    PASS = (("SINK1", "SINK2"), False)
    """`forward; destroy` of an import rule: copies in the spool."""
    NAMED = (("ROOM1",), True)
    """The destination is a value of the object: debts of kind `export`."""
    STUDY = (("SINK3",), True)
    """`forward study after 1`: a delayed debt, then deliveries."""
    AGAIN = (("SINK1", "SINK3"), True)
    """The same instances with other pixels, round after round."""
    REJECT = ((), False)
    """`reject` of an import rule."""

    @property
    def destinations(self) -> tuple[str, ...]:
        """Return who has to get it."""
        return self.value[0]

    @property
    def is_kept(self) -> bool:
        """Tell whether it is stored."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Item:
    """One object to be sent."""

    stream: Stream
    sop_class: str
    sop_instance: str
    study: str
    data: bytes

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the data set, in hex."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(slots=True)
class Fact:
    """What is known about one SOP instance."""

    stream: Stream
    study: str
    round: int
    sent: set[str] = field(default_factory=set)
    """Every content that was sent to its end, or to a break."""
    possible: set[str] = field(default_factory=set)
    """What may be stored: the content acknowledged last, and those without an answer that may
    have come after it."""
    is_acknowledged: bool = False
    refused: set[str] = field(default_factory=set)
    """Contents that were answered by a status of failure, since the last one of success."""
    attempts: int = 0
    failures: int = 0
    """How many of the attempts were answered by a status of failure."""

    @property
    def is_refused(self) -> bool:
        """Tell whether each attempt was answered by a status of failure."""
        return 0 < self.attempts == self.failures


class Truth:
    """All that was sent to one gateway."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.facts: dict[str, Fact] = {}
        self.answers = 0
        self.acknowledgements = 0
        self.told: Counter[tuple[Stream, int]] = Counter()
        """How often each status was answered, in the round that runs."""
        self.breaks: Counter[str] = Counter()
        """How associations of the round ended that nobody wanted to end."""

    def begin(self, items: Iterable[Item], number: int) -> None:
        """A round is going to send these."""
        self.told.clear()
        self.breaks.clear()
        for item in items:
            fact = self.facts.setdefault(item.sop_instance, Fact(item.stream, item.study, number))
            fact.round = number

    def attempt(self, item: Item) -> None:
        """Its last bytes are about to be sent."""
        with self._lock:
            fact = self.facts[item.sop_instance]
            fact.sent.add(item.digest)
            fact.possible.add(item.digest)
            fact.attempts += 1

    def answered(self, item: Item, status: int, unanswered: set[str]) -> None:
        """An answer came; `unanswered` are contents of it that may still be on their way in."""
        with self._lock:
            self.answers += 1
            fact = self.facts[item.sop_instance]
            self.told[fact.stream, status] += 1
            if status == 0 or 0xB000 <= status <= 0xBFFF:
                self.acknowledgements += 1
                fact.is_acknowledged = True
                fact.possible = {item.digest} | unanswered
                fact.refused.clear()
            else:
                fact.refused.add(item.digest)
                fact.failures += 1

    def broke(self, how: str) -> None:
        """An association ended, or did not come about, that its sender did not want to end."""
        with self._lock:
            self.breaks[how] += 1

    def of_round(self, number: int) -> dict[str, Fact]:
        """Return what the round sent."""
        return {sop: fact for sop, fact in self.facts.items() if fact.round == number}
