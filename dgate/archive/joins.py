"""How a question reaches the tables: attributes to columns, joins, computed columns, sort orders.

Spec dicom-sql.md 6.1, 6.3 and 8. Made once from the schema; immutable, safe between threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dgate.archive.connection import Value
from dgate.archive.database import Database
from dgate.archive.levels import (
    LEVELS,
    MODALITIES_IN_STUDY,
    MODALITY,
    Level,
    LevelTable,
    Schema,
    foldable,
)
from dgate.archive.matching import Condition, Target, like_pattern, target
from dgate.config.settings import Engine

_SEARCHED = {
    Level.PATIENT: (Level.PATIENT,),
    Level.STUDY: (Level.STUDY, Level.PATIENT),
    Level.SERIES: (Level.STUDY, Level.PATIENT, Level.SERIES),
    Level.IMAGE: (Level.STUDY, Level.PATIENT, Level.SERIES, Level.IMAGE),
}
"""The tables that are searched for an attribute, in this order."""

DEFAULT_TABLES = {
    "dicompatients": Level.PATIENT,
    "dicomstudies": Level.STUDY,
    "dicomseries": Level.SERIES,
    "dicomimages": Level.IMAGE,
}
"""The names that sort orders and filters use even where the tables are called otherwise."""

_COUNTED = {
    (Level.PATIENT, 0x00201200): Level.STUDY,
    (Level.PATIENT, 0x00201202): Level.SERIES,
    (Level.PATIENT, 0x00201204): Level.IMAGE,
    (Level.STUDY, 0x00201206): Level.SERIES,
    (Level.STUDY, 0x00201208): Level.IMAGE,
    (Level.SERIES, 0x00201209): Level.IMAGE,
}
NUMBERS = frozenset(("accesstime", "qtimestamp", "qflags"))
"""Columns of the original's that are no text."""
_SORT_ITEM = re.compile(r"(?:(\w+)\s*\.\s*)?(\w+)(?:\s+(asc|desc))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """A checked sort order."""

    clause: str = ""
    """What follows ORDER BY; empty = unsorted."""
    levels: frozenset[Level] = frozenset()
    """Tables that have to be joined for it."""
    refused: tuple[str, ...] = ()
    """Parts of the text that name no column of a joined table."""


class Joins:
    """The tables of a schema as questions see them."""

    def __init__(self, database: Database, schema: Schema) -> None:
        self._engine = database.engine
        self._schema = schema
        self._targets = {
            level: self._targets_of(schema, searched) if schema.levels else {}
            for level, searched in _SEARCHED.items()
        }

    def target(self, level: Level, tag: int) -> Target | None:
        """Return the column that answers for an attribute at a level; None when there is none."""
        return self._targets[level].get(tag)

    def column(self, level: Level, position: int) -> str:
        """Return a column of a table, qualified; negative positions count from the end."""
        table = self._schema.table(level)
        return f"{table.name}.{table.names[position]}"

    def extra(self, level: Level, name: str) -> str:
        """Return a column that dicom.sql does not list, qualified."""
        table = self._schema.table(level)
        return f"{table.name}.{table.extra[name]}"

    def source(self, level: Level, levels: Iterable[Level], *, patient_known: bool = False) -> str:
        """Return what follows FROM: the table of `level`, joined upwards as far as `levels` need
        it.

        A study without patient row stays in the result unless `patient_known`.
        """
        highest = min((wanted.depth for wanted in levels), default=level.depth)
        parts = [self._schema.table(level).name]
        for depth in range(level.depth - 1, highest - 1, -1):
            parent, child = self._schema.levels[depth], self._schema.levels[depth + 1]
            how = "LEFT JOIN" if depth == 0 and not patient_known else "JOIN"
            condition = f"{parent.name}.{parent.key} = {child.name}.{child.names[-1]}"
            parts.append(f"{how} {parent.name} ON {condition}")
        return " ".join(parts)

    def computed(self, level: Level, tag: int) -> str | None:
        """Return the expression of a computed attribute (dicom-sql.md 8); None when it is none."""
        counted = _COUNTED.get((level, tag))
        if counted is None or not self._schema.levels:
            return None
        return f"(SELECT count(*) FROM {self._below(level, counted)})"

    def modalities(self, level: Level) -> str | None:
        """Return an expression for (0008,0061) where no column collects the modalities."""
        if level is not Level.STUDY or not self._schema.levels:
            return None
        position = self._schema.table(Level.SERIES).position(MODALITY)
        if position is None or self.target(level, MODALITIES_IN_STUDY) is not None:
            return None
        modality = self.column(Level.SERIES, position)
        joined = {
            Engine.POSTGRES: f"string_agg(DISTINCT {modality}, ',')",
        }.get(self._engine, f"group_concat(DISTINCT {modality})")
        return f"(SELECT {joined} FROM {self._below(level, Level.SERIES)})"

    def modality_condition(self, value: str) -> Condition | None:
        """Return the condition that a study has a series of one of these modalities."""
        parts: list[Value] = [
            like_pattern(part.upper())[0] for part in value.split("\\") if part.strip()
        ]
        if not value.strip("* "):
            return None
        position = self._schema.table(Level.SERIES).position(MODALITY) or 0
        below = self._below(Level.STUDY, Level.SERIES)
        matches = f"upper({self.column(Level.SERIES, position)}) LIKE ? ESCAPE '!'"
        either = " OR ".join([matches] * len(parts))
        return f"EXISTS (SELECT 1 FROM {below} AND ({either}))", parts

    def order(self, level: Level, text: str, *, numeric: bool = False) -> Order:
        """Check a sort order: `table.column [ASC|DESC]`, separated by commas; with `numeric` the
        columns are compared as numbers."""
        items: list[str] = []
        levels: set[Level] = set()
        refused: list[str] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            match = _SORT_ITEM.fullmatch(part)
            found = self._named(level, match[1], match[2]) if match else None
            if match is None or found is None:
                refused.append(part)
                continue
            descends, column = (match[3] or "").lower() == "desc", found[1]
            if numeric and found[2]:
                column = self._number(column)
            items.append(self._ordered(column, descends, found[2] and not numeric))
            levels.add(found[0])
        return Order(", ".join(items), frozenset(levels), tuple(refused))

    def by_column(self, column: Target) -> Order:
        """Return the order of one column's text."""
        return Order(self._ordered(column.expression, False, True), frozenset((column.level,)))

    def _ordered(self, column: str, descends: bool, is_text: bool) -> str:
        """Return an item of ORDER BY that all engines order alike: by code points, what has no
        value first."""
        if self._engine is Engine.POSTGRES:
            column += ' COLLATE "C"' if is_text else ""
            return column + (" DESC NULLS LAST" if descends else " ASC NULLS FIRST")
        if self._engine is Engine.MYSQL and is_text:
            column = f"BINARY {column}"
        return column + (" DESC" if descends else "")

    def _number(self, column: str) -> str:
        """Return the number that a text begins with."""
        if self._engine is Engine.POSTGRES:
            return f"CAST(substring({column} from '^ *([0-9]{{1,18}})') AS bigint)"
        return f"CAST({column} AS {'signed' if self._engine is Engine.MYSQL else 'integer'})"

    def level_of_table(self, name: str) -> Level | None:
        """Return the level of a table, by its own or its default name in any letter case."""
        for table in self._schema.levels:
            if table.name[1:-1].lower() == name.lower():
                return table.level
        return DEFAULT_TABLES.get(name.lower())

    def _named(
        self, level: Level, table: str | None, column: str
    ) -> tuple[Level, str, bool] | None:
        """Return the column of a joined table that a sort order names, and whether it is text."""
        wanted = None if table is None else self.level_of_table(table)
        if table is not None and wanted is None:
            return None
        # A name without table means the table of the level itself first.
        for candidate in reversed(LEVELS[: level.depth + 1]):
            if wanted not in (None, candidate):
                continue
            names = self._schema.table(candidate)
            quoted = _column_named(names, column)
            if quoted is not None:
                is_text = column.lower() not in NUMBERS
                return candidate, f"{names.name}.{quoted}", is_text
        return None

    def _below(self, level: Level, lower: Level) -> str:
        """Return FROM and WHERE over the rows at `lower` that belong to the outer row of
        `level`."""
        child = self._schema.levels[level.depth + 1]
        inner = self.source(lower, [child.level], patient_known=True)
        key = self.column(level, 0)
        return f"{inner} WHERE {child.name}.{child.names[-1]} = {key}"

    def _targets_of(self, schema: Schema, searched: tuple[Level, ...]) -> dict[int, Target]:
        targets: dict[int, Target] = {}
        for level in searched:
            table = schema.table(level)
            caseless = foldable(table)
            for position, column in enumerate(table.columns):
                if column.tag not in targets:
                    targets[column.tag] = target(
                        column,
                        level,
                        f"{table.name}.{table.names[position]}",
                        table.name,
                        f"{table.name}.{table.key}",
                        caseless=position in caseless,
                        caseless_index=(level, position) in schema.folded_indices,
                        lowered=self._lowered(schema, level, position),
                    )
        return targets

    def _lowered(self, schema: Schema, level: Level, position: int) -> str:
        """Return the expression of a column's text in lower case; on SQLite the column itself."""
        table = schema.table(level)
        column = f"{table.name}.{table.names[position]}"
        if self._engine in (Engine.SQLITE, Engine.NONE):
            return column
        computed = schema.lowered.get((level, position))
        return f"lower({column})" if computed is None else f"{table.name}.{computed}"


def _column_named(table: LevelTable, name: str) -> str | None:
    lower = name.lower()
    for column, quoted in zip(table.columns, table.names, strict=True):
        if lower in (column.name.lower(), column.full_name.lower()):
            return quoted
    return table.extra.get(lower)
