"""Where an object came from, for the ledger: who brought it, when, how urgent, which bytes.

Worked out only for objects that owe something: the hash takes time. Not for what is owed
(`dgate.archive.obligations`). Used by the thread that brings the object.
"""

from __future__ import annotations

from dgate.archive.files import hash_parts
from dgate.archive.incoming import Incoming, whole_data
from dgate.archive.records import Arrival, Provenance
from dgate.config.node_settings import NodeTable, Priority
from dgate.dicom.payload import Payload
from dgate.printable import printable

ACCESSION_NUMBER = 0x00080050
LONGEST = 64
"""Characters of each text in the ledger's columns."""


def note_bytes(arrival: Arrival) -> None:
    """Write down hash and size of what was received, before the payload is replaced."""
    if not arrival.digest:
        arrival.digest, arrival.size = _digest(arrival.payload), arrival.payload.size


def provenance_of(item: Incoming) -> Provenance:
    """Return where an object came from; a data set in a file is read in pieces.

    Raises:
        Unreadable: the file of a large object cannot be read back.
    """
    arrival = item.arrival
    accession = _fitting(item.table.text(ACCESSION_NUMBER))
    if arrival is None:
        return Provenance(_fitting(item.calling), accession=accession, arriving=True)
    note_bytes(arrival)
    return Provenance(
        _fitting(arrival.source or item.calling),
        _fitting(arrival.source_host),
        digest=arrival.digest,
        size=arrival.size,
        accession=accession,
        arriving=True,
    )


def priority_of(item: Incoming, peers: NodeTable) -> int:
    """Return how urgent an object is: what is set for its sender, else what the sender said."""
    priority = peers.of(item.calling).priority
    if priority is not None:
        return int(priority)
    asked = None if item.arrival is None else item.arrival.priority
    return int(Priority.NORMAL) if asked is None else asked


def _digest(payload: Payload) -> str:
    return hash_parts(whole_data(payload))


def _fitting(text: str) -> str:
    """Return text that every database takes into a column of this length."""
    return printable(text)[:LONGEST]
