"""What modalities tell of the procedure steps that they perform (MPPS, PS3.4 F.7), and which
objects these have made.

A step is kept until nothing was heard of it for `LedgerDays` (`changed` counts), and longer while
an older request waits (`dgate.delivery.history`). Not for DIMSE
(`dgate.services.performed_steps`), nor for what follows from a step
(`dgate.delivery.expected_steps`). Any thread may use a `Steps`: questions borrow a reader
connection, changes go through the writer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial
from typing import Any

from dgate.archive.batches import batches
from dgate.archive.connection import Connection, Value
from dgate.archive.database import Database
from dgate.archive.levels import Schema
from dgate.archive.writer import CONFLICT_TRIES, Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.errors import DatabaseAway, StoreError

STEP_COLUMNS = (
    "uid varchar(64) PRIMARY KEY not null, state varchar(16) not null, peer varchar(64) not null, "
    "station varchar(16) not null, step_id varchar(16) not null, modality varchar(16) not null, "
    "patient varchar(64) not null, accession varchar(16) not null, begun varchar(32) not null, "
    "ended varchar(32) not null, received double precision not null, "
    "changed double precision not null, closed double precision, revision integer not null, "
    "named integer not null, content {text} not null"
)
"""Columns of `dgate_steps`: performed procedure steps by their SOP Instance UID. `state` is as the
modality writes it (0040,0252), `peer` the AE title that told of it; `begun` and `ended` are date
and time as the modality says; `received`, `changed` and `closed` (when it was completed or
discontinued) Unix seconds of ours; `revision` how often it was changed; `named` how many objects
there are in `content`, which has the objects as JSON, a list of series with their objects."""
STUDY_COLUMNS = "study varchar(64) not null, step varchar(64) not null, PRIMARY KEY (study, step)"
"""Columns of `dgate_step_studies`: which steps belong to a study."""

_LENGTHS = {
    "station": 16,
    "step_id": 16,
    "modality": 16,
    "patient": 64,
    "accession": 16,
    "begun": 32,
    "ended": 32,
}
_NAMES = (
    "uid, state, peer, station, step_id, modality, patient, accession, begun, ended, received, "
    "changed, closed, revision, named, content"
)
_COLUMN_COUNT = _NAMES.count(",") + 1
_EXISTS = "SELECT 1 FROM dgate_steps WHERE uid = ?"
_OPEN = "SELECT count(*) FROM dgate_steps WHERE peer = ? AND state = 'IN PROGRESS'"
_INSERT = f"INSERT INTO dgate_steps ({_NAMES}) VALUES ({', '.join('?' * _COLUMN_COUNT)})"
_ENTER_STUDY = "INSERT INTO dgate_step_studies (study, step) VALUES (?, ?)"
_LOAD = f"SELECT {_NAMES} FROM dgate_steps WHERE uid = ?"
_UPDATE = (
    "UPDATE dgate_steps SET state = ?, ended = ?, changed = ?, closed = ?, "
    "revision = ?, named = ?, content = ? WHERE uid = ? AND revision = ?"
)
_STUDIES = "SELECT study FROM dgate_step_studies WHERE step = ? ORDER BY study"
_OTHERS = (
    "SELECT count(*), sum(named) FROM dgate_step_studies JOIN dgate_steps ON step = uid "
    "WHERE study IN ({}) AND uid <> ? GROUP BY study"
)
_ENDS = (
    "SELECT uid, closed FROM dgate_steps JOIN dgate_step_studies ON step = uid "
    "WHERE study = ? ORDER BY uid"
)
MOST_OF_STUDY = 100
"""Steps that a study may have..."""
MOST_NAMED_OF_STUDY = 100_000
"""...and objects that these may name: whoever looks whether the study is complete looks at all."""
_PAGE = 500
"""Rows that are removed in one transaction."""
AT_ONCE = 200
"""UIDs that one question to the index names."""


class StepState(Enum):
    """Performed Procedure Step Status (0040,0252; PS3.3 C.4.14)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"

    @property
    def is_final(self) -> bool:
        """Tell whether the step has ended; it cannot be changed any more."""
        return self is not StepState.IN_PROGRESS


