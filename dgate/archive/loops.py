"""Notices objects that go round between servers whose rules forward to each other.

What tells a loop from a sender that repeats itself: the very AE that we are about to send an object
to has given us that object, unchanged, again and again. Where a rule on the way changes something
each time (a counter, the time), only the number of its returns shows it, and that has to be higher:
the very AE may have its reasons. Ways over three or more servers show neither; of those, any object
that comes back unchanged very often is taken for one. A modality that repeats itself is nobody that
we send to.

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
MOST_CHANGED_ECHOES = 29
"""How often it may return it, whatever has become of the content, and still be sent it."""
MOST_RETURNS = 30
"""How often an object may come back unchanged by whomever and still be sent."""
MOST_OBJECTS = 30_000
"""Objects that are remembered; those that have not come for longest are forgotten."""


@dataclass(slots=True)
class _Echoes:
    """What one AE has sent of an object."""

    content: str = ""
    unchanged: int = 0
    """How often it came with this content, without another one between."""
    total: int = 0


@dataclass(slots=True)
class _Returns:
    since: float
    by_caller: dict[str, _Echoes] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)
    """Debts that were not paid because of this."""

    @property
    def count(self) -> int:
        """Return how often the object has come back unchanged."""
        return sum(echoes.unchanged for echoes in self.by_caller.values())


class Loops:
    """The objects that have come back lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Returns] = OrderedDict()

    def returned(self, sop_instance: str, caller: str, content: str, now: float) -> None:
        """Note that an object has arrived which was known already.

        Args:
            caller: AE title of who sent it.
            content: hash of what this caller's object is stored or passed on as; with another one
                the count of what came unchanged begins anew.
            now: seconds of a clock that is never set back.
        """
        with self._lock:
            known = self._known.pop(sop_instance, None)
            if known is None or now - known.since > WITHIN_S:
                known = _Returns(now)
            echoes = known.by_caller.setdefault(caller, _Echoes())
            echoes.unchanged = echoes.unchanged + 1 if content == echoes.content else 1
            echoes.content = content
            echoes.total += 1
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
            what = _loop(called, known)
            if not what:
                return ""
            known.stopped.add(debt)
        return (
            f"loop: {what}, so it is not sent there again; a rule here and one there forward to "
            "each other: let one of them leave out what comes from the other (CallingAE filter)"
        )


def _loop(called: str, known: _Returns) -> str:
    """Say how an object that is to be sent to an AE has gone round; empty when it has not."""
    echoes = known.by_caller.get(called)
    said = f"{called} has sent this object back"
    if echoes is not None and echoes.unchanged > MOST_ECHOES:
        return f"{said} unchanged {echoes.unchanged} times within an hour"
    if echoes is not None and echoes.total > MOST_CHANGED_ECHOES:
        return f"{said} {echoes.total} times within an hour, with changes"
    if known.count > MOST_RETURNS:
        return f"this object came back unchanged {known.count} times within an hour"
    return ""
