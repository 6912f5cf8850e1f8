"""Comparing this archive with a node, study by study, and saying what either side lacks.

Studies are compared by the number of their objects where the node tells it, and object by object
where the numbers differ, are not told, or that is asked for. Not for asking (`reconcile.node`),
reading our index (`reconcile.archive`) nor for filling gaps (`reconcile.gaps`). A `Comparison`
belongs to one thread; memory does not grow with the archives.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Generator, Iterator

from dgate.delivery.inquiry import plain_uid
from dgate.delivery.reconcile.archive import ArchiveSide, StudyHere
from dgate.delivery.reconcile.node import Answers, NodeSide, ObjectThere, StudyThere
from dgate.delivery.reconcile.values import Mend, Options, SeriesGap, StudyGap, Summary
from dgate.delivery.reconcile.windows import Window, Windows, date_of
from dgate.errors import ConfigError, DgateError, NoContext, Rejected, Unreachable
from dgate.ops.control import Answer

MOST_STUDIES = 5000
"""Answers to one question about dates; a longer span is divided."""
MOST_SERIES = 20_000
MOST_OBJECTS = 200_000
_ROUND = 50
"""An answer whose length is a multiple of this may have been cut off by the node."""
_LEAST_LIMIT = 3
_MOST_FAILURES = 3
"""Studies in a row that cannot be asked about, after which the comparison ends."""
_FINAL = (Unreachable, Rejected, NoContext, ConfigError)
_PROGRESS_EVERY = 25


class Comparison:
    """One comparison of two archives."""

    def __init__(
        self,
        here: ArchiveSide,
        there: NodeSide,
        options: Options,
        mend: Mend,
        today: Callable[[], datetime.date],
    ) -> None:
        self._here = here
        self._there = there
        self._options = options
        self._mend = mend
        self._today = today
        self._summary = Summary(options.node)
        self._failures = 0
        self._limit: int | None = None
        """So many answers the node gives at most, as far as we have noticed."""
        self._warned: set[str] = set()

    def run(self) -> Iterator[Answer]:
        """Compare, and yield `difference`, `warning`, `progress`, and a `summary` at the end.

        Raises:
            DgateError: the node cannot be asked, or the index not be read.
        """
        try:
            if self._options.study:
                yield from self._single(self._options.study)
            else:
                yield from self._all()
        finally:
            self._there.close()
        yield self._summary.as_answer()

    # which studies there are

    def _single(self, uid: str) -> Iterator[Answer]:
        here, there = self._here.study(uid), self._there.study(uid)
        if here is None and there is None:
            raise DgateError(f"neither side has a study {uid}", remedy="see `dgate find`")
        yield from self._compare(here, there)

    def _all(self) -> Iterator[Answer]:
        options = self._options
        today = self._today()
        earliest = date_of(self._here.earliest()) or today
        windows = Windows(date_of(options.since), date_of(options.until), earliest, today)
        for window in windows:
            yield self._progress(window.key)
            yield from self._window(window, windows)
        if not (options.since or options.until):
            yield from self._undated()

    def _window(self, window: Window, windows: Windows) -> Iterator[Answer]:
        """Compare the studies of some days."""
        here: dict[str, StudyHere] = {}
        for study in self._here.between(*window.bounds):
            here[study.uid] = study
            if len(here) > MOST_STUDIES and windows.divide(window):
                return
        there, answers = self._there.studies(window, MOST_STUDIES)
        is_short = self._may_be_cut(answers) or self._lacks_one(window, here, there)
        if is_short and windows.divide(window):
            return
        if len(answers.found) < answers.total:
            yield from self._warn(
                "ranges",
                f"{self._options.node} also answers studies of other dates than those asked for; "
                "they are left out, and the comparison takes longer",
            )
        if is_short:
            yield from self._warn_of_limit(window.key, answers)
        windows.note(max(len(here), len(there)))
        for uid, study in here.items():
            # One that is not listed may have another date there.
            found = there.pop(uid, None) or self._there.study(uid)
            yield from self._compare(study, found)
        for other in there.values():
            own = self._here.study(other.uid)
            if own is None or not windows.covers(own.date):
                yield from self._compare(own, other)

    def _may_be_cut(self, answers: Answers) -> bool:
        """Tell whether an answer may not be all."""
        count = answers.total
        if answers.problem or answers.too_many:
            self._limit = self._limit or (count if answers.problem else None)
            return True
        if len(answers.found) < count:
            # It takes no notice of the dates: fewer days would not make its answer shorter.
            return False
        return count > 0 and (count == self._limit or count % _ROUND == 0)

    def _lacks_one(
        self, window: Window, here: dict[str, StudyHere], there: dict[str, StudyThere]
    ) -> bool:
        """Tell whether the node knows a study of these days that it did not list."""
        missing = next((uid for uid in here if uid not in there), None)
        found = None if missing is None else self._there.study(missing)
        if found is None or not found.date or not window.holds(found.date):
            return False
        if len(there) >= _LEAST_LIMIT:
            # Else it may have got that study between the two questions.
            self._limit = self._limit or len(there)
        return True

    def _undated(self) -> Iterator[Answer]:
        """Compare the studies that have no date on one of the sides."""
        yield self._progress("without a date")
        for study in self._here.undated():
            yield from self._compare(study, self._there.study(study.uid))
        # No query can ask for what has no date: all are listed, and the others left out.
        undated, problem = self._there.undated(MOST_STUDIES)
        if problem:
            yield from self._warn(
                "undated",
                f"{self._options.node} does not list all studies at once: {problem}. Some that "
                "only it has, without a date, may be missing here",
            )
        for there in undated:
            if self._here.study(there.uid) is None:
                yield from self._compare(None, there)

    # one study

    def _compare(self, here: StudyHere | None, there: StudyThere | None) -> Iterator[Answer]:
        summary = self._summary
        summary.studies += 1
        if summary.studies % _PROGRESS_EVERY == 0:
            date = here.date if here is not None else there.date if there is not None else ""
            yield self._progress(date)
        try:
            gap = yield from self._gap(here, there)
            if gap is None:
                summary.equal += 1
                self._failures = 0
                return
            yield from self._differing(gap)
            self._failures = 0
        except _FINAL:
            raise
        except DgateError as exc:
            self._failures += 1
            if self._failures == _MOST_FAILURES:
                raise
            summary.failed += 1
            uid = here.uid if here is not None else there.uid if there is not None else ""
            yield from self._warn(uid, f"study {uid} could not be dealt with: {exc}")

    def _differing(self, gap: StudyGap) -> Iterator[Answer]:
        summary = self._summary
        summary.differing += 1
        summary.only_here += gap.whole == "here"
        summary.only_there += gap.whole == "there"
        summary.missing_there += len(gap.lacking_there)
        summary.missing_here += gap.lacking_here or 0
        answer = gap.as_answer()
        try:
            done = self._mend(gap, self._options)
        except DgateError as exc:
            summary.left += 1
            yield {**answer, "problem": str(exc)}
            raise
        summary.owed += done.get("owed", 0)
        summary.waiting += done.get("waiting", 0)
        summary.came += done.get("came", 0)
        summary.left += bool(done.get("left"))
        yield {**answer, **done}

    def _gap(
        self, here: StudyHere | None, there: StudyThere | None
    ) -> Generator[Answer, None, StudyGap | None]:
        """Return what is missing of a study, None for nothing."""
        counts = {} if here is None else self._here.counts(here)
        total = sum(counts.values())
        if there is None:
            if here is None or not total:
                return None
            gap = _gap_of(here, None, total)
            gap.whole, gap.there = "here", 0
            for key, count in counts.items():
                refs = self._here.objects(here, key)
                gap.series.append(SeriesGap(plain_uid(key), count, 0, refs))
            return gap
        if total and there.objects == total and self._options.level == "study":
            return None
        gap = _gap_of(here, there, total)
        if not total:
            if there.objects == 0:
                return None
            gap.whole = "there"
            if there.objects is not None and not self._options.fetch:
                return gap
        yield from self._descend(gap, here if total else None, counts)
        if gap.there is None:
            gap.there = total - len(gap.lacking_there) + (gap.lacking_here or 0)
        return gap if gap.lacking_there or gap.lacking_here else None

    def _descend(
        self, gap: StudyGap, here: StudyHere | None, counts: dict[str, int]
    ) -> Iterator[Answer]:
        """Compare the series of a study, and the objects of those that differ."""
        listed, answers = self._there.series(gap.study, MOST_SERIES)
        if answers.problem or answers.too_many:
            yield from self._warn(
                f"series {gap.study}",
                f"{gap.study}: {self._options.node} lists only {len(listed)} series: "
                f"{answers.problem or 'there are more'}",
            )
        own = {plain_uid(key): (key, count) for key, count in counts.items()}
        for series in [*own, *(uid for uid in listed if uid not in own)]:
            key, count = own.get(series, (series, 0))
            told = listed.get(series)
            if series in listed and told == count and count and self._options.level != "image":
                continue
            refs = [] if here is None or not count else self._here.objects(here, key)
            objects, is_short = yield from self._objects(gap.study, series, told)
            found = {plain_uid(ref.sop_instance): ref for ref in refs}
            missing = [ref for uid, ref in found.items() if uid not in objects]
            if is_short:
                missing = [
                    ref
                    for ref in missing
                    if not self._there.has_object(gap.study, series, plain_uid(ref.sop_instance))
                ]
            more = [
                each
                for uid, each in objects.items()
                # One that we have in another study or series is not missing.
                if uid not in found and not self._here.has(uid)
            ]
            if missing or more:
                gap.series.append(SeriesGap(series, count, len(objects), missing, more))

    def _objects(
        self, study: str, series: str, told: int | None
    ) -> Generator[Answer, None, tuple[dict[str, ObjectThere], bool]]:
        """Return the objects that the node lists of a series, and whether they may not be all."""
        objects, answers = self._there.objects(study, series, MOST_OBJECTS)
        is_short = bool(answers.problem) or answers.too_many
        if told is None:
            is_short |= len(objects) == self._limit
        else:
            is_short |= len(objects) < told
        if is_short:
            yield from self._warn(
                f"objects {series}",
                f"{self._options.node} lists {len(objects)} of {told or 'the'} objects of series "
                f"{series}: {answers.problem or 'its answer looks cut off'}",
            )
        return objects, is_short

    # telling

    def _progress(self, at: str) -> Answer:
        summary = self._summary
        return {
            "kind": "progress",
            "at": at,
            "studies": summary.studies,
            "differing": summary.differing,
        }

    def _warn(self, key: str, text: str) -> Iterator[Answer]:
        """Say something once."""
        if key not in self._warned:
            # Bounded, as whoever is compared with may give cause for any number.
            if len(self._warned) < MOST_STUDIES:
                self._warned.add(key)
            self._summary.warnings += 1
            yield {"kind": "warning", "text": text}

    def _warn_of_limit(self, dates: str, answers: Answers) -> Iterator[Answer]:
        reason = answers.problem or ("there are more" if answers.too_many else "it looks cut off")
        yield from self._warn(
            f"limit {dates}",
            f"{self._options.node} lists only {answers.total} studies of {dates}: {reason}. "
            "What only it has may be missing here",
        )


def _gap_of(here: StudyHere | None, there: StudyThere | None, total: int) -> StudyGap:
    """Return a study without what is missing of it."""
    return StudyGap(
        here.uid if here is not None else there.uid if there is not None else "",
        (here.patient_id if here is not None else "") or (there.patient_id if there else ""),
        (here.accession if here is not None else "") or (there.accession if there else ""),
        (here.date if here is not None else "") or (there.date if there else ""),
        total,
        None if there is None else there.objects,
    )
