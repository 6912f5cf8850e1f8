"""Under which name something is owed to a destination, so that each has one however it is written.

Titles of nodes are looked up without letter case where acrnema.map has no line that fits exactly
(spec acrnema-map.md section 2), and hosts have none (RFC 4343). What is called on the wire stays as
it was written. Not for addresses (`dgate.delivery.destination`). Pure functions, safe from any
thread.
"""

from __future__ import annotations

from dgate.config.nodes import LOWER, NodeMap

TITLE_LENGTH = 16
"""Characters of an AE title (PS3.5 table 6.2-1); as many of a host's name are called."""
_LONGEST_CALLED = 64
"""What the ledger holds."""


def lane_name(target: str, nodes: NodeMap) -> str:
    """Return the name under which all is owed that goes where a target of a forward leads.

    For a node that is how acrnema.map spells it; hosts are in lower case; a name that is neither
    is left as it is. It is never longer than the target.
    """
    if "%" in target:
        # The zone of an address (`fe80::1%eth0`) has letter case (RFC 4007).
        return target
    if name := nodes.spelling(target):
        return name
    return target.translate(LOWER) if ":" in target or "." in target else target


def owed_as(target: str, called: str, nodes: NodeMap) -> tuple[str, str]:
    """Return the destination of a debt, and the title that is called there; empty = as it is named.

    Where the name differs from the text of the rule, that text is called, as it always was (spec
    acrnema-map.md 2.1), unless the rule names another title.
    """
    name = lane_name(target, nodes)
    if name == target or called:
        return name, called
    return name, target.rstrip()[: _LONGEST_CALLED if nodes.names(target) else TITLE_LENGTH]
