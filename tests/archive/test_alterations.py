"""A changed dicom.sql on a database that exists: columns come, widen and stay, none goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.config.layout import Column, DicomType, Layout, SqlType, default_layout
from dgate.config.settings import Engine
from tests.archive.database_kit import ALL_ENGINES, Archive, Place, image, open_archive, place_of

PERFORMING = 0x00081050
DESCRIPTION = 0x00081030
PATIENT_NAME = 0x00100010
MODALITIES = 0x00080061


@pytest.fixture(params=ALL_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


def column(tag: int, name: str, length: int = 64) -> Column:
    return Column(tag, name[:10], name, length, SqlType.CHAR, DicomType.STR)


def with_study(*columns: Column, without: tuple[int, ...] = ()) -> Layout:
    """Return the shipped layout with study columns added before the link, others left out."""
    layout = default_layout()
    kept = [each for each in layout.study.columns if each.tag not in without]
    return replace(layout, study=replace(layout.study, columns=(*kept[:-1], *columns, kept[-1])))


def stored(place: Place, layout: Layout, *tables: object) -> None:
    """Store objects under a layout, and close the database."""
    archive = open_archive(place(), layout)
    for table in tables:
        archive.store(table)  # type: ignore[arg-type]
    archive.close()


def notes(archive: Archive) -> str:
    return "\n".join(archive.schema.notes)


def test_column_that_dicom_sql_got_is_added(place: Place) -> None:
    stored(place, default_layout(), image())

    archive = open_archive(place(), with_study(column(PERFORMING, "PerformingPhysician")))

    assert "added column Performing to table " in notes(archive)
    assert "`dgate regen`" in notes(archive)
    assert archive.rows("SELECT Performing, StudyDescr FROM DICOMStudies") == [(None, "Thorax")]
    archive.store(image(PerformingPhysicianName="WHO^DR", StudyDescription=None))
    assert archive.rows("SELECT Performing, StudyDescr FROM DICOMStudies") == [("WHO^DR", "Thorax")]
    archive.close()


def test_added_column_is_not_mentioned_again(place: Place) -> None:
    layout = with_study(column(PERFORMING, "PerformingPhysician"))
    stored(place, default_layout(), image())
    stored(place, layout)

    archive = open_archive(place(), layout)

    assert archive.schema.notes == ()
    archive.close()


def test_renamed_column_is_filled_from_the_old_one(place: Place) -> None:
    stored(place, default_layout(), image())

    archive = open_archive(
        place(), with_study(column(DESCRIPTION, "Title", 16), without=(DESCRIPTION,))
    )

    assert "added column Title" in notes(archive)
    assert "filled from column " in notes(archive)
    assert "stays, though dicom.sql lists it no more" in notes(archive)
    assert archive.rows("SELECT Title, StudyDescr FROM DICOMStudies") == [("Thorax", "Thorax")]
    archive.store(image(StudyDescription="Abdomen"))
    assert archive.rows("SELECT Title, StudyDescr FROM DICOMStudies") == [("Abdomen", "Thorax")]
    archive.close()


def test_removed_column_stays_with_its_values(place: Place) -> None:
    stored(place, default_layout(), image())
    shorter = with_study(without=(DESCRIPTION,))
    stored(place, shorter, image(StudyDescription="Abdomen"))

    archive = open_archive(place(), shorter)
    assert archive.rows("SELECT StudyDescr FROM DICOMStudies") == [("Thorax",)]
    assert archive.schema.notes == ()
    archive.close()

    archive = open_archive(place())
    archive.store(image(StudyDescription="Abdomen"))
    assert archive.rows("SELECT StudyDescr FROM DICOMStudies") == [("Abdomen",)]
    archive.close()


def test_copy_of_an_upper_level_is_filled_from_there(place: Place) -> None:
    stored(
        place,
        with_study(without=(PATIENT_NAME, MODALITIES)),
        image(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Kari"),
        image(SOPInstanceUID="1.2.9", SeriesInstanceUID="1.2.3.1.2", Modality="SR"),
    )

    archive = open_archive(place())

    [(name, modalities)] = archive.rows("SELECT PatientNam, StudyModal FROM DICOMStudies")
    assert name == "SMITH^JOHN"
    assert sorted(modalities.split("\\")) == ["CT", "SR"]
    assert "filled from table " in notes(archive)
    archive.close()


def test_name_of_a_filled_column_is_searched_without_accents(place: Place) -> None:
    stored(
        place,
        with_study(without=(PATIENT_NAME,)),
        image(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Kari"),
    )

    archive = open_archive(place())

    rows = archive.rows("SELECT level, folded, entity FROM dgate_folded ORDER BY level")
    assert rows == [(0, "muller^kari", "P1"), (1, "muller^kari", "1.2.3.1")]
    archive.close()


def test_image_level_is_filled_through_the_tables_between(place: Place) -> None:
    layout = default_layout()
    stored(place, layout, image())
    columns = layout.image.columns
    wider = replace(
        layout,
        image=replace(
            layout.image, columns=(*columns[:-1], column(DESCRIPTION, "Study"), columns[-1])
        ),
    )

    archive = open_archive(place(), wider)

    assert archive.rows("SELECT Study FROM DICOMImages") == [("Thorax",)]
    archive.close()


def test_longer_column_is_widened_where_lengths_are_enforced(place: Place) -> None:
    layout = default_layout()
    stored(place, layout, image())
    columns = tuple(
        replace(each, length=100) if each.tag == DESCRIPTION else each
        for each in layout.study.columns
    )

    archive = open_archive(place(), replace(layout, study=replace(layout.study, columns=columns)))

    widened = "widened column StudyDescr" in notes(archive)
    assert widened is not archive.database.embedded
    archive.store(image(StudyDescription="D" * 99))
    assert archive.value("SELECT StudyDescr FROM DICOMStudies") == "D" * 99
    archive.close()


def test_key_that_is_shorter_than_dicom_sql_says_cuts_on_mariadb(place: Place) -> None:
    layout = default_layout()
    narrow = tuple(
        replace(each, length=20) if each.tag == 0x00100020 else each
        for each in layout.patient.columns
    )
    stored(place, replace(layout, patient=replace(layout.patient, columns=narrow)), image())

    archive = open_archive(place())

    if archive.database.engine is Engine.MYSQL:
        assert "longer values are cut" in notes(archive)
        assert archive.schema.table(Level.PATIENT).columns[0].length == 20
    archive.store(
        image(
            PatientID="P" * 30,
            StudyInstanceUID="1.7",
            SeriesInstanceUID="1.7.1",
            SOPInstanceUID="1.7.1.1",
        )
    )
    expected = "P" * (20 if archive.database.engine is Engine.MYSQL else 30)
    assert archive.rows("SELECT PatientID FROM DICOMStudies WHERE StudyInsta = '1.7'") == [
        (expected,)
    ]
    archive.close()


def test_worklist_gets_new_columns_too(place: Place) -> None:
    layout = default_layout()
    assert layout.worklist is not None
    stored(place, layout)
    columns = (*layout.worklist.columns, column(PERFORMING, "Performing"))

    archive = open_archive(
        place(), replace(layout, worklist=replace(layout.worklist, columns=columns))
    )

    assert archive.rows("SELECT Performing FROM DICOMWorkList") == []
    archive.close()


def test_names_that_are_not_cut_any_more_are_renamed_columns(place: Place) -> None:
    """TruncateFieldNames = 0 on a database whose names were cut to 10."""
    stored(place, with_study(), image())
    layout = default_layout(truncate=0)
    columns = tuple(
        each if each.tag in (0x0020000D, 0x00100020) else full
        for each, full in zip(default_layout().study.columns, layout.study.columns, strict=True)
    )
    layout = replace(default_layout(), study=replace(layout.study, columns=columns))

    archive = open_archive(place(truncate_field_names=0), layout)

    assert archive.rows("SELECT StudyDescription, StudyDescr FROM DICOMStudies") == [
        ("Thorax", "Thorax")
    ]
    archive.close()
