"""Which lanes of the ledger lead to a node, and to which.

Not every destination of a debt is one: delayed operations, export converters, mirrors and storage
commitment have lanes of their own, whose names must not be taken for titles. Pure functions.
"""

from __future__ import annotations

import re

from dgate.archive.requests import LANE_PREFIX
from dgate.config.nodes import NodeMap
from dgate.delivery.commitment.messages import ASKING_LANE, REPORT_LANE

_OWN_WORK = re.compile(r"(?:ExportConverter|MIRROR)[0-9]+", re.ASCII)
"""Lanes of EXPORT and MIRROR debts."""


def node_of_lane(lane: str, nodes: NodeMap) -> str:
    """Return the title of the node that a lane leads to; empty = it is work inside the server.

    A title can be spelled as a converter's or a mirror's lane is; a node of acrnema.map goes first.
    """
    if lane.startswith(LANE_PREFIX):
        return ""
    for prefix in (ASKING_LANE, REPORT_LANE):
        if lane.startswith(prefix):
            return lane[len(prefix) :]
    if _OWN_WORK.fullmatch(lane) and lane not in {node.ae_title for node in nodes}:
        return ""
    return lane
