"""Ends quiet times early by what the modality has said (`ExpectCounts = mpps`).

A study is complete when every performed procedure step that is known of it has ended, and every
object that these name is stored. Objects are told by their UIDs: others may be there, too. Not for
how steps become known (`dgate.services.performed_steps`). Used by the one thread that looks at what
waits (`dgate.delivery.expected`).
"""

from __future__ import annotations

from collections import OrderedDict

from dgate.archive.batches import batches
from dgate.archive.steps import AT_ONCE, Ends, Steps
from dgate.config.node_settings import Expect, NodeTable
from dgate.delivery.expected_sources import Waiting
from dgate.delivery.inquiry import plain_uid
from dgate.rules.effects import ObjectScope

_MOST_REMEMBERED = 10_000


class Lacking:
    """Remembers of requests that are not complete one object that was not there, since nobody needs
    to look at the others before it comes, or that the steps do not tell.

    It holds the 10,000 requests that were looked at last; where more wait, all steps of the others
    are looked at each time.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Waiting, tuple[int, str]] = OrderedDict()

    def of(self, waiting: Waiting, ends: Ends) -> str | None:
        """Return what was noted when the steps were as they are; None = nothing."""
        known = self._known.get(waiting)
        return known[1] if known is not None and known[0] == hash(ends) else None

    def note(self, waiting: Waiting, ends: Ends, uid: str) -> None:
        """Remember an object that lacks; an empty UID means that the steps do not tell."""
        # Of a hundred steps only the hash: there are many requests.
        self._known[waiting] = hash(ends), uid
        self._known.move_to_end(waiting)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, waiting: Waiting) -> None:
        """Let go of a request that is complete."""
        self._known.pop(waiting, None)


class PerformedSteps:
    """Knows of studies whether all is there, for nodes whose section says `ExpectCounts = mpps`
    (`dgate.delivery.expected_sources.Witness`)."""

    def __init__(self, peers: NodeTable, steps: Steps, lacking: Lacking) -> None:
        """`lacking` outlives the settings."""
        self._peers = peers
        self._steps = steps
        self._lacking = lacking

    def concerns(self, source: str, scope: ObjectScope) -> bool:
        """Tell whether steps count for what a node sends us; of a patient nobody knows how many
        studies there will be."""
        return bool(scope.study) and self._peers.of(source).expect_counts is Expect.STEPS

    def is_complete(self, waiting: Waiting) -> bool | None:
        """Tell whether all is there that steps have named; None where none says what there will be.

        Raises:
            StoreError: the database does not answer, or a step cannot be read.
        """
        ends = self._steps.ends(plain_uid(waiting.scope.study))
        if not ends:
            return None
        known = self._lacking.of(waiting, ends)
        if known == "":
            return None
        if known and not self._steps.stored([known]):
            return False
        lacking = self._first_lacking(waiting, ends)
        if lacking == "":
            self._lacking.forget(waiting)
            return True
        self._lacking.note(waiting, ends, lacking or "")
        return None if lacking is None else False

    def _first_lacking(self, waiting: Waiting, ends: Ends) -> str | None:
        """Return an object that is not stored, empty when all are; None where the steps do not tell
        what there will be.

        Step by step, as each may name thousands.
        """
        # What comes later and is named by nobody, such as the results of a workstation, is not what
        # the steps have told of.
        is_told = waiting.created <= ends.last
        first, series = plain_uid(waiting.sop_instance), plain_uid(waiting.scope.series)
        lacking: str | None = None
        for uid, _ in ends.steps:
            step = self._steps.find(uid)
            # It may have left the database by now.
            named = [] if step is None else step.objects(series)
            is_told = is_told or first in named
            if named and not lacking:
                lacking = self._lacking_of(named)
            if lacking and is_told:
                break
        return lacking if is_told else None

    def _lacking_of(self, named: list[str]) -> str:
        """Return an object that is not stored, empty when all are.

        From the end, as what is named last comes last as a rule.
        """
        for batch in batches(named[::-1], AT_ONCE):
            stored = self._steps.stored(batch)
            for uid in batch:
                if uid not in stored:
                    return uid
        return ""
