"""One study compared: by the number of its objects, where that does not do by series and objects.

What a study differs in is told by pages of objects (`objects`), and at its end in one answer
(`difference`, or `pending` where all that is missing is on its way). What is to be done about it is
done page by page, too, so that memory grows neither with a study nor with its series
(`reconcile.sheet`). Not for which studies there are (`reconcile.walk`). Belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

from dgate.archive.records import InstanceRef
from dgate.delivery.inquiry import plain_uid
from dgate.delivery.reconcile.archive import ArchiveSide, StudyHere
from dgate.delivery.reconcile.gaps import NODE_GONE, Delayed, Gaps, Sorted
from dgate.delivery.reconcile.limits import Limits
from dgate.delivery.reconcile.naming import ByName
from dgate.delivery.reconcile.node import Answers, NodeSide, ObjectThere, StudyThere
from dgate.delivery.reconcile.sheet import SeriesRow, Sheet
from dgate.delivery.reconcile.telling import Telling
from dgate.delivery.reconcile.values import ObjectsGap, Options, SeriesGap, StudyGap
from dgate.errors import DgateError
from dgate.ops.control import Answer

MOST_SERIES = 500_000
MOST_OBJECTS = 2_000_000
"""Answers to one question that are taken; they are kept in a file, not in memory."""
_MOST_CLASSES = 100


class StudyComparison:
    """Compares one study after the other."""

    def __init__(
        self, here: ArchiveSide, there: NodeSide, options: Options, gaps: Gaps, tell: Telling
    ) -> None:
        self._here = here
        self._there = there
        self._options = options
        self._gaps = gaps
        self._tell = tell
        self._sheet = Sheet()
        self._by_name = ByName(there)
        self._delayed: Delayed | None = None
        self._problem: DgateError | None = None
        self._is_gone = False
        """The node cannot be fetched from any more, for this study."""
        self.limits: Limits | None = None
        """What has been noticed about the lengths of the node's lists."""
        self._asked = 0.0
        """When what is known of the node was asked for."""

    def close(self) -> None:
        """Let temporary data go; safe to call twice."""
        self._sheet.close()

    def compare(
        self, here: StudyHere | None, there: StudyThere | None, asked: float | None
    ) -> Iterator[Answer]:
        """Compare a study that at least one side has, and fill its gaps as far as asked for.

        Args:
            asked: when the node said that it does not have the study; None = it is asked by name
                if `there` is None.

        Raises:
            DgateError: the node does not answer as it must, the index or the ledger does not, or
                nothing could be fetched. What was told and done before stands.
        """
        summary = self._tell.summary
        if here is not None and there is None and asked is None:
            asked = self._gaps.now()
            there = self._there.study(here.uid)
        # What is delivered from then on is no gap.
        self._asked = self._gaps.now() if asked is None else asked
        total = 0 if here is None else self._here.total(here)
        if there is None and not total:
            summary.equal += 1
            return
        counts_do = self._options.level == "study"
        if there is not None and there.objects == total and (counts_do or not total):
            summary.equal += 1
            return
        gap = _gap_of(here, there, total)
        self._delayed, self._problem, self._is_gone = None, None, False
        if gap.only == "there" and gap.there is not None and not self._options.fetch:
            gap.missing_here, gap.left = gap.there, gap.there
        else:
            try:
                yield from self._descend(gap, here if total else None, there)
            except BaseException:
                # What was owed and fetched until now was.
                if gap.lacking_there or gap.missing_here:
                    gap.left += 1
                    summary.add(gap)
                raise
        if gap.there is None:
            gap.there = total - gap.lacking_there + gap.missing_here
        if not (gap.lacking_there or gap.missing_here):
            summary.equal += 1
            return
        summary.add(gap)
        answer = gap.as_answer()
        if self._problem is not None:
            yield {**answer, "problem": str(self._problem)}
            if not gap.came:
                raise self._problem
            return
        yield answer

    def _descend(
        self, gap: StudyGap, here: StudyHere | None, there: StudyThere | None
    ) -> Iterator[Answer]:
        """Compare the series of a study, and the objects of those that differ."""
        sheet, answers = self._sheet, Answers()
        sheet.clear()
        if here is not None:
            sheet.add_own_series(self._here.series(here))
        if there is not None:
            sheet.add_their_series(self._there.each_series(gap.study, answers, MOST_SERIES))
        told, in_series = None if there is None else there.objects, sheet.told()
        if told is None or in_series is None or told < in_series or answers.too_many:
            # A number that is too small is none.
            is_cut = answers.is_cut or self._is_at_limit(answers)
        else:
            is_cut = in_series < told
        if is_cut:
            yield from self._tell.uncompared(
                f"series of study {gap.study} that only {self._tell.node} has",
                f"it lists {answers.total}: {answers.problem or 'there may be more'}",
            )
        for row in sheet.series():
            whole = row.is_listed and row.told == row.here and row.here
            if whole and self._options.level != "object":
                continue
            yield from self._series(gap, here, row, is_there=there is not None)

    def _series(
        self, gap: StudyGap, here: StudyHere | None, row: SeriesRow, *, is_there: bool
    ) -> Iterator[Answer]:
        sheet, answers = self._sheet, Answers()
        sheet.clear_objects()
        if here is not None and row.here:
            sheet.add_own(self._here.objects(here, row.key))
        if is_there:
            self._asked = self._gaps.now()
            sheet.add_theirs(self._there.each_object(gap.study, row.uid, answers, MOST_OBJECTS))
        listed = sheet.listed() if is_there else 0
        series = SeriesGap(row.uid, row.here, listed)
        unlisted = 0
        is_sure = not is_there or (not answers.is_cut and _is_told_whole(row, listed))
        for refs in sheet.missing_there():
            absent = refs
            if not is_sure:
                self._by_name.learn(gap.study, row.uid, sheet.some_listed())
                absent = self._by_name.absent(gap.study, row.uid, refs)
                unlisted += len(refs) - len(absent)
            if absent:
                yield from self._lacking(gap, series, absent)
        yield from self._judge_list(gap, row, answers, listed, unlisted)
        yield from self._extra(gap, series)
        series.there = listed + unlisted
        if series.missing_there or series.missing_here:
            gap.note_series(series)

    def _judge_list(
        self, gap: StudyGap, row: SeriesRow, answers: Answers, listed: int, unlisted: int
    ) -> Iterator[Answer]:
        """Say so where there may be objects that the node did not list, and that we do not have."""
        count = listed + unlisted
        if row.told == count and not answers.too_many:
            return
        at_limit = self._is_at_limit(answers)
        if answers.is_cut or unlisted or at_limit or (row.told or 0) > count:
            total = "the" if row.told is None else str(row.told)
            yield from self._tell.uncompared(
                f"objects of series {row.uid} of study {gap.study} that only {self._tell.node} has",
                f"it lists {listed} of {total} objects"
                + (f": {answers.problem}" if answers.problem else ""),
            )

    def _is_at_limit(self, answers: Answers) -> bool:
        """Tell whether a list is as long as the node's lists get, as far as that is known."""
        return self.limits is not None and self.limits.is_limit(answers.total)

    # what the node lacks

    def _lacking(
        self, gap: StudyGap, series: SeriesGap, refs: list[InstanceRef]
    ) -> Iterator[Answer]:
        """Deal with a page of objects that the node lacks."""
        node = self._options.node
        if self._delayed is None:
            self._delayed = self._gaps.delayed(node, refs[0])
        act = self._gaps.owe if self._options.send else self._gaps.sort
        found: Sorted = act(node, refs, self._delayed, self._asked)
        gap.missing_there += len(found.missing)
        gap.waiting += len(found.waiting)
        gap.uncommitted += len(found.uncommitted)
        gap.stuck += len(found.stuck)
        gap.left += len(found.stuck)
        if self._options.send:
            gap.owed += len(found.missing)
        else:
            gap.left += len(found.missing)
        series.missing_there += len(refs)
        yield ObjectsGap(
            gap.study,
            series.series,
            missing_there=_uids(found.missing),
            waiting=_uids(found.waiting),
            uncommitted=_uids(found.uncommitted),
            stuck=_uids(found.stuck),
        ).as_answer()

    # what we lack

    def _extra(self, gap: StudyGap, series: SeriesGap) -> Iterator[Answer]:
        """Deal with the objects of a series that only the node has."""
        classes: dict[str, None] = {}
        for page in self._sheet.missing_here():
            wanted = self._lacked(page)
            if not wanted:
                continue
            series.missing_here += len(wanted)
            gap.missing_here += len(wanted)
            if len(classes) < _MOST_CLASSES:
                classes.update(dict.fromkeys(each.sop_class for each in wanted))
            uids = [each.sop_instance for each in wanted]
            yield ObjectsGap(gap.study, series.series, missing_here=uids).as_answer()
            if self._options.fetch and series.here:
                self._fetch(gap, series, wanted)
            elif not self._options.fetch:
                gap.left += len(wanted)
        if self._options.fetch and series.missing_here and not series.here:
            # All of it at once; what we have of it elsewhere comes with it.
            known = list(classes) if all(classes) and len(classes) < _MOST_CLASSES else []
            self._fetch(gap, series, (), known)

    def _lacked(self, page: list[ObjectThere]) -> list[ObjectThere]:
        """Return the objects of a page that we have nowhere: one that we have in another study or
        series is not missing."""
        known = self._here.known([each.sop_instance for each in page])
        return [each for each in page if each.sop_instance not in known]

    def _fetch(
        self,
        gap: StudyGap,
        series: SeriesGap,
        wanted: list[ObjectThere] | tuple[()],
        classes: list[str] | tuple[()] = (),
    ) -> None:
        """Fetch objects, or a whole series, and count what came."""
        if not self._is_gone:
            problem = self._gaps.fetch(
                self._options.node, gap.study, series.series, wanted, classes
            )
            self._problem = problem or self._problem
            self._is_gone = isinstance(problem, NODE_GONE)
        if wanted:
            number, left = len(wanted), len(self._lacked(list(wanted)))
        else:
            number = series.missing_here
            left = sum(len(self._lacked(page)) for page in self._sheet.missing_here())
        gap.came += max(0, number - left)
        gap.left += left


def _is_told_whole(row: SeriesRow, listed: int) -> bool:
    """Tell whether a list of objects that the node ended by itself is all that it has: by the
    number that it says, or because it knows nothing of the series at all. A number that is smaller
    than the list is wrong, and proves nothing of the list."""
    if row.told is not None:
        return row.told == listed
    return not (listed or row.is_listed)


def _uids(refs: list[InstanceRef]) -> list[str]:
    return [plain_uid(ref.sop_instance) for ref in refs]


def _gap_of(here: StudyHere | None, there: StudyThere | None, total: int) -> StudyGap:
    """Return a study without what is missing of it."""
    sides = [side for side in (here, there) if side is not None]
    return StudyGap(
        sides[0].uid,
        next((side.patient_id for side in sides if side.patient_id), ""),
        next((side.accession for side in sides if side.accession), ""),
        next((side.date for side in sides if side.date), ""),
        total,
        0 if there is None else there.objects,
        "here" if there is None else "" if total else "there",
    )
