"""Framing of PDUs: headers, the size allowed per type, and the short PDUs whole (PS3.8 9.3).

The two PDUs with a body worth a module of their own are in `dgate.net.associate`. Pure functions,
any thread.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

HEADER = Struct(">BxI")
HEADER_SIZE = HEADER.size
PDV = Struct(">IBB")
"""PDV length (counting what follows it), context id, message control header."""
PDV_SIZE = PDV.size
P_DATA_HEADER = Struct(">BxIIBB")
"""A whole P-DATA-TF up to the fragment, when the PDU holds one PDV."""

COMMAND_BIT = 1
LAST_BIT = 2

ASSOCIATE_LIMIT = 1 << 18
"""Far beyond 128 presentation contexts with every known transfer syntax each."""
DEFAULT_MAX_PDU = 131072
SMALLEST_MAX_PDU = 64
"""What a peer may claim at least, 0 apart; below, headers would be more than what they head."""
LARGEST_MAX_PDU = 1 << 26
"""What a peer may claim as its maximum before it is taken for no limit."""

_FIXED_BODY = 4
ABORT_SIZE = HEADER_SIZE + _FIXED_BODY
_FIXED = Struct(">BxIxBBB")

RELEASE_RQ = HEADER.pack(5, 4) + bytes(4)
RELEASE_RP = HEADER.pack(6, 4) + bytes(4)


class PduType(IntEnum):
    """The first byte of a PDU."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Why the upper layer itself (source 2) aborts (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def size_fault(kind: int, length: int, max_pdu: int) -> str:
    """Return what is wrong with the announced length of a PDU of type `kind`, or an empty string.

    `max_pdu` is what we announced. Nothing is read of a PDU that is refused here.
    """
    if kind == PduType.P_DATA_TF:
        fits = PDV_SIZE <= length <= largest(max_pdu)
    elif kind in (PduType.ASSOCIATE_RQ, PduType.ASSOCIATE_AC):
        fits = length <= ASSOCIATE_LIMIT
    else:
        fits = length == _FIXED_BODY
    return "" if fits else f"PDU type {kind:02X} announces {length} bytes"


def largest(max_pdu: int) -> int:
    """Return the longest P-DATA-TF to be taken from a peer that was told `max_pdu`."""
    # 0 tells the peer that there is no limit. Some count the header, and so send 6 bytes more.
    return max_pdu + HEADER_SIZE if max_pdu else 0xFFFFFFFF


def abort(source: int, reason: int) -> bytes:
    """Return an A-ABORT: source 0 = service user, 2 = the upper layer itself."""
    return _FIXED.pack(PduType.ABORT, _FIXED_BODY, 0, source, reason)


def reject(result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return _FIXED.pack(PduType.ASSOCIATE_RJ, _FIXED_BODY, result, source, reason)


def describe_rejection(result: int, source: int, reason: int) -> str:
    """Return an A-ASSOCIATE-RJ for people."""
    lasting = "permanently" if result == 1 else "for now"
    why = _REJECTIONS.get((source, reason), "reason unknown to the standard")
    return f"rejected {lasting}: {why} ({result}/{source}/{reason})"


def describe_abort(source: int, reason: int) -> str:
    """Return an A-ABORT for people."""
    if source != 2:
        return f"aborted by the peer's application (source {source})"
    try:
        why = AbortReason(reason).name.lower().replace("_", " ")
    except ValueError:
        why = f"reason {reason}"
    return f"aborted by the peer's upper layer: {why}"


def max_pdu_fault(peer_max_pdu: int) -> str:
    """Return what is wrong with the maximum that a peer announces, or an empty string."""
    if 0 < peer_max_pdu < SMALLEST_MAX_PDU:
        return f"a maximum PDU length of {peer_max_pdu} is below {SMALLEST_MAX_PDU} bytes"
    return ""


def max_fragment(peer_max_pdu: int) -> int:
    """Return how much of a message fits into one PDV for a peer's maximum (0 = no limit)."""
    if peer_max_pdu == 0 or peer_max_pdu > LARGEST_MAX_PDU:
        peer_max_pdu = DEFAULT_MAX_PDU
    # Fragments are of even length (PS3.8 E.1).
    return max(2, (peer_max_pdu - PDV_SIZE) & ~1)
