"""Where a delivery goes: from the text of a forward or C-MOVE to an address.

Not for opening connections (`dgate.delivery.sender`). Pure but for name resolution; safe from any
thread.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.errors import ConfigError, Unreachable

DEFAULT_PORT = 5678
"""Port of a target that is only a host name (spec converters.md 8.5)."""
UNKNOWN_NODE_CODE = "un"
"""Compression code of targets that acrnema.map does not name."""

_HOST_TEXT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Destination:
    """One peer as one association sees it."""

    host: str
    port: int
    calling: str
    called: str
    code: str
    """Compression code of acrnema.map section 4."""
    node: str = field(default="", compare=False)
    """What it was looked up by, under which its settings are found."""

    def __str__(self) -> str:
        """Name the peer for log and messages."""
        return f"{self.called} at {self.host}:{self.port}"


def resolve(
    target: str,
    nodes: NodeMap,
    settings: Settings,
    org: str | None = None,
    dest: str | None = None,
) -> Destination:
    """Return where `target`, an AE of acrnema.map or else `host[:port]`, is to be reached.

    `org` replaces our own AE title as calling, `dest` the target text as called. Raises ConfigError
    for what is neither a known AE nor an address, Unreachable when the name service does not know
    at the moment.
    """
    calling = org or settings.ae_title
    node = nodes.find(target)
    if node is not None:
        where = f"acrnema.map:{node.line}"
        if not node.host:
            raise ConfigError(f"node {target} has no host", where=where, remedy="complete the line")
        port = _port(node.port, where)
        return Destination(node.host, port, calling, dest or target, node.compression, target)
    host, port = _split_address(target)
    _check_host(target, host)
    return Destination(host, port, calling, (dest or target)[:16], UNKNOWN_NODE_CODE, target)


def _port(text: str, where: str) -> int:
    try:
        port = int(text) if text.isdecimal() else socket.getservbyname(text, "tcp")
    except OSError:
        port = 0
    if not 0 < port < 65536:
        raise ConfigError(
            f"{text!r} is no port", where=where, remedy="write a number from 1 to 65535"
        )
    return port


def _split_address(target: str) -> tuple[str, int]:
    """Split `host`, `host:port`, `[v6]` and `[v6]:port`; a bare IPv6 address has no port."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(.*))?", target)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif target.count(":") == 1:
        host, _, port = target.partition(":")
    else:
        host, port = target, None
    if port is None:
        return host, DEFAULT_PORT
    return host, _port(port, f"forward target {target}")


def _check_host(target: str, host: str) -> None:
    """Refuse what is not an address: most often an AE title that acrnema.map lacks."""
    unknown = ConfigError(
        f"{target!r} is neither a node of acrnema.map nor the name of a host",
        where="forward target",
        remedy=f"add a line for {target} to acrnema.map, then `dgate queue retry`",
    )
    if ":" in host:
        return
    if not _HOST_TEXT.match(host):
        raise unknown
    if "." in host or host.lower() == "localhost" or target != host:
        return
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        if exc.errno == socket.EAI_AGAIN:
            raise Unreachable(
                f"{target!r} is no node of acrnema.map, and the name service does not answer",
                where="forward target",
                remedy="add a line for it to acrnema.map, or mend the name service",
            ) from exc
        raise unknown from exc
    except UnicodeError as exc:  # A label of more than 63 characters.
        raise unknown from exc
