"""The values of the ledger: debts as the dispatcher works on them and as an operator sees them.

Not for how they are stored (`dgate.delivery.ledger`). Pure data, safe between threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from dgate.archive import debttable
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef, Provenance


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
    COMMITTING = "committing"
    """The peer has the object, and has not yet taken responsibility for it (PS3.4 J)."""
    DONE = "done"
    CANCELLED = "cancelled"


OPEN_STATES = tuple(State(state) for state in debttable.OPEN_STATES)
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
    priority: int = 1
    """`dgate.config.node_settings.Priority`."""
    provenance: Provenance = Provenance()
    created: float = 0.0
    """When it was entered, in seconds since the epoch by the database's clock."""
    origin: str = ""
    """The destination that it had first, where it was sent elsewhere."""


class Due(NamedTuple):
    """A destination with the time at which its first waiting debt is due."""

    destination: str
    """The text that the debts name as destination."""
    due: float
    """Seconds since the epoch, by the database's clock."""
    priority: int = 1
    """The most urgent of what is due now, else of what is due first."""
    dues: tuple[float | None, ...] = ()
    """When the first debt of each priority is due, most urgent first; None = there is none."""


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
    seconds: float | None = None
    """How long the try took."""
    sent: tuple[str, str] | None = None
    """COMMITTING: SOP Class and Instance UID that it was sent under; it is asked for after
    `pause_s`."""


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
    priority: int = 1
    """0 stat, 1 normal, 2 bulk."""
    source: str = ""
    """Who brought the object: a calling AE title, or `import` and the like."""
    source_host: str = ""
    received: float | None = None
    digest: str = ""
    """SHA-256 of the data set as it was received, hexadecimal."""
    size: int | None = None
    """Bytes of that."""
    accession: str = ""
    accepted: float | None = None
    """When the peer answered success."""
    committed: float | None = None
    """When the peer took responsibility for it."""
    commitment: str = ""
    """Transaction UID of the request that asks the peer to."""
    why: str = ""
    """What the operator gave as a reason."""
    origin: str = ""
    """The destination before it was sent elsewhere."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


ENTRY_COLUMNS = tuple(Entry.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Try:
    """One try to pay a debt."""

    at: float
    """When its outcome was written, in seconds since the epoch."""
    destination: str
    outcome: str
    """The state that followed; `queued` = to be tried again."""
    status: int | None
    """The peer's answer."""
    error: str
    seconds: float | None
    """How long it took."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What an operator did to a debt."""

    at: float
    decision: str
    """The name of the command."""
    who: str
    why: str
    destination: str
    """Where the debt was to go before."""


@dataclass(frozen=True, slots=True)
class Life:
    """One debt with all that happened to it."""

    entry: Entry
    tries: tuple[Try, ...] = ()
    decisions: tuple[Decision, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Life:
        """Return the life that `as_dict` described."""
        return cls(
            Entry(**values["entry"]),
            tuple(Try(**one) for one in values["tries"]),
            tuple(Decision(**one) for one in values["decisions"]),
        )


@dataclass(frozen=True, slots=True)
class Order:
    """Who gives an order to the queue, and why."""

    who: str = ""
    """The user of the operating system, where known."""
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which debts an operator means: those that fulfil every condition given."""

    ids: tuple[int, ...] | None = None
    destination: str | None = None
    states: tuple[State, ...] | None = None
    accession: str | None = None
    patient: str | None = None
    """Patient ID."""
    study: str | None = None
    series: str | None = None
    sop: str | None = None
    rule: str | None = None
    """`ExportConverter0` means all of its lines."""
    since: float | None = None
    """When the debt was entered, at the earliest; seconds since the epoch."""
    until: float | None = None
    """The same at the latest."""

    @property
    def is_everything(self) -> bool:
        """Tell whether nothing is excluded."""
        return self == Selection()

    def as_dict(self) -> dict[str, Any]:
        """Return the conditions by name, for JSON."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if self.states is not None:
            given["states"] = [state.value for state in self.states]
        return given

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Selection:
        """Return the selection that `as_dict` described.

        Raises:
            TypeError, ValueError: it is none.
        """
        given = {name: value for name, value in values.items() if value is not None}
        if "ids" in given:
            given["ids"] = tuple(int(number) for number in given["ids"])
        if "states" in given:
            given["states"] = tuple(State(state) for state in given["states"])
        for name in ("since", "until"):
            if name in given:
                given[name] = float(given[name])
        for name in _TEXTS:
            if not isinstance(given.get(name, ""), str):
                raise TypeError(f"{name} is no text")
        return cls(**given)


_TEXTS = ("destination", "accession", "patient", "study", "series", "sop", "rule")


@dataclass(frozen=True, slots=True)
class Changed:
    """What an operator's command did."""

    count: int
    """Debts changed."""
    skipped: tuple[tuple[int, str], ...] = ()
    """Debts named by id that were not, with the reason."""
    busy: int = 0
    """Debts meant otherwise that were not, because they are being worked on."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        skipped = [list(pair) for pair in self.skipped]
        return {"count": self.count, "skipped": skipped, "busy": self.busy}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Changed:
        """Return the result that `as_dict` described."""
        skipped = tuple((int(number), str(reason)) for number, reason in values["skipped"])
        return cls(int(values["count"]), skipped, int(values.get("busy", 0)))


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
