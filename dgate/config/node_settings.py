"""What a section `[node NAME]` of dicom.ini sets for one node, as values.

Not for reading the file (`dgate.config.node_sections`) nor for the node's address
(`dgate.config.nodes`). Frozen, safe between threads. What is None or empty here leaves the general
setting in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

AS_STORED = "as"
"""Stands among transfer syntaxes for the one that the object is stored in."""
FALLBACK_MIN = 60.0
MEMBER_DOWN_MIN = 1.0


class Priority(IntEnum):
    """How urgent a delivery is; the smaller number goes first."""

    STAT = 0
    NORMAL = 1
    BULK = 2


class Expect(Enum):
    """From whom it is known how many objects a study will have that a node sends us."""

    NOBODY = "no"
    QUERY = "yes"
    """The node is asked by C-FIND."""
    STEPS = "mpps"
    """Performed procedure steps name the objects."""


@dataclass(frozen=True, slots=True)
class Span:
    """Some hours of some days of the week, in local time."""

    begin_min: int
    """Minutes after midnight, 0 to 1439."""
    end_min: int
    """Minutes after midnight, 1 to 1440; not later than `begin_min`: it ends on the next day."""
    days: frozenset[int] = frozenset(range(7))
    """Days on which it begins; Monday is 0."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A bandwidth, and when it counts."""

    kbit_s: float
    """Thousands of bits in a second; 0 = no limit."""
    span: Span | None = None
    """None = whenever no other rate counts."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The settings of one node."""

    # Sending to it.
    associations: int | None = None
    """Associations at the same time; None = DelayedForwarderThreads."""
    objects_per_association: int = 0
    """0 = any number."""
    connect_timeout_s: float | None = None
    response_timeout_s: float | None = None
    deadline_s: float | None = None
    """Longest time that one object may take; None = as its size allows."""
    transfer_syntaxes: tuple[str, ...] = ()
    """UIDs, the one liked best first, and AS_STORED; empty = by the compression code of
    acrnema.map."""
    window: tuple[Span, ...] = ()
    """When anything is sent; empty = always."""
    bulk_window: tuple[Span, ...] = ()
    """When deliveries of the priority bulk are sent; empty = as `window`."""
    bandwidth: tuple[Rate, ...] = ()

    # What failures lead to.
    retry_first_s: float | None = None
    retry_max_s: float | None = None
    retry_delay_s: float | None = None
    fail_hold_off_s: float | None = None
    maximum_export_retries: int | None = None
    statuses: tuple[tuple[int, int, str], ...] = ()
    """First and last DIMSE status, and what they mean: `retry`, `fail`, `delivered` or `wait`."""
    errors: tuple[tuple[str, str], ...] = ()
    """What failures of the association mean, by the words of `dgate.config.node_values.ERRORS`."""
    fallback: str = ""
    """The node that gets what this one has not taken in time."""
    fallback_after_min: float | None = None
    """None = FALLBACK_MIN for the fallback node, MEMBER_DOWN_MIN for a group."""
    group: str = ""
    """Members of a group share what is forwarded to the group's name."""

    # Proof.
    commit: bool = False
    """Whether a delivery counts only when the node has committed to storage (PS3.4 J)."""
    commit_timeout_s: float = 3600.0
    """After so long without its N-EVENT-REPORT the node is asked again."""
    commit_wait_s: float = 2.0
    """How long accepted objects are gathered into one request."""
    commit_before_delete: bool = False
    """Whether clean-up spares what the node has not committed."""
    reconcile: tuple[Span, ...] = ()
    """When the archive is compared with the node; empty = only by command."""
    reconcile_days: int = 7
    """How many days back the schedule looks, by study date."""
    reconcile_level: str = "study"
    """Down to which level the schedule compares: `study`, `series` or `object`."""
    reconcile_send: bool = False
    reconcile_fetch: bool = False

    # What it sends.
    priority: Priority | None = None
    """How urgent is what this node sends us; None = by the Priority (0000,0700) of its C-STORE."""
    expect_counts: Expect = Expect.NOBODY
    """Who says how many objects a study has that it sends us, to end a quiet time early."""


DEFAULT = NodeSettings()


@dataclass(frozen=True, slots=True)
class NodeTable:
    """The settings of all nodes."""

    by_title: dict[str, NodeSettings] = field(default_factory=dict)
    """By the title in lower case, as in the section's name."""
    written: dict[str, str] = field(default_factory=dict)
    """How the sections' names spell these titles, where that is known."""

    def of(self, title: str) -> NodeSettings:
        """Return what is set for an AE title; `[node ABC*]` is for titles without their own."""
        lower = title.strip().lower()
        found = self.by_title.get(lower)
        if found is not None:
            return found
        for pattern, settings in self.by_title.items():
            if pattern.endswith("*") and lower.startswith(pattern[:-1]):
                return settings
        return DEFAULT

    def members(self, group: str) -> tuple[str, ...]:
        """Return the titles of a load-sharing group, in the order of the file."""
        wanted = group.strip().lower()
        return tuple(
            self.written.get(title, title)
            for title, node in self.by_title.items()
            if node.group.lower() == wanted
        )
