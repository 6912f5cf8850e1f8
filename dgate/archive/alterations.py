"""Fits tables that exist already to dicom.sql: adds columns, fills and widens them, drops none.

Not for creating tables (`dgate.archive.schema`). A column that dicom.sql no longer lists stays with
its values. Which column held which attribute is kept in `dgate_layout`, so that a renamed column is
filled from the old one. Runs at start, one thread, in the transaction that makes the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from dgate.archive.connection import Connection
from dgate.archive.database import Database
from dgate.archive.levels import MODALITIES_IN_STUDY, MODALITY, Level, LevelTable
from dgate.config.layout import Column, SqlType
from dgate.config.settings import Engine
from dgate.errors import ConfigError

LAYOUT_TABLE = (
    "CREATE TABLE dgate_layout (tablename varchar(64) not null, columnname varchar(64) not null, "
    "tag bigint not null, listed int not null, PRIMARY KEY (tablename, columnname))"
)
"""Which attribute each column of the original's tables holds or held. `listed` is 1 while dicom.sql
has the column."""

_ESSENTIAL = ("objectfile", "devicename")
"""Columns without which a table is not what it is taken for."""


class Alterations:
    """What has to be changed in the tables of one database."""

    def __init__(self, database: Database, connection: Connection, notes: list[str]) -> None:
        self._database = database
        self._connection = connection
        self._quote = database.quote
        self._notes = notes
        self._added: dict[tuple[str, str], Column] = {}
        """By table and column, both in lower case."""
        self._former = self._read_former()

    def fit(
        self, table: str, columns: Sequence[Column], extra: dict[str, str], *, keyed: bool
    ) -> tuple[Column, ...]:
        """Add what an existing table lacks, and return its columns with the lengths that it has.

        Args:
            keyed: the first column is the key of the rows.

        Raises:
            ConfigError: the table lacks a column that cannot be added, such as its key.
        """
        found = self._connection.columns(table)
        vital = {columns[0].name.lower(), *_ESSENTIAL} if keyed else set()
        missing = [column for column in columns if column.name.lower() not in found]
        lost = [column.name for column in missing if column.name.lower() in vital]
        lost += [name for name in extra if name not in found and name in vital]
        if lost:
            raise ConfigError(
                f"table {table} has no column {', '.join(lost)}, which dicom.sql asks for",
                where=self._database.location,
                remedy="correct dicom.sql, or rebuild the index into a new database",
            )
        for column in missing:
            self._add(table, f"{self._quote(column.name)} {column_type(column)}")
            self._added[table.lower(), column.name.lower()] = column
        for name, definition in extra.items():
            if name not in found:
                self._add(table, definition)
        texts = self._connection.texts(table)
        return tuple(
            self._fitting(table, column, texts, fixed=keyed and place == 0)
            for place, column in enumerate(columns)
        )

    def fill(self, levels: Sequence[LevelTable]) -> list[tuple[Level, int]]:
        """Give added columns the values that the database has elsewhere; return those columns."""
        new = [
            (table, place)
            for table in levels
            for place, column in enumerate(table.columns)
            if (table.bare.lower(), column.name.lower()) in self._added
        ]
        for table, place in new:
            column = table.columns[place]
            what = f"added column {column.name} to table {table.bare}"
            source = self._source(levels, table, column)
            if source is None:
                self._notes.append(
                    f"{what}: objects stored before have no value there until `dgate regen` has "
                    "read their files"
                )
                continue
            origin, expression = source
            self._connection.execute(
                f"UPDATE {table.name} SET {table.names[place]} = "
                f"substr({expression}, 1, {column.length})"
            )
            self._notes.append(f"{what}, filled from {origin}")
        return [(table.level, place) for table, place in new]

    def remember(self, tables: Iterable[tuple[str, Sequence[Column]]]) -> None:
        """Write down which attribute each column holds now."""
        listed = {
            (table.lower(), column.name.lower()): column.tag
            for table, columns in tables
            for column in columns
        }
        known = {place: tag for place, (tag, is_listed) in self._former.items() if is_listed}
        if listed == known:
            return
        for place in known.keys() - listed.keys():
            self._notes.append(
                f"column {place[1]} of table {place[0]} stays, though dicom.sql lists it no more"
            )
        rows = {place: (tag, 0) for place, (tag, _) in self._former.items()}
        rows |= {place: (tag, 1) for place, tag in listed.items()}
        self._connection.execute("DELETE FROM dgate_layout")
        self._connection.executemany(
            self._database.sql(
                "INSERT INTO dgate_layout (tablename, columnname, tag, listed) VALUES (?, ?, ?, ?)"
            ),
            [(*place, *values) for place, values in sorted(rows.items())],
        )

    def _read_former(self) -> dict[tuple[str, str], tuple[int, int]]:
        columns = "tablename, columnname, tag, listed"
        rows = self._connection.execute(f"SELECT {columns} FROM dgate_layout")
        return {(row[0], row[1]): (row[2], row[3]) for row in rows.fetchall()}

    def _add(self, table: str, definition: str) -> None:
        self._connection.execute(f"ALTER TABLE {self._quote(table)} ADD COLUMN {definition}")

    def _fitting(
        self, table: str, column: Column, texts: dict[str, tuple[int | None, str]], *, fixed: bool
    ) -> Column:
        """Widen a column that is shorter than dicom.sql says; where that is not possible, return it
        with the length that it has."""
        length, collation = texts.get(column.name.lower(), (None, ""))
        if length is None or length >= column.length:
            return column
        name = self._quote(self._connection.columns(table)[column.name.lower()])
        place = f"column {column.name} of table {table}"
        if self._database.engine is Engine.POSTGRES and column.sql_type is not SqlType.DATE:
            # Widening a varchar changes no row.
            change = f"ALTER COLUMN {name} TYPE varchar({column.length})"
        elif self._database.engine is Engine.MYSQL and not fixed:
            change = f"MODIFY COLUMN {name} varchar({column.length}) COLLATE {collation}"
        else:
            self._notes.append(
                f"{place} holds {length} characters, not the {column.length} of dicom.sql: longer "
                "values are cut"
            )
            return replace(column, length=length)
        self._connection.execute(f"ALTER TABLE {self._quote(table)} {change}")
        self._notes.append(f"widened {place} from {length} to {column.length} characters")
        return column

    def _source(
        self, levels: Sequence[LevelTable], table: LevelTable, column: Column
    ) -> tuple[str, str] | None:
        """Return where the values of an added column are, in words and as an expression."""
        old = self._former_column(table, column)
        if old is not None:
            return f"column {old}", self._quote(old)
        if table.level is Level.STUDY and column.tag == MODALITIES_IN_STUDY:
            return self._modalities(table, levels[Level.SERIES.depth])
        rows = f"{table.name}.{table.names[-1]}"
        for depth in range(table.level.depth - 1, -1, -1):
            parent = levels[depth]
            place = parent.position(column.tag)
            if place is not None and not self._is_added(parent, place):
                value = f"{parent.name}.{parent.names[place]}"
                text = f"table {parent.bare}"
                return text, self._upward(levels, table.level.depth, depth, value, rows)
        return None

    def _former_column(self, table: LevelTable, column: Column) -> str | None:
        """Return another column of the table that holds, or held, the same attribute."""
        found = self._connection.columns(table.bare)
        for (name, former), (tag, _) in sorted(self._former.items()):
            is_other = former != column.name.lower() and former in found
            if name == table.bare.lower() and tag == column.tag and is_other:
                return found[former]
        return None

    def _upward(
        self, levels: Sequence[LevelTable], start: int, end: int, value: str, rows: str
    ) -> str:
        """Return the value of an upper level for each row, through the tables between."""
        nearest = levels[start - 1]
        source = nearest.name
        for depth in range(start - 2, end - 1, -1):
            parent, child = levels[depth], levels[depth + 1]
            link = f"{child.name}.{child.names[-1]}"
            source += f" JOIN {parent.name} ON {parent.name}.{parent.key} = {link}"
        return f"(SELECT {value} FROM {source} WHERE {nearest.name}.{nearest.key} = {rows})"

    def _modalities(self, study: LevelTable, series: LevelTable) -> tuple[str, str] | None:
        place = series.position(MODALITY)
        if place is None or self._is_added(series, place):
            return None
        value = f"{series.name}.{series.names[place]}"
        of_study = f"{series.name}.{series.names[-1]} = {study.name}.{study.key}"
        separator: Callable[[str], str] = {
            Engine.POSTGRES: lambda text: f"string_agg(DISTINCT {text}, ',')",
        }.get(self._database.engine, lambda text: f"group_concat(DISTINCT {text})")
        listed = f"(SELECT {separator(value)} FROM {series.name} WHERE {of_study})"
        # char(92) would be chr(92) elsewhere; a literal backslash is an escape on MariaDB only.
        mark = r"'\\'" if self._database.engine is Engine.MYSQL else r"'\'"
        return f"table {series.bare}", f"replace({listed}, ',', {mark})"

    def _is_added(self, table: LevelTable, place: int) -> bool:
        return (table.bare.lower(), table.columns[place].name.lower()) in self._added


def column_type(column: Column) -> str:
    """Return the SQL type of a column."""
    return "char(8)" if column.sql_type is SqlType.DATE else f"varchar({column.length})"
