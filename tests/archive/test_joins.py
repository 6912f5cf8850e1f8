"""How questions reach the tables: which column answers, what is joined, what may be sorted by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.joins import Joins
from dgate.archive.levels import LEVELS, Level
from tests.archive.database_kit import Archive, image, open_archive, setup

PATIENT_ID, STUDY_DATE, MODALITY, SOP = 0x00100020, 0x00080020, 0x00080060, 0x00080018
STUDIES, SERIES_OF_PATIENT, IMAGES_OF_PATIENT = 0x00201200, 0x00201202, 0x00201204
SERIES_OF_STUDY, IMAGES_OF_STUDY, IMAGES_OF_SERIES = 0x00201206, 0x00201208, 0x00201209


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """One patient with two studies of two series of three images."""
    settings = setup(tmp_path_factory.mktemp("joins"), image_table="Pictures")
    found = open_archive(settings)
    for study in (1, 2):
        for series in (1, 2):
            for number in (1, 2, 10):
                uid = f"1.2.{study}.{series}"
                found.store(
                    image(
                        StudyInstanceUID=f"1.2.{study}",
                        SeriesInstanceUID=uid,
                        SOPInstanceUID=f"{uid}.{number}",
                        InstanceNumber=str(number),
                        Modality=("CT", "MR")[series - 1],
                    )
                )
    yield found
    found.close()


@pytest.fixture(scope="module")
def joins(archive: Archive) -> Joins:
    return Joins(archive.database, archive.schema)


def test_attribute_is_searched_in_the_tables_of_its_level_and_above(joins: Joins) -> None:
    def table(level: Level, tag: int) -> str | None:
        found = joins.target(level, tag)
        return None if found is None else found.level.value

    assert table(Level.PATIENT, PATIENT_ID) == "PATIENT"
    # The study's own copy of it, which needs no join.
    assert table(Level.IMAGE, PATIENT_ID) == "STUDY"
    assert table(Level.PATIENT, STUDY_DATE) is None
    assert table(Level.SERIES, STUDY_DATE) == "STUDY"
    assert table(Level.STUDY, SOP) is None
    assert table(Level.IMAGE, SOP) == "IMAGE"
    assert table(Level.IMAGE, 0x00091001) is None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("highest", LEVELS)
def test_joins_keep_the_number_of_rows(
    archive: Archive, joins: Joins, level: Level, highest: Level
) -> None:
    counts = {Level.PATIENT: 1, Level.STUDY: 2, Level.SERIES: 4, Level.IMAGE: 12}
    if highest.depth > level.depth:
        return
    for known in (False, True):
        source = joins.source(level, {highest}, patient_known=known)
        assert archive.value(f"SELECT count(*) FROM {source}") == counts[level]
        assert source.count("JOIN") == level.depth - highest.depth


def test_study_without_patient_stays_unless_the_patient_is_asked_for(
    tmp_path: Path,
) -> None:
    archive = open_archive(setup(tmp_path, allow_empty_patient_id=True))
    archive.store(image(PatientID=None))
    joins = Joins(archive.database, archive.schema)

    def count(*, known: bool) -> int:
        source = joins.source(Level.IMAGE, {Level.PATIENT}, patient_known=known)
        return int(archive.value(f"SELECT count(*) FROM {source}"))

    assert (count(known=False), count(known=True)) == (1, 0)
    archive.close()


@pytest.mark.parametrize(
    ("level", "tag", "expected"),
    [
        (Level.PATIENT, STUDIES, [2]),
        (Level.PATIENT, SERIES_OF_PATIENT, [4]),
        (Level.PATIENT, IMAGES_OF_PATIENT, [12]),
        (Level.STUDY, SERIES_OF_STUDY, [2, 2]),
        (Level.STUDY, IMAGES_OF_STUDY, [6, 6]),
        (Level.SERIES, IMAGES_OF_SERIES, [3, 3, 3, 3]),
    ],
)
def test_counts(
    archive: Archive, joins: Joins, level: Level, tag: int, expected: list[int]
) -> None:
    expression = joins.computed(level, tag)
    assert expression is not None
    rows = archive.rows(f"SELECT {expression} FROM {joins.source(level, {level})}")
    assert [row[0] for row in rows] == expected


def test_counts_belong_to_their_level(joins: Joins) -> None:
    assert joins.computed(Level.IMAGE, STUDIES) is None
    assert joins.computed(Level.STUDY, STUDIES) is None


@pytest.mark.parametrize(
    ("value", "count"), [("CT", 2), ("ct\\XA", 2), ("X*", 0), ("?R", 2), ("%", 0)]
)
def test_study_has_the_modality_of_one_of_its_series(
    archive: Archive, joins: Joins, value: str, count: int
) -> None:
    condition = joins.modality_condition(value)
    assert condition is not None
    source = joins.source(Level.STUDY, {Level.STUDY})
    found = archive.value(f"SELECT count(*) FROM {source} WHERE {condition[0]}", *condition[1])
    assert found == count


def test_any_modality_is_no_condition(joins: Joins) -> None:
    assert joins.modality_condition("*") is None


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("DICOMImages.ImageNumbe", {Level.IMAGE}),
        ("Pictures.ImageNumber DESC", {Level.IMAGE}),
        ("imagenumbe asc, dicomstudies.studydate DESC", {Level.IMAGE, Level.STUDY}),
        ("DICOMPatients . PatientNam", {Level.PATIENT}),
        ("AccessTime", {Level.IMAGE}),
        ("", set()),
    ],
)
def test_sort_order_names_columns_by_either_name(
    archive: Archive, joins: Joins, text: str, levels: set[Level]
) -> None:
    order = joins.order(Level.IMAGE, text)

    assert order.refused == ()
    assert order.levels == levels
    source = joins.source(Level.IMAGE, order.levels | {Level.IMAGE})
    clause = f" ORDER BY {order.clause}" if order.clause else ""
    assert len(archive.rows(f"SELECT 1 FROM {source}{clause}")) == 12


@pytest.mark.parametrize(
    "text",
    [
        "DICOMImages.Nothing",
        "Elsewhere.ImageNumbe",
        "ImageNumbe; DROP TABLE DICOMPatients",
        "(SELECT 1)",
        "ImageNumbe sideways",
        "1",
        "'x'",
    ],
)
def test_what_is_no_column_is_refused_and_never_sql(joins: Joins, text: str) -> None:
    order = joins.order(Level.IMAGE, text)
    assert (order.clause, order.refused) == ("", (text,))


def test_lower_level_is_not_sorted_by(joins: Joins) -> None:
    assert joins.order(Level.STUDY, "DICOMImages.ImageNumbe").refused


@given(st.text("DICOMImagesStuy.,; '\"()-*1", max_size=60))
def test_any_text_gives_an_order_that_the_database_takes(archive: Archive, text: str) -> None:
    joins = Joins(archive.database, archive.schema)
    order = joins.order(Level.IMAGE, text)
    if order.clause:
        source = joins.source(Level.IMAGE, order.levels | {Level.IMAGE})
        archive.rows(f"SELECT 1 FROM {source} ORDER BY {order.clause}")


def test_numbers_are_sorted_as_numbers_where_that_is_asked_for(
    archive: Archive, joins: Joins
) -> None:
    def numbers(*, numeric: bool) -> list[str]:
        order = joins.order(Level.IMAGE, "ImageNumbe", numeric=numeric)
        source = joins.source(Level.IMAGE, {Level.IMAGE})
        column = joins.column(Level.IMAGE, 1)
        sql = f"SELECT DISTINCT {column} FROM {source} ORDER BY {order.clause}"
        target = joins.target(Level.IMAGE, 0x00200013)
        assert target is not None
        return [row[0] for row in archive.rows(sql.replace(column, target.expression, 1))]

    assert numbers(numeric=False) == ["1", "10", "2"]
    assert numbers(numeric=True) == ["1", "2", "10"]


def test_no_index_has_no_tables(tmp_path: Path) -> None:
    from dgate.config.settings import Engine

    archive = open_archive(setup(tmp_path, engine=Engine.NONE, sql_server=""))
    joins = Joins(archive.database, archive.schema)
    assert joins.target(Level.IMAGE, SOP) is None
    assert joins.computed(Level.PATIENT, STUDIES) is None
    assert joins.modalities(Level.STUDY) is None
    archive.close()
