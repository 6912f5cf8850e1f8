"""Filling the gaps that a comparison found: deliveries that are owed, objects that are fetched.

What the node lacks becomes deliveries of the ledger, in the lane for bulk, unless one is open
already, or what is going to become one; they go out as any other. What we lack is fetched at once.
Any thread may use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.index import Index
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.requests import LANE_PREFIX, is_of, request_of
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.node_settings import Lane
from dgate.delivery.inquiry import SERIES, SOP_INSTANCE, STUDY
from dgate.delivery.reconcile.archive import ArchiveSide
from dgate.delivery.reconcile.values import Options, SeriesGap, StudyGap
from dgate.errors import DgateError
from dgate.rules.effects import ObjectScope

RULE = "reconcile"
"""Stands in the place of a rule in the deliveries."""
AT_ONCE = 500
"""Deliveries entered in one transaction: intake shares them."""
FETCHED_AT_ONCE = 64
"""Objects named in one retrieval."""
_WAITING = (
    "SELECT sop_instance, state, kind, destination FROM dgate_debts "
    f"WHERE {OPEN_SQL} AND kind IN ('deliver', 'export') AND study = ?"
)
_DELAYED = (
    f"SELECT context, rule, state FROM dgate_debts WHERE {OPEN_SQL} AND kind = 'request' "
    f"AND destination = '{LANE_PREFIX}forward'"
)
_HALTED = ("stuck", "held")

Fetch = Callable[[str, str, Mapping[int, str], Sequence[str]], int]
"""Fetches what keys name from a node: its title, the level, unique keys, the SOP classes to expect
(empty = not known). Returns how many objects came; raises DgateError."""


class Gaps:
    """Fills gaps."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        index: Index,
        here: ArchiveSide,
        clock: Clock,
        wake: Callable[[], None],
        fetch: Fetch | None = None,
    ) -> None:
        """`fetch` is None where no server runs that could take what comes."""
        self._writer = writer
        self._index = index
        self._here = here
        self._clock = clock
        self._wake = wake
        self._fetch = fetch
        self._database = database
        self._waiting = database.sql(_WAITING)

    def mend(self, gap: StudyGap, options: Options) -> dict[str, int]:
        """Fill the gaps of a study as far as asked for; see `reconcile.values.Mend`.

        Raises:
            StoreError: the ledger does not answer; nothing of this study may be owed then.
            PeerError, ConfigError, RuleError: objects could not be fetched.
        """
        done = {"owed": 0, "waiting": 0, "came": 0, "left": 0}
        lacking = gap.lacking_there
        if options.send and lacking:
            done["owed"], done["waiting"], done["left"] = self.owe(options.node, lacking)
        elif lacking:
            done["left"] = len(lacking)
        if options.fetch and gap.lacking_here:
            done["came"], left = self.fill(options.node, gap)
            done["left"] += left
        elif gap.lacking_here is None or gap.lacking_here:
            done["left"] += gap.lacking_here or 1
        return done

    def owe(self, node: str, refs: Sequence[InstanceRef]) -> tuple[int, int, int]:
        """Owe a node objects of one study; return how many now, how many already, and how many of
        these wait for somebody to decide.

        A crash leaves those owed whose transaction was committed; the next run owes the others.
        """
        owed = waiting = stopped = 0
        delayed = self._delayed(node, refs)
        for start in range(0, len(refs), AT_ONCE):
            batch = refs[start : start + AT_ONCE]

            def enter(
                transaction: Transaction, batch: Sequence[InstanceRef] = batch
            ) -> tuple[int, int, int]:
                rows = transaction.execute(self._waiting, (batch[0].study,)).fetchall()
                known = _known(rows, node)
                for ref in batch:
                    for scope, state in delayed:
                        if is_of(scope, ref):
                            _note(known, ref.sop_instance, state)
                states = [known[ref.sop_instance] for ref in batch if ref.sop_instance in known]
                halted = sum(state in _HALTED for state in states)
                wanted = [ref for ref in batch if ref.sop_instance not in known]
                drafts = [
                    DebtDraft(DebtKind.DELIVER, node, RULE, ref=ref, priority=int(Lane.BULK))
                    for ref in wanted
                ]
                if drafts:
                    self._index.add_debts(transaction, batch[0], drafts, self._clock.now())
                return len(wanted), len(states) - halted, halted

            entered, going, halted = self._writer.transact(enter)
            owed, waiting, stopped = owed + entered, waiting + going, stopped + halted
        if owed:
            self._wake()
        return owed, waiting, stopped

    def _delayed(self, node: str, refs: Sequence[InstanceRef]) -> list[tuple[ObjectScope, str]]:
        """Return what delayed operations are going to send to a node of what these belong to, with
        the states of their debts; not those that may leave something out."""
        found = []
        names = {text for ref in refs[:1] for text in (ref.study, ref.patient_id) if text}
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
            if is_whole and _is_same(request.peer, node):
                found.append((scope, str(state)))
        return found

    def fill(self, node: str, gap: StudyGap) -> tuple[int, int]:
        """Fetch what we lack of a study; return how many objects came, and how many did not.

        Raises:
            PeerError, ConfigError, RuleError: nothing at all came of a part.
        """
        if self._fetch is None:
            raise DgateError(
                "objects can be fetched by a running server only", remedy="`dgate serve`"
            )
        wanted = [found.sop_instance for each in gap.series for found in each.missing_here]
        problem: DgateError | None = None
        came = 0
        for level, keys, classes in _retrievals(gap):
            try:
                came += self._fetch(node, level, keys, classes)
            except DgateError as exc:
                # Some of it may have come, and the rest of the study may come all the same.
                problem = exc
        left = sum(not self._here.has(uid) for uid in wanted)
        if problem is not None and left == len(wanted):
            raise problem
        return len(wanted) - left if wanted else came, left


