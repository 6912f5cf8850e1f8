"""Finds out what a peer can be told about the objects that it asked us to commit to (PS3.4 J.3).

Each must be in the index, with the SOP class named, and its file whole and durable. That is done
part by part and written down, so that memory does not depend on how many there are, and a report
that has to be made twice within minutes is not worked out twice. Not for associations. Immutable,
used by many threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dgate.archive.export import Exporter
from dgate.archive.records import InstanceRef
from dgate.config.settings import Durability
from dgate.delivery.commitment.messages import (
    ALL_COMMITTED,
    DUPLICATE_TRANSACTION,
    FAILURES_EXIST,
    Finding,
    Reference,
    report_pieces,
)
from dgate.delivery.commitment.requests import Requests, Totals, Waiting
from dgate.disk import sync_folder
from dgate.errors import DatabaseAway, Missing, StoreError
from dgate.net import Status

log = logging.getLogger(__name__)


class Examiner:
    """Finds out which objects are safely stored."""

    def __init__(
        self,
        find: Callable[[str], InstanceRef | None],
        exporter: Exporter,
        accepts: Callable[[str], bool],
        durability: Durability,
        aside: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        """`find` looks into the index, `accepts` tells which SOP classes are taken, `aside` which
        instances came with other content that somebody has to decide about.

        With FULL `durability` files need not be synced any more, since that was done before they
        were acknowledged. With NONE nothing is committed to: a power cut may destroy the index,
        whatever of it is synced now.
        """
        self._aside = aside
        self._find = find
        self._exporter = exporter
        self._accepts = accepts
        self._durability = durability

    def examine(self, references: Sequence[Reference]) -> list[Finding]:
        """Return what can be committed to.

        Raises:
            DatabaseAway: the index cannot be asked.
            StoreError: a folder cannot be read or synced.
        """
        folders: dict[Path, None] = {}
        try:
            undecided = self._aside()
        except OSError as exc:
            what = f"the folder of what was put aside cannot be read: {exc.strerror}"
            raise StoreError(what, where=str(exc.filename or "")) from exc
        findings = []
        for reference in references:
            reason: int | None = Status.PROCESSING_FAILURE
            # Which of its contents the peer means is not known, and one of them may go.
            if reference.sop_instance not in undecided:
                reason = self._reason(reference, folders)
            findings.append(Finding(reference, reason))
        if self._durability is Durability.NONE:
            log.warning(
                "Nothing is committed to with Durability = none, after which a power cut may leave "
                "neither objects nor index; write Durability = full, or index."
            )
        try:
            for folder in folders:
                sync_folder(folder)
        except OSError as exc:
            raise StoreError(f"a folder cannot be synced: {exc.strerror}") from exc
        return findings

    def _reason(self, reference: Reference, folders: dict[Path, None]) -> int | None:
        """Return why an object cannot be committed to."""
        ref = self._find(reference.sop_instance)
        if ref is None:
            known = self._accepts(reference.sop_class)
            return Status.NO_SUCH_SOP_INSTANCE if known else Status.SOP_CLASS_NOT_SUPPORTED
        if ref.sop_class != reference.sop_class:
            return Status.CLASS_INSTANCE_CONFLICT
        try:
            with self._exporter.table(ref) as table:
                if table.truncated:
                    return Status.PROCESSING_FAILURE
            if self._durability is Durability.NONE:
                return Status.PROCESSING_FAILURE
            if self._durability is Durability.INDEX:
                folders.update(dict.fromkeys(self._exporter.sync(ref)))
        except Missing:
            return Status.NO_SUCH_SOP_INSTANCE
        except DatabaseAway:
            raise
        except (StoreError, OSError):
            return Status.PROCESSING_FAILURE
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """A report that can be sent."""

    _waiting: Waiting
    _totals: Totals
    _findings: Callable[[], Iterator[list[Finding]]]

    @property
    def event_type(self) -> int:
        """The event type that fits."""
        return FAILURES_EXIST if self._totals.failed else ALL_COMMITTED

    def pieces(self, retrieve_ae: str, syntax: str) -> Iterator[bytes]:
        """Yield the event information, part by part; `retrieve_ae` is who has the objects.

        Raises:
            StoreError: the request was closed meanwhile, or the database is away. What was yielded
                is no report then.
        """
        sizes = self._totals.sizes
        return report_pieces(self._waiting.uid, self._findings, sizes, retrieve_ae, syntax)

    def __str__(self) -> str:
        """Return what it says, for log and ledger."""
        totals = self._totals
        return f"committed to {totals.committed} object(s), not to {totals.failed}"


class Answers:
    """Works out what peers are told."""

    def __init__(self, requests: Requests, examiner: Examiner) -> None:
        self._requests = requests
        self._examiner = examiner

    def is_ready(self, token: str) -> bool:
        """Tell whether all of it has been found out lately."""
        return not self._requests.stale(token)

    def prepare(
        self, token: str, waiting: Waiting, go_on: Callable[[], bool] = lambda: True
    ) -> bool:
        """Find out what is not known yet; return False when `go_on`, asked between two parts, says
        that it has to be continued later.

        A crash leaves what was found out by then, as far as it does not get too old.

        Raises:
            StoreError: it cannot be found out, or written down.
        """
        stale = self._requests.stale(token)
        for count, part in enumerate(stale, 1):
            references = self._requests.references(token, part)
            if waiting.is_twin:
                findings = [Finding(each, DUPLICATE_TRANSACTION) for each in references]
            else:
                findings = self._examiner.examine(references)
            self._requests.note(token, part, findings)
            if count < len(stale) and not go_on():
                return False
        return True

    def answer(self, token: str, waiting: Waiting) -> Answer | None:
        """Return the report, after `prepare`; None when the peer has been told meanwhile.

        Raises:
            StoreError: it is not known what to tell.
        """
        totals = self._requests.totals(token)
        if totals is None:
            return None
        findings = partial(self._requests.findings, token, waiting.parts)
        return Answer(waiting, totals, findings)
