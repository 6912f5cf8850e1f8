"""Asks nodes to commit to what they have accepted, and hears what they report (PS3.4 J.3).

Works off the debts of kind `commit`, in the workers of their lanes, which see to pauses and further
tries. The report may come on the same association, or at any time on one that the node opens; both
go to `EventReports`. Not for what is written down (`dgate.delivery.commitment.ledger`). Immutable,
used by many threads.
"""

from __future__ import annotations

import logging
import random

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.commitment.gathering import group_of
from dgate.delivery.commitment.ledger import Asked, Commitments, without
from dgate.delivery.commitment.messages import (
    REQUEST_COMMITMENT,
    SYNTAXES,
    Fault,
    Report,
    Request,
    fate_of_answer,
    read_report,
    request_data,
)
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.errands import Done, Leash
from dgate.delivery.failures import DOUBTFUL_TRIES, Fate
from dgate.delivery.line import timeouts_for
from dgate.delivery.opening import open_association
from dgate.delivery.records import Debt
from dgate.delivery.schedule import RetryPolicy
from dgate.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.errors import PeerError, StoreError
from dgate.net import Association, ContextProposal, Message, Status, scu
from dgate.net.dimse import describe

log = logging.getLogger(__name__)

STAY_S = 5.0
"""So long the report is waited for on the association of the request, unless the node is known to
open one for it..."""
LONG_STAY_S = 60.0
"""...and so long where it reported so before, or has not reported at all."""
MOST_ROUNDS = 5
"""So often a node that takes the request may leave it without a report."""

_FOR_GOOD = (
    Status.NO_SUCH_SOP_CLASS,
    Status.SOP_CLASS_NOT_SUPPORTED,
    Status.NO_SUCH_SOP_INSTANCE,
    Status.NO_SUCH_ACTION,
    Status.NOT_AUTHORIZED,
    Status.UNRECOGNIZED_OPERATION,
)


class EventReports:
    """Answers what nodes report."""

    def __init__(self, commitments: Commitments, policy: RetryPolicy) -> None:
        self._commitments = commitments
        self._policy = policy

    def answer(self, association: Association, message: Message, *, apart: bool) -> None:
        """Write a report down, then answer it; `apart`: the node opened the association.

        What cannot be written down is answered 0110, for the node to report again. Raises what
        `respond` raises.
        """
        peer = association.calling if association.is_acceptor else association.called
        try:
            report = read_report(message)
            failed = self._commitments.take(
                report, apart=apart, pause_s=self._policy.pause_s(1, random.random())
            )
            if failed is None:
                # Nobody can guess one of ours.
                raise Fault(Status.INVALID_ARGUMENT_VALUE, "the Transaction UID is not known")
        except Fault as exc:
            log.warning(
                "A report of %s about storage commitment was answered %s: %s",
                peer,
                describe(exc.status),
                exc.what,
                extra={"assoc": association.label},
            )
            association.respond(message, exc.status, comment=exc.what)
            return
        except StoreError as exc:
            log.error("A report of %s cannot be written down: %s", peer, exc)
            association.respond(message, Status.PROCESSING_FAILURE, comment=exc.what)
            return
        _log_report(peer, report, failed)
        association.respond(message)


