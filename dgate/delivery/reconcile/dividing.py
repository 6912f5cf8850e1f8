"""What a node has of a part that it does not list whole, put together from smaller parts.

By halves of the day's time as long as that helps, then by the beginning of the Patient ID. What
cannot be asked for so is noted (`reconcile.rests`): a study without a time is in no time of the
day, and a patient without an ID, or with a strange one, has no beginning. Not for what we have,
which is asked for by name (`reconcile.walk`). Belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dgate.delivery.reconcile.limits import Limits
from dgate.delivery.reconcile.node import Listing, StudyThere
from dgate.delivery.reconcile.parts import Part
from dgate.delivery.reconcile.rests import Rests
from dgate.delivery.reconcile.telling import Telling
from dgate.ops.control import Answer

MOST_GATHERED = 50_000
"""Studies of a node that are held in memory, some 500 bytes each (`reconcile.node`)."""
_PROGRESS_EVERY = 50


class EnoughAsked(Exception):
    """No more questions are put about a part; the text says why."""


class Dividing:
    """The studies of one part."""

    def __init__(
        self, ask: Callable[[Part], Listing], limits: Limits, rests: Rests, tell: Telling
    ) -> None:
        """`ask` raises EnoughAsked, and errors of the node, which `gather` lets through."""
        self._ask_node = ask
        self._limits = limits
        self._rests = rests
        self._tell = tell
        self._only = f"that only {tell.node} has"
        self._questions = 0
        self._length = 0
        """So long was the list that is not whole; 0 = it was refused."""
        self.found: dict[str, StudyThere] = {}
        """What the node has listed, by UID; also when gathering was ended by an exception."""

    def gather(self, part: Part, listing: Listing) -> Iterator[Answer]:
        """Ask for a part that `listing` does not have whole.

        Raises:
            EnoughAsked: the rest of the part is not compared.
            DgateError: the node does not answer.
        """
        self._length = listing.answers.total
        self.found.update(listing.found)
        rest = part
        if self._limits.heeds_time(part, listing):
            for half in part.by_time():
                yield from self._of_time(half)
            # No question asks for what has no time: it is looked for among the patients.
            rest = part.without_time()
        yield from self._by_patient(rest, part, listing)

    def _ask(self, part: Part) -> Iterator[Answer]:
        """Ask about a part; the list is in `_listing` then."""
        self._questions += 1
        if self._questions % _PROGRESS_EVERY == 0:
            yield self._tell.progress(part.window.key)
        if len(self.found) > MOST_GATHERED:
            raise EnoughAsked(f"it has more than {MOST_GATHERED} studies there")
        self._listing = self._ask_node(part)
        self.found.update(self._listing.found)

    def _of_time(self, part: Part) -> Iterator[Answer]:
        yield from self._ask(part)
        listing = self._listing
        if listing.strays:
            yield from self._tell.uncompared(
                f"{part.in_words()} {self._only}", "it also answers studies of other times"
            )
        elif self._is_short(listing) or not self._limits.is_trusted(part, listing):
            halves = part.by_time()
            for half in halves:
                yield from self._of_time(half)
            if not halves:
                yield from self._by_patient(part, part, listing)

    def _by_patient(self, wanted: Part, part: Part, listing: Listing) -> Iterator[Answer]:
        """Ask for the patients of a part, of which only those of `wanted` count."""
        if not self._limits.heeds_patient(part, listing):
            reason = listing.answers.problem or "it lists only some, which looks cut off"
            count = len(listing.found)
            yield from self._tell.uncompared(
                f"{wanted.in_words()} {self._only}", f"it lists {count} of the part: {reason}"
            )
            return
        for each in wanted.by_patient():
            yield from self._of_patients(each)
        self._rests.leave(wanted)

    def _of_patients(self, part: Part) -> Iterator[Answer]:
        yield from self._ask(part)
        listing = self._listing
        if not self._is_short(listing):
            return
        parts = [] if listing.strays else part.by_patient()
        if not parts:
            yield from self._tell.uncompared(
                f"{part.in_words()} {self._only}",
                f"it lists {listing.answers.total}: {listing.answers.problem or 'not all'}",
            )
        for each in parts:
            yield from self._of_patients(each)

    def _is_short(self, listing: Listing) -> bool:
        """Tell whether a list may have been cut, as one that is as long as that of the whole."""
        is_long = 0 < self._length <= listing.answers.total
        return listing.answers.is_cut or self._limits.is_reached(listing) or is_long
