"""Association set-up on a fresh connection, for both roles (PS3.8 section 9.2, states 2 to 5).

The whole of it must be done within the ARTIM time. Decisions are `dgate.net.negotiation`'s. One
thread per connection.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dgate.errors import Aborted, ProtocolError, Rejected
from dgate.net import pdu
from dgate.net.associate import (
    AssociateAccept,
    AssociateError,
    AssociateRequest,
    UserInformation,
    decode_accept,
    decode_request,
    encode_accept,
    encode_request,
)
from dgate.net.association import Association, Parties
from dgate.net.negotiation import TOO_MANY, Acceptance, Policy, Rejection, accepted_contexts
from dgate.net.pdu import AbortReason, PduType
from dgate.net.stream import Stream
from dgate.printable import printable

log = logging.getLogger(__name__)


def accept(
    stream: Stream,
    peer: tuple[str, int],
    label: str,
    policy: Policy,
    admit: Callable[[], bool],
) -> Association | None:
    """Answer an A-ASSOCIATE-RQ; return None when it was refused, which is logged.

    `admit` is asked for a place for a request that the policy accepts: who is refused for good
    must not be told to come again later. Raises TimedOut, Aborted, ProtocolError.
    """
    deadline = time.monotonic() + stream.timeouts.artim_s
    request = _read_request(stream, deadline)
    stream.where = f"{printable(request.calling)} at {peer[0]}"
    decision = policy.judge(request)
    if not isinstance(decision, Rejection) and not admit():
        decision = TOO_MANY
    if isinstance(decision, Rejection):
        log.warning(
            "The association of %s with %s was rejected: %s",
            stream.where,
            printable(request.called) or "no called AE",
            decision.message,
            extra={"assoc": label, "peer": stream.where},
        )
        stream.finish(pdu.reject(decision.result, decision.source, decision.reason))
        return None
    _log_decision(request, decision, stream.where, label)
    stream.send([encode_accept(decision.reply)])
    if not decision.usable:
        stream.finish()
        return None
    parties = Parties(
        calling=request.calling,
        called=request.called,
        peer=peer,
        contexts=decision.contexts,
        refused={},
        is_acceptor=True,
        own_max_pdu=policy.max_pdu,
        peer_max_pdu=request.user.max_pdu,
        peer_implementation=_implementation(request.user),
    )
    return Association(stream, parties, label)


def request(
    stream: Stream,
    peer: tuple[str, int],
    label: str,
    wanted: AssociateRequest,
    padding: bytes = b" ",
) -> Association:
    """Send an A-ASSOCIATE-RQ; raises Rejected, TimedOut, Aborted, ProtocolError."""
    deadline = time.monotonic() + stream.timeouts.artim_s
    stream.send([encode_request(wanted, padding)])
    accepted = _read_answer(stream, deadline)
    contexts, refused = accepted_contexts(wanted.proposals, wanted.user.roles, accepted)
    parties = Parties(
        calling=wanted.calling,
        called=wanted.called,
        peer=peer,
        contexts=contexts,
        refused=refused,
        is_acceptor=False,
        own_max_pdu=wanted.user.max_pdu,
        peer_max_pdu=accepted.user.max_pdu,
        peer_implementation=_implementation(accepted.user),
    )
    return Association(stream, parties, label)


def _read_request(stream: Stream, deadline: float) -> AssociateRequest:
    kind, length = pdu.HEADER.unpack(stream.read_exactly(pdu.HEADER_SIZE, deadline))
    if kind == PduType.ABORT:
        raise Aborted("the peer aborted before it asked for an association", where=stream.where)
    fault = pdu.size_fault(kind, length, 0)
    if kind != PduType.ASSOCIATE_RQ:
        fault = f"PDU type {kind:02X} came instead of A-ASSOCIATE-RQ"
    if not fault:
        try:
            return decode_request(stream.read_exactly(length, deadline))
        except AssociateError as exc:
            fault = str(exc)
    # In this state the standard wants the abort in the name of the service user (PS3.8 table 9-10,
    # AA-1).
    stream.finish(pdu.abort(0, 0))
    raise ProtocolError(fault, where=stream.where)


def _read_answer(stream: Stream, deadline: float) -> AssociateAccept:
    kind, length = pdu.HEADER.unpack(stream.read_exactly(pdu.HEADER_SIZE, deadline))
    fault = pdu.size_fault(kind, length, 0)
    reason = AbortReason.INVALID_PARAMETER
    if kind not in (PduType.ASSOCIATE_AC, PduType.ASSOCIATE_RJ, PduType.ABORT):
        fault = f"PDU type {kind:02X} came instead of an answer to A-ASSOCIATE-RQ"
        known = kind in frozenset(PduType)
        reason = AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNIZED_PDU
    if not fault:
        body = stream.read_exactly(length, deadline)
        if kind == PduType.ABORT:
            raise Aborted(pdu.describe_abort(body[2], body[3]), where=stream.where)
        if kind == PduType.ASSOCIATE_RJ:
            raise Rejected(
                pdu.describe_rejection(body[1], body[2], body[3]),
                result=body[1],
                source=body[2],
                reason=body[3],
                where=stream.where,
            )
        try:
            accepted = decode_accept(body)
        except AssociateError as exc:
            fault = str(exc)
        else:
            fault = pdu.max_pdu_fault(accepted.user.max_pdu)
            if not fault:
                return accepted
    stream.finish(pdu.abort(2, reason))
    raise ProtocolError(fault, where=stream.where)


def _implementation(user: UserInformation) -> str:
    return f"{user.implementation_class} {user.implementation_version}".strip()


def _log_decision(request: AssociateRequest, decision: Acceptance, where: str, label: str) -> None:
    total = len(request.proposals)
    accepted = len(decision.contexts)
    extra = {"assoc": label, "peer": where}
    if accepted == 0:
        log.warning(
            "The association of %s with %s got none of its %d presentation contexts;"
            " dgatesop.lst does not list what it wants",
            where,
            printable(request.called),
            total,
            extra=extra,
        )
        return
    log.debug(
        "The association of %s with %s got %d of %d presentation contexts",
        where,
        printable(request.called),
        accepted,
        total,
        extra=extra,
    )
