"""The SQL of the index rows, made once from the schema.

Not for deciding when to run them (`dgate.archive.index`). Immutable, safe between threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from dgate.archive.database import Database
from dgate.archive.debttable import DEBT_COLUMNS
from dgate.archive.fold import search_forms
from dgate.archive.levels import MODALITIES_IN_STUDY, Level, LevelTable, Schema, foldable
from dgate.archive.rows import Values
from dgate.config.layout import PATIENT_ID
from dgate.dicom.element import SOP_CLASS_UID


class RowStatements:
    """The statements for the rows of one level."""

    def __init__(self, database: Database, table: LevelTable) -> None:
        self.level = table.level
        self.columns = table.columns
        self.folded = foldable(table)
        self.modalities = (
            table.position(MODALITIES_IN_STUDY) if table.level is Level.STUDY else None
        )
        patient = table.position(PATIENT_ID)
        self.patient = patient if table.level in (Level.SERIES, Level.IMAGE) else None
        """Position of SeriesPat or ImagePat."""
        sql = database.sql
        extra = [table.extra["accesstime"]]
        if table.level is Level.IMAGE:
            extra += [table.extra["objectfile"], table.extra["devicename"]]
        listed = ", ".join(table.names)
        everything = [*table.names, *extra]
        marks = ", ".join("?" * len(everything))
        self.insert = sql(f"INSERT INTO {table.name} ({', '.join(everything)}) VALUES ({marks})")
        self.select = sql(f"SELECT {listed}, {extra[0]} FROM {table.name} WHERE {table.key} = ?")
        """By key: the row, then its AccessTime."""
        self.select_locked = self.select + ("" if database.embedded else " FOR UPDATE")
        """The same, and no other gateway may change the row before the end of the transaction."""
        self.update = sql(
            f"UPDATE {table.name} SET "
            + ", ".join(f"{name} = ?" for name in [*table.names[1:], *extra])
            + f" WHERE {table.key} = ?"
        )
        self.delete = sql(f"DELETE FROM {table.name} WHERE {table.key} = ?")
        self.has_parent = sql(f"SELECT 1 FROM {table.name} WHERE {table.names[-1]} = ? LIMIT 1")
        """Tells whether a parent, by its key, has a row at this level."""

    def merged(self, stored: Values, new: Values) -> Values:
        """Return the row after an update: new values where there are any; key and link stay once
        they are set."""
        last = len(stored) - 1
        keeps_link = self.level is not Level.PATIENT
        return tuple(
            old
            if (value is None or ((index == 0 or (index == last and keeps_link)) and old))
            else value
            for index, (old, value) in enumerate(zip(stored, new, strict=True))
        )

    def search_rows(self, row: Values) -> list[tuple[int, int, str, str]]:
        """Return the rows of the side table `dgate_folded` for one row of this level."""
        found = []
        for position, is_name in self.folded.items():
            value = row[position]
            if value is not None and (not value.isascii() or is_name):
                for form in search_forms(value, is_name):
                    found.append((self.level.depth, self.columns[position].tag, form, row[0] or ""))
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class IndexStatements:
    """The statements for all levels."""

    rows: dict[Level, RowStatements]
    find_image: str
    """By SOP Instance UID: series, patient (or NULL), SOP class (or NULL), name, device."""
    find_parents: str
    """By Series Instance UID: study, patient."""
    fill_patient: tuple[str, ...]
    """By patient ID and Study Instance UID: give the rows of a study that have no patient this
    one."""


def compile_statements(database: Database, schema: Schema) -> IndexStatements:
    """Return the statements for a schema that has levels."""
    study, series, image = schema.levels[1:]
    patient = image.position(PATIENT_ID)
    sop_class = image.position(SOP_CLASS_UID)
    columns = ", ".join(
        (
            image.names[-1],
            "NULL" if patient is None else image.names[patient],
            "NULL" if sop_class is None else image.names[sop_class],
            image.extra["objectfile"],
            image.extra["devicename"],
        )
    )
    sql = database.sql
    return IndexStatements(
        {table.level: RowStatements(database, table) for table in schema.levels},
        sql(f"SELECT {columns} FROM {image.name} WHERE {image.key} = ?"),
        sql(
            f"SELECT {series.name}.{series.names[-1]}, {study.name}.{study.names[-1]} "
            f"FROM {series.name} LEFT JOIN {study.name} "
            f"ON {study.name}.{study.key} = {series.name}.{series.names[-1]} "
            f"WHERE {series.name}.{series.key} = ?"
        ),
        tuple(sql(text) for text in _fill_patient(study, series, image)),
    )


def _fill_patient(study: LevelTable, series: LevelTable, image: LevelTable) -> list[str]:
    def fill(table: LevelTable, column: str, where: str) -> str:
        return (
            f"UPDATE {table.name} SET {column} = ? "
            f"WHERE {where} AND ({column} IS NULL OR {column} = '')"
        )

    of_study = f"{series.names[-1]} = ?"
    found = [fill(study, study.names[-1], f"{study.key} = ?")]
    in_series, in_image = series.position(PATIENT_ID), image.position(PATIENT_ID)
    if in_series is not None:
        found.append(fill(series, series.names[in_series], of_study))
    if in_image is not None:
        inside = f"SELECT {series.key} FROM {series.name} WHERE {of_study}"
        found.append(fill(image, image.names[in_image], f"{image.names[-1]} IN ({inside})"))
    return found


def insert_debt(database: Database, *, arriving: bool = False) -> str:
    """Return the statement that enters one debt, for all columns of `DEBT_COLUMNS`; a server puts
    the times `due` and `created` in by itself, and for an object that is `arriving` also
    `received`."""
    names = ", ".join(name for name, _ in DEBT_COLUMNS)
    own: dict[str, str] = {}
    if database.clock_sql is not None:
        times = ("due", "created", "received") if arriving else ("due", "created")
        own = dict.fromkeys(times, database.clock_sql)
    values = ", ".join(own.get(name, "?") for name, _ in DEBT_COLUMNS)
    return database.sql(f"INSERT INTO dgate_debts ({names}) VALUES ({values})")


def joined_modalities(stored: str | None, modality: str, limit: int) -> str | None:
    r"""Return (0008,0061) with a modality put in front if it is new, old ones dropped where the
    column ends."""
    modalities = stored.split("\\") if stored else []
    if modality and modality not in modalities:
        modalities.insert(0, modality)
        while len(modalities) > 1 and len("\\".join(modalities)) > limit:
            modalities.pop()
    return "\\".join(modalities) or None
