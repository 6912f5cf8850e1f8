"""The tables of the index database: names by role, creation of what is missing.

Not for rows (`dgate.archive.index`) nor queries (`dgate.archive.query`). Nothing here drops or
alters a table: an existing database is taken as it is, with dgate's own tables and indices (named
`dgate_...`) beside it. Runs at start, one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from dgate.archive.database import Connection, Database
from dgate.archive.fold import FOLDED_LENGTH, search_forms
from dgate.config.layout import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    Column,
    DicomType,
    Layout,
    SqlType,
    Table,
)
from dgate.config.settings import Engine
from dgate.dicom.element import vr_of
from dgate.errors import ConfigError

PATIENT_NAME = 0x00100010
STUDY_DATE = 0x00080020
MODALITIES_IN_STUDY = 0x00080061


class Level(Enum):
    """A level of the query model; the value is the text of (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def depth(self) -> int:
        """0 for PATIENT to 3 for IMAGE."""
        return _DEPTHS[self]


LEVELS = tuple(Level)
_DEPTHS = {level: depth for depth, level in enumerate(LEVELS)}


class SchemaSettings(Protocol):
    """The settings that name the tables."""

    @property
    def patient_table(self) -> str: ...
    @property
    def study_table(self) -> str: ...
    @property
    def series_table(self) -> str: ...
    @property
    def image_table(self) -> str: ...
    @property
    def worklist_table(self) -> str: ...
    @property
    def max_field_length(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LevelTable:
    """The table of one level, with every name quoted for this database."""

    level: Level
    name: str
    columns: tuple[Column, ...]
    names: tuple[str, ...]
    """Quoted column names, in the order of `columns`; the first is the key, the last the link."""
    extra: dict[str, str] = field(hash=False)
    """Quoted names of the columns that dicom.sql does not list, by lower-case name."""

    @property
    def key(self) -> str:
        """Quoted name of the key column."""
        return self.names[0]

    @property
    def link(self) -> str | None:
        """Quoted name of the column that holds the parent's key."""
        return None if self.level is Level.PATIENT else self.names[-1]

    def position(self, tag: int) -> int | None:
        """Return which column holds an attribute; the key first, then the first one that has the
        tag."""
        for index, column in enumerate(self.columns):
            if column.tag == tag:
                return index
        return None


@dataclass(frozen=True, slots=True)
class Schema:
    """What the database holds. `levels` is empty when no index is kept."""

    levels: tuple[LevelTable, ...]
    worklist: str | None
    """Quoted name of the worklist table."""
    folded_indices: frozenset[tuple[Level, int]]
    """Columns (level, position) that have an index which ignores case."""
    unique_instances: bool = False
    """The database refuses a second image row with the same SOP Instance UID."""
    notes: tuple[str, ...] = ()
    """What was created or taken over, for the log."""

    def table(self, level: Level) -> LevelTable:
        """Return the table of a level."""
        return self.levels[level.depth]


EXTRA_COLUMNS = {
    "accesstime": "AccessTime int",
    "qtimestamp": "qTimeStamp int",
    "qflags": "qFlags int",
    "qspare": "qSpare varchar(64)",
}
UIDMODS = (
    "MODTime int, OldUID varchar(64), MODType varchar(32), NewUID varchar(64), "
    "Stage varchar(32), Annotation varchar(64)"
)
UIDMODS_INDICES = {
    "mods_old": ("OldUID",),
    "mods_stage": ("Stage",),
    "mods_joint": ("OldUID", "Stage"),
    "mods_back": ("NewUID", "Stage"),
}

DEBT_COLUMNS = (
    ("kind", "varchar(16) not null"),
    ("state", "varchar(16) not null"),
    ("destination", "varchar(255) not null"),
    ("rule", "varchar(64) not null"),
    ("calling", "varchar(64) not null"),
    ("called", "varchar(64) not null"),
    ("compression", "varchar(64) not null"),
    ("script", "text not null"),
    ("sop_class", "varchar(64) not null"),
    ("sop_instance", "varchar(64) not null"),
    ("patient_id", "varchar(255) not null"),
    ("study", "varchar(64) not null"),
    ("series", "varchar(64) not null"),
    ("device", "varchar(32) not null"),
    ("name", "varchar(1024) not null"),
    ("context", "text not null"),
    ("due", "double precision not null"),
    ("lease_until", "double precision"),
    ("owner", "varchar(128)"),
    ("attempts", "int not null default 0"),
    ("repeats", "int not null default 0"),
    ("last_error", "text"),
    ("last_status", "int"),
    ("created", "double precision not null"),
    ("finished", "double precision"),
)
"""Columns of `dgate_debts` after `id`. Times are Unix seconds. `state` is one of queued, leased,
held, stuck, done, cancelled. `device` is MAGn, or SPOOL for a copy that its debts own (then `name`
names it in the spool folder)."""

OPEN_STATES = ("queued", "leased", "held", "stuck")
"""States covered by the index `dgate_debts_open (state, destination, due)`. It serves only
statements that write the state as a literal (`state = 'queued'`), because a partial index cannot be
proven right for a parameter."""


def prepare(database: Database, layout: Layout, settings: SchemaSettings) -> Schema:
    """Create what is missing and return the schema; raises ConfigError when the tables do not fit
    dicom.sql."""
    connection = database.connect()
    try:
        connection.execute(database.begin_sql)
        try:
            schema = _Builder(database, connection).build(layout, settings)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return schema
    except database.errors as exc:
        cause = database.failure(exc)
        raise ConfigError(cause.what, where=cause.where, remedy=cause.remedy) from exc
    finally:
        connection.close()


class _Builder:
    """Builds the schema in one transaction."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self._quote = database.quote
        self._existing = connection.tables()
        self._index_names = {
            name: columns
            for table in self._existing.values()
            for name, columns in connection.indexes(table).items()
            if name != "primary key"
        }
        self._notes: list[str] = []

    def build(self, layout: Layout, settings: SchemaSettings) -> Schema:
        levels: tuple[LevelTable, ...] = ()
        worklist = None
        folded_indices: frozenset[tuple[Level, int]] = frozenset()
        unique_instances = False
        if self._database.has_index:
            object_file = settings.max_field_length
            length = object_file if 0 < object_file <= 255 else 255
            image_extra = EXTRA_COLUMNS | {
                "objectfile": f"ObjectFile varchar({length})",
                "devicename": "DeviceName varchar(32)",
            }
            levels = (
                self._level(Level.PATIENT, settings.patient_table, layout.patient, EXTRA_COLUMNS),
                self._level(Level.STUDY, settings.study_table, layout.study, EXTRA_COLUMNS),
                self._level(Level.SERIES, settings.series_table, layout.series, EXTRA_COLUMNS),
                self._level(Level.IMAGE, settings.image_table, layout.image, image_extra),
            )
            if layout.worklist is not None:
                worklist = self._table(
                    settings.worklist_table, layout.worklist.columns, EXTRA_COLUMNS, keyed=False
                )
            self._original_indices(levels)
            folded_indices = self._own_indices(levels)
            image = levels[-1]
            unique = self._connection.unique_columns(_bare(image.name))
            unique_instances = _bare(image.key).lower() in unique
        self._uidmods()
        self._own_tables()
        if "dgate_folded" not in self._existing:
            for table in levels:
                self._take_over(table)
        return Schema(levels, worklist, folded_indices, unique_instances, tuple(self._notes))

    def _level(self, level: Level, name: str, table: Table, extra: dict[str, str]) -> LevelTable:
        actual = self._table(name, table.columns, extra, keyed=True)
        spelling = self._connection.columns(self._unquoted(name))
        return LevelTable(
            level,
            actual,
            table.columns,
            tuple(self._quote(spelling[column.name.lower()]) for column in table.columns),
            {lower: self._quote(spelling[lower]) for lower in extra if lower in spelling},
        )

    def _unquoted(self, name: str) -> str:
        folded = name.lower() if self._database.engine is Engine.POSTGRES else name
        return self._existing.get(name.lower(), folded)

    def _table(
        self, name: str, columns: Iterable[Column], extra: dict[str, str], *, keyed: bool
    ) -> str:
        """Create or check one table of the original and return its quoted name."""
        if name.lower() in self._existing:
            self._check(name, columns, extra)
            return self._quote(self._unquoted(name))
        quoted = self._quote(name)
        lines = []
        for position, column in enumerate(columns):
            primary = " PRIMARY KEY not null" if keyed and position == 0 else ""
            lines.append(f"{self._quote(column.name)} {_sql_type(column)}{primary}")
        lines += extra.values()
        self._connection.execute(f"CREATE TABLE {quoted} ({', '.join(lines)})")
        self._notes.append(f"created table {name}")
        return quoted

    def _check(self, name: str, columns: Iterable[Column], extra: dict[str, str]) -> None:
        found = self._connection.columns(self._unquoted(name))
        needed = [column.name for column in columns]
        needed += [lower for lower in extra if not lower.startswith("q")]
        missing = [column for column in needed if column.lower() not in found]
        if missing:
            raise ConfigError(
                f"table {name} has no column {', '.join(missing)}, which dicom.sql asks for",
                where=self._database.location,
                remedy="correct dicom.sql, or rebuild the index into a new database",
            )

    def _original_indices(self, levels: tuple[LevelTable, ...]) -> None:
        """Create the indices of dicom-sql.md 2.6 (idx_patientid on the patient ID, as its name
        says)."""
        study, series, image = levels[1:]
        link = study.names[-1]
        self._index("study_lnk", study, link)
        self._index("idx_patientid", study, link)
        self._index("idx_patientid_studyinsta", study, link, study.key)
        self._index("series_lnk", series, series.names[-1])
        self._index("idx_studyinsta_seriesinst", series, series.names[-1], series.key)
        self._index("images_lnk", image, image.names[-1])
        self._index("idx_seriesinst_sopinstanc", image, image.names[-1], image.key)
        for index_name, table in (("series_pat", series), ("images_pat", image)):
            position = table.position(PATIENT_ID)
            if position is not None:
                self._index(index_name, table, table.names[position])

    def _own_indices(self, levels: tuple[LevelTable, ...]) -> frozenset[tuple[Level, int]]:
        """Create the indices that queries need beside the original's."""
        for table in levels:
            key = table.columns[0].name.lower()
            indices = self._connection.indexes(_bare(table.name))
            if not any(columns[:1] == (key,) for columns in indices.values()):
                self._index(f"dgate_{table.level.value.lower()}_key", table, table.key)
        patient, study = levels[:2]
        wanted = [
            ("dgate_patient_id", patient, PATIENT_ID),
            ("dgate_patient_name", patient, PATIENT_NAME),
            ("dgate_study_patient", study, PATIENT_ID),
            ("dgate_study_name", study, PATIENT_NAME),
            ("dgate_study_accession", study, ACCESSION_NUMBER),
        ]
        folded = set()
        for index_name, table, tag in wanted:
            position = table.position(tag)
            if position is not None:
                self._index(index_name, table, self._caseless(table.names[position]))
                folded.add((table.level, position))
        date = study.position(STUDY_DATE)
        if date is not None:
            self._index("dgate_study_date", study, study.names[date])
        return frozenset(folded)

    def _caseless(self, column: str) -> str:
        if self._database.engine is Engine.POSTGRES:
            return f"lower({column}) text_pattern_ops"
        return column if self._database.engine is Engine.MYSQL else f"{column} COLLATE NOCASE"

    def _index(self, index_name: str, table: LevelTable | str, *columns: str) -> None:
        if index_name in self._index_names:
            return
        name = table if isinstance(table, str) else table.name
        self._connection.execute(f"CREATE INDEX {index_name} ON {name} ({', '.join(columns)})")
        self._index_names[index_name] = ()

    def _uidmods(self) -> None:
        table = self._quote(self._unquoted("UIDMODS"))
        if "uidmods" not in self._existing:
            self._connection.execute(f"CREATE TABLE {table} ({UIDMODS})")
        for index_name, columns in UIDMODS_INDICES.items():
            self._index(index_name, table, *columns)

    def _own_tables(self) -> None:
        execute = self._connection.execute
        if "dgate_debts" not in self._existing:
            identity = {
                Engine.POSTGRES: "bigserial PRIMARY KEY",
                Engine.MYSQL: "bigint auto_increment PRIMARY KEY",
            }.get(self._database.engine, "integer PRIMARY KEY AUTOINCREMENT")
            lines = [f"id {identity}", *(f"{name} {kind}" for name, kind in DEBT_COLUMNS)]
            execute(f"CREATE TABLE dgate_debts ({', '.join(lines)})")
        partial = self._database.engine is not Engine.MYSQL
        is_open = " OR ".join(f"state = '{state}'" for state in OPEN_STATES)
        for index_name, columns, condition in (
            ("dgate_debts_open", "state, destination, due", is_open),
            ("dgate_debts_spool", "name", "device = 'SPOOL'"),
        ):
            if index_name not in self._index_names:
                where = f" WHERE {condition}" if partial else ""
                prefix = "name(255)" if columns == "name" and not partial else columns
                execute(f"CREATE INDEX {index_name} ON dgate_debts ({prefix}){where}")
        if "dgate_rewrites" not in self._existing:
            execute(
                "CREATE TABLE dgate_rewrites (sop varchar(64) PRIMARY KEY not null, "
                "sha256 varchar(64) not null, device varchar(32) not null, "
                "name varchar(1024) not null)"
            )
        if "dgate_folded" not in self._existing:
            tail = " WITHOUT ROWID" if self._database.embedded else ""
            execute(
                "CREATE TABLE dgate_folded (level smallint not null, tag bigint not null, "
                f"folded varchar({FOLDED_LENGTH}) not null, entity varchar(255) not null, "
                f"PRIMARY KEY (level, tag, folded, entity)){tail}"
            )

    def _take_over(self, table: LevelTable) -> None:
        """Enter what an existing table holds beyond ASCII into the side table."""
        folded = foldable(table)
        if not folded:
            return
        names = ", ".join(table.names[position] for position in folded)
        rows = self._connection.execute(f"SELECT {table.key}, {names} FROM {table.name}")
        insert = self._database.sql(INSERT_FOLDED)
        count = 0
        while batch := rows.fetchmany(1000):
            entered = [
                (table.level.depth, table.columns[position].tag, form, row[0])
                for row in batch
                for position, value in zip(folded, row[1:], strict=True)
                for form in search_forms(value, folded[position])
            ]
            self._connection.executemany(insert, dict.fromkeys(entered))
            count += len(entered)
        if count:
            self._notes.append(f"entered {count} search forms of table {table.name}")


INSERT_FOLDED = "INSERT INTO dgate_folded (level, tag, folded, entity) VALUES (?, ?, ?, ?)"


def foldable(table: LevelTable) -> dict[int, bool]:
    """Return the columns (by position) whose text is searched without case, and whether each is a
    person name."""
    found: dict[int, bool] = {}
    for position, column in enumerate(table.columns):
        vr = vr_of(column.tag)
        if vr in ("PN", "LO") or column.dicom_type is DicomType.ISTR:
            found[position] = vr == "PN"
    return found


def _sql_type(column: Column) -> str:
    return "char(8)" if column.sql_type is SqlType.DATE else f"varchar({column.length})"


def _bare(quoted: str) -> str:
    mark = quoted[0]
    return quoted[1:-1].replace(mark + mark, mark)
