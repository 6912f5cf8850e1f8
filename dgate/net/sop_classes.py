"""Which SOP classes are about storing objects: all but those known to be about something else.

A new or private class is taken for storage, since what services there are is known and what objects
there are is not. A test compares the table with an independent one. Constants, no state.
"""

from __future__ import annotations

from dgate.dicom.uids import STANDARD_PREFIX

# Below 1.2.840.10008: a node of the UID tree, and the classes under it that are services, not
# objects (PS3.6 table A-1).
_SERVICES = {
    "1": "1 9 20.1 20.2 3.10 40 42",
    "3.1.2.1": "1 4",
    "3.1.2.2": "1",
    "3.1.2.3": "1 2 3 4 5",
    "3.1.2.5": "1 4 5",
    "3.1.2.6": "1",
    "5.1.1": "1 2 4 4.1 4.2 9 9.1 14 15 16 16.376 18 18.1 22 23 24 24.1 26 31 32 33 40",
    "5.1.4.1.1.200": "4 5 6",
    "5.1.4.1.1.201": "2 3 4 5 6",
    "5.1.4.1.2.1": "1 2 3",
    "5.1.4.1.2.2": "1 2 3",
    "5.1.4.1.2.3": "1 2 3",
    "5.1.4.1.2.4": "2 3",
    "5.1.4.1.2.5": "3",
    "5.1.4.20": "1 2 3",
    "5.1.4": "31 32 33 41 42",
    "5.1.4.32": "1 2 3",
    "5.1.4.34": "2 3 4.1 4.2 4.3 4.4 6.1 6.2 6.3 6.4 6.5 8 9",
    "5.1.4.37": "1 2 3",
    "5.1.4.38": "2 3 4",
    "5.1.4.39": "2 3 4",
    "5.1.4.43": "2 3 4",
    "5.1.4.44": "2 3 4",
    "5.1.4.45": "2 3 4",
    "10": "1 2 3 4",
}

# The private C-MOVE classes of the original server (spec dgatesop-lst.md, appendix).
_PRIVATE_RETRIEVE_ROOT = "1.2.826.0.1.3680043.2.135.1066.5.1.4.1.2"

NON_STORAGE = frozenset(
    {
        f"{STANDARD_PREFIX}{node}.{suffix}"
        for node, suffixes in _SERVICES.items()
        for suffix in suffixes.split()
    }
    | {f"{_PRIVATE_RETRIEVE_ROOT}.{root}.2" for root in (1, 2, 3)}
)


def is_storage(sop_class: str) -> bool:
    """Tell whether instances of the class are objects to be stored."""
    return bool(sop_class) and sop_class not in NON_STORAGE
