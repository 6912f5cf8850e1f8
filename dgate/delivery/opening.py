"""Opens an association with a node, by the settings that hold for every association of ours.

Not for where the node is (`dgate.delivery.destination`), nor for what is sent. Any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dgate.config.settings import Settings
from dgate.delivery.destination import Destination
from dgate.net import Association, ContextProposal, Timeouts, requestor


class Connect(Protocol):
    """How associations are opened: `dgate.net.connect`, or a test's twin of it."""

    def __call__(
        self,
        host: str,
        port: int,
        calling: str,
        called: str,
        contexts: Sequence[ContextProposal],
        *,
        timeouts: Timeouts | None = None,
        max_pdu: int = 131072,
        pad_with_zeros: bool = False,
    ) -> Association:
        """Open an association or raise PeerError."""
        ...


def open_association(
    place: Destination,
    contexts: Sequence[ContextProposal],
    settings: Settings,
    timeouts: Timeouts | None = None,
    *,
    connect: Connect = requestor.connect,
) -> Association:
    """Open an association that proposes `contexts`, by PDUSize and PadAEWithZeros.

    `timeouts` are by TCPIPTimeOut where none are given. Raises PeerError when the node cannot be
    reached, rejects, or does not answer in time.
    """
    return connect(
        place.host,
        place.port,
        place.calling,
        place.called,
        contexts,
        timeouts=timeouts or Timeouts.of(settings.tcpip_timeout_s),
        max_pdu=settings.pdu_size,
        pad_with_zeros=settings.pad_ae_with_zeros,
    )
