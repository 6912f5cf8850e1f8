"""Splitting a line into statements and blocks; single statements are in the golden file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.rules.grammar import parse_line, split
from dgate.rules.syntax import IMPORT, Text

LINES = [
    ("", []),
    ("a", ["a"]),
    ("a;b", ["a", "b"]),
    ("a; \t b", ["a", "b"]),
    ("a;;b", ["a", "", "b"]),
    ("a;", ["a"]),
    (";", [""]),
    (" a ; b ", [" a ", "b "]),
    ('a "x;y" b; c', ['a "x;y" b', "c"]),
    ("a 'x;y' b", ["a 'x", "y' b"]),
    ('say ""hi; there""', ['say ""hi', 'there""']),
    ('say "a""b; c""d', ['say "ab', 'c""d']),
    ('a ""; b', ['a ""', "b"]),
    ('open "a; b', ['open "a; b']),
    ('a; lua:x("a;b"); y ""', ["a", 'lua:x("a;b"); y ""']),
    ('a "lua:" b; c', ['a "lua:" b', "c"]),
    ("nop LUA:a;b", ["nop LUA:a;b"]),
    ("{ a; }", ["{ a", "}"]),
]


@pytest.mark.parametrize(("line", "parts"), LINES, ids=[line for line, _ in LINES])
def test_line_is_split_outside_strings(line: str, parts: list[str]) -> None:
    assert [part.value for part in split(Text.whole(line))] == parts


@given(st.text(alphabet='ab;"{} lua:\t'))
def test_every_character_knows_its_column(line: str) -> None:
    for part in split(Text.whole(line)):
        assert len(part.columns) == len(part.value) + 1
        picked = "".join(line[column - 1] for column in list(part.columns)[:-1])
        assert picked == part.value


@pytest.mark.parametrize(
    ("line", "braces", "after_failure"),
    [
        ("a; b; c", ["", "", ""], [2, 3, 3]),
        ("a; { b; c; } d", ["", "{", "", "}"], [3, 3, 4, 4]),
        ("a; {b; {c; }; d; }", ["", "{", "{", "}", "", "}"], [5, 3, 4, 5, 6, 6]),
        ("a; { b; c", ["", "{", ""], [3, 3, 3]),
        ("a {; b }", ["", ""], [2, 2]),
        ("{ { a", ["{"], [1]),
    ],
)
def test_failed_test_goes_on_behind_block_or_statement(
    line: str, braces: list[str], after_failure: list[int]
) -> None:
    items = parse_line(Text.whole(line), IMPORT).items
    assert [item.brace for item in items] == braces
    assert [item.after_failure for item in items] == after_failure
    assert [item.number for item in items] == list(range(len(items)))
