"""Filling the gaps that a comparison found: deliveries that are owed, objects that are fetched.

What the node lacks becomes deliveries of the ledger, in the lane for bulk, unless one is open
already; they go out as any other. What we lack is fetched at once. Any thread may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dgate.archive.database import Database
from dgate.archive.debttable import OPEN_SQL
from dgate.archive.index import Index
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.node_settings import Lane
from dgate.delivery.inquiry import SERIES, SOP_INSTANCE, STUDY
from dgate.delivery.reconcile.archive import ArchiveSide
from dgate.delivery.reconcile.values import Options, SeriesGap, StudyGap
from dgate.errors import DgateError

RULE = "reconcile"
"""Stands in the place of a rule in the deliveries."""
AT_ONCE = 500
"""Deliveries entered in one transaction: intake shares them."""
FETCHED_AT_ONCE = 64
"""Objects named in one retrieval."""
_WAITING = (
    "SELECT sop_instance, state FROM dgate_debts "
    f"WHERE {OPEN_SQL} AND kind = 'deliver' AND destination = ? AND study = ?"
)

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
        for start in range(0, len(refs), AT_ONCE):
            batch = refs[start : start + AT_ONCE]

            def enter(
                transaction: Transaction, batch: Sequence[InstanceRef] = batch
            ) -> tuple[int, int, int]:
                rows = transaction.execute(self._waiting, (node, batch[0].study)).fetchall()
                known = {row[0]: row[1] for row in rows}
                states = [known[ref.sop_instance] for ref in batch if ref.sop_instance in known]
                halted = sum(state in ("stuck", "held") for state in states)
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