class Asker:
    """Works off debts of kind `commit`."""

    def __init__(
        self, commitments: Commitments, reports: EventReports, settings: Settings, nodes: NodeMap
    ) -> None:
        self._commitments = commitments
        self._reports = reports
        self._settings = settings
        self._nodes = nodes

    def ask(self, debt: Debt, leash: Leash) -> Done:
        """Ask for what was gathered, or once more for what was not reported.

        Raises:
            ConfigError, Unreachable: the node's address is not known.
            PeerError: it cannot be reached, or does not answer.
            StoreError: nothing can be written down.
        """
        group = group_of(debt)
        node = self._settings.peers.of(group.node)
        if not node.commit:
            text = without(group.node)
            count = self._commitments.do_without(debt, text)
            if count:
                log.warning("%d object(s) count as %s.", count, text)
            return Done(text=text)
        rounds = self._commitments.rounds(debt, node.commit_timeout_s)
        if rounds >= MOST_ROUNDS:
            return self._give_up(
                debt,
                f"{group.node} has taken {rounds} requests for storage commitment and reported on "
                f"none within {node.commit_timeout_s:g} s (CommitTimeOut); see whether it can "
                f"reach {self._settings.ae_title} under its address and port, then "
                "`dgate queue retry`; without commitment: remove Commit from its section",
            )
        place = resolve(
            group.node, self._nodes, self._settings, group.calling or None, group.called or None
        )
        asked = self._commitments.begin(debt)
        if asked is None:
            return Done(text="nothing is waiting for a commitment any more")
        response = self._send(place, asked, group.node, leash, unheard=bool(rounds))
        if response is None:
            return self._give_up(
                debt,
                f"{group.node} does not offer storage commitment: configure it to take the Storage "
                f"Commitment Push Model ({STORAGE_COMMITMENT}) from {place.calling}, or remove "
                "Commit from its section, then `dgate queue retry`",
            )
        status, comment = response
        fate = fate_of_answer(status)
        if fate is Fate.DONE:
            count = len(asked.references)
            return Done(
                text=f"asked for {count} object(s) as {asked.uid}, the report is awaited",
                wait_s=node.commit_timeout_s,
            )
        text = f"{group.node} answered the request for storage commitment {describe(status)}"
        text = f"{text}: {comment}" if comment else text
        hopeless = fate is Fate.DOUBTFUL and debt.attempts + 1 >= DOUBTFUL_TRIES
        if status in _FOR_GOOD or fate is Fate.STUCK or hopeless:
            return self._give_up(
                debt, f"{text}; correct it there, or remove Commit, then `dgate queue retry`"
            )
        return Done(fate, status, text)

    def _give_up(self, debt: Debt, reason: str) -> Done:
        """Make the deliveries stuck; the debt that asked is over with them."""
        count = self._commitments.give_up(debt, reason)
        if count:
            log.error("%d deliveries are stuck: %s.", count, reason)
        return Done(text=reason)

    def _send(
        self, place: Destination, asked: Asked, node: str, leash: Leash, *, unheard: bool
    ) -> tuple[int, str] | None:
        """Send the request and return the answer; None when the node refuses the SOP class."""
        settings = self._settings
        proposals = [ContextProposal(STORAGE_COMMITMENT, (syntax,)) for syntax in SYNTAXES]
        association = open_association(
            place, proposals, settings, timeouts_for(settings, settings.peers.of(node))
        )
        with association, leash.on(association):
            contexts = association.contexts_for(STORAGE_COMMITMENT)
            if not contexts:
                return None
            context = contexts[0]
            data = request_data(Request(asked.uid, asked.references), context.transfer_syntax)
            heard: list[Message] = []

            def on_event(message: Message) -> None:
                self._reports.answer(association, message, apart=False)
                heard.append(message)

            response = scu.action(
                association,
                context.id,
                STORAGE_COMMITMENT_INSTANCE,
                REQUEST_COMMITMENT,
                data,
                on_event,
            )
            status = response.outcome
            if fate_of_answer(status) is Fate.DONE:
                self._commitments.accepted(asked.uid)
                if not heard:
                    self._stay(association, node, on_event, leash, unheard)
            return status, response.error_comment

    def _stay(
        self,
        association: Association,
        node: str,
        on_event: scu.OnEvent,
        leash: Leash,
        unheard: bool,
    ) -> None:
        """Give the node time to report on this association, if that is what it does."""
        apart = self._commitments.reports_apart(node)
        if apart:
            return
        stay_s = LONG_STAY_S if unheard or apart is False else STAY_S
        with leash.waiting() as is_worth_it:
            if not is_worth_it:
                return
            try:
                scu.await_event(association, stay_s, on_event)
            except PeerError as exc:
                # The request stands: what was to come here may come on one of the node's own.
                log.info("%s did not report on the association of the request: %s", node, exc)


def _log_report(peer: str, report: Report, failed: int) -> None:
    if not report.failed:
        log.info("%s has committed to the storage of %d object(s).", peer, len(report.committed))
        return
    log.warning(
        "%s has not committed to the storage of %d of %d object(s); %d are sent again.",
        peer,
        len(report.failed),
        len(report.failed) + len(report.committed),
        failed,
    )
