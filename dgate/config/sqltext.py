"""The syntax of dicom.sql (spec dicom-sql.md 1.1): from bytes to sections of rows of tokens.

What the fields of a row mean is read in `layout`. Pure functions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgate.config.problem import Report, lines_place
from dgate.config.text import decode, split_lines

_TOKEN = re.compile(
    r"""(?P<end>\r\n|\r|\n)|(?P<blank>[ \t\f\v\0]+)|(?P<block>/\*)|(?P<line>(?:\#|//)[^\r\n]*)
    |(?P<mark>[{},])|"(?P<text>[^"\r\n]*)"?|(?P<word>(?:(?!/\*|//)[^\s{},"\#\0])+)|(?P<other>.)""",
    re.VERBOSE,
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a quoted text or a punctuation mark."""

    text: str
    line: int
    quoted: bool = False
    column: int = 1

    def is_mark(self, mark: str) -> bool:
        """Tell whether this is the punctuation `mark`."""
        return not self.quoted and self.text == mark


@dataclass(frozen=True, slots=True)
class Row:
    """The fields between one pair of braces."""

    start: Token
    fields: tuple[Token, ...]


def read_sections(data: bytes, names: Sequence[str], report: Report) -> dict[str, list[Row]]:
    """Return the rows of each section by its name in `names`; a repeated section goes on."""
    text = decode(data, report).text
    report.place = lines_place(split_lines(text))
    tokens = list(_tokens(text, report))
    return _Parser(tokens, {name.lower(): name for name in names}, report).sections()


def _tokens(text: str, report: Report) -> Iterator[Token]:
    position = 0
    line = 1
    start = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, "every character starts a token"
        column = position - start + 1
        position = match.end()
        kind = match.lastgroup
        if kind == "end":
            line += 1
            start = position
        elif kind == "block":
            end = text.find("*/", position)
            if end < 0:
                advice = "write */ where the comment ends"
                message = "the comment that begins with /* is never closed"
                report.error(line, message, advice, column)
                return
            for inside in _LINE_END.finditer(text, position, end):
                line += 1
                start = inside.end()
            position = end + 2
        elif kind == "text":
            if not match.group().endswith('"') or len(match.group()) < 2:
                message = f"the text {match.group()!r} has no closing quote"
                report.error(line, message, "add the quote", column)
            yield Token(match.group("text"), line, True, column)
        elif kind in ("mark", "word", "other"):
            yield Token(match.group(), line, False, column)


class _Parser:
    """Groups tokens into rows and sections, forgiving what the original forgives."""

    def __init__(self, tokens: list[Token], names: dict[str, str], report: Report) -> None:
        self._tokens = tokens
        self._place = 0
        self._names = names
        self._report = report

    def sections(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        while (token := self._next()) is not None:
            name = self._section_name(token)
            if name is None:
                self._skip_stray(token)
                continue
            rows = found.setdefault(name, [])
            if (opening := self._peek()) is not None and opening.is_mark("{"):
                self._next()
                self._section(name, token, rows)
            else:
                message = f"*{name}* is not followed by an opening brace"
                self._report.error(
                    token.line, message, "write { after the section name", token.column
                )
        return found

    def _section(self, name: str, header: Token, rows: list[Row]) -> None:
        """Read rows up to the section's closing brace, the next section or the end of the file."""
        row_before: Row | None = None
        comma = True
        while (token := self._peek()) is not None and self._section_name(token) is None:
            self._next()
            if token.is_mark("}"):
                return
            if token.is_mark(","):
                if comma and row_before is not None:
                    self._report.info(
                        token.line, "a second comma follows a row", "remove it", token.column
                    )
                comma = True
            elif token.is_mark("{"):
                if not comma and row_before is not None:
                    self._note_missing_comma(row_before)
                row_before = self._row(token)
                rows.append(row_before)
                comma = False
            else:
                message = f"{token.text!r} stands between the rows of *{name}*"
                self._report.error(
                    token.line, message, "rows stand in braces: { ... }", token.column
                )
                self._skip_to_mark()
        last = rows[-1].start if rows else header
        message = f"the section *{name}* has no closing brace"
        self._report.warning(last.line, message, "add } after its last row", last.column)

    def _row(self, start: Token) -> Row:
        fields: list[Token] = []
        comma = True
        while (token := self._peek()) is not None and self._section_name(token) is None:
            if token.is_mark("{"):
                break
            self._next()
            if token.is_mark("}"):
                return Row(start, tuple(fields))
            if token.is_mark(","):
                comma = True
                continue
            if not comma:
                message = f"there is no comma before {token.text!r}"
                self._report.info(
                    token.line, message, "put commas between the fields", token.column
                )
            fields.append(token)
            comma = False
        message = "a row has no closing brace"
        self._report.error(start.line, message, "close the row with }", start.column)
        return Row(start, tuple(fields))

    def _note_missing_comma(self, row: Row) -> None:
        name = row.fields[2].text if len(row.fields) > 2 else "?"
        message = f"there is no comma after the row {name}; the rows are read as meant"
        self._report.info(row.start.line, message, "add the comma", row.start.column)

    def _skip_stray(self, token: Token) -> None:
        """Report text outside sections once and go on at the next section."""
        message = f"{token.text!r} does not belong to a section"
        known = " ".join(f"*{name}*" for name in self._names.values())
        near: list[str] = []
        if token.text.startswith("*"):
            near = difflib.get_close_matches(token.text.strip("*").lower()[:40], self._names, 1)
        advice = f"did you mean *{self._names[near[0]]}*?" if near else f"the sections are {known}"
        self._report.error(token.line, message, advice, token.column)
        while (token_ahead := self._peek()) is not None:
            if self._section_name(token_ahead) is not None:
                return
            self._next()

    def _skip_to_mark(self) -> None:
        """Pass over what follows a stray word, so that it is reported once."""
        while (token := self._peek()) is not None and self._section_name(token) is None:
            if token.is_mark("{") or token.is_mark("}"):
                return
            self._next()

    def _section_name(self, token: Token) -> str | None:
        text = token.text
        if token.quoted or len(text) < 3 or text[0] != "*" or text[-1] != "*":
            return None
        return self._names.get(text[1:-1].lower())

    def _peek(self) -> Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _next(self) -> Token | None:
        token = self._peek()
        self._place += token is not None
        return token
