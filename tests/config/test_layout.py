from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgate.config.layout import (
    Column,
    DicomType,
    Layout,
    SqlType,
    Table,
    default_layout,
    parse_layout,
)
from dgate.config.problem import Severity
from dgate.config.template import default_file

SHIPPED = default_file("dicom.sql").decode("ascii")


def rewritten(old: str, new: str) -> tuple[Layout, list[str]]:
    """Parse the shipped layout with one text replaced; return it with its problems as text."""
    assert SHIPPED.count(old) == 1
    layout, problems = parse_layout(SHIPPED.replace(old, new).encode(), "dicom.sql")
    return layout, [f"{problem.severity.value} {problem}" for problem in problems]


def test_shipped_layout_has_the_columns_of_the_reference() -> None:
    layout = default_layout()

    assert [
        (table.key.name, table.link.name if table.link else None, len(table.columns))
        for table in (layout.patient, layout.study, layout.series, layout.image)
    ] == [
        ("PatientID", None, 4),
        ("StudyInsta", "PatientID", 14),
        ("SeriesInst", "StudyInsta", 17),
        ("SOPInstanc", "SeriesInst", 21),
    ]
    assert layout.worklist is not None
    assert [c.full_name for c in layout.worklist.columns if c.sequence == (0x00400100,)] == [
        "Modality",
        "ReqContrastAgent",
        "ScheduledAE",
        "StartDate",
        "StartTime",
        "PerfPhysician",
        "SchedPSDescription",
        "SchedPSID",
        "SchedStationName",
        "SchedPSLocation",
        "PreMedication",
        "SchedPSComments",
    ]
    assert layout.worklist.link is None


def test_shipped_layout_is_read_without_a_problem() -> None:
    assert parse_layout(SHIPPED.encode(), "dicom.sql")[1] == []


def test_names_are_cut_and_lengths_are_capped() -> None:
    image = default_layout(truncate=9, max_length=20).image

    assert (image.key.name, image.key.full_name, image.key.length) == (
        "SOPInstan",
        "SOPInstanceUID",
        20,
    )


def test_names_are_whole_with_truncation_off() -> None:
    assert default_layout(truncate=0).image.key.name == "SOPInstanceUID"


def test_column_is_found_by_tag() -> None:
    image = default_layout().image

    column = image.column(0x00280010)
    assert column is not None
    assert (column.name, column.dicom_type) == ("QRows", DicomType.UINT16)
    assert image.column(0x00280009) is None


def test_link_row_that_is_not_last_is_moved_there() -> None:
    extra = '{ 0x0008, 0x0005, "Extra", 64, SQL_C_CHAR, DT_STR }'
    layout, problems = rewritten("}\n}\n\n*Image*", f"}},\n{extra}\n}}\n\n*Image*")

    assert layout.series.link is not None
    assert layout.series.link.tag == 0x0020000D
    assert layout.series.columns[-2].name == "Extra"
    assert [problem.split(":")[0] for problem in problems] == ["warning dicom.sql"]


@pytest.mark.parametrize("name", ["Patient", "Study", "Series", "Image"])
def test_missing_section_is_an_error_and_the_shipped_one_stands_in(name: str) -> None:
    start = SHIPPED.index(f"\n*{name}*\n{{")
    end = SHIPPED.index("\n}\n", start) + 3
    layout, problems = parse_layout((SHIPPED[:start] + SHIPPED[end:]).encode(), "dicom.sql")

    assert [(p.severity, f"*{name}*" in p.message) for p in problems] == [(Severity.ERROR, True)]
    assert layout == default_layout()


def test_layout_without_worklist_is_fine() -> None:
    data = SHIPPED[: SHIPPED.index("\n*WorkList*\n{")].encode()
    layout, problems = parse_layout(data, "dicom.sql")

    assert layout.worklist is None
    assert not problems


def test_older_layout_with_rows_and_columns_loads() -> None:
    layout, problems = rewritten('"QRows",', '"Rows",')

    assert not problems
    assert layout.image.column(0x00280010) is not None


def test_two_columns_that_are_cut_to_the_same_name_are_an_error() -> None:
    _, problems = rewritten('"SeriesDescription",', '"SeriesNumberAgain",')

    assert problems
    assert "two columns called SeriesNumb" in problems[0]
    assert problems[0].startswith("error")


def test_link_named_otherwise_than_its_key_is_a_warning() -> None:
    start, end = SHIPPED.index("\n*Series*\n"), SHIPPED.index("\n*Image*\n")
    series = SHIPPED[start:end]

    _, problems = rewritten(series, series.replace('"StudyInstanceUID"', '"Study"'))
    assert [problem.split(" ")[0] for problem in problems] == ["warning"]


columns = st.builds(
    Column,
    tag=st.integers(0, 0xFFFFFFFF),
    name=st.just(""),
    full_name=st.text("ABCabc_", min_size=1, max_size=31),
    length=st.integers(1, 5000),
    sql_type=st.just(SqlType.CHAR),
    dicom_type=st.sampled_from(DicomType),
)


@settings(max_examples=50)
@given(st.lists(columns, max_size=6, unique_by=lambda column: column.full_name.lower()))
def test_written_rows_are_read_back(extra: list[Column]) -> None:
    taken = {"patientid", "accesstime", "qtimestamp", "qflags", "qspare"}
    extra = [column for column in extra if column.full_name.lower() not in taken]
    rows = ['{ 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR }']
    rows += [
        f'{{{c.tag >> 16},0x{c.tag & 0xFFFF:X} , "{c.full_name}",{c.length},SQL_C_CHAR,'
        f"{c.dicom_type.value}}}"
        for c in extra
    ]
    text = "*Patient*{" + ",".join(rows) + "}" + SHIPPED[SHIPPED.index("\n*Study*\n{") :]

    layout, problems = parse_layout(text.encode(), "dicom.sql", truncate=0)
    assert not problems
    read: Table = layout.patient
    assert [(c.tag, c.full_name, c.length, c.dicom_type) for c in read.columns[1:]] == [
        (c.tag, c.full_name, c.length, c.dicom_type) for c in extra
    ]


SECTIONS = ["*Patient*", "*Study*", "*Series*", "*Image*", "*WorkList*"]
MARKS = ["{", "}", ",", '"', "/*", "*/", "#", "//", "\n", "\r", " ", "\x00", "ä"]
WORDS = ["0x0010", "0x", "x", "64", '"PatientID"', "SQL_C_CHAR", "DT_STR", "DT_STARTSEQUENCE"]
ROW = '{ 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR }'
sql_like = st.lists(st.sampled_from([*SECTIONS, *MARKS, *WORDS, ROW, "DT_ENDSEQUENCE"])).map(
    "".join
)


@given(st.one_of(st.binary(), sql_like.map(str.encode)))
def test_no_bytes_crash_the_layout(data: bytes) -> None:
    layout, problems = parse_layout(data, "dicom.sql")

    assert layout.image.link is not None
    assert all(problem.advice for problem in problems)
