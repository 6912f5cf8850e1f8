"""The worklist table: what is scheduled, found by C-FIND, entered by operators and HL7 orders.

Spec dicom-sql.md 3, 6 and 7. Not for the DICOM side (`dgate.services.worklist`), nor for where rows
come from (`dgate.archive.orders`). Any thread may use a `Worklist`: questions borrow a reader
connection, changes go through the writer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dgate.archive.connection import Row, Value
from dgate.archive.database import Database
from dgate.archive.fold import fold_key, search_forms
from dgate.archive.levels import PATIENT_NAME, Level, Schema
from dgate.archive.matching import Matcher, target
from dgate.archive.repair import PaddingSettings, fix_patient_id
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.config.layout import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    Column,
    DicomType,
    SqlType,
    Table,
)
from dgate.dicom.element import keyword_of, vr_of
from dgate.errors import DgateError

SCHEDULED_STEP_ID = 0x00400009
NEW_ACCESSION = "*AN"
"""In place of an accession number: make one."""
NEW_UID = "*UI"
"""In place of a UID: make one, unless the entry has one already."""


NO_WORKLIST = "there is no worklist"
NO_WORKLIST_REMEDY = "set SQLServer, and add the section *WorkList* to dicom.sql"

Entry = Mapping[str, str | None]
"""One entry: column names, as `Column.name`, to values."""


class WorklistSettings(PaddingSettings, Protocol):
    """The settings that decide about worklist queries."""

    @property
    def match_case(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class WorklistKey:
    """One attribute of a worklist query."""

    path: tuple[int, ...]
    """Tags of the sequences that it stands in, outermost first."""
    tag: int
    value: str | None = None
    """Decoded text; None or empty = only to be returned."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of one entry."""

    accession: str
    step: str
    is_new: bool
    truncated: tuple[str, ...] = ()
    """Columns whose value was too long."""


@dataclass(frozen=True, slots=True)
class Named:
    """Which entries a removal means; empty texts mean any."""

    accession: str = ""
    step: str | None = None
    patient_id: str = ""

    @property
    def means_all(self) -> bool:
        """Tell whether every entry is meant."""
        return not self.accession and not self.patient_id and self.step is None


class Columns:
    """The columns of *WorkList*, as dicom.sql has them."""

    def __init__(self, table: Table | None) -> None:
        """`table` is None without a worklist: then there are no columns."""
        self.all: tuple[Column, ...] = () if table is None else table.columns
        """In the order of dicom.sql."""
        self._by_place = {(each.sequence, each.tag): each for each in reversed(self.all)}
        self._by_tag = {each.tag: each for each in reversed(self.all)}

    def __bool__(self) -> bool:
        """Tell whether there is a worklist at all."""
        return bool(self.all)

    @property
    def key(self) -> Column:
        """The column of the accession number."""
        return self._by_tag[ACCESSION_NUMBER]

    @property
    def step(self) -> Column | None:
        """The column of the scheduled procedure step's ID."""
        return self._by_tag.get(SCHEDULED_STEP_ID)

    def of(self, tag: int, path: tuple[int, ...] = ()) -> Column | None:
        """Return the column of an attribute: in these sequences, else wherever it is."""
        return self._by_place.get((path, tag)) or self._by_tag.get(tag)

    def named(self, text: str) -> Column | None:
        """Return the column that people mean: its name, cut or whole, keyword, or ggggeeee."""
        wanted = text.strip().lower().replace(",", "")
        for each in self.all:
            known = (each.name, each.full_name, keyword_of(each.tag), f"{each.tag:08x}")
            if wanted in (name.lower() for name in known):
                return each
        return None


