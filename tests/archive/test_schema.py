"""Tables: created with the names that existing programs expect, taken over as they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.debttable import DEBT_COLUMNS
from dgate.archive.levels import Level
from dgate.config.layout import Layout, parse_layout
from dgate.config.settings import Engine
from dgate.errors import ConfigError
from tests.archive.database_kit import Archive, image, open_archive, setup

ORIGINAL = """
CREATE TABLE DICOMPatients (PatientID varchar(64) PRIMARY KEY not null, PatientNam varchar(64),
 PatientBir char(8), PatientSex varchar(16), AccessTime int, qTimeStamp int, qFlags int,
 qSpare varchar(64));
CREATE TABLE DICOMStudies (StudyInsta varchar(64) PRIMARY KEY not null, StudyDate char(8),
 StudyTime varchar(16), StudyID varchar(16), StudyDescr varchar(64), AccessionN varchar(16),
 ReferPhysi varchar(64), PatientsAg varchar(16), PatientsWe varchar(16), StudyModal varchar(64),
 PatientNam varchar(64), PatientBir char(8), PatientSex varchar(16), PatientID varchar(64),
 AccessTime int, qTimeStamp int, qFlags int, qSpare varchar(64));
CREATE INDEX study_lnk ON DICOMStudies (PatientID);
INSERT INTO DICOMPatients VALUES ('OLD', CAST(x'4dfc6c6c65725e4b617269' AS text), '19500101', 'F',
 0, 0, 0, '');
INSERT INTO DICOMStudies (StudyInsta, PatientNam, PatientID)
 VALUES ('1.9.1', CAST(x'4dfc6c6c65725e4b617269' AS text), 'OLD');
