"""Values of objects inside Lua code stay values, whatever they hold."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from dgate.rules.effects import Outcome
from dgate.rules.lua.checking import SyntaxCheck
from dgate.rules.lua.quoting import place_values
from tests.rules import kit

EVIL = [
    "x' .. os.exit() .. 'x",
    'x" .. os.exit() .. "x',
    "]] .. os.exit() .. [[",
    "]==]",
    "\\",
    "a\\'",
    "--",
    "%d %i",
    "{}",
    "x\ny",
    "Łódź",
    "",
    " ",
    "1",
]


def ran(line: str, value: str) -> str:
    """Run a line over an object with a value in PatientComments; return what it made of StudyID."""
    made = kit.importing(line)
    assert made.problems == ()
    table = kit.table()
    table.set_text(0x00104000, value)
    verdict, _ = kit.run_import(made, table)
    assert verdict.outcome is Outcome.KEEP, verdict.reason
    return table.text(0x0020000F) or table.text(0x00200010)


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize(
    "code",
    [
        """lua "Data.StudyID = '<%V0010,4000>'" """,
        """lua "Data.StudyID = '<'..'%V0010,4000'..'>'" """,
        """lua:Data.StudyID = "<%V0010,4000>" """,
        """lua:Data.StudyID = [[<%V0010,4000>]]""",
        """lua:Data.StudyID = [==[<%V0010,4000>]==]""",
        """lua:local f = function(x) return x end Data.StudyID = f'<%V0010,4000>'""",
        """lua:Data.StudyID = ({['%V0010,4000'] = '<%V0010,4000>'})['%V0010,4000']""",
        """lua:-- %V0010,4000 in a comment\nData.StudyID = '<%V0010,4000>'""",
        """lua:--[[ %V0010,4000 ]] Data.StudyID = '<%V0010,4000>' -- '%V0010,4000'""",
        """script "lua:Data.StudyID = '<%V0010,4000>'" """,
    ],
)
def test_value_in_a_string_stays_a_value(code: str, value: str) -> None:
    # The element itself loses blanks at its end, as everywhere.
    expected = f"<{value.rstrip(' ')}>"
    assert ran(code, value) == expected


def test_newline_behind_a_value_in_a_long_string_is_kept() -> None:
    assert ran("lua:Data.StudyID = #[[%V0010,4000\nb]]", "a") == "3"


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("lua:Data.StudyID = %V0010,4000 + 1", "41", "42"),
        ("lua:Data.StudyID = 2-%V0010,4000", "-3", "5"),
        ("lua:Data.StudyID = 0 + %V0010,4000", "1.5e1", "15"),
        ("lua:local a = 7 Data.StudyID = %V0010,4000", "a", "7"),
        ("lua:Data.StudyID = %V0028,0010", "", "512"),
    ],
)
def test_number_or_name_may_stand_outside_of_strings(code: str, value: str, expected: str) -> None:
    assert ran(code, value) == expected


@pytest.mark.parametrize("value", ["os.exit()", "a b", "1;x", "", "a'", "0x1 y", "--1"])
def test_anything_else_outside_of_strings_fails(value: str) -> None:
    made = kit.importing("lua:Data.StudyID = %V0010,4000")
    table = kit.table()
    table.set_text(0x00104000, value)
    verdict, _ = kit.run_import(made, table)
    assert verdict.outcome is Outcome.REJECT
    assert "would become part of the Lua code" in verdict.reason


def test_value_behind_a_backslash_is_a_mistake_of_the_line() -> None:
    made = kit.importing("lua:x = '\\%i'")
    [problem] = made.problems
    assert "behind a backslash" in problem.message
    with pytest.raises(RuleError):
        place_values(["x = '\\", 0, "'"])


def test_source_is_the_same_for_all_values() -> None:
    source = place_values(["x = '", 0, "' y = ", 1])
    assert source.takes_values
    assert source.with_values(["a'b", "7"]) == (
        "local dgate_values={...} x = (''..dgate_values[1]..'') y = 7"
    )


@pytest.mark.parametrize(
    ("code", "line", "column"),
    [
        ("x = = 1", 1, 5),
        ("if x", 1, 5),
        ("x = 1\ny = = 2", 2, 5),
        ("a = 'x", 1, 7),
        ("x = 1 end", 1, 7),
        ("return 1 x", 1, 10),
        ("\x1bLua", 1, 1),
        ("x = ((((((1", 1, 12),
    ],
)
def test_syntax_errors_have_a_place(code: str, line: int, column: int) -> None:
    fault = SyntaxCheck().fault(code)
    assert fault is not None
    assert (fault.line, fault.column) == (line, column)


def test_correct_code_has_no_fault() -> None:
    assert SyntaxCheck().fault("local x = 'Łódź' return x") is None
