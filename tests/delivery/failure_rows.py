"""Ties the table of statuses and failures in docs/delivery.md to the tests that stand for its rows.

Each row of the table names its causes in a comment, which no reader sees; `plays` says which of
them a test is about. Not for the tests themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

PAGE = Path(__file__).resolve().parents[2] / "docs" / "delivery.md"
HEADING = "## What becomes of a try"

Test = TypeVar("Test", bound=Callable[..., None])


class Row(NamedTuple):
    """One line of the table."""

    causes: tuple[str, ...]
    """The names in its comment."""
    happened: str
    follows: str


def plays(*causes: str) -> Callable[[Test], Test]:
    """Say that a test plays these causes with a peer on a real socket."""

    def mark(test: Test) -> Test:
        test.__dict__["causes"] = (*causes, *test.__dict__.get("causes", ()))
        return test

    return mark


def played(*modules: ModuleType) -> set[str]:
    """Return the causes that the tests of some modules play."""
    return {
        cause
        for module in modules
        for name, test in vars(module).items()
        if name.startswith("test_")
        for cause in vars(test).get("causes", ())
    }


def documented() -> list[Row]:
    """Return the lines of the table."""
    section = PAGE.read_text().partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [_row(line) for line in table[2:]]


def _row(line: str) -> Row:
    happened, follows = (cell.strip() for cell in line.strip("|").split("|"))
    found = re.search(r"<!-- (.+) -->$", happened)
    causes = tuple(found[1].split()) if found else ()
    return Row(causes, re.sub(r" *<!--.*-->", "", happened), follows)


def statuses(text: str) -> Iterator[int]:
    """Yield the statuses that a text names: `0110` is one, `A7xx` are 256."""
    for first in re.findall(r"(?<![\w-])(?:[0-9A-F]{4}|[0-9A-F]{1,3}x{1,3})(?!\w)", text):
        if len(first) == 4:
            yield from range(int(first.replace("x", "0"), 16), int(first.replace("x", "F"), 16) + 1)
