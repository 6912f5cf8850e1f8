"""Running lines: blocks, result codes, scripts that call scripts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dgate.errors import RuleError
from tests.rules import kit


@pytest.fixture(autouse=True)
def _hear_nops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")


FALSE = 'ifequal "%m", "XX"'
TRUE = 'ifequal "%m", "CT"'

LINES = [
    (f"{FALSE}; nop a; nop b", "b"),
    (f"{FALSE}; {{ nop a; nop b; }} nop c", "c"),
    (f"{FALSE}; {{ nop a; nop b; }}; nop c", "c"),
    (f"{FALSE}; {{ nop a; {{ nop b; }}; nop c; }} nop d", "d"),
    (f"{FALSE}; {{ nop a; {{ nop b; }} nop c; }} nop d", "d"),
    (f"{FALSE}; {{ nop a", ""),
    (f"{TRUE}; {{ nop a; nop b; }} nop c", "abc"),
    (f"{TRUE}; {FALSE}; nop a; nop b", "b"),
    (f"{FALSE}; {TRUE}; nop a", "a"),
    (f"{TRUE}; {{ nop a; {FALSE}; }}; nop b", "ab"),
    (f"{TRUE}; {{ nop a; {FALSE}; }} nop b; nop c", "ac"),
    (f"nop a; {FALSE}", "a"),
    (f"nop a; {FALSE};", "a"),
    ("}nop a", "a"),
    ("{nop a", "a"),
    ("{ {nop a", None),
    (";;nop a;;", "a"),
    ("nop a; stop; nop b", "a"),
    ("nop a; silentstop; nop b", "a"),
    ("nop a; return; nop b", "a"),
    ("nop a; destroy; nop b", "a"),
    ("nop a; destroy2; nop b", "a"),
    ("nop a; reject; nop b", "a"),
    (f'script "{FALSE.replace(chr(34), "")}"; nop a', None),
    ('script "ifempty %%m"; nop a', None),
    ('script "nop a; return; nop b"; nop c', "a"),
    ('script "nop a; stop"; nop c', "a"),
    ('script "nop a"; nop c', "ac"),
    ('script "destroy"; nop c', ""),
    ('script "nop a; call test"; nop b; nop c', "ac"),
    ("call test; nop a; nop b", "b"),
    ("call test; { nop a; nop b; } nop c", "c"),
    ("test; nop a; nop b", "b"),
    ("TEST; nop a; nop b", "b"),
    ("stopper; nop a", ""),
    ("say; nop a", "sa"),
    ("nested; nop a", "sa"),
]


@pytest.mark.parametrize(("line", "expected"), LINES, ids=[line for line, _ in LINES])
def test_line_runs_these_statements(
    line: str, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    scripts = {"test": FALSE, "stopper": "stop", "say": "nop s", "nested": "call say"}
    made = kit.importing(line.replace("stopper", "call stopper"), scripts=scripts)
    verdict, _ = kit.run_import(made)
    if expected is None:
        assert verdict.outcome.value == "reject"
    else:
        assert "".join(text.removeprefix("nop ") for text in kit.nops(caplog)) == expected


def test_stop_is_in_the_debug_log_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dgate.rules")
    kit.run_import(kit.importing("stop"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "Importconverter0.0: stop")
    ]


def test_destroy_is_logged_and_destroy2_is_not(caplog: pytest.LogCaptureFixture) -> None:
    kit.run_import(kit.importing("destroy2"))
    assert caplog.messages == []
    kit.run_import(kit.importing("nop; destroy"))
    assert caplog.messages == ["Importconverter0.0: nop", "Importconverter0.1: destroy"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tidy.txt").write_text(
        "# a comment\n; another\n\n"
        'ifequal "%m", "XX"\nnop one\nstop\nnop two\nset PatientID to "P"\n',
        "utf-8",
    )
    (tmp_path / "ends.txt").write_text("nop one\nreturn\nnop two\n", "utf-8")
    (tmp_path / "loop.txt").write_text("nop round\ncall loop.txt\n", "utf-8")
    return tmp_path


def test_lines_of_a_script_file_run_each_by_itself(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, table = kit.run_import(kit.importing("call tidy.txt; nop after", base=folder))
    assert kit.nops(caplog) == ["nop one", "nop two", "nop after"]
    assert table.text(0x00100020) == "P"


def test_return_ends_a_script_file_and_the_line_that_called_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit.run_import(kit.importing("ends.txt; nop after", base=folder))
    assert kit.nops(caplog) == ["nop one"]


def test_rules_keep_the_script_file_that_they_were_checked_with(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = kit.importing("call tidy.txt", base=folder)
    (folder / "tidy.txt").write_text("nop three\n", "utf-8")
    kit.run_import(made)
    assert "nop three" not in kit.nops(caplog)
    kit.run_import(kit.importing("call tidy.txt", base=folder))
    assert kit.nops(caplog)[-1] == "nop three"


def test_script_file_may_be_latin_1(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "tidy.txt").write_bytes("nop Müller\r\n".encode("latin-1"))
    kit.run_import(kit.importing("call tidy.txt", base=folder))
    assert kit.nops(caplog) == ["nop Müller"]


def test_missing_script_file_fails_the_rule(folder: Path) -> None:
    (folder / "tidy.txt").unlink()
    made = kit.importing("call tidy.txt", base=folder)
    verdict, _ = kit.run_import(made)
    assert "there is no script tidy.txt" in verdict.reason


def test_script_that_calls_itself_is_refused(folder: Path) -> None:
    made = kit.importing("call loop.txt", base=folder)
    assert "calls itself" in made.problems[0].message
    verdict, _ = kit.run_import(made)
    assert "the script loop.txt calls itself" in verdict.reason


def test_scripts_that_call_each_other_are_refused() -> None:
    made = kit.importing("a", scripts={"a": "call b", "b": 'script "A"'})
    assert "calls itself" in made.problems[0].message
    verdict, _ = kit.run_import(made)
    assert verdict.outcome.value == "reject"


def test_script_that_names_itself_differently_each_time_is_refused(folder: Path) -> None:
    (folder / "loop.txt").write_text("call ./loop.txt\ncall .//loop.txt\n", "utf-8")
    verdict, _ = kit.run_import(kit.importing("call loop.txt", base=folder))
    assert "calls itself" in verdict.reason


def test_the_same_script_may_be_called_twice(caplog: pytest.LogCaptureFixture) -> None:
    made = kit.importing("say; say", scripts={"say": "nop s"})
    assert made.problems == ()
    kit.run_import(made)
    assert kit.nops(caplog) == ["nop s", "nop s"]


def test_values_of_the_outer_line_are_taken_before_the_inner_script_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kit.run_import(kit.importing('script "delete 0010,0020; nop %i, %%i."'))
    assert kit.nops(caplog) == ["nop 0009703828, ."]


def test_tokens_may_be_deferred_over_two_levels(caplog: pytest.LogCaptureFixture) -> None:
    line = "forward to A script nop %m %%m %%%%m"
    made = kit.importing(line)
    verdict, table = kit.run_import(made)
    script = verdict.forwards[0].forward.script or ""
    made.run_script(script, table, kit.captured(modality="MR"), kit.FakeEnvironment())
    assert kit.nops(caplog) == ["nop CT MR %m"]


def test_scripts_inside_each_other_have_a_limit() -> None:
    line = 'script "' * 40 + "nop" + '"'
    made = kit.importing(line)
    assert made.problems
    assert kit.run_import(made)[0].outcome.value == "reject"


def test_error_inside_a_script_names_line_statement_and_script() -> None:
    made = kit.importing("nop; call bad", scripts={"bad": 'nop; set Rows to "99999"'})
    verdict, _ = kit.run_import(made)
    assert verdict.reason.startswith("dicom.ini:40 ImportConverter0.1 bad.1: ")


def test_script_text_raises_what_a_line_would_report() -> None:
    made = kit.rules()
    env = kit.FakeEnvironment()
    with pytest.raises(RuleError, match="leads out"):
        made.run_script("rm ../x", kit.table(), kit.captured(), env)
    with pytest.raises(RuleError, match="there is no script"):
        made.run_script("nobody", kit.table(), kit.captured(), env)


def test_script_text_gives_its_verdict() -> None:
    made = kit.rules()
    env = kit.FakeEnvironment()
    verdict = made.run_script("storage MAG1; reject", kit.table(), kit.captured(), env)
    assert (verdict.outcome.value, verdict.device) == ("reject", "MAG1")
