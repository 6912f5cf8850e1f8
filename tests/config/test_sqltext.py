"""The syntax of dicom.sql: tokens, rows, sections, and what is said of what is broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.problem import Report, Severity
from dgate.config.sqltext import Row, read_sections

NAMES = ("PatientDatabase", "ImageDatabase")


def read(text: str | bytes) -> tuple[dict[str, list[list[str]]], Report]:
    """Return the texts of the fields of all rows, and what was reported."""
    data = text.encode() if isinstance(text, str) else text
    report = Report("dicom.sql")
    sections = read_sections(data, NAMES, report)
    return {name: [fields(row) for row in rows] for name, rows in sections.items()}, report


def fields(row: Row) -> list[str]:
    return [token.text for token in row.fields]


def test_rows_are_read_with_comments_of_all_kinds() -> None:
    found, report = read(
        "/* head\n*/ # more\n*PatientDatabase*\n{ // opens\n"
        '{ 0x0010, 0x0020, "Patient ID", 64 }, # comment\n{a,b}\n}\n*ImageDatabase*\n{\n}\n'
    )

    assert found == {
        "PatientDatabase": [["0x0010", "0x0020", "Patient ID", "64"], ["a", "b"]],
        "ImageDatabase": [],
    }
    assert report.problems == []


def test_section_names_are_read_in_any_letter_case_and_go_on_when_repeated() -> None:
    found, _ = read("*patientdatabase*{{a}}\n*PATIENTDATABASE*{{b}}")
    assert found == {"PatientDatabase": [["a"], ["b"]]}


def test_quoted_punctuation_is_text() -> None:
    found, report = read('*PatientDatabase*{{ "a,b{}/*", "*ImageDatabase*" }}')
    assert found == {"PatientDatabase": [["a,b{}/*", "*ImageDatabase*"]]}
    assert report.problems == []


@pytest.mark.parametrize(
    ("text", "rows", "severity", "line", "column", "message"),
    [
        ("*PatientDatabase*{\n{a}\n{b}}", [["a"], ["b"]], "info", 2, 1, "no comma after the row"),
        ("*PatientDatabase*{{a b}}", [["a", "b"]], "info", 1, 22, "no comma before 'b'"),
        ("*PatientDatabase*{{a},,{b}}", [["a"], ["b"]], "info", 1, 23, "a second comma"),
        ("*PatientDatabase*{\n{a}", [["a"]], "warning", 2, 1, "has no closing brace"),
        ("*PatientDatabase*{\n  {a,", [["a"]], "error", 2, 3, "a row has no closing brace"),
        ('*PatientDatabase*{\n{"a\n}}', [["a"]], "error", 2, 2, "has no closing quote"),
        ("*PatientDatabase*{{a}\nxy zz {b}}", [["a"], ["b"]], "error", 2, 1, "'xy' stands between"),
        ("*PatientDatabase*\n{a}}", [], "error", 2, 2, "'a' stands between"),
        ("*PatientDatabase* {a}", [], "error", 1, 20, "'a' stands between"),
        ("*PatientDatabase*", [], "error", 1, 1, "is not followed by an opening brace"),
        ("*PatientDatabase*{{a}}\n/* {b}", [["a"]], "error", 2, 1, "is never closed"),
    ],
)
def test_fault_is_named_with_its_place_and_the_rest_is_read(
    text: str, rows: list[list[str]], severity: str, line: int, column: int, message: str
) -> None:
    found, report = read(text)

    assert found == {"PatientDatabase": rows}
    [problem] = [each for each in report.problems if message in each.message]
    assert (problem.severity.value, problem.line, problem.column) == (severity, line, column)


def test_unknown_section_is_passed_over_with_advice() -> None:
    found, report = read("*PatientDatabse*{{a},{b}}\n*ImageDatabase*{{c}}")

    assert found == {"ImageDatabase": [["c"]]}
    assert [each.advice for each in report.problems] == ["did you mean *PatientDatabase*?"]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_crash(data: bytes) -> None:
    report = Report("dicom.sql")
    assert set(read_sections(data, NAMES, report)) <= set(NAMES)


PIECES = st.sampled_from(
    ["*PatientDatabase*", "*ImageDatabase*", "{", "}", ",", '"q"', '"', "w", "\n", "/*", "*/", "#"]
)


@given(st.lists(PIECES, max_size=40))
def test_every_fault_has_a_line_of_the_file(pieces: list[str]) -> None:
    text = " ".join(pieces)
    _, report = read(text)
    for problem in report.problems:
        assert problem.line is not None
        assert 1 <= problem.line <= text.count("\n") + 1


WORDS = st.text("abcXYZ019_", min_size=1, max_size=8)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=6), max_size=6))
def test_what_is_written_is_read_back(rows: list[list[str]]) -> None:
    body = ",\n".join("{ " + ", ".join(f'"{word}"' for word in row) + " }" for row in rows)
    found, report = read(f"*PatientDatabase*\n{{\n{body}\n}}\n")

    assert found == {"PatientDatabase": rows}
    assert all(each.severity is not Severity.ERROR for each in report.problems)
