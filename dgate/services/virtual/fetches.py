"""Which arriving objects were asked for: from a C-STORE to the retrieval that waits for it.

Objects that a virtual server sends us by C-MOVE come over ordinary associations. This is where the
storage service learns that they are ours and pass no converters (spec dimse.md 2.1). Thread-safe;
everything sits behind `_lock`.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from dgate.config.layout import SERIES_UID
from dgate.dicom.table import ElementTable
from dgate.errors import NotDicom
from dgate.net import Association, Command, Message, Status

LATE_S = 60.0
"""So long objects may still come after a retrieval was given up; they are refused."""


class Awaiting(Protocol):
    """A retrieval that waits for objects."""

    def awaits(self, command: Command) -> bool:
        """Tell whether an object that arrives was asked for by this retrieval."""
        ...

    def expects_more(self, calling: str, command: Command) -> bool:
        """Tell whether it may come along with what was asked for."""
        ...

    def asked_for(self, series: str) -> bool:
        """Tell whether what was asked for is of this series."""
        ...

    def receive(self, message: Message, calling: str, called: str) -> int:
        """Take the object in and return the C-STORE status; never raises for a bad object."""
        ...


class Fetches:
    """The retrievals that wait at the moment. One per server process, whatever is reloaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: tuple[Awaiting, ...] = ()
        self._late: tuple[tuple[float, Awaiting], ...] = ()

    def begin(self, fetch: Awaiting) -> None:
        """Note that a retrieval waits from now on."""
        with self._lock:
            self._waiting = (*self._waiting, fetch)

    def end(self, fetch: Awaiting, *, given_up: bool = False) -> None:
        """Note that it does not any more; safe to call twice.

        What a retrieval has `given_up` may come all the same, from a server that sends on. It must
        not be stored as if somebody had wanted to give it to us.
        """
        with self._lock:
            self._waiting = tuple(each for each in self._waiting if each is not fetch)
            if given_up:
                late = (*self._late, (time.monotonic() + LATE_S, fetch))
                self._late = tuple(each for each in late if each[0] > time.monotonic())

    def accept(self, association: Association, message: Message) -> bool:
        """Answer a C-STORE if a retrieval waits for its object; else leave it alone."""
        # Without retrievals under way, which is nearly always, this is all that a C-STORE pays.
        waiting = self._waiting
        if not waiting and not self._late:
            return False
        command, calling = message.command, association.calling.strip()
        fetch = next((each for each in waiting if each.awaits(command)), None)
        if fetch is None:
            if self._is_late(command):
                association.respond(
                    message, Status.OUT_OF_RESOURCES, comment="nobody waits for it any more"
                )
                return True
            candidates = [each for each in waiting if each.expects_more(calling, command)]
            series = _series_of(message) if candidates else ""
            if not any(each.asked_for(series) for each in candidates):
                # Somebody else's retrieval or a forward under our title: it has to be stored.
                return False
            # Part of a series that was asked for as a whole: it is here already, or is fetched
            # when somebody wants it.
            association.respond(message)
            return True
        status = fetch.receive(message, association.calling, association.called)
        association.respond(message, status)
        return True

    def _is_late(self, command: Command) -> bool:
        """Tell whether an object was asked for by a retrieval that has been given up."""
        now = time.monotonic()
        late = self._late
        if late and late[-1][0] <= now:
            with self._lock:
                self._late = tuple(each for each in self._late if each[0] > now)
        return any(until > now and fetch.awaits(command) for until, fetch in late)


def _series_of(message: Message) -> str:
    """Return the Series Instance UID of an arrived object; empty when it cannot be read."""
    if message.payload is None or message.payload.error is not None:
        return ""
    try:
        table = ElementTable(message.payload.view(), message.context.transfer_syntax)
    except NotDicom:
        return ""
    return table.text(SERIES_UID)
