"""Programs of rules: arguments that no value can add to, and nothing that needs a shell."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from dgate.rules.effects import Outcome
from tests.rules import kit

COMMENTS = 0x00104000
HOSTILE = [
    '"; destroy; "',
    "' ; touch x ; '",
    "$(touch x)",
    "`touch x`",
    "a b  c",
    "a\nb",
    "| cat",
    "> x",
    "&& rm -rf /",
    "*",
    "%i%%",
    "../..",
    "\\",
    "#",
    "~",
    "'; DROP TABLE DICOMImages; --",
    "x" * 250,
    "",
]


def ran(line: str, value: str = "", *, export: bool = False) -> list[list[str]]:
    """Return the programs that a line ran for an object with the value in its comments."""
    env = kit.FakeEnvironment()
    table = kit.table()
    table.set_raw(COMMENTS, "LT", value.encode())
    if export:
        made = kit.rules(kit.converter(line, "Export"), allow_system_commands=True)
        made.expand(0, table, kit.captured(), env)
    else:
        made = kit.importing(line, allow_system_commands=True)
        verdict, _ = kit.run_import(made, table, env)
        assert verdict.outcome is Outcome.KEEP, verdict.reason
    assert [problem for problem in made.problems if problem.gravity.value == "error"] == []
    return env.programs.ran


@pytest.mark.parametrize("export", [False, True], ids=["import", "export"])
@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("system touch %i", ["touch", "0009703828"]),
        ("system  a   b ", ["a", "b"]),
        ("system a 'b  c' \"d;e\"", ["a", "b  c", "d;e"]),
        ("system a x'y z'%m\"-%u\"", ["a", "xy zCT-SCANNER"]),
        ("system a '' b", ["a", "", "b"]),
        ("system a '$HOME | cat > *'", ["a", "$HOME | cat > *"]),
        ("system a b=%VPatientName[0,3]~", ["a", "b=head"]),
        ("system /opt/x.sh a#b a~b 50%%", ["/opt/x.sh", "a#b", "a~b", "50%"]),
        ("system a %VPatientName", ["a", "HEAD EXP2"]),
    ],
)
def test_a_command_line_is_split_as_written(line: str, arguments: list[str], export: bool) -> None:
    assert ran(line, export=export) == [arguments]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("export", [False, True], ids=["import", "export"])
def test_a_value_is_one_argument_whatever_it_holds(value: str, export: bool) -> None:
    expected = value.rstrip(" ")
    found = ran(
        "system a %V0010,4000 x%V0010,4000 \"%V0010,4000\" '%V0010,4000'", value, export=export
    )
    assert found == [["a", expected, f"x{expected}", expected, expected]]


@pytest.mark.parametrize("value", ["-rf", "--exec=x", "-", "-1-2", "-x\n-y"])
def test_a_value_is_no_option(value: str) -> None:
    made = kit.importing("system a %V0010,4000", allow_system_commands=True)
    env = kit.FakeEnvironment()
    table = kit.table()
    table.set_raw(COMMENTS, "LT", value.encode())
    verdict, _ = kit.run_import(made, table, env)
    assert "taken for an option" in verdict.reason
    assert env.programs.ran == []


@pytest.mark.parametrize("value", ["-1024", "-0.5", "-1e3"])
def test_a_negative_number_is_a_value(value: str) -> None:
    assert ran("system a %V0010,4000", value) == [["a", value]]


def test_an_option_that_the_line_begins_may_hold_a_value() -> None:
    assert ran("system a -x%V0010,4000 --", "-y") == [["a", "-x-y", "--"]]


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("system a | b", 10),
        ("system a > b", 10),
        ("system a < b", 10),
        ("system a & ", 10),
        ("system a `b`", 10),
        ("system a $b", 10),
        ("system a *.dcm", 10),
        ("system a ?", 10),
        ("system a [b]", 10),
        ("system a (b)", 10),
        ("system a {b,c}", 10),
        ("system a \\b", 10),
        ("system a #b", 10),
        ("system a ~/b", 10),
        ("system a !b", 10),
        ('system a "$b"', 11),
        ('system a "`b`"', 11),
    ],
)
def test_what_needs_a_shell_is_an_error_with_a_way_out(line: str, column: int) -> None:
    [problem] = kit.importing(line, allow_system_commands=True).problems
    assert (problem.gravity.value, problem.column) == ("error", column)
    assert "without a shell" in problem.message
    assert "script file" in problem.advice


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("system ", "what to run is missing"),
        ("system %VPatientName x", "must not contain %-tokens"),
        ("system %p/x", "must not contain %-tokens"),
        ("system a 'b", "is not closed"),
        ("process with ", "the program is missing"),
    ],
)
def test_a_command_line_that_cannot_be_read(line: str, what: str) -> None:
    [problem] = kit.importing(line, allow_system_commands=True).problems
    assert what in problem.message


@pytest.mark.parametrize("line", ["system touch x", "process with edit", "system a | b > c"])
def test_programs_are_an_error_of_the_check_until_they_are_allowed(line: str) -> None:
    made = kit.importing(line)
    [problem] = made.problems
    assert "AllowSystemCommands = 1" in problem.message
    assert problem.gravity.value == "not executable here", "it does not keep a server from starting"
    env = kit.FakeEnvironment()
    verdict, _ = kit.run_import(made, env=env)
    assert verdict.outcome is Outcome.REJECT
    assert env.programs.ran == []


@pytest.mark.parametrize("allowed", [False, True])
def test_scripts_may_start_programs_where_lines_may(allowed: bool) -> None:
    line = 'call go; script "system b %i"'
    made = kit.importing(line, scripts={"go": "system a %m"}, allow_system_commands=allowed)
    env = kit.FakeEnvironment()
    verdict, _ = kit.run_import(made, env=env)
    assert (verdict.outcome is Outcome.KEEP) == allowed
    assert bool(made.problems) != allowed
    assert env.programs.ran == ([["a", "CT"], ["b", "0009703828"]] if allowed else [])


def test_a_status_other_than_zero_does_not_stop_the_line() -> None:
    env = kit.FakeEnvironment()
    env.programs.status = 3
    made = kit.importing('system a; set StudyID to "after"', allow_system_commands=True)
    verdict, table = kit.run_import(made, env=env)
    assert verdict.outcome is Outcome.KEEP
    assert table.text(0x00200010) == "after"


# Export lines: what no keyword begins.


def test_a_bare_program_gets_the_file_unless_the_line_has_tokens() -> None:
    file = "/data/mag0/0009703828/1.2.3.4.5.dcm"
    assert ran("/opt/notify --quick", export=True) == [["/opt/notify", "--quick", file]]
    assert ran("/opt/notify %i", export=True) == [["/opt/notify", "0009703828"]]
    assert ran("/opt/notify 100%%", export=True) == [["/opt/notify", "100%"]]


def test_a_line_may_go_on_after_a_program() -> None:
    assert ran("/opt/a; /opt/b %m; system c", export=True)[1:] == [["/opt/b", "CT"], ["c"]]


def test_a_misspelt_statement_that_becomes_a_program_is_noted() -> None:
    made = kit.rules(kit.converter("forwrd to A", "Export"), allow_system_commands=True)
    [problem] = made.problems
    assert problem.gravity.value == "warning"
    assert "forwrd is taken for a program" in problem.message
    assert "did you mean forward" in problem.advice


def test_unknown_statements_stay_an_error_without_programs() -> None:
    made = kit.rules(kit.converter("/opt/notify %f", "Export"))
    with pytest.raises(RuleError, match="unknown statement"):
        made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())


def test_import_lines_take_names_for_scripts_as_before() -> None:
    made = kit.importing("/opt/notify", allow_system_commands=True)
    [problem] = made.problems
    assert "there is no script" in problem.message
