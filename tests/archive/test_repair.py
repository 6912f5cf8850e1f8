"""Attribute repair and the reading of rows (spec dicom-sql.md 4.1 and 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.archive.levels import Level, LevelTable, Schema
from dgate.archive.repair import SOUND, derived_uid, fix_patient_id, repair
from dgate.archive.rows import Entry, RowReader
from dgate.config.layout import Column, DicomType, Layout, SqlType, Table, default_layout
from dgate.config.settings import MissingUids
from dgate.dicom.uids import is_uid
from dgate.errors import Refused
from tests.archive.database_kit import image, setup

PATIENT_ID = 0x00100020
PATIENT_NAME = 0x00100010


def schema_of(layout: Layout) -> Schema:
    tables = (layout.patient, layout.study, layout.series, layout.image)
    return Schema(
        tuple(
            LevelTable(level, level.value, table.columns, tuple(c.name for c in table.columns), {})
            for level, table in zip(Level, tables, strict=True)
        ),
        None,
        frozenset(),
    )


@pytest.fixture
def reader() -> RowReader:
    return RowReader(schema_of(default_layout()))


def entry_of(reader: RowReader, folder: Path, changes: dict[str, Any], **elements: Any) -> Entry:
    table = image(**elements)
    return reader.read(table, repair(table, setup(folder, **changes)))


def test_sound_object_needs_no_repair(tmp_path: Path) -> None:
    assert repair(image(), setup(tmp_path)) is SOUND


@pytest.mark.parametrize(
    ("received", "entered"),
    [
        (None, "00000000"),
        ("", "00000000"),
        ("7", "00000000"),
        ("7 ", "00000000"),
        ("12", "12"),
        ("12  ", "12"),
    ],
    ids=["absent", "empty", "one character", "one and blank", "two", "trailing blanks"],
)
def test_short_patient_ids_are_entered_as_zeros(
    reader: RowReader, tmp_path: Path, received: str | None, entered: str
) -> None:
    entry = entry_of(reader, tmp_path, {}, PatientID=received)
    assert entry.patient_id == entered
    assert entry.patient_row[0] == entered
    assert entry.study_row[-1] == entered


@pytest.mark.parametrize(
    ("received", "entered"),
    [(None, "NO NAME"), ("", None), ("A", "A")],
    ids=["absent", "empty", "present"],
)
def test_absent_name_is_entered_as_no_name(
    reader: RowReader, tmp_path: Path, received: str | None, entered: str | None
) -> None:
    entry = entry_of(reader, tmp_path, {}, PatientName=received)
    assert entry.patient_row[1] == entered


@pytest.mark.parametrize(
    ("changes", "received", "fixed"),
    [
        ({"fix_philips": True}, "0012345678", "12345678"),
        ({"fix_philips": True}, "0002345678", "2345678"),
        ({"fix_philips": True}, "0000345678", "0000345678"),
        ({"fix_philips": True}, "001234567", "001234567"),
        ({"fix_philips": True}, "00ABCDEFGH", "00ABCDEFGH"),
        ({"fix_philips": True}, "1012345678", "1012345678"),
        ({"fix_kodak": True}, "01234567", "1234567"),
        ({"fix_kodak": True}, "00034567", "00034567"),
        ({"fix_kodak": True}, "11234567", "11234567"),
        ({}, "0012345678", "0012345678"),
    ],
)
def test_padding_of_some_modalities_is_removed(
    tmp_path: Path, changes: dict[str, bool], received: str, fixed: str
) -> None:
    assert fix_patient_id(received, setup(tmp_path, **changes)) == fixed


def test_padding_is_removed_in_every_row(reader: RowReader, tmp_path: Path) -> None:
    entry = entry_of(reader, tmp_path, {"fix_kodak": True}, PatientID="01234567")
    assert (entry.patient_id, entry.patient_row[0], entry.series_row[-2], entry.image_row[-2]) == (
        *("1234567", "1234567"),
        *("1234567", "1234567"),
    )


def test_generated_uids_are_for_the_caller_to_write(tmp_path: Path) -> None:
    repaired = repair(image(StudyInstanceUID=None, SeriesInstanceUID=""), setup(tmp_path))
    assert [tag for tag, _ in repaired.generated] == [0x0020000D, 0x0020000E]
    (_, study), (_, series) = repaired.generated
    assert is_uid(study)
    assert is_uid(series)
    assert study != series
    assert (repaired.study, repaired.series) == (study, series)


def test_same_object_gets_the_same_generated_uid_again(tmp_path: Path) -> None:
    first = repair(image(StudyInstanceUID=None), setup(tmp_path))
    again = repair(image(StudyInstanceUID=None, StudyDate="20200101"), setup(tmp_path))
    other = repair(image(StudyInstanceUID=None, SOPInstanceUID="1.2.3.4"), setup(tmp_path))
    assert first.generated == again.generated
    assert first.generated != other.generated


@pytest.mark.parametrize("length", [5, 30, 50])
def test_generated_uids_are_valid_for_any_prefix(length: int) -> None:
    uid = derived_uid("1." + "2" * (length - 2), "Study", "1.2.3")
    assert is_uid(uid)
    assert len(uid) <= 64


def test_vendors_own_uid_is_preferred_to_a_generated_one(tmp_path: Path) -> None:
    table = image(StudyInstanceUID=None)
    table.set_raw(0x00211070, "UI", b"1.2.840.99\0")
    repaired = repair(table, setup(tmp_path))
    assert repaired.study == "1.2.840.99"
    assert repaired.generated == ()


def test_missing_uids_can_be_refused(tmp_path: Path) -> None:
    settings = setup(tmp_path, missing_uids=MissingUids.REJECT)
    with pytest.raises(Refused, match="no Series Instance UID"):
        repair(image(SeriesInstanceUID=None), settings)


def test_missing_uids_can_stay_undefined(tmp_path: Path) -> None:
    repaired = repair(
        image(StudyInstanceUID=None), setup(tmp_path, missing_uids=MissingUids.UNDEFINED)
    )
    assert (repaired.study, repaired.generated) == ("undefined", ())


def test_nothing_is_repaired_when_empty_ids_are_allowed(reader: RowReader, tmp_path: Path) -> None:
    entry = entry_of(
        reader, tmp_path, {"allow_empty_patient_id": True}, PatientID="", PatientName=None
    )
    assert entry.patient_id == ""
    assert entry.patient_row[:2] == (None, None)


def test_what_a_rule_set_counts_more_than_the_repair(reader: RowReader, tmp_path: Path) -> None:
    table = image(PatientID=None, PatientName=None)
    repaired = repair(table, setup(tmp_path))
    table.set_text(PATIENT_ID, "X")
    table.set_text(PATIENT_NAME, "BY^RULE")
    entry = reader.read(table, repaired)
    assert entry.patient_row[:2] == ("X", "BY^RULE")


def test_patient_id_that_a_rule_removed_is_made_of_name_and_date(
    reader: RowReader, tmp_path: Path
) -> None:
    table = image(InstanceCreationDate="20240203")
    repaired = repair(table, setup(tmp_path))
    table.delete(PATIENT_ID)
    assert reader.read(table, repaired).patient_id == "SMITH^JOHN20240203"
    table.delete(PATIENT_NAME)
    table.delete(0x00080012)
    assert reader.read(table, repaired).patient_id == "0"


def test_next_image_of_a_series_is_read_like_the_first(tmp_path: Path) -> None:
    changes = [
        {},
        {"InstanceNumber": "2", "SOPInstanceUID": "1.2.3.1.1.2"},
        {"InstanceNumber": "3", "Rows": 256, "ContentDate": "2024.01.01"},
        {"StudyDescription": "other"},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller"},
        {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Müller"[:0] + "Иван"},
        {"PatientID": None},
        {"PatientName": None},
        {"SeriesInstanceUID": None},
        {"ImageType": "X" * 200},
        {"InstanceNumber": "4", "Rows": None},
    ]
    remembering = RowReader(schema_of(default_layout()))
    for elements in changes:
        table = image(**elements)
        repaired = repair(table, setup(tmp_path))
        fresh = RowReader(schema_of(default_layout())).read(table, repaired)
        assert remembering.read(image(), SOUND).sop_instance == "1.2.3.1.1.1"
        assert remembering.read(table, repaired) == fresh


def test_numbers_are_entered_as_text_of_the_first_value(tmp_path: Path) -> None:
    base = default_layout()
    columns = [
        base.image.columns[0],
        Column(0x00280002, "Samples", "Samples", 5, SqlType.CHAR, DicomType.UINT16),
        Column(0x00180088, "Spacing", "Spacing", 20, SqlType.CHAR, DicomType.FL),
        Column(0x00189073, "Duration", "Duration", 30, SqlType.CHAR, DicomType.FD),
        Column(0x00280009, "Pointer", "Pointer", 30, SqlType.CHAR, DicomType.STR),
        base.image.columns[-1],
    ]
    layout = Layout(base.patient, base.study, base.series, Table(tuple(columns), linked=True))
    table = image(
        SpacingBetweenSlices=["1.50", "2"], AcquisitionDuration=0.1, FrameIncrementPointer=None
    )
    entry = RowReader(schema_of(layout)).read(table, SOUND)
    assert entry.image_row == ("1.2.3.1.1.1", "1", "1.5", "0.1", None, "1.2.3.1.1")


def test_number_column_of_an_odd_value_keeps_its_text(tmp_path: Path) -> None:
    base = default_layout()
    column = Column(0x00180088, "Spacing", "Spacing", 20, SqlType.CHAR, DicomType.FD)
    columns = (base.image.columns[0], column, base.image.columns[-1])
    layout = Layout(base.patient, base.study, base.series, Table(columns, linked=True))
    table = image()
    table.set_raw(0x00180088, "DS", b"broken")
    assert RowReader(schema_of(layout)).read(table, SOUND).image_row[1] == "broken"
