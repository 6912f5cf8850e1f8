"""The tables of the index database: creation of what is missing.

Not for rows (`dgate.archive.index`) nor queries (`dgate.archive.query`); the ledger's tables are in
`dgate.archive.debttable`. Nothing here drops anything: an existing database is taken as it is, with
dgate's own tables and indices (named `dgate_...`) beside it; only columns that dicom.sql asks for
and that are not there are added (`dgate.archive.alterations`). Runs at start, one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from dgate.archive.alterations import LAYOUT_TABLE, Alterations, column_type
from dgate.archive.changes import prepare_changes
from dgate.archive.commitmenttable import prepare_commitments
from dgate.archive.connection import Connection, Row
from dgate.archive.database import Database
from dgate.archive.debttable import prepare_debts
from dgate.archive.fold import FOLDED_LENGTH, FoldState, search_forms
from dgate.archive.folding import enter_forms
from dgate.archive.levels import (
    PATIENT_NAME,
    STUDY_DATE,
    Level,
    LevelTable,
    Schema,
    bare,
    foldable,
)
from dgate.archive.registerturns import prepare_turns
from dgate.archive.sealedtable import prepare_sealed
from dgate.archive.steps import prepare_steps
from dgate.config.layout import ACCESSION_NUMBER, PATIENT_ID, Column, Layout, Table
from dgate.config.settings import Engine
from dgate.errors import ConfigError


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

REMOVALS = (
    "token varchar(40) PRIMARY KEY not null, device varchar(32) not null, "
    "name varchar(1024) not null, sop varchar(64) not null"
)
"""Columns of `dgate_removals`: files that a committed transaction gave up and that are still to be
removed (`dgate.archive.maintenance.removals`)."""

REGEN_MARKS = (
    "scope varchar(255) PRIMARY KEY not null, place varchar(1024) not null, "
    "counters text not null, begun double precision not null"
)
"""Columns of `dgate_regen`: how far a rebuild of the index has come in each folder
(`dgate.archive.maintenance.regen`)."""


def prepare(database: Database, layout: Layout, settings: SchemaSettings) -> Schema:
    """Create what is missing and return the schema; raises ConfigError when the tables do not fit
    dicom.sql."""
    connection = database.connect()
    try:
        connection.execute(database.begin_sql)
        # Two gateways that start at the same time must not both create the tables.
        if database.engine is Engine.POSTGRES:
            connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        elif database.engine is Engine.MYSQL:
            connection.execute(f"SELECT get_lock('dgate schema', {_LOCK_WAIT_S})")
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


_LOCK = 0x6467617465
"""Any number that other programs do not use."""
_LOCK_WAIT_S = 600
_CASELESS = {
    "dgate_patient_id": (Level.PATIENT, PATIENT_ID),
    "dgate_patient_name": (Level.PATIENT, PATIENT_NAME),
    "dgate_study_patient": (Level.STUDY, PATIENT_ID),
    "dgate_study_name": (Level.STUDY, PATIENT_NAME),
    "dgate_study_accession": (Level.STUDY, ACCESSION_NUMBER),
}
"""Indices that ignore case, for what peers search most."""
_LOWER = "dgate_lower_"
"""Begins the names of the columns that MariaDB computes for these indices."""


class _Builder:
    """Builds the schema in one transaction (on MariaDB, where creating a table ends one, in steps
    that may be repeated)."""

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
        is_maria = database.engine is Engine.MYSQL
        # Compared by their characters, as on the other engines, not by a language's rules.
        self._options = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if is_maria else ""
        if "dgate_layout" not in self._existing:
            connection.execute(LAYOUT_TABLE + self._options)
        self._alterations = Alterations(database, connection, self._notes)
        self._lowered: dict[tuple[Level, int], str] = {}

    def build(self, layout: Layout, settings: SchemaSettings) -> Schema:
        levels: tuple[LevelTable, ...] = ()
        worklist = None
        folded_indices: frozenset[tuple[Level, int]] = frozenset()
        added: list[tuple[Level, int]] = []
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
            held = [(table.bare, table.columns) for table in levels]
            if layout.worklist is not None:
                columns = layout.worklist.columns
                worklist = self._table(settings.worklist_table, columns, EXTRA_COLUMNS)[0]
                accession = self._quote(columns[0].name)
                self._index("dgate_worklist_accession", worklist, accession)
                held.append((bare(worklist), columns))
            added = self._alterations.fill(levels)
            self._alterations.remember(held)
            self._original_indices(levels)
            folded_indices = self._own_indices(levels)
            image = levels[-1]
            unique = self._connection.unique_columns(image.bare)
            unique_instances = bare(image.key).lower() in unique
        self._uidmods()
        self._own_tables()
        is_new = "dgate_folded" not in self._existing
        for table in levels:
            places = {place for level, place in added if level is table.level}
            self._take_over(table, foldable(table).keys() if is_new else places)
        return Schema(
            levels,
            worklist,
            folded_indices,
            unique_instances,
            tuple(self._notes),
            self._lowered,
            folding=FoldState(is_new or not self._database.embedded),
        )

    def _level(self, level: Level, name: str, table: Table, extra: dict[str, str]) -> LevelTable:
        actual, columns = self._table(name, table.columns, extra, level)
        spelling = self._connection.columns(bare(actual))
        found = LevelTable(
            level,
            actual,
            columns,
            tuple(self._quote(spelling[column.name.lower()]) for column in columns),
            {lower: self._quote(spelling[lower]) for lower in extra if lower in spelling},
        )
        if self._database.engine is Engine.MYSQL:
            self._find_lowered(found, spelling)
        return found

    def _find_lowered(self, table: LevelTable, spelling: dict[str, str]) -> None:
        """Find out how the columns of a table of MariaDB are searched without case."""
        texts = self._connection.texts(table.bare)
        for place, column in enumerate(table.columns):
            own = f"{_LOWER}{column.name}".lower()
            if own in spelling:
                self._lowered[table.level, place] = self._quote(spelling[own])
            elif texts.get(column.name.lower(), (None, ""))[1].endswith("_ci"):
                self._lowered[table.level, place] = table.names[place]

    def _unquoted(self, name: str) -> str:
        folded = name.lower() if self._database.engine is Engine.POSTGRES else name
        return self._existing.get(name.lower(), folded)

    def _table(
        self,
        name: str,
        columns: Sequence[Column],
        extra: dict[str, str],
        level: Level | None = None,
    ) -> tuple[str, tuple[Column, ...]]:
        """Create one table of the original, or fit it to dicom.sql.

        Returns its quoted name and its columns. Without `level` its rows have no key.
        """
        quoted = self._quote(self._unquoted(name))
        if name.lower() in self._existing:
            spelled = self._unquoted(name)
            keyed = level is not None
            return quoted, self._alterations.fit(spelled, columns, extra, keyed=keyed)
        lines = []
        for position, column in enumerate(columns):
            primary = " PRIMARY KEY not null" if level is not None and position == 0 else ""
            lines.append(f"{self._quote(column.name)} {column_type(column)}{primary}")
        lines += [*extra.values(), *self._computed_columns(level, columns)]
        self._connection.execute(f"CREATE TABLE {quoted} ({', '.join(lines)}){self._options}")
        self._notes.append(f"created table {name}")
        return quoted, tuple(columns)

    def _computed_columns(self, level: Level | None, columns: Sequence[Column]) -> list[str]:
        """Return columns that MariaDB computes and shows to nobody who does not name them."""
        if self._database.engine is not Engine.MYSQL:
            return []
        tags = {tag for wanted, tag in _CASELESS.values() if wanted is level}
        return [
            f"{self._quote(_LOWER + column.name)} varchar({column.length}) "
            f"AS (lower({self._quote(column.name)})) VIRTUAL INVISIBLE"
            for column in columns
            if column.tag in tags
        ]

    def _original_indices(self, levels: tuple[LevelTable, ...]) -> None:
        """Create the indices of dicom-sql.md 2.6 (idx_patientid on the patient ID, as its name
        says)."""
        study, series, image = levels[1:]
        link = study.names[-1]
        self._original_index("study_lnk", study, link)
        self._original_index("idx_patientid", study, link)
        self._original_index("idx_patientid_studyinsta", study, link, study.key)
        self._original_index("series_lnk", series, series.names[-1])
        self._original_index("idx_studyinsta_seriesinst", series, series.names[-1], series.key)
        self._original_index("images_lnk", image, image.names[-1])
        self._original_index("idx_seriesinst_sopinstanc", image, image.names[-1], image.key)
        for index_name, table in (("series_pat", series), ("images_pat", image)):
            position = table.position(PATIENT_ID)
            if position is not None:
                self._original_index(index_name, table, table.names[position])

    def _own_indices(self, levels: tuple[LevelTable, ...]) -> frozenset[tuple[Level, int]]:
        """Create the indices that queries need beside the original's."""
        for table in levels:
            key = table.columns[0].name.lower()
            indices = self._connection.indexes(table.bare)
            if not any(columns[:1] == (key,) for columns in indices.values()):
                self._index(f"dgate_{table.level.value.lower()}_key", table, table.key)
        folded = set()
        for index_name, (level, tag) in _CASELESS.items():
            table = levels[level.depth]
            place = table.position(tag)
            expression = None if place is None else self._caseless(table, place)
            if place is not None and expression is not None:
                self._index(index_name, table, expression)
                folded.add((level, place))
        study = levels[Level.STUDY.depth]
        date = study.position(STUDY_DATE)
        if date is not None:
            by_bytes = ' COLLATE "C"' if self._database.engine is Engine.POSTGRES else ""
            self._index("dgate_study_date", study, study.names[date] + by_bytes)
        return frozenset(folded)

    def _caseless(self, table: LevelTable, place: int) -> str | None:
        """Return what an index without case is made of; None where the engine has no way."""
        if self._database.engine is Engine.POSTGRES:
            return f"lower({table.names[place]}) text_pattern_ops"
        if self._database.engine is Engine.MYSQL:
            return self._lowered.get((table.level, place))
        return f"{table.names[place]} COLLATE NOCASE"

    def _original_index(self, index_name: str, table: LevelTable | str, *columns: str) -> None:
        """Create an index of the original's; under a name of dgate's own where the table is not
        dgate's, so that whoever made it finds what it left."""
        name = bare(table) if isinstance(table, str) else table.bare
        if name.lower() not in self._existing:
            self._index(index_name, table, *columns)
        elif index_name not in self._index_names:
            self._index(f"dgate_{index_name}", table, *columns)

    def _index(self, index_name: str, table: LevelTable | str, *columns: str) -> None:
        if index_name in self._index_names:
            return
        name = table if isinstance(table, str) else table.name
        self._connection.execute(f"CREATE INDEX {index_name} ON {name} ({', '.join(columns)})")
        self._index_names[index_name] = ()

    def _uidmods(self) -> None:
        table = self._quote(self._unquoted("UIDMODS"))
        if "uidmods" not in self._existing:
            self._connection.execute(f"CREATE TABLE {table} ({UIDMODS}){self._options}")
        for index_name, columns in UIDMODS_INDICES.items():
            self._original_index(index_name, table, *columns)

    def _own_tables(self) -> None:
        execute = self._connection.execute
        prepare_debts(
            self._database, self._connection, self._existing, self._index_names, self._options
        )
        prepare_commitments(
            self._database, self._connection, self._existing, self._index_names, self._options
        )
        if "dgate_rewrites" not in self._existing:
            execute(
                "CREATE TABLE dgate_rewrites (sop varchar(64) PRIMARY KEY not null, "
                "sha256 varchar(64) not null, device varchar(32) not null, "
                f"name varchar(1024) not null){self._options}"
            )
        if "dgate_regen" not in self._existing:
            execute(f"CREATE TABLE dgate_regen ({REGEN_MARKS}){self._options}")
        if "dgate_removals" not in self._existing:
            execute(f"CREATE TABLE dgate_removals ({REMOVALS}){self._options}")
        prepare_turns(self._database, self._connection, self._existing, self._options)
        prepare_changes(self._connection, self._existing, self._index_names, self._options)
        prepare_sealed(self._connection, self._existing, self._index_names, self._options)
        prepare_steps(self._connection, self._existing, self._index_names, self._options)
        if "dgate_folded" not in self._existing:
            tail = " WITHOUT ROWID" if self._database.embedded else self._options
            by_bytes = ' COLLATE "C"' if self._database.engine is Engine.POSTGRES else ""
            execute(
                "CREATE TABLE dgate_folded (level smallint not null, tag bigint not null, "
                f"folded varchar({FOLDED_LENGTH}){by_bytes} not null, "
                "entity varchar(255) not null, "
                f"PRIMARY KEY (level, tag, folded, entity)){tail}"
            )
        if self._database.engine is Engine.POSTGRES:
            self._notices()

    def _notices(self) -> None:
        """Have PostgreSQL tell every gateway of new debts, whoever enters them."""
        execute = self._connection.execute
        found = execute(
            "SELECT 1 FROM pg_trigger WHERE tgname = 'dgate_debts_new' "
            "AND tgrelid = 'dgate_debts'::regclass"
        )
        if found.fetchone() is None:
            execute(
                "CREATE OR REPLACE FUNCTION dgate_debts_notify() RETURNS trigger LANGUAGE plpgsql "
                f"AS 'BEGIN NOTIFY {NOTICE_CHANNEL}; RETURN NULL; END'"
            )
            execute(
                "CREATE TRIGGER dgate_debts_new AFTER INSERT ON dgate_debts "
                "FOR EACH STATEMENT EXECUTE FUNCTION dgate_debts_notify()"
            )

    def _take_over(self, table: LevelTable, places: Iterable[int]) -> None:
        """Enter what columns of an existing table hold beyond ASCII into the side table.

        Page by page along the key, so that no engine has to keep the whole table in memory.
        """
        folded = {place: name for place, name in foldable(table).items() if place in set(places)}
        if not folded:
            return
        if self._database.embedded:
            self._note_forms(table, enter_forms(self._connection, table, folded))
            return
        names = ", ".join(table.names[place] for place in folded)
        page = f"SELECT {table.key}, {names} FROM {table.name}"
        order = f"ORDER BY {table.key} LIMIT {_PAGE_ROWS}"
        first = self._database.sql(f"{page} {order}")
        following = self._database.sql(f"{page} WHERE {table.key} > ? {order}")
        rows = self._connection.execute(first).fetchall()
        count = 0
        while rows:
            count += self._enter_forms(table, folded, rows)
            rows = self._connection.execute(following, (rows[-1][0],)).fetchall()
        self._note_forms(table, count)

    def _note_forms(self, table: LevelTable, count: int) -> None:
        if count:
            self._notes.append(f"entered {count} search forms of table {table.bare}")

    def _enter_forms(self, table: LevelTable, folded: dict[int, bool], rows: list[Row]) -> int:
        entered = dict.fromkeys(
            (table.level.depth, table.columns[place].tag, form, row[0])
            for row in rows
            for place, value in zip(folded, row[1:], strict=True)
            for form in search_forms(value, folded[place])
        )
        if entered:
            # What an interrupted start has left, where it could not be undone.
            delete = self._database.sql(DELETE_FOLDED)
            self._connection.executemany(delete, list(entered))
            self._connection.executemany(self._database.sql(INSERT_FOLDED), list(entered))
        return len(entered)


_PAGE_ROWS = 1000
NOTICE_CHANNEL = "dgate_debts"
"""Where PostgreSQL tells of new debts."""
DELETE_FOLDED = "DELETE FROM dgate_folded WHERE level = ? AND tag = ? AND folded = ? AND entity = ?"
INSERT_FOLDED = "INSERT INTO dgate_folded (level, tag, folded, entity) VALUES (?, ?, ?, ?)"
