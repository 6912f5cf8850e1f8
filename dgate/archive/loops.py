"""Notices objects that go round between servers whose rules forward to each other.

What tells a loop from a sender that repeats itself: the very AE that we are about to send an object
to has given us that object, unchanged, again and again. Ways over three or more servers do not show
that; of those, any object that comes back unchanged very often is taken for one.

Kept in memory only, for what comes back is rare: after a restart a loop takes its few rounds anew.
Any thread may use a `Loops`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

WITHIN_S = 3600.0
"""Returns that are further apart are no loop."""
MOST_ECHOES = 2
"""How often an AE may return an object, unchanged, and still be sent it."""
MOST_RETURNS = 30
"""The same for returns by whomever."""
MOST_OBJECTS = 30_000
"""Objects that are remembered; those that have not come for longest are forgotten."""


@dataclass(slots=True)
class _Returns:
    since: float
    by_caller: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Content and count of what an AE has sent."""
    stopped: set[int] = field(default_factory=set)
    """Debts that were not paid because of this."""

    @property
    def count(self) -> int:
        """Return how often the object has come back."""
        return sum(count for _, count in self.by_caller.values())


class Loops:
    """The objects that have come back lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Returns] = OrderedDict()

    def returned(self, sop_instance: str, caller: str, content: str, now: float) -> None:
        """Note that an object has arrived which was known already.

        Args:
            caller: AE title of who sent it.
            content: hash of what this caller sent; with another one its count begins anew.
            now: seconds of a clock that is never set back.
        """
        with self._lock:
            known = self._known.pop(sop_instance, None)
            if known is None or now - known.since > WITHIN_S:
                known = _Returns(now)
            before, count = known.by_caller.get(caller, ("", 0))
            known.by_caller[caller] = (content, count + 1 if content == before else 1)
            self._known[sop_instance] = known
            if len(self._known) > MOST_OBJECTS:
                self._known.popitem(last=False)

    def reason(self, sop_instance: str, called: str, debt: int, now: float) -> str:
        """Return why a debt must not be paid that sends an object to an AE; empty when it may be.

        A debt is stopped once only: an operator who has it tried again is obeyed.
        """
        with self._lock:
            known = self._known.get(sop_instance)
            if known is None or now - known.since > WITHIN_S or debt in known.stopped:
                return ""
            echoes, count = known.by_caller.get(called, ("", 0))[1], known.count
            if echoes <= MOST_ECHOES and count <= MOST_RETURNS:
                return ""
            known.stopped.add(debt)
        if echoes > MOST_ECHOES:
            what = f"{called} has sent this object back unchanged {echoes} times within an hour"
        else:
            what = f"this object came back unchanged {count} times within an hour"
        return (
            f"loop: {what}, so it is not sent there again; a rule here and one there forward to "
            "each other: let one of them leave out what comes from the other (CallingAE filter)"
        )
