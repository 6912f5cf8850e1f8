"""What is done about gaps that a comparison found: what is owed already, owing more, fetching.

What the node lacks becomes deliveries of the ledger, in the lane for bulk, unless one is open
already, or what is going to become one; they go out as any other. What we lack is fetched at once.
Works on a page of objects at a time. Any thread may use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgate.archive.batches import batches
from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL, OPEN_STATES
from dgate.archive.index import Index
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.requests import LANE_PREFIX, is_of, request_of
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.config.node_settings import Priority
from dgate.config.nodes import LOWER
from dgate.delivery.inquiry import SERIES, SOP_INSTANCE, STUDY
from dgate.delivery.reconcile.node import ObjectThere
from dgate.errors import ConfigError, DgateError, NoContext, Rejected, Unreachable
from dgate.rules.effects import ObjectScope

RULE = "reconcile"
"""Stands in the place of a rule in the deliveries."""
NAMED_AT_ONCE = 250
"""Objects named in one statement."""
FETCHED_AT_ONCE = 64
"""Objects named in one retrieval."""
NODE_GONE = (Unreachable, Rejected, NoContext, ConfigError)
"""Errors after which the node need not be asked again."""
# The state is looked at outside of the database: with it, SQLite may go through all open debts.
_DEBTS = (
    "SELECT sop_instance, state, kind, destination, finished FROM dgate_debts "
    "WHERE kind IN ('deliver', 'export') AND sop_instance IN "
)
_DELAYED = (
    f"SELECT context, rule, state FROM dgate_debts WHERE {OPEN_SQL} AND kind = 'request' "
    f"AND destination = '{LANE_PREFIX}forward'"
)
_HALTED = ("stuck", "held")
_RANKS = ("stuck", "held", "committing", "done", "leased", "queued")
"""States of debts; of several of an object, that which stands last counts."""

Fetch = Callable[[str, str, Mapping[int, str], Sequence[str]], int]
"""Fetches what keys name from a node: its title, the level, unique keys, the SOP classes to expect
(empty = not known). Returns how many objects came; raises DgateError."""
Leads = Callable[[str, str, str], bool]
"""Tells whether a debt may become a delivery to a node: its kind (`deliver`, `export`), what it has
as its destination (a node, a group, `ExportConverter0`), and the node."""
Delayed = Sequence[tuple[ObjectScope, str]]
"""What delayed operations are going to send, with the states of their debts."""


@dataclass(slots=True)
class Sorted:
    """Objects that a node lacks, by what the ledger says of them."""

    missing: list[InstanceRef] = field(default_factory=list)
    """Nothing is going to send them."""
    waiting: list[InstanceRef] = field(default_factory=list)
    uncommitted: list[InstanceRef] = field(default_factory=list)
    stuck: list[InstanceRef] = field(default_factory=list)

    def add(self, ref: InstanceRef, state: str | None) -> None:
        """Add an object, by the state of what is owed of it."""
        if state is None:
            self.missing.append(ref)
        elif state in _HALTED:
            self.stuck.append(ref)
        elif state == "committing":
            self.uncommitted.append(ref)
        else:
            self.waiting.append(ref)


class Gaps:
    """Looks at gaps, and fills them."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        index: Index,
        clock: Clock,
        wake: Callable[[], None],
        fetch: Fetch | None = None,
        leads: Leads | None = None,
    ) -> None:
        """`fetch` is None where no server runs that could take what comes. Without `leads`, every
        export converter may forward to any node, and there are no groups."""
        self._writer = writer
        self._index = index
        self._clock = clock
        self._wake = wake
        self._fetch = fetch
        self._leads = leads or _leads_by_name
        self._database = database

    def now(self) -> float:
        """Return the time, to be given to `sort` with what is asked of a node from now on: that of
        the database, by which the ledger notes when deliveries end.

        Raises:
            StoreError: the database does not answer.
        """
        if self._database.clock_sql is None:
            return self._clock.now()
        with self._database.reader() as connection:
            return database_time(self._database, self._clock, connection)

    # what the node lacks

    def sort(
        self, node: str, refs: Sequence[InstanceRef], delayed: Delayed, asked: float
    ) -> Sorted:
        """Sort a page of objects by what is owed of them.

        Args:
            delayed: what `delayed` returned for their study.
            asked: when the node was asked: what it got since then is no gap either.

        Raises:
            StoreError: the ledger does not answer.
        """
        with self._database.reader() as connection:
            return self._sorted(connection, node, refs, delayed, asked)

    def owe(self, node: str, refs: Sequence[InstanceRef], delayed: Delayed, asked: float) -> Sorted:
        """Sort a page of objects of one study, and owe the node what is `missing`.

        One transaction, so that nothing is owed twice. A crash leaves those owed whose transaction
        was committed; the next run owes the others.

        Raises:
            StoreError: the ledger does not answer; nothing of the page is owed then.
        """

        def enter(transaction: Transaction) -> Sorted:
            found = self._sorted(transaction, node, refs, delayed, asked)
            drafts = [
                DebtDraft(DebtKind.DELIVER, node, RULE, ref=ref, priority=int(Priority.BULK))
                for ref in found.missing
            ]
            if drafts:
                self._index.add_debts(transaction, found.missing[0], drafts, self._clock.now())
            return found

        found = self._writer.transact(enter)
        if found.missing:
            self._wake()
        return found

    def _sorted(
        self,
        connection: Connection | Transaction,
        node: str,
        refs: Sequence[InstanceRef],
        delayed: Delayed,
        asked: float,
    ) -> Sorted:
        known: dict[str, str] = {}
        for names in batches((ref.sop_instance for ref in refs), NAMED_AT_ONCE):
            marks = ", ".join("?" * len(names))
            statement = self._database.sql(f"{_DEBTS}({marks})")
            for row in connection.execute(statement, names).fetchall():
                self._note_debt(known, row, node, asked)
        found = Sorted()
        for ref in refs:
            for scope, state in delayed:
                if is_of(scope, ref):
                    _note(known, ref.sop_instance, state)
            found.add(ref, known.get(ref.sop_instance))
        return found

    def _note_debt(
        self, known: dict[str, str], row: Sequence[Any], node: str, asked: float
    ) -> None:
        instance, state, kind, destination, finished = row
        is_open = state in OPEN_STATES
        # A delivery that ended while the node was asked may not be in its answer.
        came_since = kind == "deliver" and state == "done" and (finished or 0) >= asked
        if (is_open or came_since) and self._leads(str(kind), str(destination), node):
            _note(known, str(instance), str(state))

    def delayed(self, node: str, ref: InstanceRef) -> Delayed:
        """Return what delayed operations are going to send to a node of the study of an object; not
        those that may leave something out."""
        found = []
        names = {text for text in (ref.study, ref.patient_id) if text}
        # As JSON has them: most requests are of other studies, and need not be read.
        hints = [json.dumps(name.rstrip(" "))[1:-1] for name in names]
        with self._database.reader() as connection:
            rows = connection.execute(_DELAYED).fetchall()
        for context, rule, state in rows:
            if not any(hint in context for hint in hints):
                continue
            try:
                request = request_of(context, rule)
            except ValueError:
                # Its own worker says so.
                continue
            scope = request.scope
            is_whole = not (
                request.split
                or scope.date
                or scope.modality
                or scope.image_type
                or scope.series_description
            )
            if is_whole and self._leads("deliver", request.peer, node):
                found.append((scope, str(state)))
        return found

    # what we lack

    def fetch(
        self,
        node: str,
        study: str,
        series: str,
        wanted: Sequence[ObjectThere] = (),
        classes: Sequence[str] = (),
    ) -> DgateError | None:
        """Fetch objects of a series, all of it without `wanted`; return what went wrong.

        `classes` are the SOP classes to expect of a whole series, empty where that is not known.

        Some may have come nevertheless: the index tells.
        """
        if self._fetch is None:
            return DgateError(
                "objects can be fetched by a running server only", remedy="`dgate serve`"
            )
        keys = {STUDY: study, SERIES: series}
        if not wanted:
            return self._fetched(node, "SERIES", keys, classes)
        problem: DgateError | None = None
        for batch in batches(wanted, FETCHED_AT_ONCE):
            named = {**keys, SOP_INSTANCE: "\\".join(one.sop_instance for one in batch)}
            of_batch = dict.fromkeys(one.sop_class for one in batch)
            known = list(of_batch) if all(of_batch) else []
            problem = self._fetched(node, "IMAGE", named, known) or problem
            if isinstance(problem, NODE_GONE):
                break
        return problem

    def _fetched(
        self, node: str, level: str, keys: Mapping[int, str], classes: Sequence[str]
    ) -> DgateError | None:
        assert self._fetch is not None
        try:
            self._fetch(node, level, keys, classes)
        except DgateError as exc:
            # Some of it may have come, and the rest of the study may come all the same.
            return exc
        return None


def is_same(one: str, other: str) -> bool:
    """Tell whether two titles mean the same node (`dgate.config.nodes.NodeMap.find`)."""
    return one.rstrip().translate(LOWER) == other.rstrip().translate(LOWER)


def _leads_by_name(kind: str, destination: str, node: str) -> bool:
    return kind == "export" or is_same(destination, node)


def _note(known: dict[str, str], instance: str, state: str) -> None:
    """Note the state of a debt; of several, one that goes on by itself counts."""
    if instance not in known or _RANKS.index(state) > _RANKS.index(known[instance]):
        known[instance] = state
