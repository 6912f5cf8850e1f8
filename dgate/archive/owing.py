"""Writes rows of debt: what is owed for an object, in the transaction that the caller has open.

Not for claiming and closing them (`dgate.delivery.ledger`). Used by the leader of the writer's
group.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgate.archive.database import Database
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.spool import SPOOL_DEVICE
from dgate.archive.statements import insert_debt
from dgate.archive.writer import Transaction

REQUEST_DEVICE = "REQUEST"
"""What stands in the place of a device's name in the row of a request; its name is its identity."""


class DebtRows:
    """Enters debts."""

    def __init__(self, database: Database) -> None:
        # A server's time comes from itself (`insert_debt`), so that all gateways mean the same.
        self._own_time = database.clock_sql is None
        self._insert = insert_debt(database)
        clock = database.clock_sql or "?"
        where = f"WHERE device = '{REQUEST_DEVICE}' AND name = ? AND state = 'queued'"
        self._restart = database.sql(f"UPDATE dgate_debts SET due = {clock} + ? {where}")

    def add(
        self, transaction: Transaction, ref: InstanceRef, drafts: Sequence[DebtDraft], now: float
    ) -> None:
        """Enter what is owed for an object; `now` counts where the database is a file.

        Everything is due at once but requests, which wait for their quiet time; an equal one that
        waits already begins to wait anew.
        """
        for draft in drafts:
            ref = draft.ref or ref
            if draft.kind is DebtKind.REQUEST:
                self._add_request(transaction, ref, draft, now)
                continue
            device, name = ref.device, ref.name
            if draft.spool is not None:
                device, name = SPOOL_DEVICE, draft.spool.name
            self._enter(transaction, ref, draft, device, name, now)

    def _add_request(
        self, transaction: Transaction, ref: InstanceRef, draft: DebtDraft, now: float
    ) -> None:
        time = (now,) if self._own_time else ()
        waiting = (*time, draft.delay_s, draft.identity)
        if transaction.execute(self._restart, waiting).rowcount:
            return
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
        transaction.execute(
            self._insert,
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
            ),
        )
