"""Lets delayed operations follow objects whose IDs a correction changes.

A request names a patient, study, series or object by the IDs of the index (`archive.requests`).
When a correction gives objects others, what was asked for goes on for them: in the place of the old
request where nothing has the old IDs any more, beside it where something does, as after a split.
Used inside the job of the writer that changes the rows.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.index import Index
from dgate.archive.levels import Level
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.owing import REQUEST_DEVICE, WAITING_SQL
from dgate.archive.records import InstanceRef, Provenance
from dgate.archive.requests import (
    OF_ARCHIVE,
    REQUEST_IDENTITIES,
    is_of,
    request_draft,
    request_of,
)
from dgate.archive.writer import Transaction
from dgate.rules.effects import ObjectScope, Request

log = logging.getLogger(__name__)

_LEVELS = dict(
    zip(
        REQUEST_IDENTITIES,
        (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
        strict=True,
    )
)
_OPEN = (
    "SELECT id, context, rule, state, due, sop_class, sop_instance, patient_id, study, series, "
    "name, source, source_host, priority FROM dgate_debts "
    f"WHERE {OPEN_SQL} AND device = '{REQUEST_DEVICE}' AND patient_id = ?"
)
_REWRITE = (
    "UPDATE dgate_debts SET context = ?, name = ?, sop_instance = ?, patient_id = ?, study = ?, "
    "series = ? WHERE id = ?"
)
_REMOVE = "DELETE FROM dgate_debts WHERE id = ?"
_EQUAL = f" WHERE device = '{REQUEST_DEVICE}' AND name = ? AND {WAITING_SQL}"
_JOIN = (
    "UPDATE dgate_debts SET due = CASE WHEN due < ? THEN ? ELSE due END, "
    "priority = CASE WHEN priority > ? THEN ? ELSE priority END" + _EQUAL
)
_STATE = "UPDATE dgate_debts SET state = ?" + _EQUAL

Moved = tuple[InstanceRef, InstanceRef]
"""An object as it was and as it is."""


class _Waiting(NamedTuple):
    """A row of a request that is open."""

    id: int
    context: str
    rule: str
    state: str
    due: float
    ref: InstanceRef
    """The object that asked for it first; `name` is the identity of the request."""
    provenance: Provenance
    priority: int


class Followers:
    """The requests that wait in one archive."""

    def __init__(self, database: Database, index: Index, holdings: Holdings) -> None:
        self._index = index
        self._holdings = holdings
        self._clock_sql = database.clock_sql
        sql = database.sql
        self._open, self._join_sql, self._rewrite = sql(_OPEN), sql(_JOIN), sql(_REWRITE)
        self._remove, self._state = sql(_REMOVE), sql(_STATE)

    def follow(self, transaction: Transaction, moved: Sequence[Moved], now: float) -> None:
        """Let what waits for objects go on for what has taken their place; the rows of the index
        are those of the new objects already. `now` counts where the database is a file.
        """
        for patient in dict.fromkeys(old.patient_id for old, _ in moved):
            rows = transaction.execute(self._open, (patient,)).fetchall()
            for row in rows:
                ref = InstanceRef(row[5], row[6], row[7], row[8], row[9], REQUEST_DEVICE, row[10])
                came = Provenance(source=row[11] or "", host=row[12] or "")
                waiting = _Waiting(row[0], row[1], row[2], row[3], row[4], ref, came, row[13])
                self._follow_one(transaction, waiting, moved, now)

    def _follow_one(
        self, transaction: Transaction, waiting: _Waiting, moved: Sequence[Moved], now: float
    ) -> None:
        try:
            request = request_of(waiting.context, waiting.rule)
        except ValueError as exc:
            log.warning("A delayed operation cannot follow a correction: %s", exc)
            return
        if request.operation not in OF_ARCHIVE:
            return
        meant = [(old, new) for old, new in moved if is_of(request.scope, old)]
        scopes = {_scope_of(request.scope, new): new for _, new in meant}
        scopes.pop(request.scope, None)
        if not scopes:
            return
        if self._has_objects(transaction, request.scope):
            for scope, ref in scopes.items():
                self._add(transaction, waiting, dataclasses.replace(request, scope=scope), ref, now)
            return
        (scope, ref), *others = scopes.items()
        asked = [new for old, new in meant if old.sop_instance == waiting.ref.sop_instance]
        changed = dataclasses.replace(request, scope=scope)
        for other, its_ref in others:
            self._add(transaction, waiting, dataclasses.replace(request, scope=other), its_ref, now)
        self._replace(transaction, waiting, changed, asked[0] if asked else ref)

    def _has_objects(self, transaction: Transaction, scope: ObjectScope) -> bool:
        name = [name for name in REQUEST_IDENTITIES if getattr(scope, name)][-1]
        found = self._holdings.select(_LEVELS[name], getattr(scope, name), transaction)
        return any(is_of(scope, ref) for ref in found)

    def _replace(
        self, transaction: Transaction, waiting: _Waiting, request: Request, ref: InstanceRef
    ) -> None:
        """Give a waiting request its new IDs; one that waits for the same already is enough."""
        draft = request_draft(request, 0.0)
        if waiting.state == "queued" and self._join(transaction, waiting, draft.identity):
            transaction.execute(self._remove, (waiting.id,))
            return
        ids = (ref.sop_instance, ref.patient_id, ref.study, ref.series)
        values = (draft.context, draft.identity, *ids, waiting.id)
        transaction.execute(self._rewrite, values)

    def _join(self, transaction: Transaction, waiting: _Waiting, identity: str) -> bool:
        """Let a request that waits already stand for this one too: it is done no earlier than
        either was to be, and is as urgent as the more urgent."""
        values = (waiting.due, waiting.due, waiting.priority, waiting.priority, identity)
        return transaction.execute(self._join_sql, values).rowcount > 0

    def _add(
        self,
        transaction: Transaction,
        waiting: _Waiting,
        request: Request,
        ref: InstanceRef,
        now: float,
    ) -> None:
        """Enter a further request, in the state of the waiting one and due with it; one that waits
        for the same already is enough."""
        draft = request_draft(request, 0.0)
        if self._join(transaction, waiting, draft.identity):
            return
        time = now
        if self._clock_sql is not None:
            time = float(transaction.execute(f"SELECT {self._clock_sql}").fetchone()[0])
        draft = dataclasses.replace(
            draft,
            delay_s=max(0.0, waiting.due - time),
            provenance=waiting.provenance,
            priority=waiting.priority,
        )
        self._index.add_debts(transaction, ref, (draft,), now)
        if waiting.state in ("held", "stuck"):
            transaction.execute(self._state, (waiting.state, draft.identity))


def _scope_of(scope: ObjectScope, new: InstanceRef) -> ObjectScope:
    """Return a scope with the IDs that an object has now, where it names IDs."""
    names: Iterable[str] = (name for name in REQUEST_IDENTITIES if getattr(scope, name))
    return dataclasses.replace(scope, **{name: getattr(new, name) for name in names})
