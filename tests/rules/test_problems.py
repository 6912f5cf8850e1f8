"""What is reported about rules before an object meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.problem import Severity
from dgate.rules.problems import Gravity
from tests.rules import kit


def test_problem_points_at_the_place_in_the_line() -> None:
    [problem] = kit.importing('nop a; set PatientNam to "x"').problems
    assert str(problem) == (
        "dicom.ini:40 ImportConverter0.1 column 12: PatientNam is not an element "
        "(did you mean PatientName?)"
    )
    assert problem.caret() == 'nop a; set PatientNam to "x"\n           ^'


def test_every_mistake_of_a_line_is_reported() -> None:
    made = kit.importing('ifempty %m; set A to "x"; forward to A retry 3; nop; compression jk')
    assert [(problem.statement, problem.gravity) for problem in made.problems] == [
        (0, Gravity.ERROR),
        (1, Gravity.ERROR),
        (2, Gravity.ERROR),
        (4, Gravity.UNAVAILABLE),
    ]


def test_problem_becomes_one_of_the_configuration() -> None:
    [problem] = [found.problem() for found in kit.importing("nop; compression jk").problems]
    assert problem.severity is Severity.ERROR
    assert (problem.path, problem.line, problem.column) == ("dicom.ini", 40, 6)
    assert problem.message.startswith("ImportConverter0.1: compression jk is not executable")
    assert problem.source == "nop; compression jk"


def test_warning_stays_a_warning() -> None:
    [problem] = [found.problem() for found in kit.importing("nop %j").problems]
    assert problem.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('ifequal "a", "b"; { nop', "a block is not closed"),
        ("nop }; } nop; }", "} closes no block"),
        ('{ ifequal "a", "b"; } nop', "decides about the statement after the block"),
        ("nop %VPatientsName", "PatientsName is not a keyword"),
        ("nop %i[x]", "is not [a,b] or [,n]"),
    ],
)
def test_odd_but_legal_line_is_warned_about(line: str, message: str) -> None:
    made = kit.importing(line)
    assert {problem.gravity for problem in made.problems} == {Gravity.WARNING}
    assert message in made.problems[0].message
    assert kit.run_import(made)[0].outcome.value == "keep"


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("ifequall", "did you mean ifequal?"),
        ("forward too A", "see how forward is written"),
        ('set  PatientID to "x"', None),
    ],
)
def test_unknown_statement_gets_advice(line: str, advice: str | None) -> None:
    [problem] = kit.importing(line).problems
    assert problem.gravity is Gravity.ERROR
    assert advice is None or problem.advice.startswith(advice)


def test_missing_script_is_reported() -> None:
    [problem] = kit.importing("nop; call nobody").problems
    assert (problem.statement, problem.message) == (1, "there is no script nobody")


def test_problems_of_a_named_script_are_reported_once_with_its_name() -> None:
    made = kit.importing("bad; call BAD", scripts={"bad": "nop; newuidz"})
    [problem] = made.problems
    assert (problem.key, problem.statement, problem.source) == (
        "script bad",
        1,
        "nop; newuidz",
    )


def test_scripts_that_nobody_calls_are_checked_too() -> None:
    [problem] = kit.rules(scripts={"bad": "newuidz"}).problems
    assert (problem.where, problem.key) == ("dicom.ini [scripts]", "script bad")
    assert problem.problem().line is None


def test_problems_of_a_script_file_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "tidy.txt").write_text("nop\nnewuidz\n", "utf-8")
    [problem] = kit.importing("call tidy.txt", base=tmp_path).problems
    assert (problem.where, problem.source) == ("tidy.txt", "newuidz")


def test_problems_inside_a_quoted_script_point_into_the_line() -> None:
    line = 'nop; script "nop %i %%i; set PatientNam to x"'
    [problem] = kit.importing(line).problems
    assert (problem.statement, problem.column) == (1, line.index("to x") + 4)


def test_programs_are_an_error_until_they_are_switched_on() -> None:
    line = kit.converter("/usr/bin/program %f", "Export")
    assert [problem.gravity for problem in kit.rules(line).problems] == [Gravity.ERROR]
    allowed = kit.rules(line, allow_system_commands=True)
    assert allowed.problems == ()


def test_line_without_mistakes_has_no_problems() -> None:
    line = 'ifequal "%m", "CT"; { set PatientID to "%i[,4]"; forward to A; } storage MAG0'
    assert kit.importing(line).problems == ()
