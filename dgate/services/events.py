"""Event converters as services use them: who asks, and what a refusal or a failure leads to.

Not for the converters themselves (`dgate.rules.events`). Pure functions over one association.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from dgate.archive.export import Rewrite
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError, StoreError
from dgate.net import Association
from dgate.rules.effects import Captured, Outcome
from dgate.rules.events import EventHook
from dgate.rules.hooks import capture
from dgate.rules.session import Session

log = logging.getLogger(__name__)


def seen_by(association: Association, table: ElementTable, station: str = "") -> Captured:
    """Return the %-values of a request or answer; `station` takes the place of `%s`."""
    captured = capture(table, association.calling, association.called.partition("~")[0])
    return replace(captured, station=station) if station else captured


def session_of(association: Association) -> Session:
    """Return what rules keep for the length of the association; begun at the first call."""
    session = association.session
    if not isinstance(session, Session):
        called = association.called.partition("~")[0]
        digits = association.label.rpartition("-")[2]
        number = int(digits) if digits.isdecimal() else 0
        session = Session(association.calling, called, association.peer[0], number)
        association.session = session
    return session


def refusal(
    hook: EventHook | None, association: Association, table: ElementTable, station: str = ""
) -> str | None:
    """Run the converter of a request, which may change it; say why the request is refused.

    None = it is not. Only `destroy` refuses, and a converter that fails. `station` is the move
    destination of a C-MOVE.
    """
    if hook is None:
        return None
    try:
        decision = hook(table, seen_by(association, table, station), session_of(association))
    except (RuleError, StoreError) as exc:
        log.error(
            "A request of %s was refused because its rule failed: %s", association.calling, exc
        )
        return exc.what
    return decision.reason if decision.outcome is Outcome.DESTROY else None


def converted(
    hook: EventHook | None, association: Association, answer: bytes, syntax: str
) -> bytes | None:
    """Run the converter of an answer and return what becomes of it, None when it is left out.

    Raises RuleError, or StoreError, when it fails: the answer must then not be given as it is.
    """
    if hook is None:
        return answer
    table = ElementTable(answer, syntax)
    decision = hook(table, seen_by(association, table), session_of(association))
    if decision.outcome is Outcome.DESTROY:
        return None
    return table.tobytes()


def result_rewrite(
    hook: EventHook | None, association: Association, destination: str = ""
) -> Rewrite | None:
    """Return what RetrieveResultConverter0 makes of each object that is sent, None without one.

    What it says of `destroy` or `reject` changes nothing: the object is sent (spec converters.md
    3). Raises RuleError when it fails, and the object must then not be sent.
    """
    if hook is None:
        return None

    def rewrite(table: ElementTable) -> None:
        hook(table, seen_by(association, table, destination), None)

    return rewrite
