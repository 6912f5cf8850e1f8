"""What rules want done: the values that rules return and that ingest and delivery carry out.

Rules never act themselves; the same values feed `dgate trace`. Pure data, safe between threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dgate.dicom.table import ElementTable


class Outcome(Enum):
    """What a chain of import converters decided about the object (spec converters.md section 5)."""

    KEEP = "keep"
    DESTROY = "destroy"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Forward:
    """One direct `forward to` of one object (spec converters.md 8.5), all %-tokens substituted."""

    target: str
    """The text after `to`: an AE of acrnema.map, or `host[:port]`."""
    rule: str
    """The statement that asked for it, as `ExportConverter0.1` (converter, statement number)."""
    calling: str | None = None
    """`org`: calling AE title instead of MyACRNema."""
    called: str | None = None
    """`dest`: called AE title instead of the target text."""
    compression: str | None = None
    """`compressed as`: code with quality digits, overriding the node's."""
    script: str | None = None
    """`script`: import-style statements run on the copy that is sent."""


@dataclass(frozen=True, slots=True)
class ObjectScope:
    """Which stored objects a request means: all conditions hold; empty ones do not count."""

    patient_id: str = ""
    study: str = ""
    series: str = ""
    sop_instance: str = ""
    date: str = ""
    """(0008,0020), one date or a range as in a query: `20260101-20260131`."""
    modality: str = ""
    image_type: str = ""
    """(0008,0008); wildcards."""
    series_description: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One delayed operation on what an object belongs to (spec converters.md 8.6, 8.7).

    All %-tokens are substituted. Two requests that are equal but for `rule` and `delay_s` are the
    same: the later one restarts the delay of the earlier.
    """

    operation: str
    """`forward get delete process merge submit submit2 prefetch preretrieve`."""
    level: str
    """`patient study series image`."""
    scope: ObjectScope
    rule: str = field(compare=False)
    """The statement that asked for it, as `ExportConverter0.1`."""
    delay_s: float | None = field(default=None, compare=False)
    """Quiet time before it is worked off; None = ForwardCollectDelay."""
    peer: str = ""
    """The node of `to` and `from`; USER@HOST:FOLDER of `submit`."""
    compression: str = ""
    split: str = ""
    """`N/M`: every M-th object, from the Nth on."""
    script: str = ""
    arguments: tuple[str, ...] = ()
    """`process`: the program and its arguments; `submit2`: its command with `%s` for zip file and
    target."""
    lua_file: str = ""
    """`process`: the Lua file instead of a program; `arguments` then holds its command line."""
    password: str = field(default="", repr=False)
    own: tuple[str, ...] = field(default=(), compare=False)
    """The fields of `scope` that have the object's own IDs, as they were at the statement; those
    that a clause named are not among them."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What an export converter wants for one stored object."""

    forwards: tuple[Forward, ...] = ()
    requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportForward:
    """A forward asked for by an import converter, with the object as it was at that statement."""

    forward: Forward
    snapshot: ElementTable


@dataclass(slots=True)
class ImportVerdict:
    """Everything that the import converters decided about one object."""

    outcome: Outcome = Outcome.KEEP
    device: str | None = None
    """`storage MAGn`: preferred device."""
    forwards: list[ImportForward] = field(default_factory=list)
    reason: str = ""
    """Which converter destroyed or rejected the object, for log and error comment."""
    requests: list[Request] = field(default_factory=list)
    """Delayed operations that were asked for."""
    changed_by: list[str] = field(default_factory=list)
    """The converters that changed something in the object."""


@dataclass(slots=True)
class Decision:
    """What an event converter decided (spec converters.md section 3); its table says the rest."""

    outcome: Outcome = Outcome.KEEP
    reason: str = ""
    """Which statement destroyed or rejected, for log and error comment."""
    retry: bool = False
    """A refused object is to be tried once more."""
    forwards: list[ImportForward] = field(default_factory=list)
    """Forwards of a refused object; empty for all other events."""
    requests: list[Request] = field(default_factory=list)
    """Delayed operations that were asked for."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The %-values captured when an object arrives (spec converters.md 2, steps 7 and 9)."""

    modality: str
    station: str
    sop_instance: str
    patient_id: str
    calling: str
    called: str


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What one active export converter owes for a stored object.

    `forwards` when the line consists of filters, tests and forwards that could be decided at
    intake; `deferred` when it must be expanded by the dispatcher (rulings.md 9), then `forwards`
    is empty.
    """

    converter: int
    forwards: tuple[Forward, ...] = ()
    deferred: bool = False
    digest: str = field(default="", compare=False)
    """Of the line that was deferred, so that it is found again should its number change."""