@dataclass(frozen=True, slots=True)
class PerformedSeries:
    """A series that a step has made."""

    uid: str
    """Series Instance UID; empty where the modality does not say."""
    objects: tuple[str, ...]
    """SOP Instance UIDs."""


@dataclass(frozen=True, slots=True)
class Step:
    """One performed procedure step."""

    uid: str
    """SOP Instance UID."""
    state: StepState
    studies: tuple[str, ...]
    """Study Instance UIDs of what was scheduled."""
    peer: str
    """AE title that told of it."""
    station: str = ""
    """Performed Station AE Title."""
    step_id: str = ""
    modality: str = ""
    patient: str = ""
    """Patient ID."""
    accession: str = ""
    begun: str = ""
    """Date and time as the modality says, `YYYYMMDDhhmmss`."""
    ended: str = ""
    series: tuple[PerformedSeries, ...] = ()
    received: float = 0.0
    """When it was created, in Unix seconds."""
    closed: float | None = None
    """When it ended, in Unix seconds by the clock of the database; None = it has not."""

    def objects(self, series: str = "") -> list[str]:
        """Return the SOP Instance UIDs that it names, of one series if that is given."""
        named = (each.objects for each in self.series if series in ("", each.uid))
        return list(dict.fromkeys(uid for objects in named for uid in objects))


@dataclass(frozen=True, slots=True)
class StepChange:
    """What is to become of a step; None leaves a value as it is."""

    state: StepState | None = None
    ended: str | None = None
    series: tuple[PerformedSeries, ...] | None = None


class Outcome(Enum):
    """What became of an attempt to write a step, in the words that its modality is told."""

    DONE = "done"
    EXISTS = "there is a step with this UID"
    UNKNOWN = "there is no step with this UID"
    ENDED = "Performed Procedure Step Object may no longer be updated"
    TOO_MANY = "too many steps of this AE title are in progress"
    CROWDED = "too many steps of this study, or objects that they name"


