"""Virtual servers: other nodes' archives, offered here as if they were part of this one.

Queries are also asked there and the answers merged (`merging`); what a retrieval needs and is not
here is fetched (`fetching`) and passed on. Spec dicom-ini.md 8, dimse.md 7.
"""

from __future__ import annotations

from dgate.services.question import Question
from dgate.services.virtual.fetches import Fetches
from dgate.services.virtual.fetching import Fetch, Lost, Receiver, VirtualRetrieval
from dgate.services.virtual.merging import Match
from dgate.services.virtual.servers import Located, VirtualServers

__all__ = [
    "Fetch",
    "Fetches",
    "Located",
    "Lost",
    "Match",
    "Question",
    "Receiver",
    "VirtualRetrieval",
    "VirtualServers",
]
