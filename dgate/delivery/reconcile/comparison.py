"""Comparing this archive with a node, study by study, and saying what either side lacks.

Puts together which studies there are (`reconcile.walk`) and what is in each (`reconcile.study`),
and goes on where one study cannot be dealt with. A `Comparison` belongs to one thread; memory does
not grow with the archives, nor with a study.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator

from dgate.delivery.reconcile.archive import ArchiveSide, StudyHere
from dgate.delivery.reconcile.gaps import NODE_GONE, Gaps
from dgate.delivery.reconcile.node import NodeSide, StudyThere
from dgate.delivery.reconcile.study import StudyComparison
from dgate.delivery.reconcile.telling import Telling
from dgate.delivery.reconcile.values import Options
from dgate.delivery.reconcile.walk import Walk
from dgate.errors import DgateError
from dgate.ops.control import Answer

_MOST_FAILURES = 3
"""Studies in a row that cannot be asked about, after which the comparison ends."""
_PROGRESS_EVERY = 25


class Comparison:
    """One comparison of two archives."""

    def __init__(
        self,
        here: ArchiveSide,
        there: NodeSide,
        options: Options,
        gaps: Gaps,
        today: Callable[[], datetime.date],
    ) -> None:
        self._here = here
        self._there = there
        self._options = options
        self._gaps = gaps
        self._today = today
        self._tell = Telling(options.node)
        self._study = StudyComparison(here, there, options, gaps, self._tell)
        self._failures = 0

    def run(self) -> Iterator[Answer]:
        """Compare, and yield `objects`, `difference`, `pending`, `warning`, `uncompared`,
        `residual`, `progress`, and a `summary` at the end.

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
            self._study.close()
        yield self._tell.summary.as_answer()

    def _single(self, uid: str) -> Iterator[Answer]:
        asked = self._gaps.now()
        here, there = self._here.study(uid), self._there.study(uid)
        if here is None and there is None:
            raise DgateError(f"neither side has a study {uid}", remedy="see `dgate find`")
        yield from self._compare(here, there, asked)

    def _all(self) -> Iterator[Answer]:
        walk = Walk(
            self._here,
            self._there,
            self._options,
            self._compare,
            self._tell,
            self._today(),
            self._gaps.now,
        )
        self._study.limits = walk.limits
        yield from walk.run()

    def _compare(
        self, here: StudyHere | None, there: StudyThere | None, asked: float | None
    ) -> Iterator[Answer]:
        """Compare a study; one that cannot be dealt with is told, and the next ones follow."""
        summary = self._tell.summary
        summary.studies += 1
        side = here or there
        assert side is not None
        if summary.studies % _PROGRESS_EVERY == 0:
            yield self._tell.progress(side.date)
        try:
            yield from self._study.compare(here, there, asked)
        except NODE_GONE:
            raise
        except DgateError as exc:
            self._failures += 1
            if self._failures == _MOST_FAILURES:
                raise
            summary.failed += 1
            yield from self._tell.warn(side.uid, f"study {side.uid} could not be dealt with: {exc}")
        else:
            self._failures = 0