class Worklist:
    """The entries of the worklist.

    Without a worklist table (no *WorkList* in dicom.sql, or no database) it is empty for ever.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        table: Table | None,
        writer: Writer,
        settings: WorklistSettings,
        clock: Clock,
        new_uid: Callable[[], str],
    ) -> None:
        self._database = database
        self._name = schema.worklist if table is not None else None
        self._writer = writer
        self._settings = settings
        self._clock = clock
        self._new_uid = new_uid
        self._matcher = Matcher(database, match_case=settings.match_case)
        self.columns = Columns(table if self._name else None)
        """The columns of dicom.sql; none without a worklist."""

    def __bool__(self) -> bool:
        """Tell whether there is a worklist at all."""
        return bool(self.columns)

    # Questions.

    def find(self, keys: Sequence[WorklistKey]) -> Iterator[Entry]:
        """Yield the entries that match all keys, by name if that is asked for.

        Attributes without a column restrict nothing. Raises DatabaseAway.
        """
        if not self.columns:
            return
        conditions: list[str] = []
        parameters: list[Value] = []
        tests: list[tuple[str, _TextTest]] = []
        for key in keys:
            column = self.columns.of(key.tag, key.path)
            if column is None or not key.value:
                continue
            value = key.value
            if column.tag == PATIENT_ID:
                value = fix_patient_id(value.rstrip(), self._settings)
            if self._ignores_case(column):
                if value.strip("* "):
                    tests.append((column.name, _TextTest(value, vr_of(column.tag) == "PN")))
                continue
            condition = self._condition(column, value)
            if condition is not None:
                conditions.append(condition[0])
                parameters += condition[1]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT {self._list()} FROM {self._name}{where} ORDER BY {self._order(keys)}"
        names = [column.name for column in self.columns.all]
        for row in self._database.rows(self._database.sql(sql), parameters):
            entry = dict(zip(names, map(_text, row), strict=True))
            if all(test.passes(entry[name]) for name, test in tests):
                yield entry

    def first(self, accession: str) -> Entry | None:
        """Return the entry with an accession number, the same one of several; None = there is none.

        Raises DatabaseAway.
        """
        if not self.columns or not accession:
            return None
        sql = self._database.sql(
            f"SELECT {self._list()} FROM {self._name} WHERE {self._quoted(self.columns.key)} = ? "
            f"ORDER BY {self._database.quote('AccessTime')}{self._then_by_step()}"
        )
        with self._database.reader() as connection:
            row = connection.execute(sql, (accession,)).fetchone()
        if row is None:
            return None
        return {
            column.name: _text(value) for column, value in zip(self.columns.all, row, strict=True)
        }

    def count(self) -> int:
        """Return how many entries there are."""
        if not self.columns:
            return 0
        with self._database.reader() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {self._name}").fetchone()[0])

    # Changes.

    def change(self, changes: Sequence[Entry | Named]) -> list[Entered | int]:
        """Enter, correct and remove entries in this order, all or none; say what became of each.

        An entry is told from others by accession number and scheduled step: where it is there
        already, only the values given are changed. A value of None is not given, an empty one is
        removed. For what was named, the number of entries removed is returned.

        Raises:
            DgateError: there is no worklist, or an entry has no accession number.
            DatabaseAway: nothing was changed.
        """
        if not self.columns:
            raise DgateError(NO_WORKLIST, remedy=NO_WORKLIST_REMEDY)

        def work(transaction: Transaction) -> list[Entered | int]:
            return [
                self._remove(transaction, each)
                if isinstance(each, Named)
                else self._put(transaction, each)
                for each in changes
            ]

        return self._writer.transact(work)

    def _remove(self, transaction: Transaction, named: Named) -> int:
        conditions = ["1 = 1"]
        parameters: list[Value] = []
        for column, value in (
            (self.columns.key, named.accession or None),
            (self.columns.of(PATIENT_ID), named.patient_id or None),
            (self.columns.step, named.step),
        ):
            if value is None:
                continue
            if column is None:
                # Without the column no entry has the value; all must not go instead.
                if value:
                    return 0
                continue
            conditions.append(f"coalesce({self._quoted(column)}, '') = ?")
            parameters.append(value)
        sql = f"DELETE FROM {self._name} WHERE {' AND '.join(conditions)}"
        return max(0, transaction.execute(self._database.sql(sql), parameters).rowcount)

    def _put(self, transaction: Transaction, entry: Entry) -> Entered:
        values: dict[str, str | None] = {}
        truncated = []
        for column in self.columns.all:
            value = entry.get(column.name)
            if value is None:
                continue
            kept = _stored_form(column, value)
            if len(_plain(value)) > column.length and column.sql_type is not SqlType.DATE:
                truncated.append(column.full_name)
            values[column.name] = kept
        accession = values.get(self.columns.key.name) or ""
        if accession == NEW_ACCESSION:
            accession = values[self.columns.key.name] = self._new_accession(transaction)
        if not accession:
            raise DgateError(
                "a worklist entry has no accession number",
                remedy=f"give {self.columns.key.full_name}, or correct its place in the message "
                "(7th column of *WorkList* in dicom.sql; *AN makes a number)",
            )
        step = (values.get(self.columns.step.name) or "") if self.columns.step is not None else ""
        where, parameters = self._identity(accession, step)
        listed = self._list()
        sql = self._database.sql(f"SELECT {listed} FROM {self._name} WHERE {where}")
        before = transaction.execute(sql, parameters).fetchone()
        self._make_uids(values, before)
        if before is None:
            self._insert(transaction, values)
        else:
            self._update(transaction, values, where, parameters)
        return Entered(accession, step, before is None, tuple(truncated))

    def _identity(self, accession: str, step: str) -> tuple[str, list[Value]]:
        where, parameters = f"{self._quoted(self.columns.key)} = ?", [accession]
        if self.columns.step is not None:
            where += f" AND coalesce({self._quoted(self.columns.step)}, '') = ?"
            parameters.append(step)
        return where, list(parameters)

    def _make_uids(self, values: dict[str, str | None], before: Row | None) -> None:
        for position, column in enumerate(self.columns.all):
            if values.get(column.name) == NEW_UID:
                there = _text(before[position]) if before is not None else None
                values[column.name] = there or self._new_uid()

    def _insert(self, transaction: Transaction, values: Mapping[str, str | None]) -> None:
        quote = self._database.quote
        names = [quote(name) for name in (*values, "AccessTime")]
        marks = ", ".join("?" * len(names))
        sql = f"INSERT INTO {self._name} ({', '.join(names)}) VALUES ({marks})"
        parameters = [*(value or None for value in values.values()), self._now()]
        transaction.execute(self._database.sql(sql), parameters)

    def _update(
        self,
        transaction: Transaction,
        values: Mapping[str, str | None],
        where: str,
        identity: Sequence[Value],
    ) -> None:
        quote = self._database.quote
        changes = ", ".join(f"{quote(name)} = ?" for name in (*values, "AccessTime"))
        sql = f"UPDATE {self._name} SET {changes} WHERE {where}"
        parameters = [*(value or None for value in values.values()), self._now(), *identity]
        transaction.execute(self._database.sql(sql), parameters)

    def _new_accession(self, transaction: Transaction) -> str:
        """Return a number that no entry has: letters A to Z and digits, at most 16 (VR SH)."""
        sql = self._database.sql(
            f"SELECT 1 FROM {self._name} WHERE {self._quoted(self.columns.key)} = ?"
        )
        number = int(self._clock.now() * 1000)
        while True:
            accession = f"AN{number}"[-min(16, self.columns.key.length) :]
            if transaction.execute(sql, (accession,)).fetchone() is None:
                return accession
            number += 1

    # Parts of SQL.

    def _quoted(self, column: Column) -> str:
        return self._database.quote(column.name)

    def _list(self) -> str:
        return ", ".join(map(self._quoted, self.columns.all))

    def _order(self, keys: Sequence[WorklistKey]) -> str:
        """Return the sort order: the name where it is among the keys (spec dicom-sql.md 6.3)."""
        name = self.columns.of(PATIENT_NAME)
        wanted = name is not None and any(key.tag == PATIENT_NAME for key in keys)
        first = f"{self._quoted(name)}, " if name is not None and wanted else ""
        return f"{first}{self._quoted(self.columns.key)}{self._then_by_step()}"

    def _then_by_step(self) -> str:
        return "" if self.columns.step is None else f", {self._quoted(self.columns.step)}"

    def _ignores_case(self, column: Column) -> bool:
        if column.dicom_type is DicomType.ISTR:
            return True
        is_text = column.dicom_type is DicomType.STR and vr_of(column.tag) in ("PN", "LO")
        return is_text and not self._settings.match_case

    def _condition(self, column: Column, value: str) -> tuple[str, list[Value]] | None:
        expression = self._quoted(column)
        # The level only matters to the side table of folded text, which the worklist has not.
        seen = target(
            column,
            Level.PATIENT,
            expression,
            table=self._name or "",
            entity=expression,
            caseless=False,
            caseless_index=False,
            lowered=expression if self._database.embedded else f"lower({expression})",
        )
        return self._matcher.condition(seen, value)

    def _now(self) -> int:
        return int(self._clock.now()) & ~31


class _TextTest:
    """Matches text without case and accents, person names by each of their component groups.

    Worklists are short, so this needs no index.
    """

    def __init__(self, wanted: str, is_name: bool) -> None:
        self._is_name = is_name
        folded = fold_key(wanted.rstrip(" \0"), is_name)
        # Piece by piece, from the left: one pattern with many stars would take for ever.
        self._pieces = [_Piece.of(piece) for piece in folded.split("*")]

    def passes(self, value: str | None) -> bool:
        """Tell whether a stored value matches; nothing matches no value."""
        if not value:
            return False
        value = value.rstrip(" ")
        forms = (fold_key(value, self._is_name), *search_forms(value, self._is_name))
        return any(map(self._matches, forms))

    def _matches(self, form: str) -> bool:
        first, *others = self._pieces
        if not others:
            return first.pattern.fullmatch(form) is not None
        found = first.pattern.match(form)
        for piece in others[:-1]:
            if found is None:
                return False
            found = piece.pattern.search(form, found.end())
        if found is None:
            return False
        start = len(form) - others[-1].length
        return start >= found.end() and others[-1].pattern.fullmatch(form, start) is not None


class _Piece(NamedTuple):
    """What stands between two stars; a question mark is any character."""

    pattern: re.Pattern[str]
    length: int

    @classmethod
    def of(cls, text: str) -> _Piece:
        letters = ("." if letter == "?" else re.escape(letter) for letter in text)
        return cls(re.compile("".join(letters), re.DOTALL), len(text))


def _stored_form(column: Column, value: str) -> str:
    """Return a value as the column takes it: cut, dates without marks, nothing unstorable."""
    value = _plain(value).encode("utf-8", "replace").decode()
    if column.sql_type is SqlType.DATE:
        value = re.sub(r"[./-]", "", value)
    return value[: column.length].rstrip()


def _plain(value: str) -> str:
    return value.replace("\0", "").strip()


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