"""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(setup(tmp_path))
    yield opened
    opened.close()


def columns(archive: Archive, table: str) -> list[tuple[str, str]]:
    return [(row[1], row[2].lower()) for row in archive.rows(f"PRAGMA table_info({table})")]


def indices(archive: Archive) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    for name, table in archive.rows("SELECT name, tbl_name FROM sqlite_master WHERE type='index'"):
        parts = tuple(row[2] for row in archive.rows(f"PRAGMA index_info({name})"))
        found[name] = (table, parts)
    return found


def test_tables_have_the_names_and_columns_of_the_original(archive: Archive) -> None:
    assert columns(archive, "DICOMPatients") == [
        ("PatientID", "varchar(64)"),
        ("PatientNam", "varchar(64)"),
        ("PatientBir", "char(8)"),
        ("PatientSex", "varchar(16)"),
        ("AccessTime", "int"),
        ("qTimeStamp", "int"),
        ("qFlags", "int"),
        ("qSpare", "varchar(64)"),
    ]
    assert [name for name, _ in columns(archive, "DICOMImages")][-8:] == [
        "ImagePat",
        "SeriesInst",
        "AccessTime",
        "qTimeStamp",
        "qFlags",
        "qSpare",
        "ObjectFile",
        "DeviceName",
    ]
    assert ("DeviceName", "varchar(32)") in columns(archive, "DICOMImages")
    assert ("ObjectFile", "varchar(255)") in columns(archive, "DICOMImages")


def test_first_column_is_the_primary_key(archive: Archive) -> None:
    for table, key in (
        ("DICOMPatients", "PatientID"),
        ("DICOMStudies", "StudyInsta"),
        ("DICOMSeries", "SeriesInst"),
        ("DICOMImages", "SOPInstanc"),
    ):
        keys = [row for row in archive.rows(f"PRAGMA table_info({table})") if row[5]]
        assert [(row[1], row[3]) for row in keys] == [(key, 1)]


def test_worklist_has_no_key(archive: Archive) -> None:
    assert archive.schema.worklist == '"DICOMWorkList"'
    assert not any(row[5] for row in archive.rows("PRAGMA table_info(DICOMWorkList)"))


def test_uid_register_is_created(archive: Archive) -> None:
    assert [name for name, _ in columns(archive, "UIDMODS")] == [
        "MODTime",
        "OldUID",
        "MODType",
        "NewUID",
        "Stage",
        "Annotation",
    ]


@pytest.mark.parametrize(
    ("name", "table", "parts"),
    [
        ("study_lnk", "DICOMStudies", ("PatientID",)),
        ("idx_patientid", "DICOMStudies", ("PatientID",)),
        ("idx_patientid_studyinsta", "DICOMStudies", ("PatientID", "StudyInsta")),
        ("series_lnk", "DICOMSeries", ("StudyInsta",)),
        ("series_pat", "DICOMSeries", ("SeriesPat",)),
        ("idx_studyinsta_seriesinst", "DICOMSeries", ("StudyInsta", "SeriesInst")),
        ("images_lnk", "DICOMImages", ("SeriesInst",)),
        ("images_pat", "DICOMImages", ("ImagePat",)),
        ("idx_seriesinst_sopinstanc", "DICOMImages", ("SeriesInst", "SOPInstanc")),
        ("mods_old", "UIDMODS", ("OldUID",)),
        ("mods_stage", "UIDMODS", ("Stage",)),
        ("mods_joint", "UIDMODS", ("OldUID", "Stage")),
        ("mods_back", "UIDMODS", ("NewUID", "Stage")),
        ("dgate_patient_id", "DICOMPatients", ("PatientID",)),
        ("dgate_study_accession", "DICOMStudies", ("AccessionN",)),
        ("dgate_study_date", "DICOMStudies", ("StudyDate",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_index_exists(archive: Archive, name: str, table: str, parts: tuple[str, ...]) -> None:
    assert indices(archive)[name] == (table, parts)


def test_debts_have_every_column(archive: Archive) -> None:
    names = [name for name, _ in columns(archive, "dgate_debts")]
    assert names == ["id", *(name for name, _ in DEBT_COLUMNS)]


def test_claims_use_the_index_over_open_debts(archive: Archive) -> None:
    plan = archive.rows(
        "EXPLAIN QUERY PLAN SELECT id FROM dgate_debts "
        "WHERE state = 'queued' AND destination = ? AND priority = ? AND due <= ? "
        "ORDER BY due, id LIMIT 8",
        "A",
        1,
        1.0,
    )
    assert "dgate_debts_lanes" in plan[0][3]


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    first = open_archive(setup(tmp_path))
    before = first.rows("SELECT type, name, sql FROM sqlite_master ORDER BY name")
    first.store(image())
    first.close()
    second = open_archive(setup(tmp_path))
    assert second.rows("SELECT type, name, sql FROM sqlite_master ORDER BY name") == before
    assert second.index.counts() == (1, 1, 1, 1)
    assert second.schema.notes == ()
    second.close()


def test_table_names_and_field_lengths_follow_the_settings(tmp_path: Path) -> None:
    archive = open_archive(
        setup(tmp_path, image_table="DICOMIMAGES", truncate_field_names=0, max_field_length=40)
    )
    assert ("SOPInstanceUID", "varchar(40)") in columns(archive, "DICOMIMAGES")
    assert ("ObjectFile", "varchar(40)") in columns(archive, "DICOMIMAGES")
    names = [row[0] for row in archive.rows("SELECT name FROM sqlite_master WHERE type='table'")]
    assert "DICOMIMAGES" in names
    archive.close()


def test_existing_database_is_taken_over_unchanged(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.db3") as original:
        original.executescript(ORIGINAL)
        before = original.execute("SELECT name, sql FROM sqlite_master").fetchall()
    original.close()
    archive = open_archive(setup(tmp_path))
    after = archive.rows("SELECT name, sql FROM sqlite_master")
    assert set(before) <= set(after)
    assert archive.rows("SELECT PatientNam, PatientSex FROM DICOMPatients") == [
        ("Müller^Kari", "F")
    ]
    archive.close()


def test_latin_1_names_of_a_taken_over_database_can_be_searched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.db3") as original:
        original.executescript(ORIGINAL)
    original.close()
    archive = open_archive(setup(tmp_path))
    assert archive.rows("SELECT level, folded, entity FROM dgate_folded ORDER BY level") == [
        (0, "muller^kari", "OLD"),
        (1, "muller^kari", "1.9.1"),
    ]
    assert any("search forms" in note for note in archive.schema.notes)
    archive.close()


@pytest.mark.parametrize("extra", ["", "CREATE UNIQUE INDEX own_key ON DICOMImages (SOPInstanc)"])
def test_look_up_is_final_only_where_the_image_key_is_unique(tmp_path: Path, extra: str) -> None:
    """Without, a second row of an object that another program enters meanwhile is accepted."""
    archive = open_archive(setup(tmp_path))
    assert archive.index.is_alone
    archive.close()
    with sqlite3.connect(tmp_path / "index.db3") as original:
        original.executescript(
            "CREATE TABLE Copy AS SELECT * FROM DICOMImages; DROP TABLE DICOMImages;"
            f"ALTER TABLE Copy RENAME TO DICOMImages; {extra}"
        )
    original.close()

    archive = open_archive(setup(tmp_path))

    assert archive.index.is_alone is bool(extra)
    archive.close()


def test_table_without_primary_key_gets_an_index_for_look_ups(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.db3") as original:
        original.executescript(ORIGINAL.replace(" PRIMARY KEY not null", ""))
    original.close()
    archive = open_archive(setup(tmp_path))
    assert indices(archive)["dgate_patient_key"] == ("DICOMPatients", ("PatientID",))
    assert "dgate_series_key" not in indices(archive)
    archive.close()


def test_table_that_lacks_its_key_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.db3") as original:
        original.executescript(ORIGINAL.replace("StudyInsta", "Other"))
    original.close()
    with pytest.raises(ConfigError) as caught:
        open_archive(setup(tmp_path))
    assert "StudyInsta" in caught.value.what
    assert "rebuild the index" in caught.value.remedy
    with sqlite3.connect(tmp_path / "index.db3") as original:
        names = original.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
    original.close()
    assert len(names) == 2


def test_layout_of_an_older_server_is_accepted(tmp_path: Path) -> None:
    text = b"""
    *Patient* { { 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR } }
    *Study* { { 0x0020, 0x000d, "StudyInstanceUID", 64, SQL_C_CHAR, DT_UI },
              { 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR } }
    *Series* { { 0x0020, 0x000e, "SeriesInstanceUID", 64, SQL_C_CHAR, DT_UI },
               { 0x0020, 0x000d, "StudyInstanceUID", 64, SQL_C_CHAR, DT_UI } }
    *Image* { { 0x0008, 0x0018, "SOPInstanceUID", 64, SQL_C_CHAR, DT_UI },
              { 0x0020, 0x000e, "SeriesInstanceUID", 64, SQL_C_CHAR, DT_UI } }
    """
    layout, _ = parse_layout(text, "dicom.sql")
    archive = open_archive(setup(tmp_path), layout)
    archive.store(image())
    archive.store(image(), now=2000.0)
    assert archive.index.counts() == (1, 1, 1, 1)
    assert archive.schema.worklist is None
    archive.close()


def test_columns_are_found_by_role(archive: Archive) -> None:
    study = archive.schema.table(Level.STUDY)
    assert study.key == '"StudyInsta"'
    assert study.link == '"PatientID"'
    assert archive.schema.table(Level.PATIENT).link is None
    assert study.position(0x00080050) is not None
    assert study.position(0x00181030) is None


def test_without_index_only_own_tables_are_made(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path, engine=Engine.NONE))
    names = {row[0] for row in archive.rows("SELECT name FROM sqlite_master WHERE type='table'")}
    assert {"dgate_debts", "dgate_rewrites"} <= names
    assert not any(name.startswith("DICOM") for name in names)
    assert archive.schema.levels == ()
    archive.close()


def test_table_name_cannot_become_a_statement(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path, image_table='x"; DROP TABLE DICOMPatients; --'))
    archive.store(image())
    assert archive.index.counts() == (1, 1, 1, 1)
    archive.close()


def test_layout_without_worklist_makes_no_worklist_table(tmp_path: Path) -> None:
    layout, _ = parse_layout(b"", "dicom.sql")
    bare = Layout(layout.patient, layout.study, layout.series, layout.image, None)
    archive = open_archive(setup(tmp_path), bare)
    assert "dicomworklist" not in {
        row[0].lower() for row in archive.rows("SELECT name FROM sqlite_master")
    }
    archive.close()
