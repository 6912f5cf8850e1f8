"""Single values of the index for rules: `%QP %QS %QE %QW`, and objects of the same patient.

Spec converters.md section 7. Not for queries by peers (`dgate.archive.query`). Any thread may use a
`Lookup`; what objects hold is only ever bound as a parameter.
"""

from __future__ import annotations

from dgate.archive.connection import Value
from dgate.archive.database import Database
from dgate.archive.levels import Level, Schema
from dgate.archive.query import Finder
from dgate.archive.records import InstanceRef
from dgate.archive.repair import RepairSettings, indexed_patient_id
from dgate.archive.worklist import Worklist
from dgate.config.layout import ACCESSION_NUMBER, PATIENT_ID, SERIES_UID, STUDY_UID
from dgate.dicom.table import ElementTable
from dgate.rules.run import Record

_LEVELS = {
    Record.PATIENT: Level.PATIENT,
    Record.STUDY: Level.STUDY,
    Record.SERIES: Level.SERIES,
}


class Lookup:
    """Reads the rows that an object belongs to."""

    def __init__(
        self,
        database: Database,
        schema: Schema,
        finder: Finder,
        worklist: Worklist,
        settings: RepairSettings,
    ) -> None:
        self._database = database
        self._schema = schema
        self._finder = finder
        self._worklist = worklist
        self._settings = settings

    def value(self, record: Record, table: ElementTable, tag: int) -> str:
        """Return a column of the row, empty when there is no such row or column.

        The patient row is that of the object's patient ID, the study row also of its study, the
        series row also of its series, the worklist entry that of its accession number. Raises
        DatabaseAway.
        """
        if record is Record.WORKLIST:
            column = self._worklist.columns.of(tag)
            entry = self._worklist.first(table.text(ACCESSION_NUMBER).strip())
            return "" if column is None or entry is None else entry[column.name] or ""
        sql = self._statement(_LEVELS[record], tag)
        if not sql:
            return ""
        parameters: list[Value] = [indexed_patient_id(table.text(PATIENT_ID), self._settings)]
        if record is not Record.PATIENT:
            parameters.insert(0, table.text(STUDY_UID))
        if record is Record.SERIES:
            parameters.insert(0, table.text(SERIES_UID))
        with self._database.reader() as connection:
            row = connection.execute(sql, parameters).fetchone()
        return "" if row is None or row[0] is None else str(row[0])

    def of_patient(self, sop_instance: str, patient_id: str) -> InstanceRef | None:
        """Return a stored object if it belongs to this patient; raises DatabaseAway."""
        ref = self._finder.instance(sop_instance)
        if ref is None or ref.patient_id.rstrip(" ") != indexed_patient_id(
            patient_id, self._settings
        ):
            return None
        return ref

    def _statement(self, level: Level, tag: int) -> str:
        """Return the query for one column; parameters: keys from `level` upwards, patient ID."""
        if not self._schema.levels:
            return ""
        table = self._schema.table(level)
        position = table.position(tag)
        if position is None:
            return ""
        chosen = f"{table.name}.{table.names[position]}"
        conditions = [f"{table.name}.{table.key} = ?"]
        source = table.name
        if level is Level.SERIES:
            study = self._schema.table(Level.STUDY)
            conditions.append(f"{study.name}.{study.key} = ?")
            link = f"{study.name}.{study.key} = {table.name}.{table.names[-1]}"
            source += f" JOIN {study.name} ON {link}"
        if level is not Level.PATIENT:
            study = self._schema.table(Level.STUDY)
            conditions.append(f"{study.name}.{study.names[-1]} = ?")
        where = " AND ".join(conditions)
        return self._database.sql(f"SELECT {chosen} FROM {source} WHERE {where}")
