"""What the files, folders and rules of a configuration show together."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.problem import Problem
from dgate.config.settings import load
from dgate.inspection import blocking, inspect
from dgate.rules.hooks import Rules
from tests.config.kit import ENOUGH, configured, write
from tests.pace import least_processor_s


def found(folder: Path, lines: str = "", **files: str) -> list[Problem]:
    """Return what is found beyond loading, and beyond what is said of every such file."""
    configuration = configured(folder, lines, **files)
    return [problem for problem in inspect(configuration) if problem not in configuration.problems]


def told(problem: Problem) -> str:
    """Return severity, place and message with advice."""
    return f"{problem.severity.value} {problem.where}:{problem.column} {problem}"


def test_working_configuration_has_no_problem(tmp_path: Path) -> None:
    assert inspect(configured(tmp_path)) == []


@pytest.mark.parametrize(
    ("rule", "severity", "advice"),
    [
        ("forward to DGATE", None, ""),
        ("forward to dgate", None, ""),
        ("nop; { Forward to DGATE; }", None, ""),
        ("forward to %u", None, ""),
        ('nop "forward to MISSPELT"', None, ""),
        ('nop "forward"', None, ""),
        ("forward to DGAT", "warning", "did you mean DGATE?"),
        ("forward to MISSPELT org X", "warning", "add it to acrnema.map"),
        ('ifequal "a", "b"; {forward to MISSPELT', "warning", "add it to acrnema.map"),
        ('script "forward to MISSPELT"', "warning", "add it to acrnema.map"),
        ("forward to pacs.example:104", "info", "name it there"),
    ],
)
def test_destination_of_a_rule_has_to_be_known(
    tmp_path: Path, rule: str, severity: str | None, advice: str
) -> None:
    problems = [p for p in found(tmp_path, f"ImportConverter0 = {rule}") if "not name" in p.message]

    assert [problem.severity.value for problem in problems] == ([severity] if severity else [])
    for problem in problems:
        assert problem.line == 2
        assert problem.source == f"ImportConverter0 = {rule}"
        assert problem.column is not None
        # The caret points at the statement, or at the script that it stands in.
        assert problem.source[problem.column - 1 :].lstrip('"').startswith(("forward", "script"))
        assert problem.advice.startswith(advice)


def test_rule_that_sends_back_to_this_server_is_noticed(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, "TCPPort = 5678\nImportConverter0 = forward to DGATE")

    assert "DGATE is this server itself" in problem.message


@pytest.mark.parametrize(
    ("rules", "texts"),
    [
        ("ImportConverter0 = destroy; nop x", ["2:29", "destroy before it ends the line"]),
        ("ImportConverter0 = nop; stop; nop x; nop y", ["2:31", "stop before it ends"]),
        (
            'ImportConverter0 = ifempty "%i"; { reject; nop; }; nop z',
            ["2:44", "reject before it ends"],
        ),
        (
            "ImportConverter0 = destroy\nImportConverter1 = nop",
            ["3:20", "ImportConverter0 lets none of its objects pass"],
        ),
        (
            "ImportModality0 = C*\nImportConverter0 = reject\n"
            "ImportModality1 = CT\nImportConverter1 = nop",
            ["5:20", "ImportConverter0 lets none of its objects pass"],
        ),
        (
            "ExportConverters = 1\nImportConverter0 = destroy\nExportConverter0 = nop",
            ["4:20", "ImportConverter0 lets none of its objects pass"],
        ),
        (
            "ImportModality0 = CT,MR\nImportConverter0 = nop",
            ["2:21", "matches nothing", "not a list"],
        ),
        ("ImportCallingAE0 = A_VERY_LONG_AE_TITLE\nImportConverter0 = nop", ["2:", "that long"]),
        ("ImportStationName0 = a\\b\nImportConverter0 = nop", ["2:23", "matches nothing"]),
        ("ImportConverter0 = storage MAG3", ["2:20", "there is no device MAG3"]),
    ],
)
def test_rule_that_cannot_do_what_was_meant_is_a_warning(
    tmp_path: Path, rules: str, texts: list[str]
) -> None:
    (problem,) = found(tmp_path, rules)

    assert problem.severity.value == "warning"
    for text in texts:
        assert text in told(problem)


@pytest.mark.parametrize(
    "rules",
    [
        'ImportConverter0 = ifempty "%i"; destroy; nop',
        'ImportConverter0 = ifempty "%i"; { destroy; }; nop',
        'ImportConverter0 = ifempty "%i"; stop; nop',
        "ImportModality0 = CT\nImportConverter0 = destroy\nImportConverter1 = nop",
        'ImportConverter0 = ifequal "%m", "CT"; destroy\nImportConverter1 = nop',
        "ImportConverter0 = stop\nImportConverter1 = nop",
        "ImportCallingAE0 = *SCAN*\nImportConverter0 = nop",
        "ImportConverter0 = storage MAG0",
    ],
)
def test_rule_that_can_be_reached_is_left_in_peace(tmp_path: Path, rules: str) -> None:
    assert found(tmp_path, rules) == []


def test_rule_above_the_number_of_export_rules_never_runs(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "ExportConverters = 1\nExportConverter1 = nop")

    (problem,) = inspect(configuration)
    assert told(problem) == (
        "warning dicom.ini:3:1 dicom.ini:3: ExportConverter1 never runs, as ExportConverters = 1 "
        "(write ExportConverters = 2)"
    )


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ('set PatientID to "x"; nop; set PatientName to "y"', "changed before they are stored, by"),
        ("forward compressed as ul to DGATE", "objects are sent in another transfer syntax"),
    ],
)
def test_rule_that_changes_or_encodes_objects_is_named(
    tmp_path: Path, rule: str, text: str
) -> None:
    problems = [p for p in found(tmp_path, f"ImportConverter0 = {rule}") if text in p.message]

    assert [problem.severity.value for problem in problems] == ["info"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x OTHER LocalAE\n", "no LocalAE line names TEST"),
        ("x 1.2.840.10008.1.2.1 transfer\n", "implicit little endian is not listed"),
        ("x 1.2.840.10008.5.1.4.1.1.2 sop\n", "Verification is not listed"),
    ],
)
def test_list_that_refuses_what_everybody_needs_is_a_warning(
    tmp_path: Path, text: str, message: str
) -> None:
    (problem,) = found(tmp_path, lst=text)

    assert problem.severity.value == "warning"
    assert message in problem.message
    assert problem.where == "dgatesop.lst"


def test_mistake_in_a_quoted_rule_is_placed_in_the_file(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, 'ImportConverter0 =   "nop; nosuchthing"')

    assert (problem.line, problem.source) == (2, 'ImportConverter0 =   "nop; nosuchthing"')
    assert problem.column == problem.source.index("nosuchthing") + 1
    assert problem.path == str(tmp_path / "dicom.ini")


def test_mistake_in_a_filter_is_placed_in_its_own_line(tmp_path: Path) -> None:
    rules = "ExportConverters = 1\nExportFilter0 = Rows = 5; drop\nExportConverter0 = nop"
    (problem,) = found(tmp_path, rules)

    assert (problem.severity.value, problem.line) == ("error", 3)
    assert problem.source == "ExportFilter0 = Rows = 5; drop"


def test_mistake_in_a_named_script_is_placed_in_its_line(tmp_path: Path) -> None:
    ini = "ImportConverter0 = call tidy\n[scripts]\ntidy = nop; newuidz\n[sscscp]"
    (problem,) = [p for p in found(tmp_path, ini) if p.severity.value == "error"]

    assert (problem.line, problem.column) == (4, 13)
    assert problem.message.startswith("script tidy.1: ")


def test_mistake_in_a_script_file_is_placed_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "tidy.txt").write_text("# tidy up\nnop\n\nnop; forward to DGAT\n")
    (problem,) = found(tmp_path, "ImportConverter0 = call tidy.txt")

    assert (problem.path, problem.line, problem.column) == (str(tmp_path / "tidy.txt"), 4, 6)
    assert problem.advice == "did you mean DGATE?"


@pytest.mark.parametrize(
    ("first", "second"),
    [("call a.txt\n", "nop\n"), ("nop; call b.txt\n", "ifempty %i; call a.txt\n")],
    ids=["at once", "by way of another"],
)
def test_script_file_that_calls_itself_is_an_error(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "a.txt").write_text(first)
    (tmp_path / "b.txt").write_text(second.replace("ifempty %i; ", ""))

    problems = found(tmp_path, "ImportConverter0 = call a.txt")
    (error,) = [p for p in problems if p.severity.value == "error"]
    assert "the script a.txt calls itself" in error.message
    assert error.line == 1


def test_rules_that_are_there_already_are_not_built_again(tmp_path: Path) -> None:
    configuration = configured(tmp_path, "ImportConverter0 = nosuchthing")

    assert inspect(configuration, Rules.build(configuration.settings)) == inspect(configuration)


def test_line_of_more_text_than_anybody_writes_is_an_error(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, f"ImportConverter0 = {'nop;' * 20_000}")

    assert problem.severity.value == "error"
    assert "more than 65536 characters" in problem.message
    assert problem.source == ""


def test_fifty_rules_and_a_thousand_nodes_are_looked_at_in_a_moment(tmp_path: Path) -> None:
    table = "".join(f"NODE{n} 10.0.0.1 104 as\n" for n in range(1000))
    rules = "".join(
        f'ImportModality{n} = M{n}\nImportConverter{n} = ifempty "%i"; forward to NODEX{n}\n'
        for n in range(50)
    )
    configuration = configured(tmp_path, rules, map=table)
    compiled = Rules.build(configuration.settings)

    # Titles that nobody knows are the slow case; without them it takes a tenth.
    assert least_processor_s(lambda: inspect(configuration, compiled), 0.5) < 0.5
    problems = inspect(configuration, compiled)
    assert len(problems) == 50
    assert sum("did you mean" in problem.advice for problem in problems) == 20


@pytest.mark.parametrize(
    ("rule", "count"), [("newuids; forward to PACS", 1), ("forward to PACS", 0)]
)
def test_schedule_that_would_bypass_rules_is_an_error_that_keeps_no_server_from_starting(
    tmp_path: Path, rule: str, count: int
) -> None:
    lines = f"[sscscp]\nExportConverters = 1\nExportConverter0 = {rule}\n{ENOUGH}"
    lines += "[node PACS]\nReconcile = 03:00-05:00\nReconcileSend = yes\n"
    configuration = load(write(tmp_path, lines, map="PACS 10.0.0.1 104 un\n"))
    problems = [each for each in inspect(configuration) if "ReconcileSend" in each.message]

    assert [problem.severity.value for problem in problems] == ["error"] * count
    assert [problem.line for problem in problems] == [10] * count
    assert blocking(problems, Rules.build(configuration.settings)) == []
