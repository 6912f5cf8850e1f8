"""Who asks, and what that says about which virtual servers may be asked in turn. Pure values.

Two gateways that name each other must not ask each other for ever. Three things prevent it: a node
is never asked on behalf of itself; a request that came from a dgate carries the titles it has come
through, in a private element; and (9999,0802) restricts who is asked, which is how `NONVIRTUAL`
and the original program say "nobody".
"""

from __future__ import annotations

from dataclasses import dataclass

from dgate.config.model import VirtualServer
from dgate.dicom.table import ElementTable

SERVER_MASK = 0x99990802
"""Bit N set: virtual server N is asked (spec dimse.md 12)."""
ASK_NOBODY = 0x8000
PATH_CREATOR = 0x0DA70010
PATH = 0x0DA71001
"""dgate's private element: the gateways that a request has come through (PS3.5 7.8)."""
CREATOR = b"DGATE GATEWAYS"

CONTROL_TAGS = frozenset({SERVER_MASK, PATH_CREATOR, PATH})
"""Elements of an identifier that are neither keys nor answered."""
_MOST_GATEWAYS = 16


@dataclass(frozen=True, slots=True)
class Question:
    """What a request says besides its keys."""

    calling: str
    """AE title of who asks us."""
    mask: int | None = None
    """None = all virtual servers."""
    path: tuple[str, ...] = ()
    """AE titles of the gateways that the request came through, the first one first."""

    @classmethod
    def of(cls, table: ElementTable, calling: str) -> Question:
        """Read the control elements of an identifier."""
        return cls(calling.strip(), _mask(table), _path(table))

    def may_reach(self, server: VirtualServer, own_title: str) -> bool:
        """Tell whether a virtual server may be asked on behalf of this question."""
        if own_title in self.path or len(self.path) >= _MOST_GATEWAYS:
            return False
        if server.title in (self.calling, own_title, *self.path):
            return False
        return self.mask is None or bool(self.mask >> server.number & 1)

    def mark(self, table: ElementTable, own_title: str) -> None:
        """Write the way of the question, with ourselves at its end, into an identifier."""
        table.set_raw(PATH_CREATOR, "LO", CREATOR)
        table.set_raw(PATH, "LO", "\\".join((*self.path, own_title)).encode("ascii", "replace"))


NOBODY = Question("")
"""A question of nobody in particular."""


def forbid_virtual_servers(table: ElementTable) -> None:
    """Tell the peer not to ask its own virtual servers."""
    order = "little" if table.little_endian else "big"
    table.set_raw(SERVER_MASK, "US", ASK_NOBODY.to_bytes(2, order))  # type: ignore[arg-type]


def _mask(table: ElementTable) -> int | None:
    raw = table.raw(SERVER_MASK)
    if raw is None or len(raw) < 2:
        return None
    return int.from_bytes(raw[:2], "little" if table.little_endian else "big")


def _path(table: ElementTable) -> tuple[str, ...]:
    if (table.raw(PATH_CREATOR) or b"").rstrip(b"\0 ") != CREATOR:
        return ()
    text = (table.raw(PATH) or b"").decode("ascii", "replace")
    return tuple(part.strip("\0 ") for part in text.split("\\") if part.strip("\0 "))
