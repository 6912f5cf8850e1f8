"""The record of change: what rules made of an object, kept with its index rows (`ChangeLog = 1`).

A record has every element that differs, as it came and as it was stored, so that the object can be
made what it was (`dgate.archive.maintenance.restore`). It is written in the transaction that enters
the object: an altered object and its record are there together or not at all. What rules remove for
privacy stands in the record in clear text, but for objects that `deidentify` has been at: of those
there is no record. Pure functions but for `ChangeLog`, which any thread may
use.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.writer import Transaction, Writer
from dgate.config.layout import PATIENT_ID, SOP_UID
from dgate.dicom.deidentify.marks import is_ours
from dgate.dicom.table import ElementTable
from dgate.errors import StoreError

TABLE = "dgate_changes"
COLUMNS = (
    "sop varchar(64) not null, former varchar(64) not null, patient varchar(255) not null, "
    "made double precision not null, rules varchar(1024) not null, content {text} not null"
)
_LONGEST_RULES = 1024
_SHORT_BYTES = 256
"""Up to this size the stored value is kept, too; of a longer one its hash is enough."""


@dataclass(frozen=True, slots=True)
class ElementChange:
    """One top-level element as it came and as it was stored."""

    tag: int
    vr: str
    """Of the value that came; empty when the element was not there."""
    before: bytes | None
    after: bytes | str | None
    """The stored value, or `sha256:...` of a long one; None when the element was removed."""

    def is_still(self, table: ElementTable) -> bool:
        """Tell whether an object has the value that the record says was stored."""
        raw = table.raw(self.tag)
        if isinstance(self.after, str):
            return raw is not None and _digest(raw) == self.after
        return raw == self.after


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What rules changed in one object."""

    sop_instance: str
    """As it was stored."""
    former: str
    """SOP Instance UID as it came."""
    patient_id: str
    """As it was stored."""
    rules: str
    """The rules that changed something, with commas between."""
    syntax: str
    """Transfer syntax in which it came."""
    elements: tuple[ElementChange, ...]
    whole: bytes = b""
    """The data set as it came, where a rule changed the transfer syntax; else empty."""
    made: float = 0.0
    """Seconds since the epoch."""


def record_of(
    original: ElementTable, table: ElementTable, rules: Sequence[str], *, grown: bool = True
) -> ChangeRecord | None:
    """Return the record for an object, None when nothing was changed.

    Args:
        original: a snapshot of the object before rules saw it.
        grown: `table` is what became of the snapshot's own table, and so knows which elements were
            touched; else all elements of both are compared.
    """
    if grown and table.revision == original.revision:
        return None
    if is_ours(table) and not is_ours(original):
        # The way back of a de-identified object is the encrypted table, and no other.
        return None
    elements = []
    touched = table.touched if grown else None
    for tag in sorted({*original.tags(), *table.tags()} if touched is None else touched):
        before, after = original.raw(tag), table.raw(tag)
        if before == after and (before is None or original.vr(tag) == table.vr(tag)):
            continue
        kept = after if after is None or len(after) <= _SHORT_BYTES else _digest(after)
        vr = "" if before is None else original.vr(tag)
        elements.append(ElementChange(tag, vr, before, kept))
    is_same_syntax = original.syntax == table.syntax
    if not elements and is_same_syntax:
        return None
    return ChangeRecord(
        table.text(SOP_UID),
        original.text(SOP_UID),
        table.text(PATIENT_ID),
        ", ".join(rules)[:_LONGEST_RULES],
        original.syntax,
        tuple(elements),
        b"" if is_same_syntax else original.tobytes(),
    )


def revert(record: ChangeRecord, table: ElementTable) -> None:
    """Make a stored object what it was before rules changed it; `table` is changed in place.

    Raises:
        StoreError: the object has been changed since the record was made.
    """
    others = [change for change in record.elements if not change.is_still(table)]
    if others:
        tags = ", ".join(f"({one.tag >> 16:04X},{one.tag & 0xFFFF:04X})" for one in others[:5])
        raise StoreError(
            f"the object {record.sop_instance} has been changed since: {tags}",
            remedy="what was changed later must be taken back first",
        )
    if record.whole:
        table.replace(record.whole, record.syntax)
        return
    for change in record.elements:
        if change.before is None:
            table.delete(change.tag)
        else:
            table.set_raw(change.tag, change.vr, change.before)


