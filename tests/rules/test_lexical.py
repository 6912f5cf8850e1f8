"""Every misquoting and misplaced brace of the lexical rules (spec converters.md section 6).

Each line with what its `nop` statements log where `ScriptErrors = ignore` lets it go on, and with
the problems that `dgate check` finds, by gravity and column.
"""

from __future__ import annotations

import logging

import pytest

from dgate.rules.effects import Outcome
from tests.rules import kit

CASES: list[tuple[str, list[str], list[tuple[str, int]]]] = [
    ("nop a;nop b", ["nop a", "nop b"], []),
    ("nop a ;   nop b", ["nop a ", "nop b"], []),
    ("nop a;;;nop b;", ["nop a", "nop b"], []),
    (";nop a", ["nop a"], []),
    ('nop ";"; nop b', ['nop ";"', "nop b"], []),
    ('nop "a; nop b', ['nop "a; nop b'], []),
    ('nop a"; nop b; nop c', ['nop a"; nop b; nop c'], []),
    ('nop "a"b"; nop c', ['nop "a"b"; nop c'], []),
    ('nop "a" "b; c" d; nop e', ['nop "a" "b; c" d', "nop e"], []),
    ('nop "a""b"; nop c', ['nop "ab"; nop c'], []),
    ('nop "a""b;c"; nop d', ['nop "ab'], [("error", 11)]),
    ('nop ""a; nop b', ['nop ""a', "nop b"], []),
    ('nop """a; nop b"', ['nop "a', 'nop b"'], []),
    ("nop 'a; nop b'", ["nop 'a", "nop b'"], []),
    ("nop {a}", ["nop {a}"], []),
    ("{ nop a; } nop b", ["nop a", "nop b"], []),
    ("{nop a;}nop b", ["nop a", "nop b"], []),
    ("{ { nop a", [], [("warning", 3), ("error", 3)]),
    ("}; } nop a", ["nop a"], [("warning", 2), ("warning", 6)]),
    ("NOPE x", ["NOPE x"], []),
    ("stopped; nop a", [], []),
    (" nop a; nop b", ["nop b"], [("error", 1)]),
    ("nop a; \tnop b", ["nop a", "nop b"], []),
    ('ifequal "a", "a; nop b', [], [("error", 9)]),
    ('ifequal "a" "a"; nop b', ["nop b"], [("error", 15)]),
    ("ifequal a, a; nop b", ["nop b"], [("error", 9)]),
    ('ifequal "a"  ,"b"; nop b', ["nop b"], [("error", 17)]),
    ('ifempty ""; nop b', ["nop b"], []),
    ('ifempty "; nop b', [], [("error", 9)]),
    ('ifempty "a""; nop b', ["nop b"], [("error", 9)]),
    ("set PatientID to x; nop b", ["nop b"], [("error", 18)]),
    ('set PatientID to "x; nop b', [], [("error", 18)]),
    ('set PatientID to x"; nop b', [], [("error", 18)]),
    ('set PatientID to "x" y; nop b', ["nop b"], [("error", 18)]),
    ('set PatientID  to "x"; nop b', ["nop b"], [("error", 14)]),
    ('set PatientID to  "x"; nop b', ["nop b"], [("error", 18)]),
    ('script "nop a; nop b', [], [("error", 8)]),
    ("script nop a; nop b", ["nop b"], [("error", 8)]),
    ('script "nop a"; nop b', ["nop a", "nop b"], []),
    ('script "nop "a""; nop b', ['nop "a"', "nop b"], []),
    ('write "a to f; nop b', [], [("error", 21)]),
    ('write a" to f; nop b', [], [("error", 7)]),
    ('write "a"to f; nop b', ["nop b"], [("error", 14)]),
    ('ifequal "%m", "CT"; } nop a', ["nop a"], [("warning", 23), ("warning", 1)]),
    ('ifequal "%m", "XX"; }; nop a', ["nop a"], [("warning", 22)]),
    ('ifequal "%m", "XX"; {; nop a; }; nop b', ["nop b"], []),
    ("}{ nop a", [], [("warning", 2), ("error", 2)]),
    ("{} nop a", [], [("warning", 2), ("error", 2)]),
    ("nop a}; nop b", ["nop a}", "nop b"], []),
    ('nop a; nop "lua:" b; nop c', ["nop a", 'nop "lua:" b', "nop c"], []),
]


@pytest.mark.parametrize(("line", "logged", "problems"), CASES, ids=[case[0] for case in CASES])
def test_line_is_split_quoted_and_blocked_as_the_rules_say(
    line: str,
    logged: list[str],
    problems: list[tuple[str, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "dgate.rules")
    made = kit.importing(line, script_errors_reject=False)
    kit.run_import(made)
    nops = [
        record.getMessage().split(": ", 1)[1]
        for record in caplog.records
        if record.levelno == logging.INFO and ": nop" in record.getMessage().lower()
    ]
    assert nops == logged
    assert [(found.gravity.value, found.column) for found in made.problems] == problems


@pytest.mark.parametrize(
    "line",
    [case[0] for case in CASES if any(gravity == "error" for gravity, _ in case[2])],
)
def test_line_that_cannot_be_read_never_stores_what_it_should_have_changed(line: str) -> None:
    """A statement that is reached and cannot be read refuses the object, whatever follows."""
    verdict, _ = kit.run_import(kit.importing(line))
    assert verdict.outcome is Outcome.REJECT
    assert verdict.reason.startswith("dicom.ini:40 ImportConverter0.")


def test_everything_behind_lua_belongs_to_it() -> None:
    tree = kit.rules(kit.converter('nop a; lua:print("a;b"); nop {c')).problems
    assert all(found.statement in (None, 1) for found in tree)


def test_nested_script_needs_its_percent_signs_doubled() -> None:
    _, table = kit.run_import(kit.importing("script \"set PatientComments to %'%%%%%'\""))
    assert table.text(0x00104000) == "%"
