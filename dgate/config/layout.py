"""dicom.sql: which attributes become columns of which table (spec dicom-sql.md sections 1 and 2).

Not the SQL itself (`dgate.archive.schema`). Immutable after parsing, safe between threads.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from dgate.config.problem import Problem, Report
from dgate.config.sqltext import Row, Token, read_sections

PATIENT_ID = 0x00100020
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
SOP_UID = 0x00080018
ACCESSION_NUMBER = 0x00080050
UID_LENGTH = 64
DATE_LENGTH = 8
SHIPPED_TRUNCATION = 10

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDED = ("accesstime", "qtimestamp", "qflags", "qspare")
_ADDED_TO_IMAGE = (*_ADDED, "objectfile", "devicename")


class DicomType(Enum):
    """How a column's text is made and matched."""

    STR = "DT_STR"
    ISTR = "DT_ISTR"
    MSTR = "DT_MSTR"
    DATE = "DT_DATE"
    TIME = "DT_TIME"
    UI = "DT_UI"
    UINT16 = "DT_UINT16"
    UINT32 = "DT_UINT32"
    FL = "DT_FL"
    FD = "DT_FD"


class SqlType(Enum):
    """The database type of a column."""

    CHAR = "SQL_C_CHAR"
    """varchar(length)"""
    DATE = "SQL_C_DATE"
    """char(8)"""


_E = TypeVar("_E", DicomType, SqlType)
_SQL_TYPES = {sql_type.value: sql_type for sql_type in SqlType}
_DICOM_TYPES = {dicom_type.value: dicom_type for dicom_type in DicomType}
_SEQUENCE_START = "DT_STARTSEQUENCE"
_SEQUENCE_END = "DT_ENDSEQUENCE"


@dataclass(frozen=True, slots=True)
class Column:
    """One attribute that the index keeps."""

    tag: int
    name: str
    """The name in the database, cut by TruncateFieldNames."""
    full_name: str
    length: int
    sql_type: SqlType
    dicom_type: DicomType
    hl7: str = ""
    """Where the value stands in an HL7 message; worklist only."""
    sequence: tuple[int, ...] = ()
    """Tags of the sequences that the attribute is nested in, outermost first; worklist only."""


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of one table, in order."""

    columns: tuple[Column, ...]
    linked: bool = False

    @property
    def key(self) -> Column:
        """Return the column of the primary key."""
        return self.columns[0]

    @property
    def link(self) -> Column | None:
        """Return the column that holds the parent's key; None for patient and worklist."""
        return self.columns[-1] if self.linked else None

    def column(self, tag: int) -> Column | None:
        """Return the first column of the attribute `tag`."""
        return next((column for column in self.columns if column.tag == tag), None)


