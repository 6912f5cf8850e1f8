"""What peers ask us to commit to, until they have been told (PS3.4 J.3).

A request is written down, with a debt of kind `report`, before it is answered; so neither a kill
nor a power cut loses it. Its objects are held in parts that fit into memory, and what was found out
about each part is written down too. Not for finding it out (`dgate.delivery.commitment.examining`),
nor for associations (`dgate.delivery.commitment.reporting`, `dgate.services.commitment`). Any
thread may call any method.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dgate.archive.batches import batches
from dgate.archive.commitmenttable import COMMITMENT_DEVICE
from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.owing import DebtRows
from dgate.archive.records import DebtDraft, DebtKind
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.delivery.commitment.messages import (
    MOST_REFERENCES,
    REPORT_LANE,
    Fault,
    Finding,
    Reference,
    Request,
    Sizes,
    debt_ref,
)
from dgate.delivery.texts import fitting_draft
from dgate.errors import OutcomeUnknown, StoreError
from dgate.net import Status

OWN_ASSOCIATION_S = 30.0
"""So long a peer that keeps its association open is left to hear the report on that one, before
another one is opened for it."""
PART_REFERENCES = 500
"""Objects of a request that are in memory at a time."""
LASTING_S = 600.0
"""So long counts what was found out about objects, from the end of a round through all of a request
on. Longer would be wrong: they may be removed. No two parts of a round lie so far apart."""
_LEFTOVER_S = 86400.0
"""Parts of a request that was never entered are removed when they are so old."""


class Limits(NamedTuple):
    """What one AE title may ask for."""

    requests: int
    """That are open."""
    references: int
    """In one of them."""


OF_STRANGER = Limits(100, 20_000)
"""For a title that is that of no node."""
OF_NODE = Limits(10_000, MOST_REFERENCES)
"""A node may be away for long."""
MOST_OF_STRANGERS = 1000
"""Open requests of all titles together that are those of no node: a stranger can take any number
of them."""

_OURS = f"device = '{COMMITMENT_DEVICE}' AND name = ? AND kind = 'report' AND {OPEN_SQL}"
_ENTER = (
    "INSERT INTO dgate_commitment_requests (token, uid, peer, twin, digest, received, content) "
    "VALUES (?, ?, ?, ?, ?, ?, '')"
)
_ENTER_PART = (
    "INSERT INTO dgate_commitment_parts (token, part, received, items, content) "
    "VALUES (?, ?, ?, ?, ?)"
)
_SAME = "SELECT token, digest FROM dgate_commitment_requests WHERE uid = ? AND peer = ?"
_COUNT = "SELECT count(*) FROM dgate_commitment_requests WHERE peer = ?"
_COUNT_ALL = "SELECT peer, count(*) FROM dgate_commitment_requests GROUP BY peer"
_OLD = "SELECT token, peer FROM dgate_commitment_requests WHERE received < ?"
_DROP = (
    "UPDATE dgate_debts SET state = 'cancelled', finished = ?, last_error = ? "
    f"WHERE {_OURS} AND COALESCE(state, '') <> 'leased'"
)
_LOAD = "SELECT uid, twin, content FROM dgate_commitment_requests WHERE token = ?"
_CONVERTED = "UPDATE dgate_commitment_requests SET content = '' WHERE token = ? AND content <> ''"
_PARTS = "SELECT count(*) FROM dgate_commitment_parts WHERE token = ?"
_PART = "SELECT content, reasons FROM dgate_commitment_parts WHERE token = ? AND part = ?"
_EXAMINED = "SELECT part, examined FROM dgate_commitment_parts WHERE token = ? ORDER BY part"
_NOTE = (
    "UPDATE dgate_commitment_parts SET examined = ?, failed = ?, good_bytes = ?, bad_bytes = ?, "
    "reasons = ? WHERE token = ? AND part = ? AND (examined IS NULL OR examined < ?)"
)
# In one statement, since the request may be closed at any time.
_TOTALS = (
    "SELECT COUNT(r.token), COUNT(p.examined), COALESCE(MAX(p.part), 0) + 1, "
    "COALESCE(SUM(p.items), 0), COALESCE(SUM(p.failed), 0), COALESCE(SUM(p.good_bytes), 0), "
    "COALESCE(SUM(p.bad_bytes), 0) FROM dgate_commitment_requests r "
    "LEFT JOIN dgate_commitment_parts p ON p.token = r.token WHERE r.token = ?"
)
_FORGET = "DELETE FROM dgate_commitment_requests WHERE token = ?"
_FORGET_PARTS = "DELETE FROM dgate_commitment_parts WHERE token = ?"
_LEFTOVERS = (
    "DELETE FROM dgate_commitment_parts WHERE received < ? AND NOT EXISTS "
    "(SELECT 1 FROM dgate_commitment_requests r WHERE r.token = dgate_commitment_parts.token)"
)
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request whose report is owed."""

    uid: str
    """Transaction UID."""
    is_twin: bool
    """It is that of another request as well."""
    parts: int
    """The parts have the numbers from 0 on."""


