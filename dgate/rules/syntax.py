"""The words that every part of the grammar shares: located text, dialects, parse errors, quoting.

Not the grammar itself (`dgate.rules.grammar`) and not the tokens (`dgate.rules.tokens`). Pure
values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dgate.errors import RuleError

BLANKS = " \t"


class Family(Enum):
    """Which statement set a line uses (spec converters.md section 8)."""

    IMPORT = "import"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a line may contain: its statement set, its hook, and whether programs may run."""

    family: Family
    hook: str = ""
    """`Import`, `Export`, `RejectedImage`...; empty for scripts."""
    programs: bool = False
    """`AllowSystemCommands`."""


IMPORT = Dialect(Family.IMPORT, "Import")
EXPORT = Dialect(Family.EXPORT, "Export")


class ParseError(RuleError):
    """A converter line is not written as the grammar wants it."""

    def __init__(self, what: str, column: int, *, remedy: str = "") -> None:
        super().__init__(what, remedy=remedy)
        self.column = column
        """1-based position in the line, for a caret."""


@dataclass(frozen=True, slots=True)
class Text:
    """A part of a line in which every character still knows its column."""

    value: str
    columns: Sequence[int]
    """The 1-based column of each character, and of the character after the last."""

    @classmethod
    def whole(cls, line: str) -> Text:
        """Return a whole line as located text."""
        return cls(line, range(1, len(line) + 2))

    @property
    def column(self) -> int:
        """Return the column of the first character."""
        return self.columns[0]

    @property
    def end(self) -> int:
        """Return the column after the last character."""
        return self.columns[len(self.value)]

    def cut(self, start: int, stop: int | None = None) -> Text:
        """Return the part from `start` up to `stop`."""
        value = self.value
        if start > len(value):
            start = len(value)
        if stop is None:
            return Text(value[start:], self.columns[start:])
        if stop < start:
            stop = start
        return Text(value[start:stop], self.columns[start : stop + 1])

    def strip(self) -> Text:
        """Return the text without blanks at its ends."""
        start = len(self.value) - len(self.value.lstrip(BLANKS))
        return self.cut(start, len(self.value.rstrip(BLANKS)))

    def rstrip(self) -> Text:
        """Return the text without blanks at its end."""
        length = len(self.value.rstrip(BLANKS))
        return self if length == len(self.value) else self.cut(0, length)

    def starts(self, prefix: str) -> bool:
        """Return whether the text begins with a keyword, whatever the letter case."""
        return self.value[: len(prefix)].lower() == prefix

    def fail(self, what: str, *, at: int = 0, remedy: str = "") -> ParseError:
        """Return the error that points at character `at` of this text."""
        return ParseError(what, self.columns[min(at, len(self.value))], remedy=remedy)


def quoted(text: Text, what: str) -> Text:
    """Return what stands between double quotes, the first and the last character."""
    text = text.rstrip()
    if not text.value.startswith('"'):
        raise text.fail(f'{what} must stand in double quotes: expected " here')
    if len(text.value) < 2 or not text.value.endswith('"'):
        raise text.fail(
            f"the double quote that opens {what} is not closed at the end of the statement",
            remedy="end the statement with one; inside a string write %' for a double quote",
        )
    return text.cut(1, len(text.value) - 1)


def quoted_pair(text: Text) -> tuple[Text, Text]:
    """Return the two arguments of `"a", "b"`; the separator is exactly `","` or `", "`."""
    inner = quoted(text, "the argument")
    found = [(inner.value.find(separator), separator) for separator in ('", "', '","')]
    places = [(at, separator) for at, separator in found if at >= 0]
    if not places:
        raise inner.fail(
            "two arguments in double quotes are needed",
            at=len(inner.value),
            remedy='write "a", "b" with one comma and at most one blank between',
        )
    at, separator = min(places)
    return inner.cut(0, at), inner.cut(at + len(separator))


def words(text: Text) -> list[Text]:
    """Split at single blanks; a double or trailing blank is an error (spec converters.md S17)."""
    result = []
    start = 0
    while True:
        stop = text.value.find(" ", start)
        word = text.cut(start, None if stop < 0 else stop)
        if not word.value:
            raise word.fail("a word is missing: exactly one blank stands between words")
        result.append(word)
        if stop < 0:
            return result
        start = stop + 1
