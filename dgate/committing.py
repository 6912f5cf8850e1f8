"""How storage commitment is put together, in both roles; part of the composition root.

Nothing of it has a state of its own: what is asked and owed is in the database. See
`dgate.delivery.commitment.messages` for its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dgate.archive.aside import Aside
from dgate.archive.export import Exporter
from dgate.archive.records import DebtKind, InstanceRef
from dgate.config.settings import Configuration
from dgate.delivery.commitment.asking import Asker, EventReports
from dgate.delivery.commitment.examining import Answers, Examiner
from dgate.delivery.commitment.keeper import Keeper, Wishes
from dgate.delivery.commitment.ledger import Commitments
from dgate.delivery.commitment.reporting import Reporter
from dgate.delivery.commitment.requests import Requests
from dgate.delivery.errands import Errands
from dgate.delivery.schedule import RetryPolicy
from dgate.dicom.payload import Payload
from dgate.dicom.uids import STORAGE_COMMITMENT
from dgate.foundation import Foundation
from dgate.net import CommandField, Handler
from dgate.services.commitment import CommitmentService


@dataclass(frozen=True, slots=True)
class Commitment:
    """Storage commitment under one configuration."""

    service: CommitmentService
    errands: Errands
    """What the workers of the dispatcher do for it."""

    @classmethod
    def build(
        cls,
        configuration: Configuration,
        foundation: Foundation,
        find: Callable[[str], InstanceRef | None],
        exporter: Exporter,
        admit: Callable[[], None],
    ) -> Commitment:
        """Put it together; `find` looks objects up in the index, `admit` raises OutOfSpace where
        the disk of the database has to keep what is free."""
        settings, nodes = configuration.settings, configuration.nodes
        listed = configuration.sop_list.abstract

        def accepts(sop_class: str) -> bool:
            anything = listed is None or settings.accept_unknown_sop_classes
            return anything or sop_class in (listed or ())

        commitments = _commitments(foundation)
        requests = _requests(foundation)
        aside = Aside.below(settings.base_folder)
        examiner = Examiner(find, exporter, accepts, settings.durability, aside.instances)
        answers = Answers(requests, examiner)
        reports = EventReports(commitments, RetryPolicy.of(settings))
        errands: Errands = {
            DebtKind.COMMIT: Asker(commitments, reports, settings, nodes).ask,
            DebtKind.REPORT: Reporter(requests, answers, settings, nodes).report,
        }
        service = CommitmentService(
            requests, answers, reports, nodes.names, admit, settings.temp_dir
        )
        return cls(service, errands)

    def handlers(self) -> dict[tuple[CommandField, str], Handler]:
        """Return what answers peers."""
        return {
            (CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): self.service.action,
            (CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): self.service.event,
        }

    def payloads(self) -> dict[tuple[int, str], Callable[[], Payload]]:
        """Return where what peers send goes until it has been read."""
        return {(CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): self.service.payload}


def keeper(foundation: Foundation, configuration: Callable[[], Configuration]) -> Keeper:
    """Return the background worker that looks after the books."""

    def wishes() -> Wishes:
        now = configuration()
        peers, nodes = now.settings.peers, now.nodes
        return Wishes(lambda node: peers.of(node).commit, nodes.names, now.settings.ledger_days)

    return Keeper(_commitments(foundation), _requests(foundation), wishes)


def _commitments(foundation: Foundation) -> Commitments:
    return Commitments(
        foundation.database,
        foundation.writer,
        foundation.clock,
        foundation.first_devices.spool.remove,
        foundation.wake,
    )


def _requests(foundation: Foundation) -> Requests:
    return Requests(foundation.database, foundation.writer, foundation.clock, foundation.wake)
