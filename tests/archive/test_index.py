"""Index rows: what an object enters, what it may change, what is refused (spec dicom-sql.md 4)."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.index import CACHED_ROWS, Rewrite
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.repair import repair
from dgate.archive.writer import Transaction
from dgate.config.layout import default_layout
from dgate.config.settings import Engine, MissingUids
from dgate.errors import Refused
from tests.archive.database_kit import (
    CT,
    ENGINES,
    Archive,
    Place,
    image,
    open_archive,
    place_of,
    setup,
)

REF = InstanceRef(CT, "1.2.3.1.1.1", "P1", "1.2.3.1", "1.2.3.1.1", "MAG0", "a.dcm")


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


@pytest.fixture
def archive(place: Place) -> Iterator[Archive]:
    opened = open_archive(place())
    yield opened
    opened.close()


@pytest.fixture
def tolerant(place: Place) -> Iterator[Archive]:
    opened = open_archive(place(allow_empty_patient_id=True))
    yield opened
    opened.close()


def another(number: int, **elements: Any) -> Any:
    return image(SOPInstanceUID=f"1.2.3.1.1.{number}", InstanceNumber=str(number), **elements)


def test_new_object_enters_a_row_at_each_level(archive: Archive) -> None:
    assert archive.store(image(), device="MAG1", name="P1/a.dcm") is None
    assert archive.index.counts() == (1, 1, 1, 1)
    assert archive.rows(
        "SELECT SOPInstanc, SOPClassUI, ImageNumbe, QRows, SamplesPer, ImagePat, SeriesInst, "
        "ObjectFile, DeviceName, AccessTime FROM DICOMImages"
    ) == [("1.2.3.1.1.1", CT, "1", "512", "1", "P1", "1.2.3.1.1", "P1/a.dcm", "MAG1", 1000 & ~31)]
    assert archive.rows("SELECT PatientID, PatientNam, PatientBir FROM DICOMPatients") == [
        ("P1", "SMITH^JOHN", "19600102")
    ]
    assert archive.rows("SELECT StudyInsta, StudyModal, PatientID FROM DICOMStudies") == [
        ("1.2.3.1", "CT", "P1")
    ]
    assert archive.rows("SELECT SeriesInst, Modality, SeriesPat, StudyInsta FROM DICOMSeries") == [
        ("1.2.3.1.1", "CT", "P1", "1.2.3.1")
    ]


def test_absent_and_empty_attributes_are_null(archive: Archive) -> None:
    archive.store(image(StudyDescription="", StudyID=None))
    assert archive.rows("SELECT StudyDescr, StudyID FROM DICOMStudies") == [(None, None)]


def test_access_time_loses_its_low_five_bits(archive: Archive) -> None:
    archive.store(image(), now=1_700_000_031.9)
    assert archive.value("SELECT AccessTime FROM DICOMSeries") == 1_700_000_031 & ~31


def test_second_image_of_a_series_writes_only_its_own_row(archive: Archive) -> None:
    archive.store(another(1), now=1000.0)
    archive.store(another(2), now=4000.0)
    assert archive.index.counts() == (1, 1, 1, 2)
    assert archive.value("SELECT AccessTime FROM DICOMStudies") == 1000 & ~31


def test_last_object_decides_descriptions(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.store(another(1))
    with caplog.at_level(logging.INFO):
        archive.store(another(2, PatientName="JONES^J", PatientBirthDate="19600103"))
    assert archive.rows("SELECT PatientNam, PatientBir FROM DICOMStudies") == [
        ("JONES^J", "19600103")
    ]
    assert archive.value("SELECT PatientNam FROM DICOMPatients") == "JONES^J"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert all("***Inconsistent PatientBir" in record.getMessage() for record in warnings)
    assert len(warnings) == 2
    assert not any("JONES" in record.getMessage() for record in caplog.records)


def test_value_that_goes_on_from_the_stored_one_is_no_inconsistency(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.store(another(1))
    with caplog.at_level(logging.INFO):
        archive.store(another(2, PatientName="Smith^Johnson"))
    assert caplog.records == []
    assert archive.value("SELECT PatientNam FROM DICOMPatients") == "Smith^Johnson"


def test_missing_value_leaves_the_stored_one(archive: Archive) -> None:
    archive.store(another(1))
    archive.store(another(2, StudyDescription=None, PatientSex=""))
    assert archive.rows("SELECT StudyDescr, PatientSex FROM DICOMStudies") == [("Thorax", "M")]


def test_modalities_are_collected_newest_first(archive: Archive) -> None:
    archive.store(another(1))
    archive.store(another(2, SeriesInstanceUID="1.2.3.1.2", Modality="SR"))
    archive.store(another(3, SeriesInstanceUID="1.2.3.1.2", Modality="SR"))
    archive.store(another(4))
    assert archive.value("SELECT StudyModal FROM DICOMStudies") == "SR\\CT"


def test_modalities_in_the_object_are_not_believed(archive: Archive) -> None:
    archive.store(image(ModalitiesInStudy=["MR", "US"]))
    assert archive.value("SELECT StudyModal FROM DICOMStudies") == "CT"


def test_oldest_modality_gives_way_where_the_column_ends(place: Place) -> None:
    layout = default_layout()
    columns = tuple(
        replace(column, length=8) if column.tag == 0x00080061 else column
        for column in layout.study.columns
    )
    layout = replace(layout, study=replace(layout.study, columns=columns))
    archive = open_archive(place(), layout)
    for number, modality in enumerate(("CT", "SR", "KO", "PR"), start=1):
        archive.store(another(number, SeriesInstanceUID=f"1.2.3.{number}", Modality=modality))
    assert archive.value("SELECT StudyModal FROM DICOMStudies") == "PR\\KO\\SR"
    archive.close()


def test_same_object_again_updates_its_row(archive: Archive) -> None:
    archive.store(image(), name="a.dcm", now=1000.0)
    before = archive.store(image(InstanceNumber="7"), name="b.dcm", now=5000.0)
    assert before == REF
    assert archive.rows("SELECT ImageNumbe, ObjectFile, AccessTime FROM DICOMImages") == [
        ("7", "b.dcm", 5000 & ~31)
    ]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PatientID": "P2"}, "SOP instance belongs to another patient"),
        ({"SeriesInstanceUID": "1.2.3.1.9"}, "SOP instance is stored in another series"),
        (
            {"SOPInstanceUID": "1.2.3.1.1.9", "PatientID": "P2"},
            "study belongs to another patient",
        ),
        (
            {"SOPInstanceUID": "1.2.3.1.1.9", "StudyInstanceUID": "1.2.3.9"},
            "series belongs to another study",
        ),
        (
            {
                "SOPInstanceUID": "1.2.3.1.1.9",
                "StudyInstanceUID": "1.2.3.9",
                "PatientID": "P2",
            },
            "series belongs to another patient",
        ),
    ],
    ids=["instance of other patient", "instance in other series", "study", "series", "series+pat"],
)
def test_identity_conflict_is_refused_and_leaves_no_row(
    archive: Archive, elements: dict[str, str], reason: str
) -> None:
    archive.store(image())
    before = [archive.rows(f"SELECT * FROM {table}") for table in ("DICOMStudies", "DICOMSeries")]
    with pytest.raises(Refused, match="Refused to enter inconsistent link") as caught:
        archive.store(image(**elements))
    assert reason in caught.value.what
    assert archive.index.counts() == (1, 1, 1, 1)
    assert before == [
        archive.rows(f"SELECT * FROM {table}") for table in ("DICOMStudies", "DICOMSeries")
    ]


def test_refusal_does_not_spoil_what_follows(archive: Archive) -> None:
    archive.store(another(1))
    with pytest.raises(Refused):
        archive.store(another(2, PatientID="P2"))
    archive.store(another(3))
    assert archive.index.counts() == (1, 1, 1, 2)


@pytest.mark.parametrize("patient_id", ["p1", "P12"], ids=["letter case", "longer"])
def test_patient_id_that_counts_as_equal_stays_with_the_studys_patient(
    archive: Archive, patient_id: str
) -> None:
    archive.store(image())
    archive.store(
        image(PatientID=patient_id, SOPInstanceUID="1.2.9", SeriesInstanceUID="1.2.3.1.2")
    )
    assert archive.rows("SELECT PatientID FROM DICOMStudies") == [("P1",)]
    assert archive.rows("SELECT PatientID FROM DICOMPatients") == [("P1",)]


def test_two_rows_with_one_study_uid_are_refused(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path))
    columns = "StudyInsta varchar(64), PatientID varchar(64), StudyModal varchar(64)"
    rest = [row[1] for row in archive.rows("PRAGMA table_info(DICOMStudies)")]
    rest = [name for name in rest if name not in ("StudyInsta", "PatientID", "StudyModal")]
    archive.close()
    with sqlite3.connect(tmp_path / "index.db3") as other:
        other.execute("DROP TABLE DICOMStudies")
        other.execute(f"CREATE TABLE DICOMStudies ({columns}, {', '.join(rest)})")
        for _ in range(2):
            other.execute(
                "INSERT INTO DICOMStudies (StudyInsta, PatientID) VALUES ('1.2.3.1', 'P1')"
            )
    other.close()
    archive = open_archive(setup(tmp_path))
    with pytest.raises(Refused, match="Duplicate found"):
        archive.store(image())
    archive.close()


def test_object_without_sop_instance_uid_is_refused(archive: Archive) -> None:
    with pytest.raises(Refused, match="no SOP"):
        archive.store(image(SOPInstanceUID=None))
    assert archive.index.counts() == (0, 0, 0, 0)


def test_long_value_is_cut_and_reported(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    archive.store(image(StudyDescription="D" * 70), name="P1/a.dcm")
    assert archive.value("SELECT StudyDescr FROM DICOMStudies") == "D" * 64
    record = caplog.records[-1]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == ("***Truncated StudyDescr from 70 to 64 chars in file: P1/a.dcm")


def test_allowed_truncation_is_information_only(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    archive = open_archive(place(allow_truncate=frozenset({"StudyDescr"})))
    with caplog.at_level(logging.INFO, logger="dgate.archive.index"):
        archive.store(image(StudyDescription="D" * 70))
    assert caplog.records[-1].levelno == logging.INFO
    assert caplog.records[-1].getMessage().startswith("Truncated StudyDescr")
    archive.close()


def test_patient_id_is_cut_alike_in_every_table(archive: Archive) -> None:
    archive.store(image(PatientID="P" * 70))
    cut = "P" * 64
    for column, table in (
        ("PatientID", "DICOMPatients"),
        ("PatientID", "DICOMStudies"),
        ("SeriesPat", "DICOMSeries"),
        ("ImagePat", "DICOMImages"),
    ):
        assert archive.value(f"SELECT {column} FROM {table}") == cut


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "山田^太郎"), ("ISO_IR 144", "Иванов^И")],
    ids=["latin-1", "utf-8", "cyrillic"],
)
def test_text_is_stored_decoded(archive: Archive, charset: str, name: str) -> None:
    archive.store(image(SpecificCharacterSet=charset, PatientName=name))
    assert archive.value("SELECT PatientNam FROM DICOMPatients") == name


@pytest.mark.parametrize(
    "name",
    ["A\nB", "'; DROP TABLE DICOMPatients; --", '" OR "1"="1', "%_*?"],
    ids=["newline", "sql", "quotes", "wildcards"],
)
def test_hostile_text_is_just_text(archive: Archive, name: str) -> None:
    archive.store(image(PatientName=name, PatientID="X" + name))
    assert archive.value("SELECT PatientNam FROM DICOMPatients") == name
    assert archive.index.counts() == (1, 1, 1, 1)


def test_old_date_marks_are_dropped(archive: Archive) -> None:
    table = image()
    table.set_raw(0x00080020, "DA", b"2024.01.31")
    archive.store(table)
    assert archive.value("SELECT StudyDate FROM DICOMStudies") == "20240131"


def test_names_beyond_ascii_get_search_forms_that_follow_changes(archive: Archive) -> None:
    forms = "SELECT folded FROM dgate_folded WHERE level = 0 ORDER BY folded"
    archive.store(another(1, SpecificCharacterSet="ISO_IR 192", PatientName="Yamada=山田=やまだ"))
    assert archive.rows(forms) == [
        ("yamada",),
        ("yamada=山田=やまだ",),
        ("やまだ",),
        ("山田",),
    ]
    archive.store(another(2, SpecificCharacterSet="ISO_IR 192", PatientName="Größe"))
    assert archive.rows(forms) == [("grosse",)]
    archive.store(another(3, PatientName="PLAIN"))
    assert archive.rows("SELECT * FROM dgate_folded") == []


def test_row_removed_by_another_program_is_written_again(archive: Archive) -> None:
    archive.store(another(1))
    other = archive.database.connect()
    other.execute("DELETE FROM DICOMStudies")
    other.close()
    archive.store(another(2))
    assert archive.value("SELECT count(*) FROM DICOMStudies") == 1


def test_rows_are_written_again_after_their_commit_was_undone(archive: Archive) -> None:
    table = image()
    entry = archive.index.entry(table, repair(table, archive.settings))

    def fail_late(transaction: Transaction) -> None:
        archive.index.enter(transaction, entry, "MAG0", "a", None, 0.0)
        raise Refused("something else")

    with pytest.raises(Refused, match="something else"):
        archive.writer.transact(fail_late)
    archive.store(image())
    assert archive.index.counts() == (1, 1, 1, 1)


def test_more_studies_than_are_remembered_are_all_entered(archive: Archive) -> None:
    count = CACHED_ROWS + 10
    for number in range(count):
        archive.store(
            image(
                SOPInstanceUID=f"1.5.{number}",
                SeriesInstanceUID=f"1.6.{number}",
                StudyInstanceUID=f"1.7.{number}",
                PatientID=f"PAT{number}",
            )
        )
    assert archive.index.counts() == (count, count, count, count)


def test_deleting_the_last_image_removes_the_emptied_parents(archive: Archive) -> None:
    archive.store(image(SpecificCharacterSet="ISO_IR 100", PatientName="Müller"), name="a.dcm")
    gone = archive.writer.transact(lambda tx: archive.index.delete_instance(tx, "1.2.3.1.1.1"))
    assert gone == REF
    assert archive.index.counts() == (0, 0, 0, 0)
    assert archive.rows("SELECT * FROM dgate_folded") == []
    archive.store(image())
    assert archive.index.counts() == (1, 1, 1, 1)


def test_deleting_one_of_two_images_keeps_the_series(archive: Archive) -> None:
    archive.store(another(1))
    archive.store(another(2))
    archive.writer.transact(lambda tx: archive.index.delete_instance(tx, "1.2.3.1.1.1"))
    assert archive.index.counts() == (1, 1, 1, 1)


def test_deleting_what_is_not_there_does_nothing(archive: Archive) -> None:
    assert archive.writer.transact(lambda tx: archive.index.delete_instance(tx, "9.9")) is None


def test_empty_patient_id_is_allowed_and_has_no_patient_row(tolerant: Archive) -> None:
    tolerant.store(image(PatientID=""))
    assert tolerant.index.counts() == (0, 1, 1, 1)
    assert tolerant.value("SELECT PatientID FROM DICOMStudies") is None


def test_empty_patient_id_is_taken_from_the_study(tolerant: Archive) -> None:
    tolerant.store(another(1))
    tolerant.store(another(2, PatientID=""))
    assert tolerant.rows("SELECT DISTINCT ImagePat FROM DICOMImages") == [("P1",)]
    assert tolerant.index.counts() == (1, 1, 1, 2)


def test_patient_id_that_arrives_later_fills_the_whole_study(tolerant: Archive) -> None:
    tolerant.store(another(1, PatientID=None))
    tolerant.store(another(2))
    assert tolerant.rows("SELECT ImagePat FROM DICOMImages") == [("P1",), ("P1",)]
    assert tolerant.value("SELECT SeriesPat FROM DICOMSeries") == "P1"
    assert tolerant.value("SELECT PatientID FROM DICOMStudies") == "P1"
    assert tolerant.index.counts() == (1, 1, 1, 2)


def test_missing_study_uid_is_refused_when_nothing_is_repaired(tolerant: Archive) -> None:
    with pytest.raises(Refused, match="Study Instance UID"):
        tolerant.store(image(StudyInstanceUID=None))


def test_undefined_uids_enter_the_rows_only(place: Place) -> None:
    archive = open_archive(place(missing_uids=MissingUids.UNDEFINED))
    archive.store(image(StudyInstanceUID=None, SeriesInstanceUID=""))
    assert archive.rows("SELECT SeriesInst, StudyInsta FROM DICOMSeries") == [
        ("undefined", "undefined")
    ]
    archive.close()


def test_debts_are_entered_with_the_object(archive: Archive, tmp_path: Path) -> None:
    drafts = [
        DebtDraft(DebtKind.DELIVER, "PACS2", "ExportConverter0.1", calling="ME", compression="j2"),
        DebtDraft(DebtKind.EXPORT, "ExportConverter1", "ExportConverter1", context="{}"),
        DebtDraft(DebtKind.DELIVER, "X", "ImportConverter0.1", spool=tmp_path / "copy.dcm"),
    ]
    archive.writer.transact(lambda tx: archive.index.add_debts(tx, REF, drafts, 77.5))
    if not archive.database.embedded:
        [(first, last)] = archive.rows("SELECT min(due), max(created) FROM dgate_debts")
        assert abs(first - time.time()) < 60
        assert abs(last - time.time()) < 60
        archive.writer.transact(
            lambda tx: tx.execute("UPDATE dgate_debts SET due=77.5, created=77.5")
        )
    assert archive.rows(
        "SELECT kind, state, destination, calling, compression, sop_instance, device, name, "
        "context, due, created, attempts, owner FROM dgate_debts ORDER BY id"
    ) == [
        (
            *("deliver", "queued", "PACS2", "ME", "j2", "1.2.3.1.1.1", "MAG0", "a.dcm"),
            *("", 77.5, 77.5, 0, None),
        ),
        (
            *("export", "queued", "ExportConverter1", "", "", "1.2.3.1.1.1", "MAG0", "a.dcm"),
            *("{}", 77.5, 77.5, 0, None),
        ),
        (
            *("deliver", "queued", "X", "", "", "1.2.3.1.1.1", "SPOOL", "copy.dcm"),
            *("", 77.5, 77.5, 0, None),
        ),
    ]


def test_rewrites_are_noted_until_they_are_complete(archive: Archive) -> None:
    rewrite = Rewrite("1.2", "abc", "MAG0", "a.dcm")
    archive.writer.transact(lambda tx: archive.index.add_rewrite(tx, rewrite))
    newer = rewrite._replace(sha256="def")
    archive.writer.transact(lambda tx: archive.index.add_rewrite(tx, newer))
    assert archive.index.rewrites() == [newer]
    absent = rewrite._replace(sop_instance="1.3")
    # Of a replacement that another gateway has followed up, only the older note is to go.
    archive.writer.transact(lambda tx: archive.index.forget_rewrites(tx, [rewrite, absent]))
    assert archive.index.rewrites() == [newer]
    archive.writer.transact(lambda tx: archive.index.forget_rewrites(tx, [newer, absent]))
    assert archive.index.rewrites() == []


def test_without_index_objects_leave_debts_only(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path, engine=Engine.NONE))
    assert archive.store(image()) is None
    draft = DebtDraft(DebtKind.DELIVER, "PACS2", "ImportConverter0.1")
    archive.writer.transact(lambda tx: archive.index.add_debts(tx, REF, [draft], 1.0))
    assert archive.writer.transact(lambda tx: archive.index.find(tx, "1.2.3.1.1.1")) is None
    assert archive.writer.transact(lambda tx: archive.index.delete_instance(tx, "1")) is None
    assert archive.index.counts() == (0, 0, 0, 0)
    assert archive.value("SELECT count(*) FROM dgate_debts") == 1
    archive.close()


def test_stored_object_is_found_by_its_uid_alone(archive: Archive) -> None:
    archive.store(image(), name="a.dcm")
    assert archive.writer.transact(lambda tx: archive.index.find(tx, "1.2.3.1.1.1")) == REF
    assert archive.writer.transact(lambda tx: archive.index.find(tx, "1.2.3")) is None