@dataclass(frozen=True, slots=True)
class Layout:
    """The five tables."""

    patient: Table
    study: Table
    series: Table
    image: Table
    worklist: Table | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the rules of section 2.1 ask of one section."""

    name: str
    key: int
    link: int | None = None
    link_name: str = ""
    added: tuple[str, ...] = _ADDED


_PLANS = (
    _Plan("Patient", PATIENT_ID),
    _Plan("Study", STUDY_UID, PATIENT_ID, "PatientID"),
    _Plan("Series", SERIES_UID, STUDY_UID, "StudyInstanceUID"),
    _Plan("Image", SOP_UID, SERIES_UID, "SeriesInstanceUID", _ADDED_TO_IMAGE),
    _Plan("WorkList", ACCESSION_NUMBER),
)


def parse_layout(
    data: bytes, path: Path | str, truncate: int = SHIPPED_TRUNCATION, max_length: int = 0
) -> tuple[Layout, list[Problem]]:
    """Read the file's bytes; a table that cannot be used is replaced by the shipped one.

    `truncate` is TruncateFieldNames (0 = off), `max_length` MaxFieldLength (0 = off).
    """
    report = Report(str(path))
    reader = _Reader(report, truncate, max_length)
    sections = read_sections(data, [plan.name for plan in _PLANS], report)
    tables: dict[str, Table] = {}
    for plan in _PLANS:
        rows = sections.get(plan.name)
        table = reader.table(plan, rows) if rows is not None else None
        if table is not None:
            tables[plan.name] = table
        elif rows is None and plan.name != "WorkList":
            message = f"the section *{plan.name}* is missing"
            report.error(None, message, "copy it from the shipped dicom.sql")
    lacking = [plan.name for plan in _PLANS[:-1] if plan.name not in tables]
    if lacking:
        # With another truncation even the shipped names may clash.
        shipped = default_layout(SHIPPED_TRUNCATION, max_length)
        tables |= {name: getattr(shipped, name.lower()) for name in lacking}
    layout = Layout(
        tables["Patient"],
        tables["Study"],
        tables["Series"],
        tables["Image"],
        tables.get("WorkList"),
    )
    reader.check_link_names(layout)
    return layout, report.problems


def default_layout(truncate: int = SHIPPED_TRUNCATION, max_length: int = 0) -> Layout:
    """Return the layout of the shipped dicom.sql."""
    # Imported here: it loads much that a set of four whole files does not need.
    from importlib import resources

    source = resources.files("dgate.config") / "default" / "dicom.sql"
    return parse_layout(source.read_bytes(), "dicom.sql", truncate, max_length)[0]


class _Reader:
    """Turns rows of tokens into tables and collects what is wrong with them."""

    def __init__(self, report: Report, truncate: int, max_length: int) -> None:
        self._report = report
        self._truncate = truncate
        self._max_length = max_length

    def table(self, plan: _Plan, rows: list[Row]) -> Table | None:
        """Return the table of one section; None when it cannot be used."""
        columns: list[Column] = []
        places: list[Token] = []
        sequence: list[int] = []
        for row in rows:
            column = self._column(row, sequence)
            if column is not None:
                columns.append(column)
                places.append(row.start)
        if sequence:
            message = f"a sequence of *{plan.name}* has no DT_ENDSEQUENCE row"
            self._report.warning(
                rows[-1].start.line, message, "add the row that ends it", rows[-1].start.column
            )
        if not columns:
            message = f"the section *{plan.name}* has no columns"
            self._report.error(None, message, "copy it from the shipped dicom.sql")
            return None
        if columns[0].tag != plan.key:
            message = f"the first row of *{plan.name}* is not its key {_tag_text(plan.key)}"
            self._report.error(
                places[0].line, message, "put the row of the key first", places[0].column
            )
            return None
        if plan.link is not None:
            self._put_link_last(plan, plan.link, columns, places)
        if not self._names_differ(plan, columns, places):
            return None
        return Table(tuple(columns), linked=plan.link is not None)

    def check_link_names(self, layout: Layout) -> None:
        """Warn where a link column is called otherwise than the key that it points to."""
        for child, parent in (
            (layout.study, layout.patient),
            (layout.series, layout.study),
            (layout.image, layout.series),
        ):
            link = child.link
            if link is not None and link.name.lower() != parent.key.name.lower():
                message = f"the link column {link.name} differs from the key {parent.key.name}"
                advice = "give both the same name, or other programs cannot join the tables"
                self._report.warning(None, message, advice)

    def _put_link_last(
        self, plan: _Plan, link: int, columns: list[Column], places: list[Token]
    ) -> None:
        if columns[-1].tag == link:
            return
        place = next((i for i, column in enumerate(columns) if column.tag == link and i > 0), None)
        last = columns[-1].full_name
        if place is not None:
            columns.append(columns.pop(place))
            places.append(places.pop(place))
            message = f"the last row of *{plan.name}* ({last}) is not its link {_tag_text(link)}"
            advice = f"move the row {columns[-1].full_name} to the end of the section"
            self._report.warning(places[-1].line, message, advice, places[-1].column)
            return
        name = plan.link_name
        columns.append(
            Column(
                link, self._cut(name), name, self._cap(UID_LENGTH), SqlType.CHAR, _link_type(link)
            )
        )
        message = (
            f"*{plan.name}* ends with {last} and has no link row {_tag_text(link)}; "
            f"the column {name} was added"
        )
        tag = f"0x{link >> 16:04x}, 0x{link & 0xFFFF:04x}"
        row = f'{{ {tag}, "{name}", {UID_LENGTH}, SQL_C_CHAR, {_link_type(link).value} }}'
        self._report.warning(places[-1].line, message, f"add as last row: {row}", places[-1].column)
        places.append(places[-1])

    def _names_differ(self, plan: _Plan, columns: list[Column], places: list[Token]) -> bool:
        seen: dict[str, Token] = {}
        good = True
        for column, place in zip(columns, places, strict=True):
            name = column.name.lower()
            if name in plan.added:
                message = f"the column {column.name} of *{plan.name}* is one that dgate adds itself"
                self._report.error(place.line, message, "remove or rename the row", place.column)
                good = False
            elif name in seen:
                message = (
                    f"*{plan.name}* has two columns called {column.name} "
                    f"(the other in line {seen[name].line})"
                )
                advice = f"rename one; only the first {self._truncate or 31} characters count"
                self._report.error(place.line, message, advice, place.column)
                good = False
            seen.setdefault(name, place)
        return good

    def _column(self, row: Row, sequence: list[int]) -> Column | None:
        """Return the column of a row; sequence brackets change `sequence` and give None."""
        if len(row.fields) < 6:
            message = f"a row has {len(row.fields)} fields instead of six"
            advice = "write { group, element, name, length, SQL type, DICOM type }"
            self._report.error(row.start.line, message, advice, row.start.column)
            return None
        group, element, name, length, sql_type, dicom_type = row.fields[:6]
        tag = self._number(group) << 16 | self._number(element)
        kind = dicom_type.text.upper()
        if kind == _SEQUENCE_START:
            sequence.append(tag)
            return None
        if kind == _SEQUENCE_END:
            self._close_sequence(sequence, row.start)
            return None
        sql = self._known(sql_type, _SQL_TYPES)
        dicom = self._known(dicom_type, _DICOM_TYPES)
        if sql is None or dicom is None or not self._is_name(name):
            return None
        size = self._length(length, sql)
        hl7 = row.fields[6].text if len(row.fields) > 6 else ""
        cut = self._cut(name.text)
        return Column(tag, cut, name.text, size, sql, dicom, hl7, tuple(sequence))

    def _known(self, token: Token, types: Mapping[str, _E]) -> _E | None:
        found = types.get(token.text.upper())
        if found is None:
            message = f"the type {token.text!r} is not known"
            near = difflib.get_close_matches(token.text.upper()[:40], types, 1)
            advice = f"did you mean {near[0]}?" if near else f"use one of {' '.join(types)}"
            self._report.error(token.line, message, advice, token.column)
        return found

    def _close_sequence(self, sequence: list[int], place: Token) -> None:
        if sequence:
            sequence.pop()
            return
        message = "DT_ENDSEQUENCE ends a sequence that was not begun"
        self._report.warning(place.line, message, "remove the row", place.column)

    def _is_name(self, token: Token) -> bool:
        if _IDENTIFIER.fullmatch(token.text) is not None:
            return True
        message = f"{token.text!r} is not a column name"
        advice = "use letters, digits and underscores, beginning with a letter"
        self._report.error(token.line, message, advice, token.column)
        return False

    def _length(self, token: Token, sql: SqlType) -> int:
        length = self._number(token, bits=31)
        if length < 1:
            message = f"the length {token.text!r} is not usable; {UID_LENGTH} is used"
            self._report.warning(token.line, message, "write a number of characters", token.column)
            length = UID_LENGTH
        return self._cap(DATE_LENGTH if sql is SqlType.DATE else length)

    def _number(self, token: Token, bits: int = 16) -> int:
        """Return the value of hexadecimal or decimal digits; others count as 0 and are reported."""
        text = token.text.lower()
        base, digits = (16, text[2:]) if text.startswith("0x") else (10, text)
        value = 0
        bad = not digits
        for digit in digits:
            figure = "0123456789abcdef".find(digit)
            bad = bad or not 0 <= figure < base
            value = value * base + (figure if 0 <= figure < base else 0)
        if bad or value >= 1 << bits:
            value &= (1 << bits) - 1
            message = f"{token.text!r} is not a number of {bits} bits; {value} is used"
            self._report.warning(
                token.line, message, "write 0x and hexadecimal digits", token.column
            )
        return value

    def _cut(self, name: str) -> str:
        return name[: self._truncate] if self._truncate > 0 else name

    def _cap(self, length: int) -> int:
        return min(length, self._max_length) if self._max_length > 0 else length


def _link_type(tag: int) -> DicomType:
    return DicomType.STR if tag == PATIENT_ID else DicomType.UI


def _tag_text(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
