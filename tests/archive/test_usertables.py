"""Statements of scripts on every engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.usertables import UserTables
from dgate.config.layout import default_layout
from dgate.errors import RuleError
from tests.archive.database_kit import ALL_ENGINES, Archive, image, open_archive, place_of


@pytest.fixture(params=ALL_ENGINES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """An index with three images of two patients."""
    opened = open_archive(place_of(request, tmp_path)())
    for number, patient in (("1", "P1"), ("2", "P1"), ("3", "P'2%")):
        opened.store(
            image(
                PatientID=patient,
                StudyInstanceUID=f"1.{patient[1:2]}",
                SeriesInstanceUID=f"1.{patient[1:2]}.1",
                SOPInstanceUID=f"1.2.{number}",
                StudyDate=f"2024010{number}",
            ),
            now=10_000.0 * int(number),
        )
    yield opened
    opened.close()


@pytest.fixture
def tables(archive: Archive) -> UserTables:
    return made(archive)


def made(archive: Archive, memory_limit_bytes: int = 1 << 20) -> UserTables:
    return UserTables(
        archive.database,
        archive.schema,
        archive.writer,
        archive.index,
        default_layout(10, 0),
        memory_limit_bytes=memory_limit_bytes,
    )


def test_rows_are_texts_in_the_order_asked_for(tables: UserTables) -> None:
    rows = tables.query("DICOMImages", "SOPInstanc, ImagePat", "", "SOPInstanc DESC")

    assert rows == [["1.2.3", "P'2%"], ["1.2.2", "P1"], ["1.2.1", "P1"]]


def test_names_are_found_whatever_their_case(tables: UserTables) -> None:
    rows = tables.query("dicomimages", "sopinstanc", "dicomimages.sopinstanc = '1.2.1'")

    assert rows == [["1.2.1"]]


def test_tables_join(tables: UserTables) -> None:
    rows = tables.query(
        "DICOMSeries, DICOMStudies",
        "DICOMSeries.SeriesInst",
        "DICOMSeries.StudyInsta = DICOMStudies.StudyInsta AND DICOMStudies.PatientID = ?",
        "",
        ["P1"],
    )

    assert rows == [["1.1.1"]]


@pytest.mark.parametrize("value", ["P'2%", "x' OR '1'='1", "?", "%s", "é"])
def test_parameters_are_never_part_of_the_statement(tables: UserTables, value: str) -> None:
    rows = tables.query("DICOMImages", "ImagePat", "ImagePat = ? AND 'a?%' = 'a?%'", "", [value])

    assert rows == ([[value]] if value == "P'2%" else [])


def test_percent_and_question_mark_in_literals_stay(tables: UserTables) -> None:
    rows = tables.query("DICOMImages", "SOPInstanc", "ImagePat LIKE 'P''%' AND ImagePat <> '?'")

    assert rows == [["1.2.3"]]


def test_nothing_is_an_empty_text_or_an_empty_list(tables: UserTables) -> None:
    assert tables.query("DICOMImages", "NULL", "SOPInstanc = '1.2.1'") == [[""]]
    assert tables.query("DICOMImages", "SOPInstanc", "SOPInstanc = 'none'") == []


@pytest.mark.parametrize(
    ("source", "fields", "where"),
    [
        ("NoSuchTable", "*", ""),
        ("DICOMImages", "nosuchcolumn", ""),
        ("DICOMImages", "SOPInstanc", "SOPInstanc = "),
        ("DICOMImages", "SOPInstanc", "SOPInstanc = ?"),
    ],
)
def test_refused_query_is_none_and_logged(
    tables: UserTables, source: str, fields: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert tables.query(source, fields, where) is None
    assert "SQL" in caplog.text
    # The next one is not harmed.
    assert tables.query("DICOMImages", "COUNT(*)") == [["3"]]


def test_result_that_the_memory_does_not_take_is_an_error(archive: Archive) -> None:
    with pytest.raises(RuleError, match="memory"):
        made(archive, memory_limit_bytes=100).query("DICOMImages", "SOPInstanc")


def test_statement_is_executed_and_committed(archive: Archive, tables: UserTables) -> None:
    assert tables.execute("CREATE TABLE trials (name varchar(64), num int)")
    assert tables.execute("INSERT INTO trials VALUES (?, ?)", ["it's 100%?", 3])
    assert tables.execute("UPDATE trials SET num = num + 1 WHERE name LIKE 'it%'")

    assert archive.rows("SELECT name, num FROM trials") == [("it's 100%?", 4)]


@pytest.mark.parametrize("statement", ["nonsense", "INSERT INTO nosuchtable VALUES (1)", "UPDATE"])
def test_refused_statement_is_false_and_logged(
    tables: UserTables, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert tables.execute(statement) is False
    assert "SQL" in caplog.text


def test_what_others_write_is_neither_ended_nor_undone(
    archive: Archive, tables: UserTables
) -> None:
    seen = []

    def work(transaction: object) -> None:
        seen.append(tables.query("DICOMImages", "COUNT(*)"))

    tables.execute("BEGIN")
    tables.execute("ROLLBACK")
    archive.writer.transact(work)
    archive.store(image(SOPInstanceUID="1.2.9"))

    assert seen == [[["3"]]]
    assert tables.query("DICOMImages", "COUNT(*)") == [["4"]]


def test_object_whose_rows_a_script_deleted_is_entered_anew(
    archive: Archive, tables: UserTables
) -> None:
    for table in ("DICOMImages", "DICOMSeries", "DICOMStudies", "DICOMPatients"):
        assert tables.execute(f"DELETE FROM {table}")

    archive.store(image(PatientID="P1", SOPInstanceUID="1.2.1"))

    for table in ("DICOMImages", "DICOMSeries", "DICOMStudies", "DICOMPatients"):
        assert tables.query(table, "COUNT(*)") == [["1"]]


def test_rows_of_the_layout_are_counted_from_nothing(tables: UserTables) -> None:
    assert tables.column(0, 0) == (16, 32, "PatientID", 64, "SQL_C_CHAR", "DT_STR")
    assert tables.column(3, 0) == (8, 24, "SOPInstanc", 64, "SQL_C_CHAR", "DT_UI")
    assert tables.column(4, 0) is not None
    assert tables.column(0, 999) is None
    assert tables.column(0, -1) is None
    assert tables.column(5, 0) is None
    assert tables.column(-1, 0) is None


def test_oldest_patients_come_first_and_newest_with_a_negative_number(tables: UserTables) -> None:
    assert tables.oldest_patients(10, "", "") == ["P1", "P'2%"]
    assert tables.oldest_patients(1, "MAG0", "StudyDate") == ["P1"]
    assert tables.oldest_patients(-10, "", "StudyDate") == ["P'2%", "P1"]
    assert tables.oldest_patients(-1, "MAG0", "") == ["P'2%"]
    assert tables.oldest_patients(10, "MAG7", "") == []


def test_order_by_what_is_no_column_is_refused(tables: UserTables) -> None:
    with pytest.raises(RuleError, match="Nonsense"):
        tables.oldest_patients(1, "", "Nonsense; DROP TABLE DICOMImages")
