"""Column values: from an element table to the rows that one object has at the four levels.

Spec dicom-sql.md 4.2. Not for writing them (`dgate.archive.index`). `RowReader` may be used from
any thread: what it remembers is replaced as a whole, never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter

from dgate.archive.levels import MODALITIES_IN_STUDY, MODALITY, PATIENT_NAME, Level, Schema
from dgate.archive.repair import INSTANCE_CREATION_DATE, Repaired
from dgate.config.layout import (
    PATIENT_ID,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    Column,
    DicomType,
    SqlType,
)
from dgate.dicom.element import SOP_CLASS_UID, SPECIFIC_CHARACTER_SET, numbers_of
from dgate.dicom.table import ElementTable

REMEMBERED_SERIES = 512
REMEMBERED_BYTES = 8192
_PIXEL_GROUP = 0x7FE00000

Values = tuple[str | None, ...]

_NUMERIC = (DicomType.UINT16, DicomType.UINT32)
_FLOATING = (DicomType.FL, DicomType.FD)
_ALWAYS = (
    SPECIFIC_CHARACTER_SET,
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_UID,
    SERIES_UID,
    MODALITY,
)
"""What decides about the upper rows whether or not it has a column there."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """A value that was too long for its column."""

    column: str
    length: int
    limit: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as the index will know it: its identity, and its row at each level."""

    sop_class: str
    sop_instance: str
    patient_id: str
    study: str
    series: str
    modality: str
    patient_row: Values = ()
    """Values in the order of the columns, as in the other rows."""
    study_row: Values = ()
    """The column of (0008,0061) is None: it collects `modality` over the study's objects."""
    series_row: Values = ()
    image_row: Values = ()
    truncated: tuple[Truncation, ...] = ()

    def __reduce__(self) -> tuple[type[Entry], tuple[object, ...]]:
        """Pickle quickly: a rebuild of the index sends each object's entry between processes."""
        return Entry, (
            self.sop_class,
            self.sop_instance,
            self.patient_id,
            self.study,
            self.series,
            self.modality,
            self.patient_row,
            self.study_row,
            self.series_row,
            self.image_row,
            self.truncated,
        )