class Totals(NamedTuple):
    """What was found out about all objects of a request."""

    committed: int
    failed: int
    sizes: Sizes


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
        self,
        request: Request,
        calling: str,
        called: str,
        limits: Limits = OF_STRANGER,
        is_node: Callable[[str], bool] = lambda title: True,
    ) -> str:
        """Owe the peer `calling`, which knows us as `called`, a report; returns its token.

        The same request once more, as after a lost answer, is not owed twice; another one with the
        Transaction UID of one that runs is, and will be told so. A crash leaves the request with
        its debt, or parts that `forget_orphans` removes.

        Args:
            is_node: tells of an AE title whether it is that of a node; all that are not share
                `MOST_OF_STRANGERS`.

        Raises:
            Fault: 0213, more is asked for, or open, than the peer may; 0115, nothing is. What
                reading the references raises passes through.
            StoreError: it cannot be written down.
        """
        token = secrets.token_hex(16)
        digest = hashlib.sha256()
        last, number = "", -1
        try:
            for number, part in enumerate(_parts(request.references, limits.references)):
                if last:
                    self._add_part(token, number - 1, last)
                last = json.dumps(part)
                digest.update(last.encode())
            if not last:
                what = "the Referenced SOP Sequence is empty"
                raise Fault(Status.INVALID_ARGUMENT_VALUE, what)
            ends = token, digest.hexdigest(), (number, last)
            found = self._enter(request.uid, calling, called, (limits, is_node), *ends)
        except OutcomeUnknown:
            # The request may be there, and then all of its parts have to be.
            self._wake()
            raise
        except BaseException:
            self._drop_parts(token, number)
            raise
        if found != token:
            self._drop_parts(token, number)
        if isinstance(found, Fault):
            raise found
        self._wake()
        return found

    def load(self, token: str) -> Waiting | None:
        """Return a request; None when it has been answered."""
        with self._database.reader() as connection:
            row = connection.execute(self._sql(_LOAD), (token,)).fetchone()
            if row is None:
                return None
            if not row[2]:
                parts = connection.execute(self._sql(_PARTS), (token,)).fetchone()[0]
                return Waiting(row[0], bool(row[1]), int(parts))
        self._convert(token, row[2])
        return self.load(token)

    def references(self, token: str, part: int) -> list[Reference]:
        """Return the objects of a part; none when the request has been answered."""
        return [finding.reference for finding in self._findings(token, part)]

    def stale(self, token: str) -> list[int]:
        """Return the parts of which nothing was found out, or not in the last round, or too long
        ago."""
        with self._database.reader() as connection:
            latest = database_time(self._database, self._clock, connection)
            rows = connection.execute(self._sql(_EXAMINED), (token,)).fetchall()
        fresh: set[int] = set()
        known = [(row[1], row[0]) for row in rows if row[1] is not None]
        for examined, part in sorted(known, reverse=True):
            if latest - examined > LASTING_S:
                break
            fresh.add(part)
            latest = examined
        return [int(row[0]) for row in rows if row[0] not in fresh]

    def note(self, token: str, part: int, findings: Sequence[Finding]) -> None:
        """Write down what was found out about a part, all of it; what somebody else has just
        written down stands. A report that nobody has begun to make waits for who does this."""
        good = sum(finding.size for finding in findings if finding.reason is None)
        bad = sum(finding.size for finding in findings if finding.reason is not None)
        reasons = {
            place: int(finding.reason)
            for place, finding in enumerate(findings)
            if finding.reason is not None
        }

        def work(transaction: Transaction) -> None:
            now = database_time(self._database, self._clock, transaction)
            values = (now, len(reasons), good, bad, json.dumps(reasons))
            # In the order of `close`, lest two gateways wait for each other.
            transaction.execute(self._sql(_DUE_FIRST), (now + OWN_ASSOCIATION_S, token))
            transaction.execute(self._sql(_NOTE), (*values, token, part, now - LASTING_S))

        self._writer.transact(work)

    def totals(self, token: str) -> Totals | None:
        """Return what was found out about all objects; None when the request has been answered.

        Raises:
            StoreError: it is not known of all of them.
        """
        with self._database.reader() as connection:
            row = connection.execute(self._sql(_TOTALS), (token,)).fetchone()
        rows, examined, parts, items, failed, good, bad = map(int, row)
        if not rows:
            return None
        # The last part went with the request, so its number tells how many there have to be.
        if examined != parts or not items:
            raise StoreError(
                "it is not known of all objects of the request whether they are stored",
                remedy="if this stays, `dgate queue cancel` and have the peer ask again",
            )
        return Totals(items - failed, failed, Sizes(good, bad))

    def findings(self, token: str, parts: int) -> Iterator[list[Finding]]:
        """Yield what was found out about each part."""
        for part in range(parts):
            yield self._findings(token, part)

    def close(self, token: str, status: int, text: str) -> None:
        """Note that the peer has taken the report."""

        def work(transaction: Transaction) -> None:
            now = database_time(self._database, self._clock, transaction)
            transaction.execute(self._sql(_DONE), (now, status, text, token))
            self._forget(transaction, token)

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
        """Drop requests whose debt an operator has cancelled, and parts that a crash left."""
        with self._database.reader() as connection:
            tokens = [row[0] for row in connection.execute(_ORPHANS).fetchall()]

        def work(transaction: Transaction) -> None:
            # Once more inside: a request may have been entered meanwhile.
            still = {row[0] for row in transaction.execute(_ORPHANS).fetchall()} if tokens else ()
            for token in tokens:
                if token in still:
                    self._forget(transaction, token)
            now = database_time(self._database, self._clock, transaction)
            transaction.execute(self._sql(_LEFTOVERS), (now - _LEFTOVER_S,))

        self._writer.transact(work)

    def forget_strangers(self, is_node: Callable[[str], bool], age_s: float) -> int:
        """Drop requests older than this of callers that are no node; return how many."""
        with self._database.reader() as connection:
            now = database_time(self._database, self._clock, connection)
            rows = connection.execute(self._sql(_OLD), (now - age_s,)).fetchall()
        tokens = [token for token, peer in rows if not is_node(peer)]

        def work(transaction: Transaction) -> int:
            text = "dropped after LedgerDays: who asked is no node"
            now = database_time(self._database, self._clock, transaction)
            count = 0
            for token in tokens:
                # What a worker has in hand comes round again.
                if transaction.execute(self._sql(_DROP), (now, text, token)).rowcount:
                    self._forget(transaction, token)
                    count += 1
            return count

        return self._writer.transact(work) if tokens else 0

    def _enter(
        self,
        uid: str,
        calling: str,
        called: str,
        allowed: tuple[Limits, Callable[[str], bool]],
        token: str,
        digest: str,
        last: tuple[int, str],
    ) -> str | Fault:
        """Enter a request with its last part; return its token, that of the same one, or what is
        wrong when too many are open."""

        def work(transaction: Transaction) -> str | Fault:
            now = database_time(self._database, self._clock, transaction)
            twin = False
            running = transaction.execute(self._sql(_SAME), (uid, calling)).fetchall()
            for other, found in running:
                if found == digest:
                    return str(other)
                twin = True
            crowd = self._crowd(transaction, calling, *allowed)
            if crowd:
                return Fault(Status.RESOURCE_LIMITATION, crowd)
            self._write_part(transaction, token, *last, now)
            values = (token, uid, calling, int(twin), digest, now)
            transaction.execute(self._sql(_ENTER), values)
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

        return self._writer.transact(work)

    def _crowd(
        self,
        transaction: Transaction,
        calling: str,
        limits: Limits,
        is_node: Callable[[str], bool],
    ) -> str:
        """Return which of the open requests are too many for another one; empty = none."""
        count = transaction.execute(self._sql(_COUNT), (calling,)).fetchone()[0]
        if count >= limits.requests:
            return f"{limits.requests} requests of {calling} are open"
        if is_node(calling):
            return ""
        rows = transaction.execute(_COUNT_ALL).fetchall()
        if sum(count for peer, count in rows if not is_node(peer)) < MOST_OF_STRANGERS:
            return ""
        return f"{MOST_OF_STRANGERS} requests of titles unknown here are open"

    def _add_part(self, token: str, part: int, content: str) -> None:
        def work(transaction: Transaction) -> None:
            now = database_time(self._database, self._clock, transaction)
            self._write_part(transaction, token, part, content, now)

        self._writer.transact(work)

    def _write_part(
        self, transaction: Transaction, token: str, part: int, content: str, now: float
    ) -> None:
        items = len(json.loads(content))
        transaction.execute(self._sql(_ENTER_PART), (token, part, now, items, content))

    def _drop_parts(self, token: str, last: int) -> None:
        """Remove the parts of a request that was not entered; the last one went with it."""
        if last > 0:
            statement = self._sql(_FORGET_PARTS)
            self._writer.transact(lambda transaction: transaction.execute(statement, (token,)))

    def _convert(self, token: str, content: str) -> None:
        """Divide a request that an earlier version wrote down as a whole."""
        references = [Reference(*each) for each in json.loads(content)]

        def work(transaction: Transaction) -> None:
            if not transaction.execute(self._sql(_CONVERTED), (token,)).rowcount:
                return
            now = database_time(self._database, self._clock, transaction)
            for number, part in enumerate(_parts(references, len(references))):
                self._write_part(transaction, token, number, json.dumps(part), now)

        self._writer.transact(work)

    def _findings(self, token: str, part: int) -> list[Finding]:
        with self._database.reader() as connection:
            row = connection.execute(self._sql(_PART), (token, part)).fetchone()
        if row is None:
            return []
        reasons = json.loads(row[1]) if row[1] else {}
        return [
            Finding(Reference(*each), reasons.get(str(place)))
            for place, each in enumerate(json.loads(row[0]))
        ]

    def _forget(self, transaction: Transaction, token: str) -> None:
        transaction.execute(self._sql(_FORGET), (token,))
        transaction.execute(self._sql(_FORGET_PARTS), (token,))

    def _sql(self, text: str) -> str:
        return self._database.sql(text)


def _parts(references: Iterable[Reference], most: int) -> Iterator[list[Reference]]:
    """Yield the references in parts; what stands twice in one is taken once. Raises Fault when
    there are more than `most`."""
    count = 0
    for part in batches(references, PART_REFERENCES):
        count += len(part)
        if count > most:
            raise Fault(Status.RESOURCE_LIMITATION, f"more than {most} objects at once")
        yield list(dict.fromkeys(part))
