"""Questions to the index: C-FIND answers, objects to retrieve, conditions of export rules.

Spec dicom-sql.md 6 to 8. Not for how one key matches (`dgate.archive.matching`) nor for DICOM
encoding (`dgate.services`). Any thread may use a `Finder`; each question borrows a reader
connection, and what peers send is only ever bound as a parameter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dgate.archive.connection import Row, Value
from dgate.archive.database import Database
from dgate.archive.filters import FilterText
from dgate.archive.joins import Joins, Order
from dgate.archive.levels import (
    LEVELS,
    MODALITIES_IN_STUDY,
    PATIENT_NAME,
    Level,
    Schema,
    bare,
)
from dgate.archive.matching import Matcher
from dgate.archive.records import InstanceRef, stored_name
from dgate.archive.repair import PaddingSettings, fix_patient_id
from dgate.config.layout import PATIENT_ID
from dgate.dicom.element import SOP_CLASS_UID
from dgate.errors import RuleError

log = logging.getLogger(__name__)


class FinderSettings(PaddingSettings, Protocol):
    """The settings that decide about queries."""

    @property
    def match_case(self) -> bool: ...
    @property
    def truncate_field_names(self) -> int: ...
    @property
    def enable_computed_fields(self) -> bool: ...
    @property
    def patient_query_sort_order(self) -> str: ...
    @property
    def study_query_sort_order(self) -> str: ...
    @property
    def series_query_sort_order(self) -> str: ...
    @property
    def image_query_sort_order(self) -> str: ...


@dataclass(frozen=True, slots=True)
class QueryKey:
    """One attribute of an identifier."""

    tag: int
    value: str | None = None
    """Decoded text, several values joined by a backslash; None or empty = only to be returned."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the answers are wanted, and in which order."""

    sort: str = ""
    """Name of a column; one with `Number` in its name is sorted by its number."""
    limit: int | None = None
    offset: int = 0


EVERYTHING = Page()
_NO_LIMIT = 2**62


