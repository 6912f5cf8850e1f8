"""What is wrong or odd in a configuration file, as values that can be logged, printed or counted.

A `Report` belongs to the one thread that reads the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath

_LONGEST_MESSAGE = 400
LONGEST_SOURCE = 10_000
"""Characters of a line that is shown with a caret; longer ones are named only."""
_MOST_OF_A_KIND = 1000
"""A file of nothing but mistakes must not fill the memory with reports about them."""

Place = Callable[[int], tuple[int, str]]
"""Gives for a line the column that a caret should point at, and the text that may be shown."""


class Severity(Enum):
    """How much a problem matters: an error keeps the server from starting."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding, with the place and what to do about it."""

    severity: Severity
    path: str
    line: int | None
    message: str
    advice: str
    column: int | None = None
    """1-based position in `source` that a caret should point at."""
    source: str = ""
    """The text that `column` counts in; empty when there is nothing to point at."""

    @property
    def where(self) -> str:
        """Return `name:line`, or the file name alone when no line is known."""
        name = PurePath(self.path).name
        return name if self.line is None else f"{name}:{self.line}"

    def __str__(self) -> str:
        """Return the problem as one log line."""
        advice = f" ({self.advice})" if self.advice else ""
        return f"{self.where}: {self.message}{advice}"


@dataclass(slots=True)
class Report:
    """Collects the problems of one file while it is read."""

    path: str
    problems: list[Problem] = field(default_factory=list)
    place: Place | None = None
    """Fills in column and source of problems that name a line."""
    _counts: Counter[Severity] = field(default_factory=Counter)

    def error(self, line: int | None, message: str, advice: str, column: int | None = None) -> None:
        """Note what keeps the server from starting; `column` is 1-based."""
        self._add(Severity.ERROR, line, message, advice, column)

    def warning(
        self, line: int | None, message: str, advice: str, column: int | None = None
    ) -> None:
        """Note what is probably not meant so."""
        self._add(Severity.WARNING, line, message, advice, column)

    def info(self, line: int | None, message: str, advice: str, column: int | None = None) -> None:
        """Note what is good to know."""
        self._add(Severity.INFO, line, message, advice, column)

    def _add(
        self, severity: Severity, line: int | None, message: str, advice: str, column: int | None
    ) -> None:
        self._counts[severity] += 1
        if self._counts[severity] > _MOST_OF_A_KIND:
            if self._counts[severity] > _MOST_OF_A_KIND + 1:
                return
            message = f"there are more than {_MOST_OF_A_KIND} problems of this kind in the file"
            advice = "mend those above; the others are listed then"
        source = ""
        if line is not None and self.place is not None:
            default, source = self.place(line)
            column = column or default
        if len(source) > LONGEST_SOURCE:
            source = ""
        message, advice = _shortened(message), _shortened(advice)
        self.problems.append(Problem(severity, self.path, line, message, advice, column, source))


def _shortened(text: str) -> str:
    """Return a text that quotes a file with less of it where that is long."""
    if len(text) <= _LONGEST_MESSAGE:
        return text
    return f"{text[: _LONGEST_MESSAGE - 100]} ... {text[-95:]}"


def lines_place(lines: list[str]) -> Place:
    """Return the place of a file whose lines hold nothing secret: their first character."""

    def place(line: int) -> tuple[int, str]:
        text = lines[line - 1] if 0 < line <= len(lines) else ""
        return len(text) - len(text.lstrip()) + 1, text

    return place


def column_of(text: str, word: str) -> int:
    """Return the 1-based column of a word that stands between blanks in a line."""
    at = f" {text} ".replace("\t", " ").find(f" {word} ")
    return at + 1 if at >= 0 else max(text.find(word), 0) + 1