@dataclass(frozen=True, slots=True)
class _Step:
    """One value that some columns need."""

    tag: int
    limit: int
    """Characters that fit; 0 = any number."""
    special: Callable[[ElementTable, int, str], str] | None
    """What has to be done to the text before it is entered."""
    column: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last object of a series: the next one has nearly the same values.

    What has the same bytes is taken to have the same VR. Halves the time of reading an object.
    """

    syntax: str
    repaired: Repaired
    raws: tuple[bytes | None, ...]
    values: list[str | None]
    entry: Entry


class RowReader:
    """Reads the columns of a layout out of element tables."""

    def __init__(self, schema: Schema) -> None:
        steps: dict[tuple[int, DicomType, SqlType, int], int] = {}
        made: list[_Step] = []
        picks: list[tuple[int, ...]] = []
        upper = list(_ALWAYS)
        self._id_limit = 64
        for table in schema.levels:
            positions = []
            for column in table.columns:
                key = _kind(table.level, column)
                if key not in steps:
                    steps[key] = len(made)
                    made.append(_Step(key[0], key[3], _special(column), column.name))
                positions.append(steps[key])
                if table.level is not Level.IMAGE:
                    upper.append(column.tag)
            picks.append(tuple(positions))
            if table.level is Level.PATIENT:
                self._id_limit = table.columns[0].length
        self._steps = tuple(made)
        self._picks = tuple(_picker(positions) for positions in picks)
        self._patient_places = tuple(
            frozenset(i for i, column in enumerate(table.columns) if column.tag == PATIENT_ID)
            for table in schema.levels
        )
        # Upper levels first, so that one comparison of the front part covers them.
        tags = tuple(dict.fromkeys((*upper, *(step.tag for step in made))))
        self._upper = len(set(upper))
        self._tags = tags
        self._only_header = max(tags) < _PIXEL_GROUP
        self._series_at = tags.index(SERIES_UID)
        self._steps_of = tuple(
            tuple(index for index, step in enumerate(made) if step.tag == tag) for tag in tags
        )
        self._seen: dict[bytes | None, _Seen] = {}

    def read(self, table: ElementTable, repaired: Repaired) -> Entry:
        """Return the entry of an object; `table` is the object as stored, changed by rules."""
        raws = table.raws(self._tags) if self._only_header else self._slow_raws(table)
        seen = self._seen.get(raws[self._series_at])
        upper = self._upper
        if (
            seen is not None
            and seen.raws[:upper] == raws[:upper]
            and seen.syntax == table.syntax
            and seen.repaired == repaired
        ):
            entry = self._next_of_series(table, raws, seen)
            if entry is not None:
                return entry
        return self._read_all(table, raws, repaired)

    def with_patient(self, entry: Entry, patient_id: str) -> Entry:
        """Return an entry that came without patient ID with one."""
        rows = [
            tuple(patient_id if position in places else value for position, value in enumerate(row))
            for row, places in zip(
                (entry.patient_row, entry.study_row, entry.series_row, entry.image_row),
                self._patient_places,
                strict=True,
            )
        ]
        return replace(
            entry,
            patient_id=patient_id,
            patient_row=rows[0],
            study_row=rows[1],
            series_row=rows[2],
            image_row=rows[3],
        )

    def _next_of_series(
        self, table: ElementTable, raws: tuple[bytes | None, ...], seen: _Seen
    ) -> Entry | None:
        """Return the entry of an object that differs at image level only; None when it is odd."""
        values = seen.values.copy()
        before = seen.raws
        for at in range(self._upper, len(raws)):
            if raws[at] != before[at]:
                for index in self._steps_of[at]:
                    step = self._steps[index]
                    value = table.text(step.tag)
                    if step.special is not None:
                        value = step.special(table, step.tag, value)
                    if 0 < step.limit < len(value):
                        return None
                    values[index] = _storable(value) or None
        last = seen.entry
        return Entry(
            _storable(table.text(SOP_CLASS_UID)),
            _storable(table.text(SOP_UID)),
            last.patient_id,
            last.study,
            last.series,
            last.modality,
            last.patient_row,
            last.study_row,
            last.series_row,
            self._picks[3](values) if self._picks else (),
        )

    def _read_all(
        self, table: ElementTable, raws: tuple[bytes | None, ...], repaired: Repaired
    ) -> Entry:
        text = table.text
        patient_id = self._patient_id(table, repaired)
        study = _storable(text(STUDY_UID) or repaired.study)
        series = _storable(text(SERIES_UID) or repaired.series)
        known = {PATIENT_ID: patient_id, STUDY_UID: study, SERIES_UID: series, 0: ""}
        if repaired.patient_name and PATIENT_NAME not in table:
            known[PATIENT_NAME] = repaired.patient_name
        values: list[str | None] = []
        truncated: list[Truncation] = []
        for step in self._steps:
            value = known[step.tag] if step.tag in known else text(step.tag)
            if step.special is not None:
                value = step.special(table, step.tag, value)
            if 0 < step.limit < len(value):
                truncated.append(Truncation(step.column, len(value), step.limit))
                value = value[: step.limit]
            values.append(_storable(value) or None)
        entry = Entry(
            _storable(text(SOP_CLASS_UID)),
            _storable(text(SOP_UID)),
            patient_id,
            study,
            series,
            _storable(text(MODALITY)),
            *self._rows(values),
            tuple(truncated),
        )
        if truncated:
            return entry
        if sum(len(raw) for raw in raws if raw) > REMEMBERED_BYTES:
            return entry
        if len(self._seen) >= REMEMBERED_SERIES:
            self._seen.clear()
        self._seen[raws[self._series_at]] = _Seen(table.syntax, repaired, raws, values, entry)
        return entry

    def _slow_raws(self, table: ElementTable) -> tuple[bytes | None, ...]:
        return tuple(map(table.raw, self._tags))

    def _rows(self, values: list[str | None]) -> tuple[Values, Values, Values, Values]:
        if not self._picks:
            return (), (), (), ()
        patient, study, series, image = self._picks
        return patient(values), study(values), series(values), image(values)

    def _patient_id(self, table: ElementTable, repaired: Repaired) -> str:
        patient_id = table.text(PATIENT_ID)
        if repaired.patient_id and patient_id == repaired.received_id:
            patient_id = repaired.patient_id
        elif not patient_id and not repaired.may_be_empty:
            # A rule removed it (spec dicom-sql.md 4.1, "at database time").
            patient_id = table.text(PATIENT_NAME) + table.text(INSTANCE_CREATION_DATE) or "0"
        return _storable(patient_id[: self._id_limit].rstrip(" "))


def _kind(level: Level, column: Column) -> tuple[int, DicomType, SqlType, int]:
    """Return what makes two columns hold the same value; the last is the limit of its length."""
    if level is Level.STUDY and column.tag == MODALITIES_IN_STUDY:
        return (0, column.dicom_type, column.sql_type, 0)
    # A patient ID is cut alike in all tables, or the rows would not link.
    limit = column.length if column.tag != PATIENT_ID else 0
    return (column.tag, column.dicom_type, column.sql_type, limit)


def _special(column: Column) -> Callable[[ElementTable, int, str], str] | None:
    if column.sql_type is SqlType.DATE:
        return _plain_date
    if column.dicom_type in _NUMERIC:
        return _first_value
    return _first_float if column.dicom_type in _FLOATING else None


def _plain_date(table: ElementTable, tag: int, value: str) -> str:
    return value.replace(".", "").replace("/", "")


def _first_value(table: ElementTable, tag: int, value: str) -> str:
    return value.partition("\\")[0].strip()


def _first_float(table: ElementTable, tag: int, value: str) -> str:
    vr = table.vr(tag)
    raw = table.raw(tag)
    try:
        if vr in ("FL", "FD") and raw:
            return f"{numbers_of(vr, raw, little_endian=table.little_endian)[0]:.16g}"
        return f"{float(_first_value(table, tag, value)):.16g}"
    except (IndexError, ValueError):
        return _first_value(table, tag, value)


def _picker(positions: tuple[int, ...]) -> Callable[[list[str | None]], Values]:
    if len(positions) == 1:
        only = positions[0]
        return lambda values: (values[only],)
    return itemgetter(*positions)


def _storable(value: str) -> str:
    """Return the text without what no database takes: unpaired surrogates, NUL."""
    if value.isascii():
        return value.replace("\0", "") if "\0" in value else value
    return value.encode("utf-8", "replace").decode().replace("\0", "")
