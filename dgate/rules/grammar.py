"""The converter language: a line of text to a tree (spec converters.md section 6).

All statements of section 8 are recognised, executable or not. A statement that cannot be read
becomes `Broken` and the rest of the line is read on, so that one look reports every mistake. Pure
functions.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dgate.rules.opaque import MARK
from dgate.rules.statements import (
    commands,
    conditions,
    deidentify,
    delayed,
    elements,
    files,
    flow,
    forwarding,
    objects,
    placement,
    scripts,
)
from dgate.rules.statements.base import Executable, Keyword, Statement, Unavailable
from dgate.rules.syntax import BLANKS, Dialect, Family, ParseError, Text
from dgate.rules.tokens import Note, Reading, Skeleton

KEYWORDS: tuple[Keyword, ...] = (
    *flow.KEYWORDS,
    *conditions.KEYWORDS,
    *elements.KEYWORDS,
    *objects.KEYWORDS,
    *deidentify.KEYWORDS,
    *files.KEYWORDS,
    *commands.KEYWORDS,
    *forwarding.KEYWORDS,
    *delayed.KEYWORDS,
    *placement.KEYWORDS,
    *scripts.KEYWORDS,
)
"""Every keyword, in the order of recognition."""
LONGEST_LINE = 64 << 10
"""Characters; a tree takes a hundred times the memory of its text."""
_BY_LETTER = {
    letter: tuple(keyword for keyword in KEYWORDS if keyword.prefix[0] == letter)
    for letter in {keyword.prefix[0] for keyword in KEYWORDS}
}
_MARKS = re.compile('[";]|lua:', re.IGNORECASE)
"""What ends a statement, or hides what would."""


@dataclass(frozen=True, slots=True)
class Broken(Statement):
    """A statement that cannot be read; it fails when it is reached."""

    error: ParseError

    def refusal(self) -> str:
        """Return what is wrong."""
        return str(self.error)


@dataclass(frozen=True, slots=True)
class Item:
    """One part of a line between semicolons."""

    number: int
    column: int
    brace: str
    """`{`, `}` or nothing."""
    statement: Statement | None
    after_failure: int
    """The number of the item with which the line goes on when this is a test that fails."""
    text: str = ""
    """The statement as it is written, without the brace."""


@dataclass(frozen=True, slots=True)
class Line:
    """One converter text, or one line of a script."""

    items: tuple[Item, ...]
    notes: tuple[Note, ...]

    def statements(self) -> Iterator[tuple[Item, Statement]]:
        """Yield the items that hold a statement."""
        for item in self.items:
            if item.statement is not None:
                yield item, item.statement


def parse_line(text: Text, dialect: Dialect, outer: int = 0) -> Line:
    """Parse a line; `outer` says how many marks of outer values it may hold."""
    if len(text.value) > LONGEST_LINE:
        error = text.fail(
            f"the line has more than {LONGEST_LINE} characters",
            remedy="put it into a script file, in several lines",
        )
        return Line((Item(0, text.column, "", Broken(text.column, error), 1),), ())
    reading = Reading(dialect, outer)
    pieces = [_opening(piece) for piece in split(text)]
    braces = [brace for brace, _ in pieces]
    closers = _closers(braces)
    items = []
    for number, (brace, body) in enumerate(pieces):
        statement = parse_statement(body, reading) if body.value else None
        following = _after_failure(braces, closers, number)
        items.append(Item(number, body.column, brace, statement, following, body.value))
    _note_structure(items, reading)
    return Line(tuple(items), tuple(reading.notes))


def split(text: Text) -> Iterator[Text]:
    """Split at each `;` outside strings; a pair of quotes inside a string vanishes (spec 6.2).

    From `lua:` outside a string on, everything belongs to the statement.
    """
    value = text.value
    if '""' not in value:
        yield from _split_plain(text)
        return
    kept: list[int] = []
    inside = False
    at = 0
    while at < len(value):
        char = value[at]
        if char == '"':
            if inside and value.startswith('"', at + 1):
                inside = False
                at += 2
                continue
            inside = not inside
        elif not inside and char == ";":
            yield _pick(text, kept, at)
            kept = []
            at += 1
            while at < len(value) and value[at] in BLANKS:
                at += 1
            continue
        elif not inside and char in "lL" and value[at : at + 4].lower() == "lua:":
            kept += range(at, len(value))
            break
        kept.append(at)
        at += 1
    if kept:
        yield _pick(text, kept, len(value))


def _split_plain(text: Text) -> Iterator[Text]:
    """Split text without pairs of quotes, of which nothing vanishes."""
    value = text.value
    start = 0
    inside = False
    for found in _MARKS.finditer(value):
        mark = found[0]
        if mark == '"':
            inside = not inside
        elif inside:
            continue
        elif mark == ";":
            yield text.cut(start, found.start())
            start = found.end()
            while start < len(value) and value[start] in BLANKS:
                start += 1
        else:
            break
    if start < len(value):
        yield text.cut(start)


def _pick(text: Text, kept: list[int], end: int) -> Text:
    if not kept or kept[-1] - kept[0] == len(kept) - 1:
        start = kept[0] if kept else end
        return text.cut(start, start + len(kept))
    columns = tuple(text.columns[at] for at in kept)
    return Text("".join([text.value[at] for at in kept]), (*columns, text.columns[end]))


def _opening(piece: Text) -> tuple[str, Text]:
    brace = piece.value[:1]
    if brace not in ("{", "}"):
        return "", piece
    body = piece.cut(1)
    return brace, body.cut(len(body.value) - len(body.value.lstrip(BLANKS)))


def _after_failure(braces: list[str], closers: dict[int, int], number: int) -> int:
    """Return where a failed test goes on: behind the next block or statement."""
    following = number + 1
    if following >= len(braces) or braces[following] != "{":
        return min(following + 1, len(braces))
    return closers.get(following, len(braces))


def _closers(braces: list[str]) -> dict[int, int]:
    """Return which item closes the block that each item opens, as far as they are closed."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for at, brace in enumerate(braces):
        if brace == "{":
            opened.append(at)
        elif brace == "}" and opened:
            found[opened.pop()] = at
    return found


