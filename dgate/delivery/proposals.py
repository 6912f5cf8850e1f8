"""Which presentation contexts an object can be sent on. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dgate.config.node_settings import AS_STORED
from dgate.dicom.transcode import can_convert, proposed_syntaxes
from dgate.dicom.uids import transfer_syntax
from dgate.errors import CannotTranscode
from dgate.net.requestor import ContextProposal

LISTED = "\0listed"
"""Stands for a compression code where the node's TransferSyntaxes count; no code is like it."""
_MOST_LISTED = 100


class Need(NamedTuple):
    """What decides about the presentation contexts that an object can be sent on."""

    sop_class: str
    syntax: str
    """Transfer syntax that the object is stored in."""
    code: str
    """Compression code, or LISTED."""


def proposals(need: Need, listed: Sequence[str] = ()) -> list[ContextProposal]:
    """Return the contexts that offer only what the object can be brought into.

    `listed` are the transfer syntaxes of the node, the one liked best first; each gets a context of
    its own, so that the choice is ours. Raises CannotTranscode when there is nothing to offer.
    """
    if need.code == LISTED:
        uids = dict.fromkeys(need.syntax if uid == AS_STORED else uid for uid in listed)
        offers = [[uid] for uid in uids][:_MOST_LISTED]
        remedy = "add as to the TransferSyntaxes of the node"
        what = "nothing that the TransferSyntaxes of the node list"
    else:
        offers = proposed_syntaxes(need.code, need.syntax)
        remedy = "use code as in acrnema.map, or one without `!`"
        what = f"nothing that compression code {need.code!r} offers"
    contexts = []
    for syntaxes in offers:
        possible = tuple(s for s in syntaxes if s == need.syntax or can_convert(need.syntax, s))
        if possible:
            contexts.append(ContextProposal(need.sop_class, possible))
    if not contexts:
        stored = transfer_syntax(need.syntax).name
        raise CannotTranscode(f"{what} can be made from {stored}", remedy=remedy)
    return contexts
