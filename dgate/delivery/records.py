"""The values of the ledger: debts as the dispatcher works on them and as an operator sees them.

Not for how they are stored (`dgate.delivery.ledger`). Pure data, safe between threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from dgate.archive import schema
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef

_T = TypeVar("_T")
_AT_ONCE = 500
"""Numbers in one statement, since databases limit its parameters."""


class State(StrEnum):
    """Where a debt is in its life."""

    QUEUED = "queued"
    """Waits for its time."""
    LEASED = "leased"
    """A running gateway is working on it."""
    HELD = "held"
    """An operator stopped it."""
    STUCK = "stuck"
    """Failed in a way that needs somebody to act."""
    DONE = "done"
    CANCELLED = "cancelled"


OPEN_STATES = tuple(State(state) for state in schema.OPEN_STATES)
"""The states in which something is still owed."""
CLOSED_STATES = (State.DONE, State.CANCELLED)


class Debt(NamedTuple):
    """One claimed row: what a worker needs to pay it."""

    id: int
    kind: DebtKind
    destination: str
    rule: str
    calling: str
    called: str
    compression: str
    script: str
    ref: InstanceRef
    context: str
    """EXPORT: the captured %-values as JSON."""
    attempts: int
    """Tries so far, since the last `queue retry`."""


class Lane(NamedTuple):
    """A destination with the time at which its first waiting debt is due."""

    destination: str
    """The text that the debts name as destination."""
    due: float
    """Seconds since the epoch, by the database's clock."""


class Settlement(NamedTuple):
    """What became of one claimed debt, to be written down."""

    debt: Debt
    state: State | None
    """New state; None = the row is replaced by `drafts`."""
    status: int | None = None
    """C-STORE status, when the peer gave one."""
    error: str = ""
    """Reason of a failure, or the text of a warning."""
    pause_s: float = 0.0
    """QUEUED: not to be tried again before so long has passed."""
    tried: bool = True
    """False: the debt goes back untouched."""
    doubtful: bool = False
    """The object may have arrived: the next try is counted as a possible repeat."""
    drafts: tuple[DebtDraft, ...] = ()
    counted: bool = True
    """False: a rule deferred it, which is no try that failed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger with all that is known about it; times are seconds since the epoch."""

    id: int
    kind: str
    state: str
    destination: str
    rule: str
    calling: str
    called: str
    compression: str
    script: str
    sop_class: str
    sop_instance: str
    patient_id: str
    study: str
    series: str
    device: str
    name: str
    context: str
    due: float
    lease_until: float | None
    owner: str
    attempts: int
    repeats: int
    last_error: str
    last_status: int | None
    """The peer's answer to the last try; -n: the last n tries ended with the server."""
    created: float
    finished: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


ENTRY_COLUMNS = tuple(Entry.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which debts an operator means: those that fulfil every condition given."""

    ids: tuple[int, ...] | None = None
    destination: str | None = None
    states: tuple[State, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the conditions by name, for JSON."""
        return {
            "ids": self.ids,
            "destination": self.destination,
            "states": self.states and [state.value for state in self.states],
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Selection:
        """Return the selection that `as_dict` described."""
        ids, states = values.get("ids"), values.get("states")
        return cls(
            None if ids is None else tuple(int(number) for number in ids),
            values.get("destination"),
            None if states is None else tuple(State(state) for state in states),
        )


@dataclass(frozen=True, slots=True)
class Changed:
    """What an operator's command did."""

    count: int
    """Debts changed."""
    skipped: tuple[tuple[int, str], ...] = ()
    """Debts named by id that were not, with the reason."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return {"count": self.count, "skipped": [list(pair) for pair in self.skipped]}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Changed:
        """Return the result that `as_dict` described."""
        skipped = tuple((int(number), str(reason)) for number, reason in values["skipped"])
        return cls(int(values["count"]), skipped)


@dataclass(frozen=True, slots=True)
class Count:
    """How many debts of one destination are in one state."""

    destination: str
    state: str
    count: int
    oldest: float
    """Creation time of the oldest."""
    repeats: int
    """Possible repeats among them."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


def batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield the items in lists that are short enough for one statement or transaction."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, _AT_ONCE)):
        yield batch
