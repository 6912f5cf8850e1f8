"""Tells peers what we commit to, on an association that we open for it (PS3.4 J.3.3).

Works off the debts of kind `report`, in the workers of their lanes, which see to pauses and further
tries. A report on the peer's own association is `dgate.services.commitment`. Immutable, used by
many threads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.commitment.examining import Answers
from dgate.delivery.commitment.messages import SYNTAXES, fate_of_answer
from dgate.delivery.commitment.requests import Requests
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.errands import Done, Leash
from dgate.delivery.failures import Fate
from dgate.delivery.line import timeouts_for
from dgate.delivery.opening import open_association
from dgate.delivery.records import Debt
from dgate.dicom.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.errors import ConfigError, NoContext
from dgate.net import Association, ContextProposal, PresentationContext, scu
from dgate.net.dimse import describe

log = logging.getLogger(__name__)

_TOLD = Done(text="the peer has been told already")


class Reporter:
    """Works off debts of kind `report`."""

    def __init__(
        self, requests: Requests, answers: Answers, settings: Settings, nodes: NodeMap
    ) -> None:
        self._requests = requests
        self._answers = answers
        self._settings = settings
        self._nodes = nodes

    def report(self, debt: Debt, leash: Leash) -> Done:
        """Tell the peer.

        Raises:
            ConfigError: it is no node of acrnema.map.
            PeerError: it cannot be reached, does not answer, or refuses reports.
            StoreError: the index cannot be asked, or what it says changes while it is told.
        """
        token = debt.ref.name
        waiting = self._requests.load(token)
        if waiting is None:
            return _TOLD
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
        if waiting.parts > 1 and not self._answers.is_ready(token):
            # A peer that is away for days costs no more than the calls; and one that is there need
            # not wait on an association while much is looked after.
            with self._association(place, leash):
                pass
            if not self._answers.prepare(token, waiting, lambda: not leash.is_stopping):
                return Done(text="the server was stopped meanwhile", wait_s=0.0)
        with self._association(place, leash) as (association, context):
            # Nearly always all is known; else one part is as long as a peer should have to wait.
            if not self._answers.prepare(token, waiting, lambda: False):
                return Done(text="it has to be looked after the objects again", wait_s=0.0)
            answer = self._answers.answer(token, waiting)
            if answer is None:
                return _TOLD
            response = scu.report(
                association,
                context.id,
                STORAGE_COMMITMENT_INSTANCE,
                answer.event_type,
                answer.pieces(place.calling, context.transfer_syntax),
            )
        status = response.outcome
        fate = fate_of_answer(status)
        if fate is Fate.DONE:
            self._requests.close(token, status, str(answer))
            log.info("%s was told: %s.", peer, answer)
            return Done(status=status, text=str(answer))
        text = f"{peer} answered the report about storage commitment {describe(status)}"
        comment = response.error_comment
        return Done(fate, status, f"{text}: {comment}" if comment else text)

    @contextmanager
    def _association(
        self, place: Destination, leash: Leash
    ) -> Iterator[tuple[Association, PresentationContext]]:
        """Open an association on which the peer takes reports; raises PeerError."""
        # Each syntax in a context of its own would make the peer choose; one is enough to report.
        proposal = ContextProposal(STORAGE_COMMITMENT, SYNTAXES, scp_role=True, scu_role=False)
        settings = self._settings
        timeouts = timeouts_for(settings, settings.peers.of(place.called))
        association = open_association(place, [proposal], settings, timeouts)
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
                    f"{place.called} does not take reports about storage commitment",
                    where=str(place),
                    remedy=f"configure it to let {place.calling} be the provider of "
                    f"{STORAGE_COMMITMENT}, then `dgate queue retry`",
                )
            yield association, contexts[0]


def _title(text: str) -> str | None:
    """Return the title by which a peer knows us, if it can be one of ours."""
    return text if text.strip() and text.isascii() and text.isprintable() else None
