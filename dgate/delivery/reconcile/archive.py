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
from dgate.delivery.inquiry import STUDY_DATE, plain_uid
from dgate.rules.effects import ObjectScope


@dataclass(frozen=True, slots=True)
class StudyHere:
    """A study of this archive."""

    key: str
    """Its UID as the index spells it."""
    patient_id: str
    accession: str
    date: str
    """As the index has it; empty = none."""

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
        for tag in (PATIENT_ID, ACCESSION_NUMBER, STUDY_DATE):
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
        self._counts = database.sql(
            f"SELECT {uid}, COUNT(*) FROM {joined} WHERE {series.name}.{series.link} = ? "
            f"GROUP BY {uid}"
        )
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

    def counts(self, study: StudyHere) -> dict[str, int]:
        """Return how many objects each series of a study has, by its UID as the index spells it."""
        return self._counts_of(study.key)

    def objects(self, study: StudyHere, series: str) -> list[InstanceRef]:
        """Return the objects of a series of a study."""
        refs = self._holdings.select(Level.SERIES, series)
        return [ref for ref in refs if ref.study == study.key]

    def number_of(self, scope: ObjectScope) -> int:
        """Return how many objects a series, study or patient has; filters do not count."""
        if not (scope.study or scope.series):
            studies = self._holdings.studies(scope.patient_id)
            return sum(sum(self._counts_of(study).values()) for study in studies)
        if not scope.study:
            return len(self._holdings.select(Level.SERIES, scope.series))
        counts = self._counts_of(scope.study)
        return counts.get(scope.series, 0) if scope.series else sum(counts.values())

    def has(self, sop_instance: str) -> bool:
        """Tell whether an object is stored."""
        return bool(self._holdings.select(Level.IMAGE, sop_instance))

    def _counts_of(self, study: str) -> dict[str, int]:
        with self._database.reader() as connection:
            rows = connection.execute(self._counts, (study,)).fetchall()
        return {str(row[0]): int(row[1]) for row in rows}

    def _select(self, condition: str, values: Sequence[Value]) -> Iterator[StudyHere]:
        statement = self._database.sql(f"{self._studies} WHERE {condition}")
        for row in self._database.rows(statement, values):
            key, patient_id, accession, date = (str(value or "") for value in row)
            yield StudyHere(key, patient_id, accession.strip(), date.strip(" \0"))