def prepare_steps(
    connection: Connection, existing: Collection[str], indices: Collection[str], options: str
) -> None:
    """Create what is missing of the tables; raises the driver's errors.

    Args:
        existing: the tables that are there, in lower case.
        indices: the names of the indices that are there.
        options: what CREATE TABLE ends with; not empty on MariaDB only.
    """
    # What MariaDB calls text ends at 64 kB.
    steps = STEP_COLUMNS.format(text="longtext" if options else "text")
    for table, columns in (("dgate_steps", steps), ("dgate_step_studies", STUDY_COLUMNS)):
        if table not in existing:
            connection.execute(f"CREATE TABLE {table} ({columns}){options}")
    for name, table, columns in (
        ("dgate_steps_peer", "dgate_steps", "peer, state"),
        ("dgate_steps_changed", "dgate_steps", "changed"),
        ("dgate_step_studies_step", "dgate_step_studies", "step"),
    ):
        if name not in indices:
            connection.execute(f"CREATE INDEX {name} ON {table} ({columns})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which steps are to be listed; empty texts mean any."""

    study: str = ""
    state: str = ""
    """As `StepState` writes it."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Ends:
    """How far the steps of a study are."""

    steps: tuple[tuple[str, float], ...] = ()
    """UID of each step and when it ended; empty where one has not, or none is known."""

    def __bool__(self) -> bool:
        """Tell whether there are steps and all have ended."""
        return bool(self.steps)

    @property
    def last(self) -> float:
        """When the last one ended."""
        return max(closed for _, closed in self.steps)


class Steps:
    """The performed procedure steps that are known."""

    def __init__(self, database: Database, schema: Schema, writer: Writer, clock: Clock) -> None:
        self._database = database
        self._schema = schema
        self._writer = writer
        self._clock = clock

    # Changes.

    def create(self, step: Step, most: int) -> Outcome:
        """Enter a step that has begun; it is committed when this returns DONE.

        Args:
            most: so many steps of one AE title may be in progress.

        Raises:
            StoreError: it could not be written down.
        """

        def work(transaction: Transaction) -> Outcome:
            execute = transaction.execute
            if execute(self._sql(_EXISTS), (step.uid,)).fetchone() is not None:
                return Outcome.EXISTS
            if execute(self._sql(_OPEN), (step.peer,)).fetchone()[0] >= most:
                return Outcome.TOO_MANY
            if self._is_crowded(transaction, step):
                return Outcome.CROWDED
            now = database_time(self._database, self._clock, transaction)
            closed = now if step.state.is_final else None
            fitting = [_fit(name, getattr(step, name)) for name in _LENGTHS]
            head = (step.uid, step.state.value, step.peer, *fitting, now, now, closed)
            execute(self._sql(_INSERT), (*head, 0, len(step.objects()), _packed(step)))
            studies = [(study, step.uid) for study in dict.fromkeys(step.studies)]
            transaction.executemany(self._sql(_ENTER_STUDY), studies)
            return Outcome.DONE

        return self._writer.transact(work)

    def change(self, uid: str, change: StepChange) -> tuple[Outcome, Step | None]:
        """Change a step that is in progress; committed when this returns DONE, with what became of
        it.

        Raises:
            StoreError: it could not be written down.
        """
        for _ in range(CONFLICT_TRIES):
            done = self._writer.transact(partial(self._try_change, uid, change))
            if done is not None:
                return done
        raise DatabaseAway(f"other gateways change the performed procedure step {uid} all the time")

    def _try_change(
        self, uid: str, change: StepChange, transaction: Transaction
    ) -> tuple[Outcome, Step | None] | None:
        """Do what `change` does; None when another gateway changed it in between, which must not
        be lost."""
        row = transaction.execute(self._sql(_LOAD), (uid,)).fetchone()
        if row is None:
            return Outcome.UNKNOWN, None
        before = _step(row, self._studies(transaction, uid))
        if before.state.is_final:
            return Outcome.ENDED, before
        after = _changed(before, change)
        if change.series is not None and self._is_crowded(transaction, after):
            return Outcome.CROWDED, before
        revision = int(row[13])
        now = database_time(self._database, self._clock, transaction)
        values = (
            after.state.value,
            _fit("ended", after.ended),
            now,
            now if after.state.is_final else None,
            revision + 1,
            len(after.objects()),
            _packed(after),
            uid,
            revision,
        )
        if not transaction.execute(self._sql(_UPDATE), values).rowcount:
            return None
        return Outcome.DONE, after

    def _is_crowded(self, transaction: Transaction, step: Step) -> bool:
        """Tell whether one of its studies cannot have this step besides its others."""
        studies, named = tuple(dict.fromkeys(step.studies)), len(step.objects())
        for batch in batches(studies, AT_ONCE):
            sql = self._sql(_OTHERS.format(", ".join("?" * len(batch))))
            for count, others in transaction.execute(sql, (*batch, step.uid)).fetchall():
                if count >= MOST_OF_STUDY or int(others) + named > MOST_NAMED_OF_STUDY:
                    return True
        return False

    # Questions; all raise DatabaseAway.

    def find(self, uid: str) -> Step | None:
        """Return a step by its SOP Instance UID; raises StoreError when it cannot be read."""
        with self._database.reader() as connection:
            row = connection.execute(self._sql(_LOAD), (uid,)).fetchone()
            return None if row is None else _step(row, self._studies(connection, uid))

    def ends(self, study: str) -> Ends:
        """Return how far the steps of a study are; cheap."""
        with self._database.reader() as connection:
            rows = connection.execute(self._sql(_ENDS), (study,)).fetchall()
        if any(row[1] is None for row in rows):
            return Ends()
        return Ends(tuple((str(row[0]), float(row[1])) for row in rows))

    def select(self, wanted: Wanted) -> list[str]:
        """Return the SOP Instance UIDs of steps, of those that were heard of last first."""
        conditions, values = ["1 = 1"], list[Value]()
        if wanted.study:
            conditions.append("uid IN (SELECT step FROM dgate_step_studies WHERE study = ?)")
            values.append(wanted.study)
        if wanted.state:
            conditions.append("state = ?")
            values.append(wanted.state)
        sql = self._sql(
            f"SELECT uid FROM dgate_steps WHERE {' AND '.join(conditions)} "
            f"ORDER BY changed DESC, uid LIMIT {int(wanted.limit)}"
        )
        with self._database.reader() as connection:
            return [str(uid) for (uid,) in connection.execute(sql, tuple(values)).fetchall()]

    def stored(self, objects: Sequence[str]) -> set[str]:
        """Return those of the SOP instances that the index has; without an index none."""
        found: set[str] = set()
        if not self._schema.levels:
            return found
        image = self._schema.levels[-1]
        with self._database.reader() as connection:
            for batch in batches(objects, AT_ONCE):
                marks = ", ".join("?" * len(batch))
                sql = f"SELECT {image.key} FROM {image.name} WHERE {image.key} IN ({marks})"
                rows = connection.execute(self._sql(sql), tuple(batch)).fetchall()
                found.update(str(row[0]).strip(" \0") for row in rows)
        return found

    def _studies(self, connection: Connection | Transaction, uid: str) -> tuple[str, ...]:
        rows = connection.execute(self._sql(_STUDIES), (uid,)).fetchall()
        return tuple(str(row[0]) for row in rows)

    def _sql(self, text: str) -> str:
        return self._database.sql(text)


def prune_steps(
    database: Database,
    writer: Writer,
    before: float,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Forget steps of which nothing was heard since a time, ended or not; return how many."""
    page = database.sql(
        f"SELECT uid FROM dgate_steps WHERE changed < ? ORDER BY changed LIMIT {_PAGE}"
    )
    count = 0
    while not is_stopping():
        with database.reader() as connection:
            uids = [str(uid) for (uid,) in connection.execute(page, (before,)).fetchall()]
        if not uids:
            break
        count += writer.transact(partial(_forget, database, uids, before))
    return count


def _forget(
    database: Database, uids: Sequence[str], before: float, transaction: Transaction
) -> int:
    """Forget those of the steps of which nothing was heard meanwhile either; return how many."""
    step = database.sql("DELETE FROM dgate_steps WHERE uid = ? AND changed < ?")
    studies = database.sql("DELETE FROM dgate_step_studies WHERE step = ?")
    count = 0
    for uid in uids:
        if transaction.execute(step, (uid, before)).rowcount:
            transaction.execute(studies, (uid,))
            count += 1
    return count


def _changed(before: Step, change: StepChange) -> Step:
    given = ((each.name, getattr(change, each.name)) for each in fields(StepChange))
    return replace(before, **{name: value for name, value in given if value is not None})


def _fit(name: str, text: str) -> str:
    """Return a text as its column takes it, on every engine."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[: _LENGTHS[name]]


def _packed(step: Step) -> str:
    return json.dumps([[each.uid, each.objects] for each in step.series], separators=(",", ":"))


def _step(row: Sequence[Any], studies: tuple[str, ...]) -> Step:
    """Return the step of a row; raises StoreError for one that dgate did not write."""
    try:
        series = tuple(
            PerformedSeries(str(uid), tuple(map(str, objects)))
            for uid, objects in json.loads(row[15])
        )
        state = StepState(row[1])
    except (ValueError, TypeError) as exc:
        raise StoreError(f"the performed procedure step {row[0]} cannot be read: {exc}") from exc
    peer, station, step_id, modality, patient, accession, begun, ended = map(str, row[2:10])
    return Step(
        str(row[0]),
        state,
        studies,
        peer,
        station=station,
        step_id=step_id,
        modality=modality,
        patient=patient,
        accession=accession,
        begun=begun,
        ended=ended,
        series=series,
        received=float(row[10]),
        closed=None if row[12] is None else float(row[12]),
    )