def _is_same(one: str, other: str) -> bool:
    """Tell whether two titles mean the same node (`dgate.config.nodes.NodeMap.find`)."""
    return one.rstrip().lower() == other.rstrip().lower()


def _known(rows: Sequence[Sequence[Any]], node: str) -> dict[str, str]:
    """Return the states of what is owed to a node, by SOP instance."""
    known: dict[str, str] = {}
    for instance, state, kind, destination in rows:
        if kind == "deliver" and _is_same(destination, node):
            _note(known, instance, state)
        elif kind == "export" and state not in _HALTED:
            # Where to is known when its converter has run: soon, and the next comparison sees it.
            _note(known, instance, state)
    return known


def _note(known: dict[str, str], instance: str, state: str) -> None:
    """Note the state of a debt; of several, one that goes on by itself counts."""
    if known.get(instance, "stuck") in _HALTED:
        known[instance] = state


def _retrievals(gap: StudyGap) -> list[tuple[str, dict[int, str], list[str]]]:
    """Return what to ask for: the study where we have nothing of it, else series or objects."""
    if gap.whole == "there":
        classes = _classes(gap.series)
        return [("STUDY", {STUDY: gap.study}, classes)]
    found = []
    for each in gap.series:
        keys = {STUDY: gap.study, SERIES: each.series}
        if each.missing_here and not each.here:
            found.append(("SERIES", keys, _classes([each])))
            continue
        for start in range(0, len(each.missing_here), FETCHED_AT_ONCE):
            batch = each.missing_here[start : start + FETCHED_AT_ONCE]
            uids = "\\".join(one.sop_instance for one in batch)
            found.append(("IMAGE", {**keys, SOP_INSTANCE: uids}, _classes([each])))
    return found


def _classes(series: Sequence[SeriesGap]) -> list[str]:
    """Return the SOP classes of what is missing, none where the node does not say all of them."""
    classes = dict.fromkeys(one.sop_class for each in series for one in each.missing_here)
    return list(classes) if all(classes) else []
