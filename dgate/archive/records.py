"""Values that the archive's rooms hand to each other, to services and to delivery. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.rules.session import Session


class Outcome(Enum):
    """What became of an object that was handed to ingest without error."""

    STORED = "stored"
    REWRITTEN = "rewritten"
    IGNORED = "ignored"
    """Known already and `IgnoreRewrite` is set."""
    DROPPED = "dropped"
    """A rule said `destroy`."""
    ASIDE = "aside"
    """Another content is stored already; this one is in `dgate/aside` (`DuplicateContent`)."""


@dataclass(slots=True)
class Arrival:
    """One object at the door of `archive.ingest`. The payload is closed by ingest, whatever
    happens.
    """

    payload: Payload
    syntax: str
    """Transfer Syntax UID of the payload."""
    calling: str
    called: str
    sop_class: str = ""
    """Affected SOP Class UID of the command; empty when the object came as a file."""
    sop_instance: str = ""
    """Affected SOP Instance UID of the command; empty when the object came as a file."""
    skip_rules: bool = False
    """Objects that dgate fetched itself pass no import or export converters (spec dimse.md 2.1)."""
    session: Session | None = None
    """What rules keep for the length of the association; None where there is none."""
    original: ElementTable | None = None
    """The stored object that a script changed into this one, for the record of change."""
    changed_by: str = ""
    """What changed `original`, in words."""
    must_be_new: bool = False
    """The object is refused when the index has its instance already."""
    replaces: bool = False
    """It replaces a stored object of other content, whatever `DuplicateContent` says."""
    decided: bool = False
    """A person has decided that it replaces the stored one, whatever `IgnoreRewrite` says."""
    passed_rules: bool = False
    """Worklist and import converters have seen it before; export converters are to."""
    source: str = ""
    """Who brought it, for the ledger; empty = `calling`."""
    source_host: str = ""
    """Address of the peer."""
    priority: int | None = None
    """How urgent the sender says it is, a `dgate.config.node_settings.Priority`; None = unsaid."""
    digest: str = ""
    """SHA-256 of the data set as it was received; empty until it is needed."""
    size: int = 0
    """Bytes of that."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The durable result of an arrival."""

    outcome: Outcome
    sop_instance: str
    device: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """A stored object as the index knows it."""

    sop_class: str
    sop_instance: str
    patient_id: str
    study: str
    series: str
    device: str
    """`MAGn`, or `SPOOL` for a copy owned by its debts (rulings.md 4)."""
    name: str
    """Path relative to the device, as in column ObjectFile."""


def stored_name(column: str | None) -> str:
    """Return a file name out of the index with `/` between folders: a server on Windows wrote
    backslashes, and no name of dgate's has one."""
    return (column or "").replace("\\", "/")


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an object came to the archive, for the ledger."""

    source: str = ""
    """The calling AE title, or `import`, `folder` and the like."""
    host: str = ""
    """Address of the peer."""
    received: float | None = None
    """Seconds since the epoch; None = not known."""
    digest: str = ""
    """SHA-256 of the data set as it was received, hexadecimal."""
    size: int | None = None
    """Bytes of that."""
    accession: str = ""
    arriving: bool = False
    """It is received now, by the time of the transaction that enters the debt."""


class DebtKind(Enum):
    """What a row of debt asks for."""

    EXPORT = "export"
    """Run one export converter over the object and put its deliveries in this row's place."""
    DELIVER = "deliver"
    """Send the object to one destination."""
    REQUEST = "request"
    """Do something with whole patients, studies or series after a quiet time."""
    MIRROR = "mirror"
    """Copy the stored object to the mirror of its device; nobody outside is owed anything."""
    COMMIT = "commit"
    """Ask a node to commit to the storage of what it has accepted (PS3.4 J)."""
    REPORT = "report"
    """Tell a node what we commit to, which it has asked for."""


@dataclass(frozen=True, slots=True)
class DebtDraft:
    """A debt to be committed with the object's index rows."""

    kind: DebtKind
    destination: str
    """DELIVER: the forward target (AE of acrnema.map or `host[:port]`); EXPORT: `ExportConverterN`.
    """
    rule: str
    calling: str = ""
    called: str = ""
    compression: str = ""
    script: str = ""
    spool: Path | None = None
    """A synced copy of the object as it was at the forward statement; None = the stored object."""
    context: str = ""
    """EXPORT: the captured %-values as JSON (`rules.effects.Captured`); REQUEST: the request."""
    ref: InstanceRef | None = None
    """Whose debt it is, where it replaces one of another object; None = that of the transaction."""
    identity: str = ""
    """REQUEST: equal requests have the same; one that waits has its delay restarted."""
    delay_s: float = 0.0
    """REQUEST: how long it waits."""
    priority: int = 1
    """How urgent it is; `dgate.config.node_settings.Priority`."""
    provenance: Provenance | None = None
    """Where the object came from; None = what is known of the debt that this one replaces."""
