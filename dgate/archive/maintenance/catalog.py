"""What tables, columns and indices an existing database has, beside what dicom.sql asks for.

Only reads, unlike `dgate.archive.schema`, which creates what is missing. Pure functions on a
connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.levels import LEVELS, LevelTable, Schema
from dgate.config.layout import Column, Layout, SqlType
from dgate.config.settings import Settings
from dgate.errors import DgateError

ADDED = ("accesstime", "qtimestamp", "qflags", "qspare")
"""Columns that every table of the original has beside those of dicom.sql."""
ADDED_TO_IMAGE = ("objectfile", "devicename")
NEEDED = ("accesstime", *ADDED_TO_IMAGE)
OWN_PREFIX = "dgate_"
ORIGINAL_INDICES = (
    "study_lnk",
    "idx_patientid",
    "idx_patientid_studyinsta",
    "series_lnk",
    "idx_studyinsta_seriesinst",
    "images_lnk",
    "idx_seriesinst_sopinstanc",
    "mods_old",
    "mods_stage",
    "mods_joint",
    "mods_back",
)
"""Spec dicom-sql.md 2.6, without those that depend on the layout."""


@dataclass(slots=True)
class TableDifference:
    """How one table differs from dicom.sql."""

    table: str
    exists: bool = True
    missing: list[str] = field(default_factory=list)
    """Columns that dicom.sql asks for."""
    extra: list[str] = field(default_factory=list)
    """Columns that dicom.sql does not name; nobody touches them."""
    types: list[str] = field(default_factory=list)
    """Columns declared otherwise: `StudyDate is varchar(16), dicom.sql says char(8)`."""

    @property
    def is_none(self) -> bool:
        """Tell whether there is no difference."""
        return self.exists and not (self.missing or self.extra or self.types)


@dataclass(slots=True)
class Catalog:
    """What a database has."""

    schema: Schema
    """Empty when a table or a column is missing without which nothing can be read."""
    differences: list[TableDifference]
    missing_indices: list[str]
    own: list[str]
    """Tables of dgate's own: the database was served by dgate before."""
    keyed: bool
    """The image table refuses a second row with the same SOP Instance UID."""

    def required(self) -> Schema:
        """Return the schema; raises DgateError when the tables cannot be read by it."""
        if self.schema.levels:
            return self.schema
        missing = [
            one.table if not one.exists else f"{one.table}.{column}"
            for one in self.differences
            for column in (one.missing if one.exists else [""])
        ]
        raise DgateError(
            f"the database lacks what dicom.sql asks for: {', '.join(missing)}",
            remedy="correct the table names in dicom.ini, or dicom.sql",
        )


def read_catalog(
    connection: Connection, database: Database, layout: Layout, settings: Settings
) -> Catalog:
    """Compare a database with dicom.sql."""
    tables = connection.tables()
    wanted = (
        (settings.patient_table, layout.patient.columns),
        (settings.study_table, layout.study.columns),
        (settings.series_table, layout.series.columns),
        (settings.image_table, layout.image.columns),
    )
    differences = []
    levels: list[LevelTable] = []
    for level, (name, columns) in zip(LEVELS, wanted, strict=True):
        added = ADDED + (ADDED_TO_IMAGE if level is LEVELS[-1] else ())
        difference, spelling = _compare(connection, database, tables, name, columns, added)
        differences.append(difference)
        needed = [column.name.lower() for column in columns]
        needed += [extra for extra in added if extra in NEEDED]
        if all(column in spelling for column in needed):
            levels.append(
                LevelTable(
                    level,
                    database.quote(tables[name.lower()]),
                    columns,
                    tuple(database.quote(spelling[column.name.lower()]) for column in columns),
                    {one: database.quote(spelling[one]) for one in added if one in spelling},
                )
            )
    worklist = None
    if layout.worklist is not None:
        difference, _ = _compare(
            connection, database, tables, settings.worklist_table, layout.worklist.columns, ADDED
        )
        differences.append(difference)
        if difference.exists:
            worklist = database.quote(tables[settings.worklist_table.lower()])
    complete = len(levels) == len(LEVELS)
    image = tables.get(settings.image_table.lower())
    unique = connection.unique_columns(image) if image else frozenset()
    keyed = layout.image.columns[0].name.lower() in unique
    schema = Schema(
        tuple(levels) if complete else (), worklist, frozenset(), unique_instances=keyed
    )
    indices = {
        index
        for table in tables.values()
        for index in connection.indexes(table)
        if index != "primary key"
    }
    return Catalog(
        schema,
        differences,
        [name for name in ORIGINAL_INDICES if name not in indices],
        sorted(name for name in tables if name.startswith(OWN_PREFIX)),
        keyed,
    )


def _compare(
    connection: Connection,
    database: Database,
    tables: dict[str, str],
    name: str,
    columns: Iterable[Column],
    added: tuple[str, ...],
) -> tuple[TableDifference, dict[str, str]]:
    """Return the difference of a table, and its columns: lower-case name to spelling."""
    result = TableDifference(name)
    actual = tables.get(name.lower())
    if actual is None:
        result.exists = False
        return result, {}
    spelling = connection.columns(actual)
    listed = {column.name.lower() for column in columns}
    result.missing = [column.name for column in columns if column.name.lower() not in spelling]
    result.missing += [one for one in added if one in NEEDED and one not in spelling]
    known = listed | set(ADDED) | set(ADDED_TO_IMAGE)
    result.extra = [
        one for lower, one in spelling.items() if lower not in known and OWN_PREFIX not in lower
    ]
    if database.embedded:
        declared = {
            row[1].lower(): str(row[2]).lower().replace(" ", "")
            for row in connection.execute(f"PRAGMA table_info({database.quote(actual)})").fetchall()
        }
        for column in columns:
            is_date = column.sql_type is SqlType.DATE
            should = "char(8)" if is_date else f"varchar({column.length})"
            found = declared.get(column.name.lower(), should)
            if found != should:
                result.types.append(f"{column.name} is {found}, dicom.sql says {should}")
    return result, spelling
