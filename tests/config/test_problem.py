"""Problems: how they read, and that a file of nothing but mistakes does not fill the memory."""

from __future__ import annotations

import pytest

from dgate.config.problem import Problem, Report, Severity, column_of, lines_place


def test_problem_names_file_line_and_advice() -> None:
    problem = Problem(Severity.ERROR, "/srv/dgate/dicom.ini", 7, "it is wrong", "mend it")

    assert problem.where == "dicom.ini:7"
    assert str(problem) == "dicom.ini:7: it is wrong (mend it)"
    assert str(Problem(Severity.INFO, "a/x.map", None, "so", "")) == "x.map: so"


def test_report_keeps_the_order_and_the_kinds() -> None:
    report = Report("x.ini")
    report.warning(2, "odd", "look")
    report.error(1, "wrong", "mend")
    report.info(None, "known", "")

    assert [(one.severity, one.line) for one in report.problems] == [
        (Severity.WARNING, 2),
        (Severity.ERROR, 1),
        (Severity.INFO, None),
    ]


def test_number_of_problems_of_a_kind_is_bounded() -> None:
    report = Report("x.ini")
    for line in range(5000):
        report.warning(line, "odd", "look")
    report.error(1, "wrong", "mend")

    assert len(report.problems) <= 1003
    assert report.problems[-1].severity is Severity.ERROR
    assert "more than 1000" in report.problems[-2].message


def test_length_of_a_message_is_bounded() -> None:
    report = Report("x.ini")
    report.error(1, "x" * 100_000 + "the end", "mend")

    assert len(report.problems[0].message) <= 450
    assert report.problems[0].message.endswith("the end")


def test_place_points_at_the_first_letter_of_the_line() -> None:
    report = Report("x.ini", place=lines_place(["first", "   second"]))
    report.error(2, "wrong", "mend")
    report.error(2, "wrong", "mend", column=6)
    report.error(99, "wrong", "mend")

    assert [(one.column, one.source) for one in report.problems] == [
        (4, "   second"),
        (6, "   second"),
        (1, ""),
    ]


@pytest.mark.parametrize(
    ("text", "word", "column"),
    [("a bc d", "bc", 3), ("abc bc", "bc", 5), ("a\tbc", "bc", 3), ("xbc", "bc", 2)],
)
def test_column_of_a_word(text: str, word: str, column: int) -> None:
    assert column_of(text, word) == column
