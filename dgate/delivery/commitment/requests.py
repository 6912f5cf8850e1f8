"""What peers ask us to commit to, until they have been told (PS3.4 J.3).

A request is written down, with a debt of kind `report`, before it is answered; so neither a kill
nor a power cut loses it. What the report says is found out when it is made: each object must be in
the index, with the SOP class named, and its file whole. Not for associations
(`dgate.delivery.commitment.reporting`, `dgate.services.commitment`). Any thread may call any
method.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from dgate.archive.commitmenttable import COMMITMENT_DEVICE
from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.export import Exporter
from dgate.archive.owing import DebtRows
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.delivery.commitment.messages import (
    DUPLICATE_TRANSACTION,
    REPORT_LANE,
    Fault,
    Reference,
    Report,
    Request,
    debt_ref,
)
from dgate.delivery.leases import database_time
from dgate.delivery.texts import fitting_draft
from dgate.disk import sync_file, sync_folder
from dgate.errors import DatabaseAway, Missing, StoreError
from dgate.net import Status

OWN_ASSOCIATION_S = 30.0
"""So long a peer that keeps its association open is left to hear the report on that one, before
another one is opened for it."""

MOST_OF_STRANGER = 100
"""Requests that are open for one AE title which is that of no node..."""
MOST_OF_NODE = 10_000
"""...and for one of a node, which may be away for long."""

_OURS = f"device = '{COMMITMENT_DEVICE}' AND name = ? AND kind = 'report' AND {OPEN_SQL}"
_ENTER = (
    "INSERT INTO dgate_commitment_requests (token, uid, peer, twin, digest, received, content) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SAME = "SELECT token, digest FROM dgate_commitment_requests WHERE uid = ? AND peer = ?"
_COUNT = "SELECT count(*) FROM dgate_commitment_requests WHERE peer = ?"
_OLD = "SELECT token, peer FROM dgate_commitment_requests WHERE received < ?"
_DROP = (
    "UPDATE dgate_debts SET state = 'cancelled', finished = ?, last_error = ? "
    f"WHERE {_OURS} AND COALESCE(state, '') <> 'leased'"
)
_LOAD = "SELECT uid, twin, content FROM dgate_commitment_requests WHERE token = ?"
_FORGET = "DELETE FROM dgate_commitment_requests WHERE token = ?"
_DONE = (
    "UPDATE dgate_debts SET state = 'done', finished = ?, attempts = attempts + 1, "
    f"last_status = ?, last_error = ?, owner = NULL, lease_until = NULL WHERE {_OURS}"
)
# Written so that the index of the name serves, not that of all that is queued.
_DUE = f"UPDATE dgate_debts SET due = ? WHERE {_OURS} AND COALESCE(state, '') = 'queued'"
_DUE_FIRST = f"{_DUE} AND attempts = 0"
_ORPHANS = (
    "SELECT token FROM dgate_commitment_requests WHERE NOT EXISTS (SELECT 1 FROM dgate_debts "
    f"WHERE device = '{COMMITMENT_DEVICE}' AND name = token AND {OPEN_SQL})"
)


class Requests:
    """The requests of peers that have not been answered by a report."""

    def __init__(
        self, database: Database, writer: Writer, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._wake = wake
        self._rows = DebtRows(database)

    def enter(
        self, request: Request, calling: str, called: str, most: int = MOST_OF_STRANGER
    ) -> str:
        """Owe the peer `calling`, which knows us as `called`, a report; returns its token.

        The same request once more, as after a lost answer, is not owed twice; another one with the
        Transaction UID of one that runs is, and will be told so.

        Raises:
            Fault: 0213, `most` requests of the peer are open.
            StoreError: it cannot be written down.
        """
        content = json.dumps(request.references)
        digest = hashlib.sha256(content.encode()).hexdigest()

        def work(transaction: Transaction) -> str:
            now = database_time(self._database, self._clock, transaction)
            twin = False
            running = transaction.execute(self._sql(_SAME), (request.uid, calling)).fetchall()
            for token, found in running:
                if found == digest:
                    return str(token)
                twin = True
            if transaction.execute(self._sql(_COUNT), (calling,)).fetchone()[0] >= most:
                return ""
            token = secrets.token_hex(16)
            transaction.execute(
                self._sql(_ENTER), (token, request.uid, calling, int(twin), digest, now, content)
            )
            draft = DebtDraft(
                DebtKind.REPORT,
                f"{REPORT_LANE}{calling}",
                "storage commitment",
                calling=called,
                called=calling,
            )
            self._rows.add(transaction, debt_ref(token), (fitting_draft(draft),), now)
            transaction.execute(self._sql(_DUE), (now + OWN_ASSOCIATION_S, token))
            return token

        token = self._writer.transact(work)
        if not token:
            raise Fault(Status.RESOURCE_LIMITATION, f"{most} requests of {calling} are open")
        self._wake()
        return token

    def load(self, token: str) -> tuple[Request, bool] | None:
        """Return what was asked for, and whether its Transaction UID is that of another request;
        None when it has been answered."""
        with self._database.reader() as connection:
            row = connection.execute(self._sql(_LOAD), (token,)).fetchone()
        if row is None:
            return None
        references = tuple(Reference(*each) for each in json.loads(row[2]))
        return Request(row[0], references), bool(row[1])

    def close(self, token: str, status: int, text: str) -> None:
        """Note that the peer has taken the report."""

        def work(transaction: Transaction) -> None:
            now = database_time(self._database, self._clock, transaction)
            transaction.execute(self._sql(_DONE), (now, status, text, token))
            transaction.execute(self._sql(_FORGET), (token,))

        self._writer.transact(work)

    def hasten(self, token: str) -> None:
        """Have the report made on another association now: the peer's own is over."""

        def work(transaction: Transaction) -> bool:
            now = database_time(self._database, self._clock, transaction)
            return transaction.execute(self._sql(_DUE), (now, token)).rowcount > 0

        if self._writer.transact(work):
            self._wake()

    def hasten_all(self) -> None:
        """Have every report made now: after a start no peer's association is left to be told on."""
        with self._database.reader() as connection:
            statement = "SELECT token FROM dgate_commitment_requests"
            tokens = [row[0] for row in connection.execute(statement).fetchall()]

        def work(transaction: Transaction) -> None:
            now = database_time(self._database, self._clock, transaction)
            rows = [(now, token) for token in tokens]
            transaction.executemany(self._sql(_DUE_FIRST), rows)

        if tokens:
            self._writer.transact(work)
            self._wake()

    def forget_orphans(self) -> None:
        """Drop requests whose debt an operator has cancelled."""
        with self._database.reader() as connection:
            tokens = [row[0] for row in connection.execute(_ORPHANS).fetchall()]

        def work(transaction: Transaction) -> None:
            # Once more inside: a request may have been entered meanwhile.
            still = {row[0] for row in transaction.execute(_ORPHANS).fetchall()}
            gone = [(token,) for token in tokens if token in still]
            transaction.executemany(self._sql(_FORGET), gone)

        if tokens:
            self._writer.transact(work)

    def forget_strangers(self, is_node: Callable[[str], bool], age_s: float) -> int:
        """Drop requests older than this of callers that are no node; return how many."""
        with self._database.reader() as connection:
            now = self._now(connection)
            rows = connection.execute(self._sql(_OLD), (now - age_s,)).fetchall()
        tokens = [token for token, peer in rows if not is_node(peer)]

        def work(transaction: Transaction) -> int:
            text = "dropped after LedgerDays: who asked is no node"
            now = database_time(self._database, self._clock, transaction)
            count = 0
            for token in tokens:
                # What a worker has in hand comes round again.
                if transaction.execute(self._sql(_DROP), (now, text, token)).rowcount:
                    transaction.execute(self._sql(_FORGET), (token,))
                    count += 1
            return count

        return self._writer.transact(work) if tokens else 0

    def _now(self, connection: Connection) -> float:
        if self._database.clock_sql is None:
            return self._clock.now()
        return float(connection.execute(f"SELECT {self._database.clock_sql}").fetchone()[0])

    def _sql(self, text: str) -> str:
        return self._database.sql(text)


