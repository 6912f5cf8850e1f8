"""Writes rows of debt: what is owed for an object, in the transaction that the caller has open.

Not for claiming and closing them (`dgate.delivery.ledger`). Used by the leader of the writer's
group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgate.archive.database import Database
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef, Provenance
from dgate.archive.spool import SPOOL_DEVICE
from dgate.archive.statements import insert_debt
from dgate.archive.writer import Transaction
from dgate.config.node_settings import Priority

REQUEST_DEVICE = "REQUEST"
"""What stands in the place of a device's name in the row of a request; its name is its identity."""
WAITING_SQL = "COALESCE(state, '') = 'queued'"
"""Where a request is looked up by its identity: written so that SQLite, which has no statistics,
does not take the index over all that waits for that over requests (`dgate_debts_request`)."""

_UNKNOWN = Provenance()


class DebtRows:
    """Enters debts."""

    def __init__(self, database: Database) -> None:
        # A server's time comes from itself (`insert_debt`), so that all gateways mean the same.
        self._own_time = database.clock_sql is None
        self._insert = insert_debt(database)
        self._insert_arriving = insert_debt(database, arriving=True)
        clock = database.clock_sql or "?"
        where = f"WHERE device = '{REQUEST_DEVICE}' AND name = ? AND {WAITING_SQL}"
        self._restart = database.sql(
            f"UPDATE dgate_debts SET due = {clock} + ?, "
            f"priority = CASE WHEN priority > ? THEN ? ELSE priority END {where}"
        )
        self._note, self._note_arriving = (
            database.sql(
                "INSERT INTO dgate_received (sop, received, source, source_host, digest, size, "
                f"accession) VALUES (?, {time}, ?, ?, ?, ?, ?)"
            )
            for time in ("?", clock)
        )

    def add(
        self, transaction: Transaction, ref: InstanceRef, drafts: Sequence[DebtDraft], now: float
    ) -> None:
        """Enter what is owed for an object; `now` counts where the database is a file.

        Everything is due at once but requests, which wait for their quiet time; an equal one that
        waits already begins to wait anew.
        """
        is_noted = False
        for draft in drafts:
            owner = draft.ref or ref
            if draft.kind is DebtKind.REQUEST:
                if not is_noted and draft.provenance is not None:
                    self._note_arrival(transaction, owner, draft.provenance, now)
                    is_noted = True
                self._add_request(transaction, owner, draft, now)
                continue
            device, name = owner.device, owner.name
            if draft.spool is not None:
                device, name = SPOOL_DEVICE, draft.spool.name
            self._enter(transaction, owner, draft, device, name, now)

    def _note_arrival(
        self, transaction: Transaction, ref: InstanceRef, found: Provenance, now: float
    ) -> None:
        """Keep where an object came from until the operation knows what it is about."""
        if not found.arriving and found.received is None:
            return
        arriving = found.arriving
        received = () if arriving and not self._own_time else (now if arriving else found.received,)
        transaction.execute(
            self._note_arriving if arriving else self._note,
            (
                ref.sop_instance,
                *received,
                found.source or None,
                found.host or None,
                found.digest or None,
                found.size,
                found.accession or None,
            ),
        )

    def _add_request(
        self, transaction: Transaction, ref: InstanceRef, draft: DebtDraft, now: float
    ) -> None:
        time = (now,) if self._own_time else ()
        waiting = (*time, draft.delay_s, draft.priority, draft.priority, draft.identity)
        if transaction.execute(self._restart, waiting).rowcount:
            return
        if draft.provenance is not None:
            # It stands for many objects.
            draft = replace(draft, provenance=replace(draft.provenance, digest="", size=None))
        self._enter(transaction, ref, draft, REQUEST_DEVICE, draft.identity, now)
        transaction.execute(self._restart, waiting)

    def _enter(
        self,
        transaction: Transaction,
        ref: InstanceRef,
        draft: DebtDraft,
        device: str,
        name: str,
        now: float,
    ) -> None:
        due = (now,) if self._own_time else ()
        origin = draft.provenance or _UNKNOWN
        received = due if origin.arriving else (origin.received,)
        transaction.execute(
            self._insert_arriving if origin.arriving else self._insert,
            (
                draft.kind.value,
                "queued",
                draft.destination,
                draft.rule,
                draft.calling,
                draft.called,
                draft.compression,
                draft.script,
                ref.sop_class,
                ref.sop_instance,
                ref.patient_id,
                ref.study,
                ref.series,
                device,
                name,
                draft.context,
                *due,
                None,
                None,
                0,
                0,
                None,
                None,
                *due,
                None,
                min(max(draft.priority, Priority.STAT), Priority.BULK),
                origin.source or None,
                origin.host or None,
                *received,
                origin.digest or None,
                origin.size,
                origin.accession or None,
                None,
                None,
                None,
                None,
                None,
            ),
        )