def prepare_changes(
    connection: Connection, existing: Collection[str], indices: Collection[str], options: str
) -> None:
    """Create what is missing of the table; raises the driver's errors.

    Args:
        existing: the tables that are there, in lower case.
        indices: the names of the indices that are there.
        options: what CREATE TABLE ends with; not empty on MariaDB only.
    """
    if TABLE not in existing:
        # What MariaDB calls text ends at 64 kB.
        columns = COLUMNS.format(text="longtext" if options else "text")
        connection.execute(f"CREATE TABLE {TABLE} ({columns}){options}")
    for name, column in (("dgate_changes_sop", "sop"), ("dgate_changes_made", "made")):
        if name not in indices:
            connection.execute(f"CREATE INDEX {name} ON {TABLE} ({column})")


class ChangeLog:
    """The records of one archive."""

    def __init__(self, database: Database) -> None:
        self._database = database
        sql = database.sql
        names = "sop, former, patient, made, rules, content"
        self._insert = sql(f"INSERT INTO {TABLE} ({names}) VALUES (?, ?, ?, ?, ?, ?)")
        self._select = sql(f"SELECT {names} FROM {TABLE} WHERE sop = ? ORDER BY made DESC")
        self._prune = sql(f"DELETE FROM {TABLE} WHERE made < ?")
        self._forget = sql(f"DELETE FROM {TABLE} WHERE sop = ? AND made = ?")

    def add(self, record: ChangeRecord, transaction: Transaction, now: float) -> None:
        """Enter a record, in the transaction that enters its object."""
        values = (record.sop_instance, record.former, record.patient_id, now, record.rules)
        transaction.execute(self._insert, (*values, _packed(record)))

    def of(self, sop_instance: str) -> Iterator[ChangeRecord]:
        """Yield the records of an object as it is stored, the latest first; raises StoreError."""
        for row in self._database.rows(self._select, (sop_instance,)):
            yield _unpacked(row[:5], row[5])

    def forget(self, transaction: Transaction, record: ChangeRecord) -> None:
        """Remove a record: what it tells of has been taken back."""
        transaction.execute(self._forget, (record.sop_instance, record.made))

    def prune(self, writer: Writer, before: float) -> int:
        """Remove the records made before a time; return how many."""
        statement = self._prune
        return writer.transact(
            lambda transaction: transaction.execute(statement, (before,)).rowcount
        )


def _digest(value: bytes) -> str:
    return f"sha256:{hashlib.sha256(value).hexdigest()}"


def _packed(record: ChangeRecord) -> str:
    elements = [
        [change.tag, change.vr, _text(change.before), _after_text(change.after)]
        for change in record.elements
    ]
    content = {"syntax": record.syntax, "elements": elements, "whole": _text(record.whole)}
    packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode())
    return base64.b64encode(packed).decode("ascii")


def _unpacked(row: Sequence[object], content: str) -> ChangeRecord:
    sop, former, patient, made, rules = row
    try:
        found = json.loads(zlib.decompress(base64.b64decode(content)))
        elements = tuple(
            ElementChange(int(tag), str(vr), _bytes(before), _after(after))
            for tag, vr, before, after in found["elements"]
        )
        whole = _bytes(found["whole"]) or b""
        syntax = str(found["syntax"])
    except (ValueError, TypeError, KeyError, zlib.error) as exc:
        raise StoreError(f"the record of change of {sop} cannot be read: {exc}") from exc
    return ChangeRecord(
        str(sop), str(former), str(patient), str(rules), syntax, elements, whole, float(str(made))
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _after_text(value: bytes | str | None) -> str | None:
    return value if isinstance(value, str) else _text(value)


def _after(text: str | None) -> bytes | str | None:
    return text if text is not None and text.startswith("sha256:") else _bytes(text)
