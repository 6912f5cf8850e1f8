from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from dgate.cli.check import check_command, problem_table
from dgate.config.problem import Problem, Severity
from dgate.config.template import new_set
from dgate.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in new_set().items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def check(folder: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(check_command, ["-c", str(folder), *options])
    return result.exit_code, result.output


def add(folder: Path, text: str) -> int:
    """Add lines to dicom.ini and return the number of the first."""
    ini = folder / "dicom.ini"
    lines = ini.read_text().splitlines()
    ini.write_text("\n".join([*lines, text, ""]))
    return len(lines) + 1


def test_clean_set_gives_exit_code_0(folder: Path) -> None:
    code, output = check(folder)

    assert code == 0
    assert output.startswith("0 error(s), 0 warning(s), 0 note(s)")


def test_note_gives_exit_code_0_and_can_be_left_out(folder: Path) -> None:
    line = add(folder, "PackDBF = 1")

    code, output = check(folder)
    assert code == 0
    assert f"info: dicom.ini:{line}: PackDBF has no effect" in output
    assert "PackDBF" not in check(folder, "--quiet")[1]


def test_warning_gives_exit_code_2(folder: Path) -> None:
    line = add(folder, "TCPPrt = 1")

    code, output = check(folder)
    assert code == 2
    assert f"warning: dicom.ini:{line}: TCPPrt is not a known setting" in output
    assert "(did you mean TCPPort?)" in output


def test_error_gives_exit_code_1(folder: Path) -> None:
    (folder / "acrnema.map").unlink()

    code, output = check(folder)
    assert code == 1
    assert output.startswith("error: dicom.ini:")
    assert "ACRNemaMap" in output


def test_bad_rule_is_shown_with_a_caret_below_its_place(folder: Path) -> None:
    line = add(folder, "ImportConverter0 = nop; nosuchthing")

    code, output = check(folder)
    lines = output.splitlines()
    place = next(n for n, text in enumerate(lines) if f"dicom.ini:{line}: ImportConverter0" in text)
    assert code == 1
    assert lines[place].startswith("error: ")
    assert lines[place + 1].strip() == "ImportConverter0 = nop; nosuchthing"
    assert lines[place + 2].index("^") == lines[place + 1].index("nosuchthing")


def test_problems_are_given_as_json(folder: Path) -> None:
    line = add(folder, "TCPPrt = 1")

    code, output = check(folder, "--json")
    data = json.loads(output)
    assert code == 2
    assert (data["errors"], data["warnings"], data["infos"]) == (0, 1, 0)
    (problem,) = data["problems"]
    assert problem["severity"] == "warning"
    assert problem["file"] == str(folder / "dicom.ini")
    assert problem["line"] == line
    assert problem["advice"] == "did you mean TCPPort?"
    assert (problem["column"], problem["text"]) == (1, "TCPPrt = (not shown)")
    assert list(problem) == ["severity", "file", "line", "column", "message", "advice", "text"]


def test_rule_problem_names_the_whole_path_in_json(folder: Path) -> None:
    add(folder, "ImportConverter0 = nosuchthing")

    problems = json.loads(check(folder, "--json")[1])["problems"]
    assert {problem["file"] for problem in problems} == {str(folder / "dicom.ini")}
    assert any(problem["column"] for problem in problems)


def test_missing_configuration_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(check_command, ["-c", str(tmp_path)])

    assert isinstance(result.exception, ConfigError)
    assert "dgate init" in str(result.exception)


def test_table_shows_place_advice_and_caret() -> None:
    problem = Problem(
        Severity.ERROR, "/etc/dgate/dicom.ini", 7, "it is odd", "mend it", 4, "abc\x1bdef"
    )
    console = Console(file=io.StringIO(), width=60)

    console.print(problem_table([problem]))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[1].split() == ["error", "dicom.ini:7", "it", "is", "odd"]
    assert lines[2].strip() == "abc def"
    assert lines[3].index("^") == lines[2].index("abc") + 3
    assert lines[4].strip() == "→ mend it"


def test_caret_stands_right_in_a_long_line(folder: Path) -> None:
    add(folder, f'ImportConverter0 = nop "{"x" * 200}"; nosuchthing "{"y" * 200}"')

    lines = check(folder)[1].splitlines()
    caret = next(n for n, text in enumerate(lines) if text.strip() == "^")
    assert lines[caret - 1][lines[caret].index("^") :].startswith("nosuchthing")


def test_misspelt_password_is_not_printed(folder: Path) -> None:
    add(folder, "Pasword = geheim\n Password = geheim\nUsernme = geheim")

    assert "geheim" not in check(folder)[1] + check(folder, "--json")[1]