class Examiner:
    """Finds out which objects are safely stored."""

    def __init__(
        self,
        find: Callable[[str], InstanceRef | None],
        exporter: Exporter,
        accepts: Callable[[str], bool],
        aside: Callable[[], Collection[str]] = frozenset,
        *,
        durable: bool,
    ) -> None:
        """`find` looks into the index, `accepts` tells which SOP classes are taken, `aside` which
        instances came with other content that somebody has to decide about; `durable` files need
        not be synced any more, since that was done before they were acknowledged.
        """
        self._aside = aside
        self._find = find
        self._exporter = exporter
        self._accepts = accepts
        self._durable = durable

    def examine(self, request: Request, *, twin: bool) -> Report:
        """Return what can be committed to; raises DatabaseAway when the index cannot be asked."""
        if twin:
            refused = dict.fromkeys(request.references, DUPLICATE_TRANSACTION)
            return Report(request.uid, (), refused)
        committed = []
        failed: dict[Reference, int] = {}
        folders: dict[Path, None] = {}
        undecided = self._aside()
        for reference in request.references:
            reason: int | None = Status.PROCESSING_FAILURE
            # Which of its contents the peer means is not known, and one of them may go.
            if reference.sop_instance not in undecided:
                reason = self._reason(reference, folders)
            if reason is None:
                committed.append(reference)
            else:
                failed[reference] = reason
        for folder in folders:
            sync_folder(folder)
        return Report(request.uid, tuple(committed), failed)

    def _reason(self, reference: Reference, folders: dict[Path, None]) -> int | None:
        """Return why an object cannot be committed to."""
        ref = self._find(reference.sop_instance)
        if ref is None:
            known = self._accepts(reference.sop_class)
            return Status.NO_SUCH_SOP_INSTANCE if known else Status.SOP_CLASS_NOT_SUPPORTED
        if ref.sop_class != reference.sop_class:
            return Status.CLASS_INSTANCE_CONFLICT
        try:
            with self._exporter.table(ref) as table:
                if table.truncated:
                    return Status.PROCESSING_FAILURE
            if not self._durable:
                path = Path(self._exporter.path(ref))
                sync_file(path)
                folders[path.parent] = None
        except Missing:
            return Status.NO_SUCH_SOP_INSTANCE
        except DatabaseAway:
            raise
        except (StoreError, OSError):
            return Status.PROCESSING_FAILURE
        return None
