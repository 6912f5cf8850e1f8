"""Golden pairs: a statement and the tree that it is read as.

`+` is executable, `-` not yet, `!` cannot be read, `~` is a note.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.rules.grammar import parse_line
from dgate.rules.syntax import EXPORT, IMPORT, Dialect, Family, Text
from tests.rules import describe

GOLDEN = Path(__file__).parent / "golden" / "statements.txt"
DIALECTS = {
    "import": IMPORT,
    "export": EXPORT,
    "programs": Dialect(Family.EXPORT, "Export", programs=True),
    "query": Dialect(Family.IMPORT, "Query"),
    "rejected": Dialect(Family.IMPORT, "RejectedImage"),
}


def tree(line: str) -> str:
    """Return the tree of a line `dialect: text`, one row for each statement and note."""
    dialect, _, text = line.partition(": ")
    made = parse_line(Text.whole(text), DIALECTS[dialect])
    rows = [f"    {describe.statement(statement)}" for _, statement in made.statements()]
    notes = [f"    ~ {note.column}: {note.message}" for note in made.notes]
    return "\n".join(rows + notes)


def pairs() -> list[tuple[str, str]]:
    """Return the lines of the golden file with what follows each."""
    blocks = GOLDEN.read_text("utf-8").rstrip("\n").split("\n\n")
    return [tuple(block.split("\n", 1)) for block in blocks]  # type: ignore[misc]


@pytest.mark.parametrize(("line", "expected"), pairs(), ids=[line for line, _ in pairs()])
def test_statement_is_read_as_the_golden_file_says(line: str, expected: str) -> None:
    assert tree(line) == expected
