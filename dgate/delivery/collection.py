"""C-GET from a node, over as many associations as it takes to offer all that may come.

An association has 128 presentation contexts, and a class with all its transfer syntaxes takes
seventeen of them. Not for what becomes of the objects, and not for the retrievals of virtual
servers, which keep an association open (`dgate.services.virtual.source`). Runs in the thread of its
caller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from dgate.delivery.inquiry import UNCOMPRESSED, Inquiry, find_proposals, list_objects
from dgate.delivery.offers import MOST_CONTEXTS, storage_offers
from dgate.errors import NoContext, PeerError, Rejected, Unreachable
from dgate.net import (
    Association,
    Command,
    ContextProposal,
    Message,
    PayloadFactory,
    Status,
    StatusCategory,
    category,
    get,
)

log = logging.getLogger(__name__)

Connect = Callable[[Sequence[ContextProposal]], Association]
"""Opens an association with the node that proposes these contexts; raises PeerError."""
Encode = Callable[[str], bytes]
"""Returns the identifier in a transfer syntax."""
Take = Callable[[Association, Message], int]
"""Takes an object that has come; returns the status of its C-STORE."""
Follow = Callable[[Iterator[Command]], Command]
"""Reads the responses of one C-GET to their end; returns the last."""

_UNABLE_TO_PROCESS = 0xC
"""The first digit of C000 to CFFF (PS3.4 C.4.3.1.4)."""


class Collected(NamedTuple):
    """How a retrieval ended."""

    final: Command
    """The last response. Where it took several associations, its counts are those of them all."""
    came: int
    """How many SOP instances were taken."""

    @property
    def is_complete(self) -> bool:
        """Whether all came that the node has."""
        return not self.final.failed and category(self.final.outcome) is StatusCategory.SUCCESS


def last_of(responses: Iterable[Command]) -> Command:
    """Return the last response."""
    final = Command()
    for response in responses:
        final = response
    return final


def collect(
    connect: Connect,
    models: Sequence[str],
    sop_classes: Iterable[str],
    encode: Encode,
    take: Take,
    payload_factory: PayloadFactory,
    follow: Follow = last_of,
) -> Collected:
    """Ask for the same with other contexts until all has come, or no others are left.

    What fails of an association because it has no context for it may come over the next one. An
    object that comes again there is not handed to `take`: what came first is nearer to what the
    node has stored.

    Args:
        models: SOP classes of C-GET, the one to be preferred first.
        sop_classes: of the objects, as far as they are known; in doubt `offers.listed_classes`.

    Raises:
        NoContext: the node does not offer C-GET, or there is no class to be offered.
        PeerError: it cannot be reached or goes away; and what `encode` and `take` raise.
    """
    parts = storage_offers(sop_classes, MOST_CONTEXTS - len(models))
    if not parts:
        raise NoContext("no storage class is known that objects could be of")
    came: set[str] = set()
    keep = partial(_keep, came, take)
    for place, offers in enumerate(parts):
        proposals = [*(ContextProposal(uid, UNCOMPRESSED) for uid in models), *offers]
        with connect(proposals) as association:
            context = next(
                (each for model in models for each in association.contexts_for(model)), None
            )
            if context is None:
                raise NoContext("the node does not offer C-GET", where=association.called)
            responses = get(
                association,
                context.id,
                encode(context.transfer_syntax),
                partial(keep, association),
                payload_factory=payload_factory,
            )
            final = follow(responses)
        collected = Collected(_of_all(final, len(came)) if place else final, len(came))
        if collected.is_complete or not _is_for_want_of_contexts(final):
            break
    return collected


def classes_there(connect: Connect, keys: Mapping[int, str]) -> list[str]:
    """Return the SOP classes of what the keys name, as the node lists it; empty: it does not.

    Raises:
        Rejected, Unreachable: there is nobody to ask for the objects either.
    """
    try:
        with connect(find_proposals()) as association:
            found = list_objects(Inquiry(association), keys)
    except (Unreachable, Rejected):
        raise
    except PeerError as exc:
        # A node may offer C-GET without C-FIND, or be at odds with a query level by level.
        log.debug("The node does not list what it has: %s", exc)
        return []
    classes = list(dict.fromkeys(each.sop_class for each in found))
    return classes if all(classes) else []


def _keep(came: set[str], take: Take, association: Association, message: Message) -> int:
    uid = message.command.sop_instance
    # Of those that come without a UID none is known to be another one again.
    if uid and uid in came:
        return Status.SUCCESS
    status = take(association, message)
    if category(status) in (StatusCategory.SUCCESS, StatusCategory.WARNING):
        came.add(uid)
    return status


def _is_for_want_of_contexts(final: Command) -> bool:
    """Tell whether other contexts may help; other failures are the same with any contexts."""
    return (
        bool(final.failed)
        or final.outcome in (Status.SUBOPERATIONS_FAILED, Status.CANNOT_PERFORM_SUBOPERATIONS)
        or final.outcome >> 12 == _UNABLE_TO_PROCESS
    )


def _of_all(final: Command, came: int) -> Command:
    """Return the response of a further association as it is with what came before.

    The node counts as failed what had a context only then.
    """
    total = (final.completed or 0) + (final.failed or 0) + (final.warning or 0)
    was_tried = category(final.outcome) in (StatusCategory.SUCCESS, StatusCategory.WARNING)
    if not total or not (was_tried or final.outcome == Status.CANNOT_PERFORM_SUBOPERATIONS):
        return final
    failed = max(0, total - came)
    status = Status.SUBOPERATIONS_FAILED if failed else Status.SUCCESS
    return replace(final, status=status, completed=total - failed, failed=failed, warning=0)
