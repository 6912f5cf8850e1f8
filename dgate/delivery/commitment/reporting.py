"""Tells peers what we commit to, on an association that we open for it (PS3.4 J.3.3).

Works off the debts of kind `report`, in the workers of their lanes, which see to pauses and further
tries. A report on the peer's own association is `dgate.services.commitment`. Immutable, used by
many threads.
"""

from __future__ import annotations

import logging

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.commitment.messages import (
    SYNTAXES,
    Report,
    Request,
    fate_of_answer,
    report_data,
)
from dgate.delivery.commitment.requests import Examiner, Requests
from dgate.delivery.destination import resolve
from dgate.delivery.errands import Done, Leash
from dgate.delivery.failures import Fate
from dgate.delivery.line import timeouts_for
from dgate.delivery.opening import open_association
from dgate.delivery.records import Debt
from dgate.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.errors import ConfigError, NoContext, StoreError
from dgate.net import ContextProposal, scu
from dgate.net.dimse import describe

log = logging.getLogger(__name__)


class Reporter:
    """Works off debts of kind `report`."""

    def __init__(
        self, requests: Requests, examiner: Examiner, settings: Settings, nodes: NodeMap
    ) -> None:
        self._requests = requests
        self._examiner = examiner
        self._settings = settings
        self._nodes = nodes

    def report(self, debt: Debt, leash: Leash) -> Done:
        """Tell the peer.

        Raises:
            ConfigError: it is no node of acrnema.map.
            PeerError: it cannot be reached, does not answer, or refuses reports.
            StoreError: the index cannot be asked.
        """
        found = self._requests.load(debt.ref.name)
        if found is None:
            return Done(text="the peer has been told already")
        peer, settings = debt.called, self._settings
        # Never by its name alone: what a stranger calls itself must not be looked up as a host.
        if self._nodes.find(peer) is None:
            raise ConfigError(
                f"{peer!r} asked for storage commitment, did not stay to hear the report, and is "
                "no node",
                where="acrnema.map",
                remedy=f"add a line for {peer}, then `dgate queue retry`",
            )
        place = resolve(peer, self._nodes, settings, _title(debt.calling), peer)
        # Each syntax in a context of its own would make the peer choose; one is enough to report.
        proposal = ContextProposal(STORAGE_COMMITMENT, SYNTAXES, scp_role=True, scu_role=False)
        association = open_association(
            place, [proposal], settings, timeouts_for(settings, settings.peers.of(peer))
        )
        with association, leash.on(association):
            # A peer that says nothing about roles leaves us the usual one; many of these take the
            # report all the same. One that answers without ours forbids it (PS3.7 D.3.3.4).
            contexts = [
                context
                for context in association.contexts_for(STORAGE_COMMITMENT)
                if context.scp_role or context.scu_role
            ]
            if not contexts:
                raise NoContext(
                    f"{peer} does not take reports about storage commitment",
                    where=str(place),
                    remedy=f"configure it to let {place.calling} be the provider of "
                    f"{STORAGE_COMMITMENT}, then `dgate queue retry`",
                )
            # Looked after only now: a peer that is away for days costs no more than the calls.
            report = self._examined(*found)
            context = contexts[0]
            data = report_data(report, place.calling, context.transfer_syntax)
            response = scu.report(
                association, context.id, STORAGE_COMMITMENT_INSTANCE, report.event_type, data
            )
        status = response.outcome
        fate = fate_of_answer(status)
        if fate is Fate.DONE:
            self._requests.close(debt.ref.name, status, summary(report))
            log.info("%s was told: %s.", peer, summary(report))
            return Done(status=status, text=summary(report))
        text = f"{peer} answered the report about storage commitment {describe(status)}"
        comment = response.error_comment
        return Done(fate, status, f"{text}: {comment}" if comment else text)

    def _examined(self, request: Request, twin: bool) -> Report:
        try:
            return self._examiner.examine(request, twin=twin)
        except OSError as exc:
            raise StoreError(f"a folder cannot be synced: {exc.strerror}") from exc


def summary(report: Report) -> str:
    """Return what a report says, for log and ledger."""
    count = len(report.committed)
    return f"committed to {count} object(s), not to {len(report.failed)}"


def _title(text: str) -> str | None:
    """Return the title by which a peer knows us, if it can be one of ours."""
    return text if text.strip() and text.isascii() and text.isprintable() else None