def _note_structure(items: list[Item], reading: Reading) -> None:
    depth = 0
    for item in items:
        depth += {"{": 1, "}": -1}.get(item.brace, 0)
        if depth < 0:
            reading.note("} closes no block", item.column, "remove it or open the block with {")
            depth = 0
    if depth:
        opener = next(item for item in reversed(items) if item.brace == "{")
        reading.note("a block is not closed", opener.column, "write } behind a semicolon")
    for item, following in itertools.pairwise(items):
        conditional = item.statement is not None and item.statement.may_fail
        if conditional and following.brace == "}" and following.statement is not None:
            reading.note(
                "the test at the end of this block decides about the statement after the block",
                item.column,
                "write }; before that statement if it should not",
            )


def parse_statement(text: Text, reading: Reading) -> Statement:
    """Parse one statement."""
    try:
        return _recognise(text, reading)
    except commands.ProgramsOff:
        return commands.SwitchedOff(text.column)
    except ParseError as exc:
        return Broken(text.column, exc)


def _recognise(text: Text, reading: Reading) -> Statement:
    family = reading.dialect.family
    lowered = text.value.lower()
    elsewhere = None
    for keyword in _BY_LETTER.get(lowered[:1], ()):
        if lowered.startswith(keyword.prefix):
            if family in keyword.families:
                return keyword.parse(text, text.cut(len(keyword.prefix)), reading)
            elsewhere = elsewhere or keyword
    if elsewhere is not None:
        word = elsewhere.prefix.strip()
        other = "import" if family is Family.EXPORT else "export"
        raise text.fail(f"{word} works in {other} lines only")
    if text.value[0] in BLANKS:
        raise text.fail("a statement must not begin with a blank", remedy="remove the blank")
    if MARK.match(text.value) and reading.outer:
        raise text.fail("the text of a script must not come from the object")
    if family is Family.IMPORT:
        return scripts.bare_name(text, reading)
    if reading.dialect.programs:
        near = suggestion(text.value)
        if near:
            reading.note(f"{first_word(text.value)} is taken for a program", text.column, near)
        return commands.bare_program(text, reading)
    raise text.fail(
        f"unknown statement {first_word(text.value)}",
        remedy=f"{suggestion(text.value)}a program would need AllowSystemCommands = 1",
    )


def first_word(statement: str) -> str:
    """Return the first word of a statement, short enough for a message."""
    return statement.split(" ", 1)[0][:40]


def suggestion(statement: str) -> str:
    """Return `did you mean ...?` with a blank after it, or nothing."""
    word = first_word(statement).lower()
    known = {keyword.prefix.split(" ")[0] for keyword in KEYWORDS}
    if word in known:
        return f"see how {word} is written: one blank stands between words "
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"did you mean {near[0]}? " if near else ""


def is_executable(statement: Statement) -> bool:
    """Return whether this version executes the statement."""
    return isinstance(statement, Executable) and not statement.refusal()


def is_unavailable(statement: Statement) -> bool:
    """Return whether the statement is well-formed but not executed by this version."""
    return isinstance(statement, Unavailable) or (
        isinstance(statement, Executable) and bool(statement.refusal())
    )


def inner_script(statement: Statement) -> Skeleton | None:
    """Return the script that stands inside a statement, if any."""
    script = getattr(statement, "script", None)
    return script if isinstance(script, Skeleton) else None
