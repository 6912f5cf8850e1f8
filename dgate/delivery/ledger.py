"""The ledger: claims debts for the workers and writes down what became of them.

Debts are born in `dgate.archive.index`, in the transaction that stores the object. Not for deciding
what a failure means (`dgate.delivery.failures`) nor for operators (`dgate.delivery.desk`). Every
write goes through the archive's `Writer`,
so that claims and marks share their commits with intake. Any thread may call any method.

A claimed row carries its owner, one name per start of a gateway, and the end of its lease. A crash
leaves rows leased; `recover` gives them back and counts a possible repeat, because the object may
have been delivered with only the mark lost. A negative `last_status` says how many ends of a server
in a row the debt was leased at; any try that ends overwrites it. An object that the server dies of
is thereby found: see
`dgate.delivery.leases`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dgate.archive.database import Database
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef, Provenance
from dgate.archive.requests import LANE_PREFIX
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.delivery.commitment.gathering import Gathering, Group, group_of
from dgate.delivery.commitment.messages import ASKING_LANE
from dgate.delivery.equals import EqualRequests
from dgate.delivery.history import enter_tries, provenance_of, prune
from dgate.delivery.leases import (
    LEASE_S,
    give_back,
    new_owner,
    recover_leases,
    unowed_copies,
    warn_of_twin,
)
from dgate.delivery.notices import Notices
from dgate.delivery.recalls import Recalls
from dgate.delivery.records import (
    CLOSED_STATES,
    Debt,
    Due,
    Settlement,
    State,
)
from dgate.delivery.texts import LONGEST_ERROR, fitting, fitting_draft
from dgate.errors import DatabaseAway, OutOfSpace, StoreError

log = logging.getLogger(__name__)

SUSPECT_CRASHES = 2
"""After so many a debt is claimed alone, so that it is the only one leased at the next."""
_CLOCK_SLACK_S = 60.0
_OWN_LANES = (LANE_PREFIX, ASKING_LANE)
"""Begin the names of lanes in which only requests wait, for as long as they are to."""

PRIORITIES = (0, 1, 2)
"""`dgate.config.node_settings.Priority`, the most urgent first."""

_WAITING = (
    "SELECT id, kind, destination, rule, calling, called, compression, script, sop_class, "
    "sop_instance, patient_id, study, series, device, name, context, attempts, priority, source, "
    "source_host, received, digest, size, accession, created, origin, last_status "
    "FROM dgate_debts WHERE state = 'queued' AND destination = ? "
)
_CLAIM = _WAITING + "AND priority = ? AND due <= ? ORDER BY due, id LIMIT ?"
# Without an order of its own: the index has one, and sorting would take all of them into hand.
_CLAIM_BEYOND = (
    _WAITING + "AND priority IN ({}) AND due > ? AND kind NOT IN ('request', 'commit') LIMIT ?"
)
_LEASE = "UPDATE dgate_debts SET state = 'leased', owner = ?, lease_until = ? WHERE id = ?"
_OURS = " WHERE id = ? AND state = 'leased' AND owner = ?"
_CLOSE = (
    "UPDATE dgate_debts SET state = ?, finished = ?, accepted = ?, attempts = attempts + 1, "
    "repeats = repeats + ?, last_status = ?, last_error = ?, owner = NULL, lease_until = NULL"
    + _OURS
)
_RETRY = (
    "UPDATE dgate_debts SET state = 'queued', due = ?, attempts = attempts + 1, "
    "repeats = repeats + ?, last_status = ?, last_error = ?, owner = NULL, lease_until = NULL"
    + _OURS
)
_DEFER = (
    "UPDATE dgate_debts SET state = 'queued', due = ?, last_status = NULL, last_error = ?, "
    "owner = NULL, lease_until = NULL" + _OURS
)
_RETURN = (
    "UPDATE dgate_debts SET state = 'queued', repeats = repeats + ?, owner = NULL, "
    "lease_until = NULL" + _OURS
)
_REPLACE = "DELETE FROM dgate_debts" + _OURS
_FORGET = "DELETE FROM dgate_tries WHERE debt = ?"
_ORPHANS = (
    "UPDATE dgate_debts SET state = 'queued', repeats = repeats + 1, owner = NULL, "
    "lease_until = NULL WHERE state = 'leased' AND owner = ? AND destination = ?"
)
_RENEW = (
    "UPDATE dgate_debts SET lease_until = ? "
    "WHERE state = 'leased' AND (owner = ? OR substr(owner, 1, {}) = ?)"
)
_LANE = (
    "SELECT destination, "
    + ", ".join(
        "(SELECT due FROM dgate_debts AS d WHERE d.state = 'queued' AND "
        f"d.destination = found.destination AND d.priority = {priority} ORDER BY due LIMIT 1)"
        for priority in PRIORITIES
    )
    + " FROM (SELECT destination FROM dgate_debts WHERE state = 'queued'{more} "
    "ORDER BY destination LIMIT 1) AS found"
)
"""One look-up in the index for each priority of each destination."""
_FIRST_LANE = _LANE.format(more="")
_NEXT_LANE = _LANE.format(more=" AND destination > ?")


AddDebts = Callable[[Transaction, InstanceRef, Sequence[DebtDraft], float], None]
"""`dgate.archive.index.Index.add_debts`."""


class Ledger:
    """The debts of this archive, as the dispatcher sees them."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        clock: Clock,
        add_debts: AddDebts,
        release_spool: Callable[[str], None],
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._add_debts = add_debts
        self._release_spool = release_spool
        self.owner = new_owner(database)
        self.shared = not database.embedded
        """Whether other gateways may work on the same ledger."""
        self.longest_pause_s = math.inf
        """What is due later than this from now was written by a clock that was wrong, and counts
        as due. Set by the dispatcher, before its threads start."""
        self.recalls = Recalls()
        self._gathering = Gathering(database)
        self._equals = EqualRequests(database, device=13, name=14)
        self._started_at = 0.0
        """By the database's clock."""
        sql = database.sql
        lock = database.claim_lock
        self._claim_sql, self._claim_beyond_sql = sql(_CLAIM) + lock, sql(_CLAIM_BEYOND) + lock
        self._lease_sql = sql(_LEASE)
        self._close_sql = sql(_CLOSE)
        self._retry_sql = sql(_RETRY)
        self._return_sql = sql(_RETURN)
        self._defer_sql = sql(_DEFER)
        self._replace_sql = sql(_REPLACE)
        self._still_ours_sql = sql(f"SELECT id FROM dgate_debts{_OURS}")
        self._forget_sql = sql(_FORGET)
        self._next_lane_sql = sql(_NEXT_LANE)

    # What the dispatcher asks.

    def lanes(self) -> list[Due]:
        """Return every destination with a waiting debt; costs few index look-ups for each.

        A due time that no pause explains is given as 0. One behind an explainable one is found when
        that is due.
        """
        found = []
        with self._database.reader() as connection:
            now = database_time(self._database, self._clock, connection)
            latest = self._latest(now)
            row = connection.execute(_FIRST_LANE).fetchone()
            while row is not None:
                if any(due is not None for due in row[1:]):
                    found.append(_due(row[0], row[1:], now, latest))
                row = connection.execute(self._next_lane_sql, (row[0],)).fetchone()
        return found

    def notices(self, wake: Callable[[], None]) -> Notices:
        """Return what calls `wake` when another gateway enters debts here."""
        return Notices(self._database, wake)

    def now(self) -> float:
        """Return the time by which debts are due: the database's (rulings.md 18)."""
        if self._database.clock_sql is None:
            return self._clock.now()
        with self._database.reader() as connection:
            return database_time(self._database, self._clock, connection)

    def exchange(
        self,
        settlements: Sequence[Settlement],
        destination: str,
        limit: int,
        *,
        orphans: bool = False,
        slot: int = 0,
        priorities: Sequence[int] = PRIORITIES,
    ) -> list[Debt]:
        """Write down what became of debts and claim the next due ones, in one commit.

        With `orphans`, rows of this destination that are leased to us go back first, as possible
        repeats: the caller knows of none but those settled here. May be repeated with the same
        settlements after an error; what was written already is not written again. When the database
        refuses one of them, the others are written all the same. Spool copies whose last debt was
        paid are removed after the commit; a crash before that leaves the copy to be swept at start.
        `slot` tells the workers of one destination apart: each has leases of its own. Of the
        `priorities` that may be claimed, the first counts most.
        """
        if not settlements and limit <= 0 and not orphans:
            return []

        owner = self._owner_of(slot)

        def work(transaction: Transaction) -> tuple[list[Debt], list[str]]:
            now = self._time(transaction)
            spool = self._settle(transaction, settlements, now, owner)
            if orphans:
                transaction.execute(self._database.sql(_ORPHANS), (owner, destination))
            wanted = 0 if self.recalls.is_closed(destination) else limit
            return self._claim(transaction, destination, now, wanted, owner, priorities), spool

        try:
            debts, spool = self._writer.transact(work)
        except (DatabaseAway, OutOfSpace):
            raise
        except (StoreError, ValueError):
            # Drivers raise ValueError for text that they cannot encode.
            if not settlements:
                raise
            self._settle_singly(settlements, destination, slot)
            return self.exchange(
                (), destination, limit, orphans=orphans, slot=slot, priorities=priorities
            )
        for name in spool:
            self._release_spool(name)
        return debts

    def _owner_of(self, slot: int) -> str:
        return f"{self.owner}/{slot}" if slot else self.owner

    def _settle_singly(
        self, settlements: Sequence[Settlement], destination: str, slot: int
    ) -> None:
        """Write settlements one by one, in plain words where the database refuses its text."""
        if len(settlements) > 1:
            for settled in settlements:
                self.exchange((settled,), destination, 0, slot=slot)
            return
        [settled] = settlements
        plain = _in_plain_words(settled)
        if settled == plain:
            raise StoreError(f"the database refuses to write down what became of {settled.debt.id}")
        log.error("The ledger refused the outcome of debt %d as it was.", settled.debt.id)
        self.exchange((plain,), destination, 0, slot=slot)

    @contextmanager
    def recalled(self, destinations: Iterable[str] | None) -> Iterator[None]:
        """Take back what our workers have claimed for these destinations, None = any, and not
        begun; none of it is claimed meanwhile.

        Raises StoreError. What another gateway has claimed stays there.
        """
        with self.recalls.closed(destinations) as hands:
            begun = [(hand, hand.recall()) for hand in hands]

            def work(transaction: Transaction) -> None:
                for hand, kept in begun:
                    owner = self._owner_of(hand.slot)
                    give_back(self._database, transaction, owner, hand.destination, kept)

            if begun:
                self._writer.transact(work)
            yield

    def renew(self) -> None:
        """Extend the lease of everything that is claimed by us."""
        workers = f"{self.owner}/"
        renew = self._database.sql(_RENEW.format(len(workers)))
        self._writer.transact(
            lambda transaction: transaction.execute(
                renew, (self._time(transaction) + LEASE_S, self.owner, workers)
            )
        )

    def recover(self, *, starting: bool = False) -> int:
        """Give back the debts of gateways that are gone and return how many there were.

        When `starting`, those too that earlier starts in this place have left.
        """
        if starting:
            self._started_at = self.now()
        elif self.shared:
            warn_of_twin(self._database, self._clock, self._started_at)
        return recover_leases(
            self._database,
            self._writer,
            self._clock,
            self.owner,
            shared=self.shared,
            starting=starting,
        )

    def prune(self, age_s: float, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Forget closed debts that were finished longer ago than this; return how many.

        Ends after the page in hand when `is_stopping` says so.
        """
        return prune(self._database, self._writer, self.now() - age_s, is_stopping)

    def _latest(self, now: float) -> float:
        """Return the latest time that a debt can wait for on purpose."""
        return now + self.longest_pause_s + _CLOCK_SLACK_S

    # Inside a transaction.

    def _time(self, transaction: Transaction) -> float:
        return database_time(self._database, self._clock, transaction)

    def _claim(
        self,
        transaction: Transaction,
        destination: str,
        now: float,
        limit: int,
        owner: str,
        priorities: Sequence[int],
    ) -> list[Debt]:
        """Claim the most urgent due debts: one look-up for each priority until there are enough."""
        rows: list[tuple[Any, ...]] = []
        for priority in priorities:
            if len(rows) < limit:
                values = (destination, priority, now, limit - len(rows))
                rows += transaction.execute(self._claim_sql, values).fetchall()
        latest = self._latest(now)
        # What waits in lanes of our own waits as long as a rule says: none of it is owed to a node.
        ours = destination.startswith(_OWN_LANES)
        if len(rows) < limit and latest < math.inf and priorities and not ours:
            beyond = self._claim_beyond_sql.format(", ".join(map(str, map(int, priorities))))
            late = (destination, latest, limit - len(rows))
            rows += transaction.execute(beyond, late).fetchall()
        rows = _without_suspects(rows)
        if destination.startswith(LANE_PREFIX):
            rows = self._equals.apart(transaction, rows, now)
        until = now + LEASE_S
        transaction.executemany(self._lease_sql, [(owner, until, row[0]) for row in rows])
        return [_debt(row) for row in rows]

    def _settle(
        self, transaction: Transaction, settlements: Iterable[Settlement], now: float, owner: str
    ) -> list[str]:
        """Write the settlements; return the spool copies that may have no debt left."""
        closed, retried, returned, deferred, tries = [], [], [], [], []
        gathered: dict[Group, float] = {}
        spool: dict[str, None] = {}
        for settled in settlements:
            debt = settled.debt
            if debt.kind is DebtKind.COMMIT and settled.state is State.STUCK and settled.tried:
                settled = self._pass_on(transaction, settled, now, owner)
            if settled.state is None:
                # Replaced only while it is ours, or a second gateway's result would be doubled.
                gone = transaction.execute(self._replace_sql, (debt.id, owner)).rowcount
                if gone:
                    self._replace(transaction, settled, now)
            elif not settled.tried:
                returned.append((int(settled.doubtful), debt.id, owner))
            elif not settled.counted:
                error = fitting(settled.error, LONGEST_ERROR)
                deferred.append((now + settled.pause_s, error, debt.id, owner))
            else:
                error = fitting(settled.error, LONGEST_ERROR)
                what = (settled.status, error, debt.id, owner)
                outcome = (settled.state.value, settled.status, error, settled.seconds)
                tries.append((debt.id, now, debt.destination, *outcome))
                doubt = int(settled.doubtful)
                if settled.state is State.QUEUED:
                    retried.append((now + settled.pause_s, doubt, *what))
                else:
                    finished = now if settled.state in CLOSED_STATES else None
                    accepted = now if _is_accepted(settled) else None
                    closed.append((settled.state.value, finished, accepted, doubt, *what))
                if settled.state is State.COMMITTING:
                    self._gathering.note(transaction, debt, settled.sent)
                    group = Group(debt.destination, debt.calling, debt.called)
                    gathered.setdefault(group, now + settled.pause_s)
            if debt.ref.device == "SPOOL" and settled.state in (State.DONE, None):
                spool[debt.ref.name] = None
        # First, while the rows still are ours: a try is written once, with its outcome.
        enter_tries(self._database, transaction, tries, owner)
        for statement, rows in (
            (self._close_sql, closed),
            (self._retry_sql, retried),
            (self._return_sql, returned),
            (self._defer_sql, deferred),
        ):
            if rows:
                transaction.executemany(statement, rows)
        for group, due in gathered.items():
            self._gathering.ask(transaction, group, due, now)
        return unowed_copies(self._database, transaction, spool)

    def _pass_on(
        self, transaction: Transaction, settled: Settlement, now: float, owner: str
    ) -> Settlement:
        """Make the deliveries stuck that wait for a debt which cannot be paid; it is over then."""
        debt = settled.debt
        if transaction.execute(self._still_ours_sql, (debt.id, owner)).fetchone() is not None:
            self._gathering.give_up(transaction, debt.id, group_of(debt), settled.error, now)
        return settled._replace(state=State.DONE)

    def _replace(self, transaction: Transaction, settled: Settlement, now: float) -> None:
        """Enter what is owed in the place of a debt whose row is gone; it comes from the same
        object and is as urgent."""
        debt = settled.debt
        if debt.attempts or debt.kind is DebtKind.REQUEST:
            transaction.execute(self._forget_sql, (debt.id,))
        drafts = []
        for draft in settled.drafts:
            origin = draft.provenance or debt.provenance
            if draft.ref is not None:
                # A delayed operation was asked for by another object than it is about.
                origin = provenance_of(self._database, transaction, draft.ref.sop_instance)
            drafts.append(replace(fitting_draft(draft), provenance=origin, priority=debt.priority))
        if drafts:
            self._add_debts(transaction, debt.ref, drafts, now)


def _without_suspects(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the rows before the first that servers died of, or that one alone."""
    for place, row in enumerate(rows):
        if row[-1] is not None and row[-1] <= -SUSPECT_CRASHES:
            return rows[: max(place, 1)]
    return rows


def _in_plain_words(settled: Settlement) -> Settlement:
    """Return the settlement without any text from outside; an object that arrived stays so."""
    if settled.state in (State.DONE, State.COMMITTING):
        return settled._replace(error="the peer's text cannot be written into the ledger")
    what = "its deliveries" if settled.state is None else "what became of it"
    return Settlement(
        settled.debt,
        State.STUCK,
        settled.status,
        f"the database refused to write down {what}; see the log, then `dgate queue retry`",
        doubtful=settled.doubtful,
    )


def _due(destination: str, dues: Sequence[float | None], now: float, latest: float) -> Due:
    """Return what is due for a destination; a due time that no pause explains is given as 0."""
    if not destination.startswith(_OWN_LANES):
        dues = [0.0 if due is not None and due > latest else due for due in dues]
    waiting = [(due, priority) for priority, due in enumerate(dues) if due is not None]
    first = min(waiting)
    priority = next((priority for due, priority in waiting if due <= now), first[1])
    return Due(destination, first[0], priority, tuple(dues))


def _debt(row: tuple[Any, ...]) -> Debt:
    kind = DebtKind.DELIVER if row[1] == DebtKind.DELIVER.value else DebtKind(row[1])
    destination, rule, calling, called, compression, script = row[2:8]
    source, host, received, digest, size, accession = row[18:24]
    return Debt(
        row[0],
        kind,
        destination,
        rule,
        calling,
        called,
        compression,
        script,
        InstanceRef(*row[8:15]),
        row[15],
        row[16],
        row[17],
        Provenance(source or "", host or "", received, digest or "", size, accession or ""),
        row[24],
        row[25] or "",
    )


def _is_accepted(settled: Settlement) -> bool:
    """Tell whether a peer has answered that it has the object."""
    return settled.state in (State.DONE, State.COMMITTING) and settled.debt.kind is DebtKind.DELIVER
