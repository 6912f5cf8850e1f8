"""What is known of a node's lists: how long they get, and which keys of a question it heeds.

A limit is taken to be the same for all questions. So a list is whole that is shorter than one that
has been proven whole; and one is proven by asking for its halves: if both have something, and have
together what the whole had, nothing was cut off (of two halves with more than the limit between
them, a cut one alone would fill the list). Belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dgate.delivery.reconcile.node import Listing
from dgate.delivery.reconcile.parts import Part, is_in_one, seconds_of

_FEW = 3
"""Nobody limits lists to less."""
_LEVELS_REFUSED = 4
"""Times in a row that both halves of a time may be refused before it is given up as a key."""
_ROUND = 50
"""A list whose length is a multiple of this looks cut off, where nothing better is known."""

Ask = Callable[[Part], Listing]
"""Asks the node for a part; raises DgateError."""


class Limits:
    """What has been learned about one node."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.limit: int | None = None
        """So many answers it gives at most."""
        self.finds_no_ranges = False
        """Asked for several days, it did not list a study that it has of one of them."""
        self._proven = 0
        """A list of this length has been proven whole."""
        self._heeds: dict[str, bool] = {}

    def is_reached(self, listing: Listing) -> bool:
        """Tell whether a list is as long as lists get."""
        count = listing.answers.total
        if self.limit is not None and count > self.limit:
            # Then it was none: something came between the two questions that showed it.
            self.limit = None
        return self.is_limit(count)

    def is_limit(self, count: int) -> bool:
        """Tell whether a number of answers is the limit."""
        return self.limit is not None and count == self.limit

    def learn(self, part: Part, listing: Listing) -> None:
        """Take it into account that the node has a study of a part that it did not list."""
        count = listing.answers.total
        if not count and not part.is_day:
            self.finds_no_ranges = True
        elif count >= max(_FEW, self._proven):
            # With fewer it may have got that study between the two questions.
            self.limit = count

    def is_trusted(self, part: Part, listing: Listing) -> bool:
        """Tell whether a list that gives no cause for doubt is whole; asks for its halves."""
        count = listing.answers.total
        if count < _FEW or count < self._proven:
            return True
        if listing.strays:
            # The same came for the halves.
            return count % _ROUND != 0
        proven = self._prove(part, listing)
        if proven:
            self._proven = max(self._proven, count)
        return count % _ROUND != 0 if proven is None else proven

    def _prove(self, part: Part, listing: Listing) -> bool | None:
        """Return whether a list is whole; None where the halves do not tell."""
        found = listing.found.keys()
        while True:
            halves = part.by_days()
            if not halves and self.heeds_time(part, listing):
                halves = part.by_time()
            if not halves:
                return None
            lists = [self._ask(half) for half in halves]
            if any(each.answers.is_cut for each in lists):
                return False
            together = {uid for each in lists for uid in each.found}
            if together - found:
                again = self._ask(part)
                if again.found.keys() == found:
                    self.learn(part, listing)
                return False
            if found - together:
                return None
            if all(each.found for each in lists):
                return True
            part = next(half for half, each in zip(halves, lists, strict=True) if each.found)

    def heeds_time(self, part: Part, listing: Listing) -> bool:
        """Tell whether the node can be asked for a time of a day, by a study that it lists."""
        halves = part.by_time()
        if not halves or "time" in self._heeds:
            return bool(halves) and self._heeds["time"]
        for uid, study in listing.found.items():
            second = seconds_of(study.time)
            if second is not None:
                narrow = replace(part, begin_s=second, end_s=second + 1)
                other = halves[second < halves[1].begin_s]
                return self._try("time", narrow, other, uid)
        return _is_refused(listing) and self._narrows_time(part)

    def heeds_patient(self, part: Part, listing: Listing) -> bool:
        """Tell whether the node can be asked for the beginning of a Patient ID."""
        parts = Part(part.window).by_patient()
        if "patient" in self._heeds:
            return self._heeds["patient"]
        for uid, study in listing.found.items():
            if is_in_one(parts, study.patient_id) and not (set(study.patient_id) & set("*?\\")):
                # Not the whole ID: a node that knows no wildcards may take them off.
                narrow = Part(part.window, prefix=study.patient_id[:1])
                other = Part(part.window, prefix="1" if study.patient_id[0] == "0" else "0")
                return self._try("patient", narrow, other, uid)
        return _is_refused(listing) and self._narrows_patients(parts)

    def _try(self, key: str, narrow: Part, other: Part, uid: str) -> bool:
        """Tell whether a key is heeded: a part that has a study lists it, and one that cannot have
        it lists nothing that does not belong there."""
        listing = self._ask(narrow)
        heeds = not listing.strays and not self._ask(other).strays
        if heeds and uid not in listing.found and listing.answers.is_cut:
            # It may be behind the end of the list, and nothing speaks against it.
            return True
        heeds = heeds and uid in listing.found
        self._heeds[key] = heeds
        return heeds

    def _narrows_time(self, part: Part) -> bool:
        """Tell the same of a day that the node refuses to list: some time of it is listed."""
        refused = 0
        while halves := part.by_time():
            lists = [self._ask(half) for half in halves]
            for each in lists:
                if each.found or each.strays:
                    self._heeds["time"] = not each.strays
                    return self._heeds["time"]
            short = [half for half, each in zip(halves, lists, strict=True) if _is_refused(each)]
            refused = refused + 1 if len(short) == len(halves) else 0
            if refused == _LEVELS_REFUSED:
                self._heeds["time"] = False
                return False
            if not short:
                break
            part = short[0]
        # What there is has one time or none, or the node finds nothing by times.
        return False

    def _narrows_patients(self, parts: list[Part]) -> bool:
        """Tell the same of patients: those of some beginning are listed."""
        while parts:
            short = []
            for part in parts:
                listing = self._ask(part)
                if listing.found or listing.strays:
                    self._heeds["patient"] = not listing.strays
                    return self._heeds["patient"]
                if _is_refused(listing):
                    short.append(part)
            if len(short) == len(parts):
                self._heeds["patient"] = False
                return False
            parts = short[0].by_patient() if short else []
        # It finds nothing by beginnings, or there is nothing to be found.
        return False


def _is_refused(listing: Listing) -> bool:
    """Tell whether the node refused to list anything, so that nothing is known but that there is
    too much."""
    return bool(listing.answers.problem) and not listing.answers.total
