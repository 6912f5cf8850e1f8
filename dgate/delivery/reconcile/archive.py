"""Our side of a comparison with another archive: studies by date, and how much is in them.

Only reads. Any thread may use it; nothing larger than a span of dates is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgate.archive.connection import Value
from dgate.archive.database import Database
from dgate.archive.levels import Level, Schema
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.records import InstanceRef
from dgate.config.layout import ACCESSION_NUMBER, PATIENT_ID
from dgate.delivery.inquiry import STUDY_DATE, STUDY_TIME, plain_uid
from dgate.rules.effects import ObjectScope

NAMED_AT_ONCE = 250
"""Objects named in one statement."""


@dataclass(frozen=True, slots=True)
class StudyHere:
    """A study of this archive."""

    key: str
    """Its UID as the index spells it."""
    patient_id: str
    accession: str
    date: str
    """As the index has it; empty = none."""
    time: str = ""

    @property
    def uid(self) -> str:
        """Its UID as others spell it."""
        return plain_uid(self.key)


class ArchiveSide:
    """What this archive holds."""

    def __init__(self, database: Database, schema: Schema, holdings: Holdings) -> None:
        self._database = database
        self._holdings = holdings
        _, study, series, image = schema.levels
        columns = [study.key]
        for tag in (PATIENT_ID, ACCESSION_NUMBER, STUDY_DATE, STUDY_TIME):
            place = study.position(tag)
            if place is None and tag == PATIENT_ID:
                place = -1
            columns.append("NULL" if place is None else study.names[place])
        place = study.position(STUDY_DATE)
        self._date = "NULL" if place is None else study.names[place]
        self._studies = f"SELECT {', '.join(columns)} FROM {study.name}"
        self._key = study.key
        uid = f"{series.name}.{series.key}"
        joined = f"{series.name} JOIN {image.name} ON {image.name}.{image.link} = {uid}"
        # Not by GROUP BY, for which SQLite would sort all objects in memory.
        self._counts = database.sql(
            f"SELECT {uid}, (SELECT COUNT(*) FROM {image.name} WHERE {image.name}.{image.link} = "
            f"{uid}) FROM {series.name} WHERE {series.name}.{series.link} = ?"
        )
        self._total = database.sql(
            f"SELECT COUNT(*) FROM {joined} WHERE {series.name}.{series.link} = ?"
        )
        self._known = f"SELECT {image.key} FROM {image.name} WHERE {image.key} IN "
        self._earliest = database.sql(
            f"SELECT MIN({self._date}) FROM {study.name} WHERE {self._date} >= '19000101'"
        )

    def earliest(self) -> str:
        """Return the first study date that can be meant as one; empty when there is none."""
        with self._database.reader() as connection:
            row = connection.execute(self._earliest).fetchone()
        return str(row[0] or "") if row else ""

    def between(self, begin: str, end: str) -> Iterator[StudyHere]:
        """Yield the studies whose date has its text from `begin` to before `end`; empty = no bound.

        Those without a date are not among them.
        """
        conditions, values = [f"{self._date} <> ''"], []
        if begin:
            conditions.append(f"{self._date} >= ?")
            values.append(begin)
        if end:
            conditions.append(f"{self._date} < ?")
            values.append(end)
        yield from self._select(" AND ".join(conditions), values)

    def undated(self) -> Iterator[StudyHere]:
        """Yield the studies without a date."""
        yield from self._select(f"{self._date} IS NULL OR {self._date} = ''", [])

    def study(self, uid: str) -> StudyHere | None:
        """Return a study by its UID."""
        found = self._select(f"{self._key} = ?", [uid])
        return next((study for study in found if study.uid == uid), None)

    def total(self, study: StudyHere) -> int:
        """Return how many objects a study has."""
        with self._database.reader() as connection:
            row = connection.execute(self._total, (study.key,)).fetchone()
        return int(row[0])

    def series(self, study: StudyHere) -> Iterator[tuple[str, int]]:
        """Yield the series of a study as the index spells them, with how many objects each has."""
        for row in self._database.rows(self._counts, (study.key,)):
            if row[1]:
                yield str(row[0]), int(row[1])

    def objects(self, study: StudyHere, series: str) -> Iterator[InstanceRef]:
        """Yield the objects of a series of a study."""
        for ref in self._holdings.each(Level.SERIES, series):
            if ref.study == study.key:
                yield ref

    def number_of(self, scope: ObjectScope) -> int:
        """Return how many objects a series, study or patient has; filters do not count."""
        if not (scope.study or scope.series):
            studies = self._holdings.studies(scope.patient_id)
            return sum(sum(self._counts_of(study).values()) for study in studies)
        if not scope.study:
            return len(self._holdings.select(Level.SERIES, scope.series))
        counts = self._counts_of(scope.study)
        return counts.get(scope.series, 0) if scope.series else sum(counts.values())

    def known(self, sop_instances: Sequence[str]) -> set[str]:
        """Return which of some objects are stored, in whatever study."""
        found: set[str] = set()
        with self._database.reader() as connection:
            for start in range(0, len(sop_instances), NAMED_AT_ONCE):
                batch = sop_instances[start : start + NAMED_AT_ONCE]
                marks = ", ".join("?" * len(batch))
                statement = self._database.sql(f"{self._known}({marks})")
                rows = connection.execute(statement, batch).fetchall()
                found.update(str(row[0]) for row in rows)
        return found

    def _counts_of(self, study: str) -> dict[str, int]:
        with self._database.reader() as connection:
            rows = connection.execute(self._counts, (study,)).fetchall()
        return {str(row[0]): int(row[1]) for row in rows if row[1]}

    def _select(self, condition: str, values: Sequence[Value]) -> Iterator[StudyHere]:
        statement = self._database.sql(f"{self._studies} WHERE {condition}")
        for row in self._database.rows(statement, values):
            key, patient_id, accession, date, time = (str(value or "") for value in row)
            yield StudyHere(
                key, patient_id.strip(), accession.strip(), date.strip(" \0"), time.strip(" \0")
            )
