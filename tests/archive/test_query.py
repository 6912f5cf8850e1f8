"""Questions to the index: matching of PS3.4 C.2.2.2, answers, sort orders, selection."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.archive.database import AHEAD_ROWS
from dgate.archive.levels import Level
from dgate.archive.query import Finder, Page, QueryKey
from dgate.archive.records import InstanceRef
from dgate.config.layout import Layout, default_layout, parse_layout
from dgate.config.settings import Engine
from dgate.errors import DatabaseAway, RuleError
from tests.archive.database_kit import (
    ALL_ENGINES,
    CT,
    Archive,
    Place,
    image,
    open_archive,
    place_of,
    setup,
)

PATIENT_ID = 0x00100020
PATIENT_NAME = 0x00100010
STUDY = 0x0020000D
SERIES = 0x0020000E
SOP = 0x00080018
DATE = 0x00080020
TIME = 0x00080030
ACCESSION = 0x00080050
DESCRIPTION = 0x00081030
MODALITY = 0x00080060
MODALITIES = 0x00080061
SERIES_NUMBER = 0x00200011
INSTANCE_NUMBER = 0x00200013
ROWS = 0x00280010
INSTITUTION = 0x00080080

# study: patient ID, name, date, time, accession, description, modalities of its series
STUDIES = {
    "1.1": ("P1", "SMITH^JOHN", "20240110", "081500", "A100", "Thorax", ("CT",)),
    "1.2": ("P1", "SMITH^JOHN", "20240220", "120000.500", "A101", "Abdomen", ("CT", "SR")),
    "1.3": ("P2", "Müller^Jürgen", "20240220", "235959", "B_1", "Kopf 50%", ("MR",)),
    "1.4": ("P3", "MULLER^X", "20230101", "000000", "B21", None, ("US",)),
    "1.5": (
        "p1",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "20220505",
        "101010",
        "a100",
        "THORAX",
        ("CR",),
    ),
}


def fill(archive: Archive) -> None:
    for study, (patient, name, date, time, accession, description, modalities) in STUDIES.items():
        for series, modality in enumerate(modalities, start=1):
            for number in (1, 2):
                archive.store(
                    image(
                        SpecificCharacterSet="ISO_IR 192",
                        PatientID=patient,
                        PatientName=name,
                        StudyInstanceUID=study,
                        SeriesInstanceUID=f"{study}.{series}",
                        SOPInstanceUID=f"{study}.{series}.{number}",
                        StudyDate=date,
                        StudyTime=time,
                        AccessionNumber=accession,
                        StudyDescription=description,
                        Modality=modality,
                        SeriesNumber=str(series * 9),
                        InstanceNumber=str(number * 9),
                        InstitutionName="General",
                    ),
                    name=f"{study}.{series}.{number}.dcm",
                )


@pytest.fixture(params=ALL_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


@pytest.fixture(scope="module", params=ALL_ENGINES)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    archive = open_archive(place_of(request, tmp_path_factory.mktemp("query"))())
    fill(archive)
    yield archive
    archive.close()


@pytest.fixture
def finder(filled: Archive) -> Finder:
    return Finder(filled.database, filled.schema, filled.settings)


def tuned(filled: Archive, **changes: object) -> Finder:
    settings = replace(filled.settings, **changes)  # type: ignore[arg-type]
    return Finder(filled.database, filled.schema, settings)


def studies(finder: Finder, tag: int, value: str) -> list[str]:
    """Return the last digit of the Study Instance UIDs that match one key."""
    found = finder.find(Level.STUDY, [QueryKey(STUDY), QueryKey(tag, value)])
    return sorted(str(answer[STUDY])[-1] for answer in found)


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        # single value
        (STUDY, "1.2", "2"),
        (STUDY, "1.2\0", "2"),
        (ACCESSION, "A100", "1"),
        (ACCESSION, "A100 ", "1"),
        (ACCESSION, "a100", "5"),
        (DATE, "20240220", "23"),
        (TIME, "120000.500", "2"),
        (TIME, "120000", "2"),
        # universal
        (DESCRIPTION, "", "12345"),
        (DESCRIPTION, "*", "12345"),
        (DESCRIPTION, " ** ", "12345"),
        (STUDY, "*", "12345"),
        # list of UID
        (STUDY, "1.1\\1.3", "13"),
        (STUDY, "1.1\\\\9.9\\1.1", "1"),
        (STUDY, "9.8\\9.9", ""),
        # wildcard
        (ACCESSION, "A10*", "125"),
        (ACCESSION, "B?1", "34"),
        (ACCESSION, "B_*", "3"),
        (ACCESSION, "*0?", "125"),
        (ACCESSION, "A!*", ""),
        (DESCRIPTION, "*50%", "3"),
        (DESCRIPTION, "*%*", "3"),
        (DESCRIPTION, "????", ""),
        (DESCRIPTION, "?*", "1235"),
        (STUDY, "1.*", "12345"),
        (DATE, "2024*", "123"),
        # ranges
        (DATE, "20240110-20240220", "123"),
        (DATE, "20240220-", "23"),
        (DATE, "-20230101", "45"),
        (DATE, "20240111 - 20240219", ""),
        (DATE, "2024.02.20", "23"),
        (DATE, "-", ""),
        (TIME, "0815-1200", "125"),
        (TIME, "1200-", "23"),
        (TIME, "-08:15:00", "14"),
        # letter case and accents
        (PATIENT_NAME, "smith^john", "12"),
        (PATIENT_NAME, "SMITH^JOHN^^", "12"),
        (PATIENT_NAME, "smith*", "12"),
        (PATIENT_NAME, "müller^jürgen", "3"),
        (PATIENT_NAME, "MÜLLER*", "34"),
        (PATIENT_NAME, "muller*", "34"),
        (PATIENT_NAME, "*ÜR*", "3"),
        (PATIENT_NAME, "m?ller^*", "34"),
        (PATIENT_NAME, "yamada^tarou", "5"),
        (PATIENT_NAME, "山田*", "5"),
        (PATIENT_NAME, "やまだ^たろう", "5"),
        (PATIENT_NAME, "smith", ""),
        (PATIENT_NAME, "^^", ""),
        (DESCRIPTION, "thorax", "15"),
        (DESCRIPTION, "THOR*", "15"),
        (PATIENT_ID, "P1", "125"),
        # stored lists
        (MODALITIES, "CT", "12"),
        (MODALITIES, "SR", "2"),
        (MODALITIES, "SR\\US", "24"),
        (MODALITIES, "C", ""),
        (MODALITIES, "*R", "235"),
        # what only looks like SQL
        (PATIENT_NAME, "' OR 1=1 --", ""),
        (ACCESSION, "x'); DROP TABLE DICOMStudies; --*", ""),
        (ACCESSION, "%", ""),
        (ACCESSION, "____", ""),
        (ACCESSION, "\\", ""),
        (PATIENT_NAME, "?" * 5000, ""),
        (ACCESSION, "A" * 60000 + "*", ""),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else f"{value:08x}",
)
def test_study_matches(finder: Finder, tag: int, value: str, expected: str) -> None:
    assert "".join(studies(finder, tag, value)) == expected


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        (PATIENT_NAME, "smith^john", ""),
        (PATIENT_NAME, "SMITH^JOHN", "12"),
        (PATIENT_NAME, "smith*", ""),
        (PATIENT_NAME, "SM?TH*", "12"),
        (PATIENT_NAME, "[S]MITH*", ""),
        (DESCRIPTION, "Thorax", "1"),
        (DESCRIPTION, "Thor*", "1"),
        (PATIENT_ID, "p1", "5"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else f"{value:08x}",
)
def test_letter_case_counts_when_asked_for(
    filled: Archive, tag: int, value: str, expected: str
) -> None:
    assert "".join(studies(tuned(filled, match_case=True), tag, value)) == expected


def test_keys_are_joined_by_and(finder: Finder) -> None:
    keys = [QueryKey(STUDY), QueryKey(PATIENT_ID, "P1"), QueryKey(DATE, "20240101-20240131")]
    assert [answer[STUDY] for answer in finder.find(Level.STUDY, keys)] == ["1.1"]


def test_long_uid_lists_have_no_limit(finder: Finder) -> None:
    uids = [f"9.{number}" for number in range(40000)]
    value = "\\".join([*uids, "1.3", "1.4"])
    assert studies(finder, STUDY, value) == ["3", "4"]


def test_answer_has_what_was_asked_for_and_nothing_else(finder: Finder) -> None:
    keys = [QueryKey(STUDY, "1.4"), QueryKey(DESCRIPTION), QueryKey(PATIENT_NAME), QueryKey(TIME)]
    assert list(finder.find(Level.STUDY, keys)) == [
        {STUDY: "1.4", DESCRIPTION: None, PATIENT_NAME: "MULLER^X", TIME: "000000"}
    ]


def test_unknown_key_is_returned_empty_and_not_matched(finder: Finder) -> None:
    keys = [QueryKey(STUDY, "1.1"), QueryKey(0x00400001, "SOMETHING"), QueryKey(0x00091001)]
    assert list(finder.find(Level.STUDY, keys)) == [
        {STUDY: "1.1", 0x00400001: None, 0x00091001: None}
    ]


def test_keys_of_lower_levels_do_not_restrict(finder: Finder) -> None:
    keys = [QueryKey(STUDY, "1.1"), QueryKey(MODALITY, "MR"), QueryKey(SOP, "9")]
    assert list(finder.find(Level.STUDY, keys)) == [{STUDY: "1.1", MODALITY: None, SOP: None}]


def test_patients_are_one_answer_each(finder: Finder) -> None:
    found = finder.find(Level.PATIENT, [QueryKey(PATIENT_ID), QueryKey(DESCRIPTION)])
    assert sorted(str(answer[PATIENT_ID]) for answer in found) == ["P1", "P2", "P3", "p1"]


def test_entities_with_equal_answers_are_not_merged(finder: Finder) -> None:
    found = finder.find(Level.SERIES, [QueryKey(INSTITUTION)])
    assert [answer[INSTITUTION] for answer in found] == ["General"] * 6


def test_upper_levels_restrict_lower_ones(finder: Finder) -> None:
    keys = [
        QueryKey(PATIENT_ID, "P1"),
        QueryKey(STUDY, "1.2"),
        QueryKey(SERIES),
        QueryKey(MODALITY),
    ]
    found = sorted((a[SERIES], a[MODALITY]) for a in finder.find(Level.SERIES, keys))
    assert found == [("1.2.1", "CT"), ("1.2.2", "SR")]


def test_images_of_a_series_are_found(finder: Finder) -> None:
    keys = [
        QueryKey(STUDY, "1.2"),
        QueryKey(SERIES, "1.2.2"),
        QueryKey(SOP),
        QueryKey(ROWS),
        QueryKey(PATIENT_NAME),
    ]
    found = list(finder.find(Level.IMAGE, keys))
    assert sorted(str(answer[SOP]) for answer in found) == ["1.2.2.1", "1.2.2.2"]
    assert found[0][ROWS] == "512"
    assert found[0][PATIENT_NAME] == "SMITH^JOHN"


@pytest.mark.parametrize(("value", "count"), [("512", 12), ("0512 ", 12), ("511", 0), ("x", 0)])
def test_numbers_are_matched_by_value(place: Place, value: str, count: int) -> None:
    layout = default_layout()
    columns = tuple(
        replace(column, dicom_type=layout.image.column(0x00280002).dicom_type)  # type: ignore[union-attr]
        if column.tag == ROWS
        else column
        for column in layout.image.columns
    )
    archive = open_archive(place(), replace(layout, image=replace(layout.image, columns=columns)))
    fill(archive)
    finder = Finder(archive.database, archive.schema, archive.settings)
    assert len(list(finder.find(Level.IMAGE, [QueryKey(SOP), QueryKey(ROWS, value)]))) == count
    archive.close()


@pytest.mark.parametrize(
    ("level", "key", "tags", "expected"),
    [
        (Level.PATIENT, (PATIENT_ID, "P1"), (0x00201200, 0x00201202, 0x00201204), [2, 3, 6]),
        (Level.STUDY, (STUDY, "1.2"), (0x00201206, 0x00201208), [2, 4]),
        (Level.SERIES, (SERIES, "1.2.1"), (0x00201209,), [2]),
    ],
    ids=["patient", "study", "series"],
)
def test_related_entities_are_counted(
    filled: Archive, level: Level, key: tuple[int, str], tags: tuple[int, ...], expected: list[int]
) -> None:
    finder = tuned(filled, match_case=True)
    keys = [QueryKey(*key), *(QueryKey(tag, "99") for tag in tags)]
    answer = next(iter(finder.find(level, keys)))
    assert [answer[tag] for tag in tags] == [str(number) for number in expected]


def test_counts_are_for_their_own_level_only(finder: Finder) -> None:
    keys = [QueryKey(STUDY, "1.1"), QueryKey(0x00201200), QueryKey(0x00201209)]
    assert list(finder.find(Level.STUDY, keys)) == [
        {STUDY: "1.1", 0x00201200: None, 0x00201209: None}
    ]


def test_counts_can_be_switched_off(filled: Archive) -> None:
    finder = tuned(filled, enable_computed_fields=False)
    assert list(finder.find(Level.STUDY, [QueryKey(STUDY, "1.1"), QueryKey(0x00201208)])) == [
        {STUDY: "1.1", 0x00201208: None}
    ]
    assert not finder.knows(Level.STUDY, 0x00201208)


def test_finder_says_which_keys_it_knows(finder: Finder) -> None:
    assert finder.knows(Level.STUDY, PATIENT_NAME)
    assert finder.knows(Level.STUDY, 0x00201208)
    assert finder.knows(Level.STUDY, MODALITIES)
    assert not finder.knows(Level.STUDY, MODALITY)
    assert not finder.knows(Level.PATIENT, STUDY)


@pytest.fixture
def without_column(place: Place) -> Iterator[Finder]:
    layout = default_layout()
    columns = tuple(column for column in layout.study.columns if column.tag != MODALITIES)
    layout = replace(layout, study=replace(layout.study, columns=columns))
    archive = open_archive(place(), layout)
    fill(archive)
    yield Finder(archive.database, archive.schema, archive.settings)
    archive.close()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("SR", "2"), ("CT\\MR", "123"), ("*R", "235"), ("*", "12345"), ("XX", "")],
)
def test_modalities_are_found_in_the_series_where_no_column_collects_them(
    without_column: Finder, value: str, expected: str
) -> None:
    assert "".join(studies(without_column, MODALITIES, value)) == expected


def test_modalities_are_answered_from_the_series(without_column: Finder) -> None:
    keys = [QueryKey(STUDY, "1.2"), QueryKey(MODALITIES)]
    answer = next(iter(without_column.find(Level.STUDY, keys)))
    assert sorted(str(answer[MODALITIES]).split("\\")) == ["CT", "SR"]
    assert without_column.knows(Level.STUDY, MODALITIES)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("dicomstudies.studydate DESC, DICOMStudies.StudyTime", "23145"),
        ("StudyDate, StudyInstanceUID desc", "54132"),
        ("dicompatients.patientid, studydate", "12345"),
        ("DICOMStudies.AccessTime, StudyDate ASC, studytime", "54123"),
    ],
)
def test_configured_order_is_kept(filled: Archive, order: str, expected: str) -> None:
    finder = tuned(filled, study_query_sort_order=order)
    found = finder.find(Level.STUDY, [QueryKey(STUDY)])
    assert "".join(str(answer[STUDY])[-1] for answer in found) == expected


@pytest.mark.parametrize(
    "order",
    [
        "DICOMSeries.Modality",
        "nonsense",
        "1; DROP TABLE DICOMStudies",
        "x.StudyDate",
        "StudyDate +",
    ],
)
def test_order_that_names_no_column_is_reported_and_ignored(
    filled: Archive, caplog: pytest.LogCaptureFixture, order: str
) -> None:
    finder = tuned(filled, study_query_sort_order=order)
    assert "StudyQuerySortOrder" in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelno == logging.WARNING
    assert len(studies(finder, STUDY, "*")) == 5


def test_answers_are_ordered_by_name_when_it_was_asked_for(finder: Finder) -> None:
    found = finder.find(Level.STUDY, [QueryKey(STUDY), QueryKey(PATIENT_NAME)])
    assert "".join(str(answer[STUDY])[-1] for answer in found)[:1] == "4"


def test_caller_can_sort_limit_and_skip(finder: Finder) -> None:
    found = list(finder.find(Level.STUDY, [QueryKey(STUDY)], Page("StudyDate", 2, 1)))
    assert [answer[STUDY] for answer in found] == ["1.4", "1.1"]
    rest = finder.find(Level.STUDY, [QueryKey(STUDY)], Page("StudyDate", offset=4))
    assert len(list(rest)) == 1


def test_numbers_are_sorted_as_numbers(filled: Archive) -> None:
    keys = [QueryKey(STUDY, "1.2"), QueryKey(SERIES_NUMBER)]
    found = tuned(filled).find(Level.SERIES, keys, Page("SeriesNumber"))
    assert [answer[SERIES_NUMBER] for answer in found] == ["9", "18"]


def test_selection_is_in_the_order_of_transmission(filled: Archive) -> None:
    finder = tuned(filled, image_query_sort_order="dicomimages.sopinstanc desc")
    found = finder.select([QueryKey(STUDY, "1.2")], Level.STUDY)
    assert [ref.sop_instance for ref in found] == ["1.2.2.2", "1.2.2.1", "1.2.1.2", "1.2.1.1"]
    assert found[-1] == InstanceRef(CT, "1.2.1.1", "P1", "1.2", "1.2.1", "MAG0", "1.2.1.1.dcm")


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ([QueryKey(SOP, "1.1.1.1\\1.3.1.2\\9.9")], 2),
        ([QueryKey(SERIES, "1.2.1"), QueryKey(STUDY, "1.2")], 2),
        ([QueryKey(SERIES, "1.2.1"), QueryKey(STUDY, "1.1")], 0),
        ([QueryKey(PATIENT_ID, "P1")], 6),
        ([QueryKey(PATIENT_ID, "p1")], 2),
        ([QueryKey(STUDY, "9.9")], 0),
    ],
    ids=["uid list", "hierarchy", "other study", "patient", "other letter case", "none"],
)
def test_selection_for_retrieval(finder: Finder, keys: list[QueryKey], count: int) -> None:
    assert len(finder.select(keys)) == count


def test_instance_is_found_by_its_uid(finder: Finder) -> None:
    found = finder.instance("1.3.1.1")
    assert found == InstanceRef(CT, "1.3.1.1", "P2", "1.3", "1.3.1", "MAG0", "1.3.1.1.dcm")
    assert finder.instance("9") is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("ImageNumber LIKE '9%'", True),
        ("QRows = 512 and QColumns = 512", True),
        ("Modality = 'MR'", False),
        ("(Modality = 'CT' OR Modality='MR') AND StudyDescription = 'Thorax'", True),
        ("DICOMPatients.PatientID = 'P1'", True),
        ("dicomstudies . patientid = 'P2'", False),
        ("substr(StudyDate, 1, 4) = '2024'", True),
        ("StudyDescription LIKE '%;%'", False),
        ("ImagePat = 'P1'", True),
    ],
)
def test_filter_of_an_export_rule(finder: Finder, condition: str, holds: bool) -> None:
    ref = finder.instance("1.1.1.1")
    assert ref is not None
    assert finder.sql_filter(condition, ref) is holds


@pytest.mark.parametrize(
    "condition",
    [
        "1=1; DROP TABLE DICOMImages",
        "1=1 -- comment",
        "1=1 /* comment */",
        "1=1) OR (1=1",
        "(1=1",
        "Modality = ?",
        "Modality = 'CT",
        "NoColumn = 'x'",
        "other.PatientID = 'P1'",
        "",
    ],
)
def test_filter_that_is_no_condition_is_a_rule_error(finder: Finder, condition: str) -> None:
    ref = finder.instance("1.1.1.1")
    assert ref is not None
    with pytest.raises(RuleError):
        finder.sql_filter(condition, ref)
    assert len(studies(finder, STUDY, "*")) == 5


def fill_with_images(archive: Archive, count: int) -> None:
    """Enter so many objects of one series at once: thousands are needed."""
    archive.store(image(SOPInstanceUID="1.2.3.1.1.0"))
    table = archive.schema.table(Level.IMAGE)
    [(_, *values)] = archive.rows(f"SELECT {', '.join(table.names)} FROM {table.name}")
    marks = ", ".join("?" * len(table.names))
    sql = f"INSERT INTO {table.name} ({', '.join(table.names)}) VALUES ({marks})"
    rows = [(f"1.2.3.1.1.{number}", *values) for number in range(1, count)]
    archive.writer.transact(
        lambda transaction: transaction.executemany(archive.database.sql(sql), rows)
    )


def test_slow_reader_of_a_usual_result_does_not_hold_the_database(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path))
    fill_with_images(archive, 300)
    finder = Finder(archive.database, archive.schema, archive.settings)
    answers = finder.find(Level.IMAGE, [QueryKey(SOP)])
    next(answers)
    archive.store(image(SOPInstanceUID="1.9"))
    [(is_busy, *_)] = archive.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not is_busy
    assert len(list(answers)) == 299
    archive.close()


@pytest.mark.parametrize("more", [-1, 0, 1, 2500])
def test_result_is_complete_however_it_is_fetched(place: Place, more: int) -> None:
    archive = open_archive(place())
    fill_with_images(archive, AHEAD_ROWS + more)
    finder = Finder(archive.database, archive.schema, archive.settings)
    found = {answer[SOP] for answer in finder.find(Level.IMAGE, [QueryKey(SOP)])}
    assert len(found) == AHEAD_ROWS + more
    archive.close()


def test_large_results_are_streamed_and_can_be_abandoned(place: Place) -> None:
    archive = open_archive(place())
    count = AHEAD_ROWS + 100
    fill_with_images(archive, count)
    finder = Finder(archive.database, archive.schema, archive.settings)
    assert len(list(finder.find(Level.IMAGE, [QueryKey(SOP)]))) == count
    answers = finder.find(Level.IMAGE, [QueryKey(SOP)])
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    archive.store(image(SOPInstanceUID="1.9"))
    assert len(list(finder.find(Level.IMAGE, [QueryKey(SOP)]))) == count + 1
    archive.close()


def test_padding_is_removed_from_queries_too(place: Place) -> None:
    archive = open_archive(place(fix_kodak=True))
    archive.store(image(PatientID="01234567"))
    finder = Finder(archive.database, archive.schema, archive.settings)
    assert studies(finder, PATIENT_ID, "01234567 ") == ["1"]
    archive.close()


def test_study_without_patient_is_found(place: Place) -> None:
    archive = open_archive(place(allow_empty_patient_id=True))
    archive.store(image(PatientID=""))
    finder = Finder(archive.database, archive.schema, archive.settings)
    assert studies(finder, PATIENT_NAME, "smith*") == ["1"]
    assert len(finder.select([QueryKey(STUDY, "1.2.3.1")])) == 1
    archive.close()


def test_plain_layout_answers_patient_keys_through_the_join(place: Place) -> None:
    plain = default_layout()
    keep = {STUDY, DATE, PATIENT_ID}
    columns = tuple(column for column in plain.study.columns if column.tag in keep)
    layout = Layout(plain.patient, replace(plain.study, columns=columns), plain.series, plain.image)
    archive = open_archive(place(), layout)
    fill(archive)
    finder = Finder(archive.database, archive.schema, archive.settings)
    assert studies(finder, PATIENT_NAME, "müller*") == ["3", "4"]
    assert len(finder.select([QueryKey(PATIENT_NAME, "SMITH*")])) == 6
    archive.close()


def test_without_index_nothing_is_found(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path, engine=Engine.NONE))
    finder = Finder(archive.database, archive.schema, archive.settings)
    assert list(finder.find(Level.STUDY, [QueryKey(STUDY)])) == []
    assert finder.select([QueryKey(STUDY, "1.1")]) == []
    assert finder.instance("1.1") is None
    assert not finder.knows(Level.STUDY, STUDY)
    with pytest.raises(RuleError, match="needs an index"):
        finder.sql_filter("1 = 1", InstanceRef(CT, "1", "P", "1", "1", "MAG0", "a"))
    archive.close()


def test_lost_database_is_away(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path))
    finder = Finder(archive.database, archive.schema, archive.settings)
    archive.database.close()
    archive.writer.close()
    (tmp_path / "index.db3").write_bytes(b"")
    with pytest.raises(DatabaseAway):
        finder.instance("1.1")


def test_moments_of_columns_typed_as_date_and_time(place: Place) -> None:
    text = b"""
    *Patient* { { 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR } }
    *Study* { { 0x0020, 0x000d, "StudyInstanceUID", 64, SQL_C_CHAR, DT_UI },
              { 0x0040, 0xa13a, "ReferencedDateTime", 26, SQL_C_CHAR, DT_STR },
              { 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR } }
    *Series* { { 0x0020, 0x000e, "SeriesInstanceUID", 64, SQL_C_CHAR, DT_UI },
               { 0x0020, 0x000d, "StudyInstanceUID", 64, SQL_C_CHAR, DT_UI } }
    *Image* { { 0x0008, 0x0018, "SOPInstanceUID", 64, SQL_C_CHAR, DT_UI },
              { 0x0020, 0x000e, "SeriesInstanceUID", 64, SQL_C_CHAR, DT_UI } }
    """
    archive = open_archive(place(), parse_layout(text, "dicom.sql")[0])
    archive.store(image(ReferencedDateTime="20240110081500"))
    finder = Finder(archive.database, archive.schema, archive.settings)
    for value, found in (
        ("20240110-20240110", ["1"]),
        ("2024-", ["1"]),
        ("-20240109", []),
        ("20240110081500-0500", []),
        ("20240110081500", ["1"]),
    ):
        assert studies(finder, 0x0040A13A, value) == found, value
    archive.close()
