"""Load-sharing groups: which member gets a study, and who the members are.

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
    """Return the members of a group as acrnema.map spells them, as letter case counts on the wire;
    empty when it is no group. Of lines that differ in it only, the one that a section's name spells
    is meant, else the first."""
    titles = peers.members(group)
    if not titles:
        return ()
    return tuple(found for title in titles if (found := nodes.spelling(title)))