class Finder:
    """Answers from the index."""

    def __init__(self, database: Database, schema: Schema, settings: FinderSettings) -> None:
        self._database = database
        self._indexed = bool(schema.levels)
        self._settings = settings
        self._joins = Joins(database, schema)
        self._matcher = Matcher(database, match_case=settings.match_case, folding=schema.folding)
        self._schema = schema
        self._orders = {
            Level.PATIENT: self._order(Level.PATIENT, settings.patient_query_sort_order),
            Level.STUDY: self._order(Level.STUDY, settings.study_query_sort_order),
            Level.SERIES: self._order(Level.SERIES, settings.series_query_sort_order),
            Level.IMAGE: self._order(Level.IMAGE, settings.image_query_sort_order),
        }
        if self._indexed:
            self._columns = self._reference_columns()
            source = self._joins.source(Level.IMAGE, [Level.STUDY])
            key = self._joins.column(Level.IMAGE, 0)
            self._one = f"SELECT {self._columns} FROM {source} WHERE {key} = ?"
            self._filter_text = FilterText(
                settings.truncate_field_names,
                self._table_name,
                {bare(name).lower() for table in schema.levels for name in table.all_names},
                compares_types=not database.embedded,
            )
            self._all_joined = self._joins.source(Level.IMAGE, LEVELS)

    def find(
        self,
        level: Level,
        keys: Sequence[QueryKey],
        page: Page = EVERYTHING,
    ) -> Iterator[dict[int, str | None]]:
        """Yield one answer per matching entity: the requested tags, None for what is not known.

        Keys of upper levels restrict, too; keys that no column has are returned without value.
        Raises DatabaseAway.
        """
        if not self._indexed:
            return
        columns, levels = self._selected(level, keys)
        conditions, parameters, restricted = self._conditions(level, keys)
        order = self._wanted_order(level, keys, page.sort)
        source = self._joins.source(
            level,
            levels | restricted | order.levels,
            patient_known=Level.PATIENT in restricted,
        )
        chosen = ", ".join([self._joins.column(level, 0), *columns.values()])
        sql = f"SELECT {chosen} FROM {source}"
        if conditions:
            sql += f" WHERE {' AND '.join(conditions)}"
        if order.clause:
            sql += f" ORDER BY {order.clause}"
        if page.limit is not None or page.offset:
            sql += " LIMIT ? OFFSET ?"
            parameters += [_NO_LIMIT if page.limit is None else page.limit, page.offset]
        unknown: dict[int, str | None] = {key.tag: None for key in keys if key.tag not in columns}
        joined = MODALITIES_IN_STUDY in columns and self._joins.modalities(level) is not None
        for row in self._database.rows(self._database.sql(sql), parameters):
            answer = {tag: _text(value) for tag, value in zip(columns, row[1:], strict=True)}
            if joined:
                answer[MODALITIES_IN_STUDY] = _listed(answer[MODALITIES_IN_STUDY])
            yield answer | unknown

    def select(self, keys: Sequence[QueryKey], level: Level = Level.IMAGE) -> list[InstanceRef]:
        """Return the objects that a C-MOVE or C-GET asks for, in the order of transmission.

        The caller has checked that the unique key of `level` is there. Letter case counts.
        """
        if not self._indexed:
            return []
        conditions, parameters, restricted = self._conditions(Level.IMAGE, keys, exact=True)
        order = self._orders[Level.IMAGE]
        source = self._joins.source(
            Level.IMAGE,
            {Level.STUDY} | restricted | order.levels,
            patient_known=Level.PATIENT in restricted,
        )
        sql = f"SELECT {self._columns} FROM {source}"
        if conditions:
            sql += f" WHERE {' AND '.join(conditions)}"
        if order.clause:
            sql += f" ORDER BY {order.clause}"
        return [_reference(row) for row in self._database.rows(self._database.sql(sql), parameters)]

    def instance(self, sop_instance: str) -> InstanceRef | None:
        """Return a stored object by its SOP Instance UID."""
        if not self._indexed:
            return None
        rows = list(self._database.rows(self._database.sql(self._one), [sop_instance]))
        return _reference(rows[0]) if rows else None

    def entered(self, sop_instance: str) -> float | None:
        """Return the AccessTime of a stored object's row: when it was entered, in seconds since the
        epoch and in coarse steps; None when there is none."""
        if not self._indexed:
            return None
        image = self._schema.table(Level.IMAGE)
        sql = f"SELECT {image.extra['accesstime']} FROM {image.name} WHERE {image.key} = ?"
        row = next(iter(list(self._database.rows(self._database.sql(sql), [sop_instance]))), None)
        return None if row is None or row[0] is None else float(str(row[0]))

    def knows(self, level: Level, tag: int) -> bool:
        """Tell whether an attribute is matched or answered from the index at a level."""
        return self._indexed and (
            self._joins.target(level, tag) is not None or self._expression(level, tag) is not None
        )

    def sql_filter(self, condition: str, ref: InstanceRef) -> bool:
        """Tell whether an ExportFilterN holds for a stored object.

        Raises RuleError when the condition cannot be run, DatabaseAway when the database cannot.
        """
        if not self._indexed:
            raise RuleError(
                "an SQL filter needs an index", remedy="set SQLServer, or remove the filter"
            )
        text = self._filter_text.of(condition)
        if not self._database.embedded:
            text = text.replace("%", "%%")
        sql = self._database.sql(
            f"SELECT 1 FROM {self._all_joined} WHERE {self._joins.column(Level.IMAGE, 0)} = ? AND "
        )
        with self._database.reader() as connection:
            try:
                rows = connection.execute(f"{sql}({text}) LIMIT 1", (ref.sop_instance,))
                return rows.fetchone() is not None
            except self._database.errors as exc:
                if not self._database.is_mistake(exc):
                    raise
                raise RuleError(f"the filter is not a condition on the index: {exc}") from exc

    def _selected(
        self, level: Level, keys: Sequence[QueryKey]
    ) -> tuple[dict[int, str], set[Level]]:
        """Return the expressions to select, by tag, and the tables that they need."""
        columns: dict[int, str] = {}
        levels: set[Level] = set()
        for key in keys:
            target = self._joins.target(level, key.tag)
            if target is not None:
                columns[key.tag] = target.expression
                levels.add(target.level)
                continue
            expression = self._expression(level, key.tag)
            if expression is not None:
                columns[key.tag] = expression
        return columns, levels

    def _expression(self, level: Level, tag: int) -> str | None:
        """Return the expression of an attribute that no column holds."""
        if tag == MODALITIES_IN_STUDY:
            return self._joins.modalities(level)
        return self._joins.computed(level, tag) if self._settings.enable_computed_fields else None

    def _conditions(
        self, level: Level, keys: Sequence[QueryKey], *, exact: bool = False
    ) -> tuple[list[str], list[Value], set[Level]]:
        """Return conditions, their parameters, and the tables that they need."""
        conditions: list[str] = []
        parameters: list[Value] = []
        levels: set[Level] = set()
        for key in keys:
            if not key.value:
                continue
            value = key.value
            target = self._joins.target(level, key.tag)
            if target is None:
                if key.tag == MODALITIES_IN_STUDY and self._joins.modalities(level):
                    condition = self._joins.modality_condition(value)
                else:
                    continue
            else:
                if key.tag == PATIENT_ID:
                    value = fix_patient_id(value.rstrip(), self._settings)
                condition = self._matcher.condition(target, value, exact=exact)
                levels.add(target.level)
            if condition is not None:
                conditions.append(condition[0])
                parameters += condition[1]
        return conditions, parameters, levels

    def _wanted_order(self, level: Level, keys: Sequence[QueryKey], sort: str) -> Order:
        if sort:
            order = self._joins.order(level, sort, numeric="number" in sort.lower())
            if order.clause:
                return order
        if self._orders[level].clause:
            return self._orders[level]
        if level in (Level.PATIENT, Level.STUDY):
            name = self._joins.target(level, PATIENT_NAME)
            if name is not None and any(key.tag == PATIENT_NAME for key in keys):
                return self._joins.by_column(name)
        return Order()

    def _order(self, level: Level, text: str) -> Order:
        if not self._indexed:
            return Order()
        order = self._joins.order(level, text)
        for part in order.refused:
            log.warning(
                "%sQuerySortOrder: %s names no column of the tables at that level; it was ignored.",
                level.value.capitalize(),
                part,
            )
        return order

    def _reference_columns(self) -> str:
        """Return the columns of an InstanceRef, in the order of its fields."""
        joins, image = self._joins, self._schema.table(Level.IMAGE)
        sop_class, patient = image.position(SOP_CLASS_UID), image.position(PATIENT_ID)
        return ", ".join(
            (
                "NULL" if sop_class is None else joins.column(Level.IMAGE, sop_class),
                joins.column(Level.IMAGE, 0),
                joins.column(Level.STUDY, -1)
                if patient is None
                else joins.column(Level.IMAGE, patient),
                joins.column(Level.STUDY, 0),
                joins.column(Level.SERIES, 0),
                joins.extra(Level.IMAGE, "devicename"),
                joins.extra(Level.IMAGE, "objectfile"),
            )
        )

    def _table_name(self, name: str) -> str | None:
        level = self._joins.level_of_table(name)
        return None if level is None else self._schema.table(level).name


def _reference(row: Row) -> InstanceRef:
    sop_class, sop_instance, patient, study, series, device, name = (value or "" for value in row)
    return InstanceRef(sop_class, sop_instance, patient, study, series, device, stored_name(name))


def _listed(modalities: str | None) -> str | None:
    return None if modalities is None else modalities.replace(",", "\\")


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
