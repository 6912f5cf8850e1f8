"""Opening an association to a peer; what is then said on it is `dgate.net.scu`'s. Any thread."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from dgate.errors import ConfigError, Unreachable
from dgate.net import handshake
from dgate.net.associate import MAX_CONTEXTS, AssociateRequest, Proposal, Role, UserInformation
from dgate.net.association import Association
from dgate.net.pdu import DEFAULT_MAX_PDU
from dgate.net.stream import BufferPool, Stream, Timeouts

_AE_LENGTH = 16


@dataclass(frozen=True, slots=True)
class ContextProposal:
    """One presentation context to propose; ids are 1, 3, 5... in the order given."""

    abstract: str
    syntaxes: tuple[str, ...]
    scp_role: bool = False
    """Propose to be SCP as well (C-GET: for the storage classes to be received)."""
    scu_role: bool = True
    """False, with `scp_role`: propose to be SCP only (storage commitment: to report)."""


def connect(
    host: str,
    port: int,
    calling: str,
    called: str,
    contexts: Sequence[ContextProposal],
    *,
    timeouts: Timeouts | None = None,
    max_pdu: int = DEFAULT_MAX_PDU,
    pad_with_zeros: bool = False,
) -> Association:
    """Open an association; raises Unreachable, Rejected, TimedOut, Aborted, ProtocolError.

    An answer that accepts none of the contexts still is an association, with empty `contexts`.
    ConfigError: an AE title or the number of contexts (1 to 128) is not what DICOM can carry.
    `pad_with_zeros` fills AE titles with NUL.
    """
    wanted = AssociateRequest(
        called=_checked_title(called),
        calling=_checked_title(calling),
        proposals=_proposals(contexts),
        user=UserInformation(
            max_pdu=max_pdu,
            roles={item.abstract: Role(item.scu_role, True) for item in contexts if item.scp_role},
        ),
    )
    where = f"{called} at {host}:{port}"
    timeouts = timeouts or Timeouts()
    stream, peer = _open(host, port, timeouts, where)
    try:
        padding = b"\0" if pad_with_zeros else b" "
        return handshake.request(stream, peer, f"to-{called}", wanted, padding)
    except BaseException:
        stream.close()
        raise


def _open(host: str, port: int, timeouts: Timeouts, where: str) -> tuple[Stream, tuple[str, int]]:
    """Connect to the first address of the host, of either IP version, that answers."""
    try:
        connected = socket.create_connection((host, port), timeouts.connect_s)
        address = connected.getpeername()
        stream = Stream(connected, timeouts, BufferPool(), where)
    except TimeoutError as exc:
        raise Unreachable(f"no connection within {timeouts.connect_s:g} s", where=where) from exc
    except (OSError, OverflowError, UnicodeError) as exc:
        raise Unreachable(f"no connection: {exc}", where=where) from exc
    return stream, (str(address[0]), int(address[1]))


def _proposals(contexts: Sequence[ContextProposal]) -> tuple[Proposal, ...]:
    if not 1 <= len(contexts) <= MAX_CONTEXTS:
        raise ConfigError(f"an association cannot propose {len(contexts)} presentation contexts")
    ids = itertools.count(1, 2)
    return tuple(Proposal(next(ids), item.abstract, item.syntaxes) for item in contexts)


def _checked_title(title: str) -> str:
    if (
        not title.strip()
        or len(title) > _AE_LENGTH
        or not title.isascii()
        or not title.isprintable()
    ):
        raise ConfigError(
            f"{title!r} cannot be an AE title", remedy="use 1 to 16 printable ASCII characters"
        )
    return title
