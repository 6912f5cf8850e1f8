"""What is wrong or odd in a configuration file, as values that can be logged, printed or counted.

A `Report` belongs to the one thread that reads the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath


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

    def error(self, line: int | None, message: str, advice: str) -> None:
        """Note what keeps the server from starting."""
        self.problems.append(Problem(Severity.ERROR, self.path, line, message, advice))

    def warning(self, line: int | None, message: str, advice: str) -> None:
        """Note what is probably not meant so."""
        self.problems.append(Problem(Severity.WARNING, self.path, line, message, advice))

    def info(self, line: int | None, message: str, advice: str) -> None:
        """Note what is good to know."""
        self.problems.append(Problem(Severity.INFO, self.path, line, message, advice))
