"""Load-sharing groups: which member gets a study, and how nodes are spelled.

Pure functions, safe from any thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from dgate.config.node_settings import NodeTable
from dgate.config.nodes import NodeMap


def chosen(study: str, members: Sequence[str], is_up: Callable[[str], bool]) -> str:
    """Return the member that a study goes to: of those that are up, always the same.

    By rendezvous hashing: when a member goes, only its studies move, and they spread over the
    others. Without any that is up, the one that it would be otherwise.
    """
    ranked = sorted(members, key=lambda member: _weight(study, member), reverse=True)
    return next((member for member in ranked if is_up(member)), ranked[0])


def _weight(study: str, member: str) -> bytes:
    text = f"{member.lower()}\0{study}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


def members_of(group: str, peers: NodeTable, nodes: NodeMap) -> tuple[str, ...]:
    """Return the members of a group as acrnema.map spells them; empty when it is no group."""
    titles = peers.members(group)
    if not titles:
        return ()
    return tuple(found for title in titles if (found := spelled(title, nodes)))


def spelled(title: str, nodes: NodeMap) -> str:
    """Return a title as acrnema.map spells it, as letter case counts on the wire; empty = unknown.

    A title that only a line with a wildcard covers is returned as it is.
    """
    lower = title.lower()
    for node in nodes:
        if node.ae_title.lower() == lower:
            return node.ae_title
    return title if nodes.names(title) else ""
