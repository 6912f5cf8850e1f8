"""No header value and no configuration text can do more than it says."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dgate.errors import RuleError
from dgate.rules.effects import Outcome
from dgate.rules.grammar import KEYWORDS, parse_line
from dgate.rules.hooks import Rules
from dgate.rules.syntax import EXPORT, IMPORT, Dialect, Family, Text
from tests.rules import kit

HOSTILE = [
    '"; destroy; nop "',
    '", "',
    '","',
    "; reject",
    "%i%E0010,0010%%",
    "a\nb; destroy",
    '""',
    "}; destroy",
    "{ destroy",
    "lua:x",
    '" org EVIL script destroy',
    "\x0e0\x0f",
    "[0,1]^",
    "%%s%%d",
    " ",
]
values = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet='";%{}[],^~ ilua:\n\x0e\x0f\x10\\0destroy'),
)


def hostile_table(value: str) -> object:
    """Return an object whose patient comments hold the value, put there byte for byte."""
    table = kit.table()
    table.set_raw(0x00104000, "LT", value.encode("utf-8"))
    return table


def seen(value: str) -> str:
    """Return the value as tokens show it."""
    table = kit.table()
    table.set_raw(0x00104000, "LT", value.encode("utf-8"))
    return table.text(0x00104000)


TOKEN = "%V0010,4000"
LINES = [
    f'ifempty "{TOKEN}x"; destroy',
    f'ifequal "{TOKEN}", "{TOKEN}"; {{ set StudyID to "ok"; }}; stop; destroy',
    f'ifnotequal "{TOKEN}a", "b"; set StudyID to "ok"; stop; destroy',
    f'set SeriesDescription to "{TOKEN}"; set StudyID to "ok"',
    f'set SeriesDescription if "{TOKEN}"; set StudyID to "ok"',
    f'set SeriesDescription format "{TOKEN}%%s{TOKEN}" to "{TOKEN}"; set StudyID to "ok"',
    f'set ReferencedStudySequence/SeriesDescription to "{TOKEN}"; set StudyID to "ok"',
    f'setifempty 0018,1030 to "{TOKEN}"; set StudyID to "ok"',
    f'set x to "{TOKEN}"; set SeriesDescription to "%x%x"; set StudyID to "ok"',
    f'nop {TOKEN}; set StudyID to "ok"',
    f'forward to A{TOKEN} org B{TOKEN} dest C{TOKEN} script nop {TOKEN}; set StudyID to "ok"',
    f'script "nop {TOKEN}; set StudyDescription to nil"; set StudyID to "ok"',
    f'script "script nop {TOKEN}"; set StudyID to "ok"',
    f'script "nop {TOKEN} %%V0010,4000"; set StudyID to "ok"',
]


@cache
def compiled(line: str) -> Rules:
    """Return the rules of one import line, compiled once for all values."""
    return kit.importing(line)


@pytest.mark.parametrize("line", LINES)
@settings(max_examples=40)
@given(value=values)
@example(value="")
def test_header_value_never_changes_how_a_line_is_read(line: str, value: str) -> None:
    made = compiled(line)
    if any(problem.gravity.value == "error" for problem in made.problems):
        assert "script nop" in line
        return
    verdict, table = kit.run_import(made, hostile_table(value))  # type: ignore[arg-type]
    assert verdict.outcome is Outcome.KEEP, verdict.reason
    if "StudyID" in line:
        assert table.text(0x00200010) == "ok"
    assert all(recorded.forward.rule == "ImportConverter0.0" for recorded in verdict.forwards)


@given(value=values)
def test_value_is_set_as_it_is(value: str) -> None:
    line = f'set SeriesDescription to "<{TOKEN}>"'
    _, table = kit.run_import(compiled(line), hostile_table(value))  # type: ignore[arg-type]
    assert table.text(0x0008103E) == f"<{seen(value)}>"


@given(value=values)
def test_value_in_a_script_of_a_forward_stays_a_value(value: str) -> None:
    line = f'forward to A script set SeriesDescription to "<{TOKEN}>"; set StudyID to "no"'
    made = kit.rules(kit.converter(line.partition("; ")[0], "Export"))
    env = kit.FakeEnvironment()
    table = hostile_table(value)
    [forward] = made.expand(0, table, kit.captured(), env).forwards  # type: ignore[arg-type]
    copy = kit.table()
    verdict = made.run_script(forward.script or "", copy, kit.captured(), env)
    assert verdict.outcome is Outcome.KEEP
    assert copy.text(0x0008103E) == f"<{seen(value)}>"


def test_script_text_must_not_come_from_the_object() -> None:
    made = kit.importing(f'script "{TOKEN}"')
    assert [problem.gravity.value for problem in made.problems] == ["error"]
    table = hostile_table("destroy")
    assert kit.run_import(made, table)[0].outcome is Outcome.REJECT  # type: ignore[arg-type]


@pytest.mark.parametrize("line", [f"call {TOKEN}", f'script "call {TOKEN}"'])
def test_name_of_a_script_must_not_come_from_the_object(line: str) -> None:
    [problem] = kit.importing(line).problems
    assert "must not contain %-tokens" in problem.message


words = st.one_of(
    st.sampled_from([keyword.prefix for keyword in KEYWORDS]),
    st.sampled_from(
        ['"%m"', '", "', "{", "}", ";", "%V", "%i[0,1]^", "to", "if", "format", "%%d", "nil", "x"]
    ),
    st.sampled_from(["PatientName", "0010,0010", "/0008,1110.1/", "*", "script ", "org", "after"]),
    st.text(max_size=6),
)
texts = st.one_of(st.text(), st.lists(words).map("".join), st.lists(words).map(" ".join))


@given(text=texts, family=st.sampled_from(list(Family)), outer=st.integers(0, 2))
@example(text="{\x0e0\x0f", family=Family.IMPORT, outer=1)
def test_any_text_is_read(text: str, family: Family, outer: int) -> None:
    line = parse_line(Text.whole(text), Dialect(family, "Import"), outer)
    for item in line.items:
        assert item.after_failure <= len(line.items)
        assert 1 <= item.column <= len(text) + 1
    for note in line.notes:
        assert 1 <= note.column <= len(text) + 1


@given(text=texts)
def test_any_text_runs_or_refuses(text: str) -> None:
    made = kit.rules(
        kit.converter(text), kit.converter(text, "Export"), scripts={"x": text, "to": text}
    )
    env = kit.FakeEnvironment()
    verdict, table = kit.run_import(made, env=env)
    assert isinstance(verdict.outcome, Outcome)
    made.plan_exports(table, kit.captured(), env)
    try:
        made.expand(0, table, kit.captured(), env)
        made.run_script(text, table, kit.captured(), env)
    except RuleError:
        pass
    for problem in made.problems:
        str(problem)
        problem.caret()
        problem.problem()


def test_both_families_share_what_is_in_both() -> None:
    for text in ("nop", 'ifempty "a"', "forward to A", "call a"):
        assert [item.statement for item in parse_line(Text.whole(text), IMPORT).items] == [
            item.statement for item in parse_line(Text.whole(text), EXPORT).items
        ]
