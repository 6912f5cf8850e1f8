"""Which studies two archives have, span of dates by span of dates, however little a node lists.

A node that does not list all studies of a part is asked for smaller ones: for fewer days, and then
for parts of a day (`reconcile.dividing`). It says so by a status, or only by a list that is shorter
than it should be: a study that it knows is not in it, the list is as long as one that was cut
before, or two lists of the halves have more than the list of the whole. A list that is longer than
any that has been proven so is proven by its halves, so that a limit is noticed whatever it is. What
we have is asked for by name before it is called missing. Not for what a study is made of
(`reconcile.study`). Belongs to one thread; memory does not grow with the archives, but for the
studies of one day.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from dgate.delivery.reconcile.archive import ArchiveSide, StudyHere
from dgate.delivery.reconcile.dividing import Dividing, EnoughAsked
from dgate.delivery.reconcile.gaps import NODE_GONE
from dgate.delivery.reconcile.limits import Limits
from dgate.delivery.reconcile.node import Answers, Listing, NodeSide, StudyThere
from dgate.delivery.reconcile.parts import Part
from dgate.delivery.reconcile.rests import Rests
from dgate.delivery.reconcile.telling import Telling
from dgate.delivery.reconcile.values import Options
from dgate.delivery.reconcile.windows import Windows, date_of
from dgate.errors import PeerError
from dgate.ops.control import Answer

MOST_STUDIES = 5000
"""Answers to one question; a part that has more is divided."""
MOST_QUESTIONS = 2000
"""Questions for lists about one span or day, beyond which its rest is not compared."""
MOST_REFUSALS = 300
"""Questions for lists in a row that the node refuses, after which a span is asked for but once, and
not divided any more, until the node lists something."""
_MOST_EMPTY = 500
"""Spans in a row in which neither side has anything, after which one that the node does not list
whole is divided no further where we have nothing: it lists no ranges of dates."""
_MOST_FAILURES = 3
"""Questions by name that fail, after which a list is not looked at by them any more."""

Compare = Callable[[StudyHere | None, StudyThere | None, float | None], Iterator[Answer]]
"""Compares a study that at least one side has. The third is when the node said that it does not
have it, None where it is to be asked by name."""


class Named(NamedTuple):
    """What a node said about a study that it was asked for by name."""

    there: StudyThere | None
    asked: float
    """When it was asked."""


class Walk:
    """One walk through two archives."""

    def __init__(
        self,
        here: ArchiveSide,
        there: NodeSide,
        options: Options,
        compare: Compare,
        tell: Telling,
        today: datetime.date,
        now: Callable[[], float],
    ) -> None:
        self._here = here
        self._there = there
        self._options = options
        self._compare = compare
        self._tell = tell
        self._now = now
        earliest = date_of(here.earliest()) or today
        self._windows = Windows(date_of(options.since), date_of(options.until), earliest, today)
        self._is_whole = not (options.since or options.until)
        self.limits = Limits(self._list)
        self._rests = Rests(tell)
        self._heeds_dates = True
        """The node does not answer studies of other days, at least when asked for a single one."""
        self._listed = 0
        """Studies with a date that the node listed, in all parts."""
        self._questions = 0
        """Questions for lists of the span that is being compared."""
        self._empty = 0
        """Spans in a row in which neither side has anything."""
        self._refused = 0
        """Questions for lists in a row that the node refused."""
        self._only = f"that only {options.node} has"

    def run(self) -> Iterator[Answer]:
        """Compare all studies of either side.

        Raises:
            DgateError: the node does not answer, or the index cannot be read.
        """
        for window in self._windows:
            yield self._tell.progress(window.key)
            yield from self._span(Part(window))
        if self._is_whole:
            yield from self._undated()
        # At the end: a later span may show what an earlier one may have more of.
        yield from self._rests.tell()

    # parts

    def _list(self, part: Part) -> Listing:
        """Ask the node for the studies of a part; a refusal is an empty list with a problem.

        Raises:
            EnoughAsked: too many questions were put about the span, or refused. The first one of a
                span is always put.
            DgateError: the node does not answer.
        """
        if self._questions >= MOST_QUESTIONS:
            raise EnoughAsked(f"it takes more than {MOST_QUESTIONS} questions")
        if self._questions and self._refused >= MOST_REFUSALS:
            raise EnoughAsked(f"it refused {self._refused} questions in a row")
        self._questions += 1
        listing = self._there.studies(part, MOST_STUDIES)
        self._rests.see_all(listing)
        is_refused = listing.answers.problem and not listing.answers.total
        self._refused = self._refused + 1 if is_refused else 0
        return listing

    def _own(self, part: Part) -> dict[str, StudyHere] | None:
        """Return our studies of a part; None where there are more than fit into memory."""
        found: dict[str, StudyHere] = {}
        for study in self._each_own(part):
            found[study.uid] = study
            if len(found) > MOST_STUDIES:
                return None
        return found

    def _each_own(self, part: Part) -> Iterator[StudyHere]:
        yield from self._here.between(*part.window.bounds)

    def _span(self, part: Part) -> Iterator[Answer]:
        """Compare the studies of some days, or have parts of them come next."""
        self._questions = 0
        here = self._own(part)
        if here is None and self._windows.divide(part.window):
            return
        listing = self._list(part)
        named: dict[str, Named] = {}
        enough = ""
        try:
            is_short = here is None or self._is_short(part, here, listing, named)
        except EnoughAsked as exc:
            is_short, enough = True, str(exc)
        yield from self._judge_keys(listing)
        self._empty = 0 if here != {} or listing.found else self._empty + 1
        if is_short and self._empty > _MOST_EMPTY:
            yield from self._tell.uncompared(
                f"studies {self._only} of days on which this archive has none",
                "it lists no ranges of dates whole, which would take one question for each day",
            )
            return
        if is_short and not enough and self._refused >= MOST_REFUSALS:
            enough = listing.answers.problem
        if is_short and self._heeds_dates and not enough:
            if self._windows.divide(part.window):
                return
            self._heeds_dates = not (part.is_day and listing.strays)
        found = listing.found
        if is_short and not self._heeds_dates:
            yield from self._tell.uncompared(
                f"studies {self._only}",
                f"it takes no notice of dates, and lists only {listing.answers.total}",
            )
        elif is_short and not enough:
            dividing = Dividing(self._list, self.limits, self._rests, self._tell)
            try:
                yield from dividing.gather(part, listing)
            except EnoughAsked as exc:
                enough = str(exc)
            found = dividing.found
        if enough:
            yield from self._tell.uncompared(f"{part.in_words()} {self._only}", enough)
        yield from self._judge_ranges(part, listing)
        self._windows.note(max(len(here or ()), len(found)))
        yield from self._pairs(part, found, named, is_divided=is_short and self._heeds_dates)

    def _is_short(
        self,
        part: Part,
        here: dict[str, StudyHere],
        listing: Listing,
        named: dict[str, Named],
    ) -> bool:
        """Tell whether the node may have more studies of a part than it listed.

        What it says about ours that it did not list is put into `named`.
        """
        if listing.answers.is_cut or self.limits.is_reached(listing):
            return True
        failures = 0
        for uid in here:
            if uid in listing.found:
                continue
            answer = self._ask_by_name(uid)
            if answer is None:
                failures += 1
                if failures == _MOST_FAILURES:
                    break
                continue
            named[uid] = answer
            if _is_of(part, answer.there) and not self._came_since(part, uid):
                self.limits.learn(part, listing)
                return True
        return not self.limits.is_trusted(part, listing)

    def _came_since(self, part: Part, uid: str) -> bool:
        """Tell whether the node lists a study of a day now: it may just have got it."""
        return part.is_day and uid in self._list(part).found

    def _ask_by_name(self, uid: str) -> Named | None:
        """Ask the node for a study by name; None where it says nothing about it."""
        asked = self._now()
        try:
            there = self._there.study(uid)
        except NODE_GONE:
            raise
        except PeerError:
            # Asked once more when the study is compared, which counts and tells the failure.
            return None
        self._rests.see(there)
        return Named(there, asked)

    def _judge_keys(self, listing: Listing) -> Iterator[Answer]:
        """Say so where a node takes no notice of ranges of dates."""
        if listing.strays:
            yield from self._tell.warn(
                "ranges",
                f"{self._options.node} also answers studies of other dates than those asked for; "
                "they are left out, and the comparison takes longer",
            )
        if listing.has_undated and not self._is_whole:
            yield from self._tell.uncompared(
                f"studies without a date {self._only}",
                "it answers them whatever dates are asked for. Leave out --since and --until, and "
                "they are compared",
            )

    def _judge_ranges(self, part: Part, listing: Listing) -> Iterator[Answer]:
        """Say so where a node lists single days but no ranges of them."""
        if part.is_day and listing.found and self.limits.finds_no_ranges:
            yield from self._tell.uncompared(
                f"studies {self._only} of days on which this archive has none",
                "it finds nothing by ranges of dates",
            )

    # pairs

    def _pairs(
        self,
        part: Part,
        found: dict[str, StudyThere],
        named: dict[str, Named],
        *,
        is_divided: bool,
    ) -> Iterator[Answer]:
        """Compare our studies of a part, each once, and those that only the node lists."""
        there = dict(found)
        self._listed += len(there)
        is_short = False
        for study in self._each_own(part):
            other = there.pop(study.uid, None)
            if other is not None:
                yield from self._compare(study, other, None)
                continue
            # One that is not listed may have another date there.
            answer = named.pop(study.uid, None) or self._ask_by_name(study.uid)
            if answer is None:
                yield from self._compare(study, None, None)
                continue
            is_short = is_short or _is_of(part, answer.there)
            yield from self._compare(study, answer.there, answer.asked)
        for other in there.values():
            own = self._here.study(other.uid)
            if own is None or not self._comes_by_itself(own):
                yield from self._compare(own, other, None)
        if is_short and is_divided:
            yield from self._tell.uncompared(
                f"{part.in_words()} {self._only}", "it does not list studies there that it has"
            )

    def _comes_by_itself(self, study: StudyHere) -> bool:
        """Tell whether one of our studies is compared when its own part is."""
        return self._windows.covers(study.date) or (not study.date and self._is_whole)

    def _undated(self) -> Iterator[Answer]:
        """Compare the studies that have no date on one of the sides."""
        yield self._tell.progress("without a date")
        for study in self._here.undated():
            answer = self._ask_by_name(study.uid)
            if answer is None:
                yield from self._compare(study, None, None)
            else:
                yield from self._compare(study, answer.there, answer.asked)
        # No query can ask for what has no date: all are listed, and the others left out.
        answers = Answers()
        found: dict[str, StudyThere] = {}
        with closing(self._there.undated(answers)) as listed:
            for there in listed:
                if len(found) == MOST_STUDIES:
                    answers.problem = f"more than {MOST_STUDIES} have no date"
                    break
                self._rests.see(there)
                found[there.uid] = there
        for there in found.values():
            if self._here.study(there.uid) is None:
                yield from self._compare(None, there, None)
        is_cut = self.limits.is_limit(answers.total) or answers.total - len(found) < self._listed
        if answers.problem or is_cut:
            yield from self._rests.tell_undated(
                f"{self._options.node} does not list all studies at once: "
                f"{answers.problem or f'it lists only {answers.total}'}. "
                "Give --since, and they are left out"
            )


def _is_of(part: Part, study: StudyThere | None) -> bool:
    """Tell whether a study should be in the list of a part; one without a date is in none."""
    return (
        study is not None
        and bool(study.date)
        and part.holds(study.date, study.time, study.patient_id)
    )
