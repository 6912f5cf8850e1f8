"""%-tokens: text to templates (spec converters.md section 7).

Splitting into statements and arguments happens on the written text, before any value is put in;
so a header value, whatever it holds, never changes how a line is read. What a token's value is:
`dgate.rules.values`. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dgate.dicom.element import tag_of
from dgate.rules.opaque import MARK, mark
from dgate.rules.syntax import Dialect, Family, Text

OUTER = "outer"
"""The code of a value that an outer script line has put in (spec converters.md 6.3)."""
QUEUED_ID = "queued id"
"""The code of `%i` in export lines: the patient ID captured at queueing, not the object's own."""

_LITERALS = {"n": "\n", "t": "\t", "%": "%", "^": "^", "~": "~", "[": "[", "'": '"'}
"""`%'` is dgate's own: a double quote, which an argument cannot hold otherwise (spec S6)."""

_PLAIN = frozenset("fbpmsoiucdg")
_VARIABLES = frozenset("xyz")
_DESCRIBED = frozenset("vaer")
_DATABASE = frozenset("psew")

_NUMERIC = r"[0-9A-Fa-f]{4},[0-9A-Fa-f]{4}"
_ELEMENT = rf"(?:{_NUMERIC}|[A-Za-z0-9]+)"
_PATH = re.compile(rf"(?:/{_ELEMENT}(?:\.[0-9]+)?(?=/))*/\*?{_ELEMENT}|\*?{_ELEMENT}")
_OTHER_OBJECT = re.compile(rf"\((?:{_PATH.pattern})\)(?:{_PATH.pattern})")
_TAG = re.compile(_NUMERIC)
_RANGE = re.compile(r"[ ]*([0-9]{0,9})[ ]*,[ ]*([0-9]{1,9})[ ]*")

_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Note:
    """Something odd in a line that does not keep it from running."""

    message: str
    column: int
    advice: str = ""


@dataclass(slots=True)
class Reading:
    """What reading a line needs to know and what it collects; one per line."""

    dialect: Dialect
    outer: int = 0
    """How many outer values the text holds marks for."""
    notes: list[Note] = field(default_factory=list)

    def note(self, message: str, column: int, advice: str = "") -> None:
        """Remember an oddity."""
        self.notes.append(Note(message, column, advice))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Which element a token reads (spec converters.md 7.2)."""

    text: str
    tag: int | None = None
    """The element, when it stands at the top level of the object."""
    unknown: bool = False
    """No such keyword: reads as empty."""

    @property
    def reads_other_object(self) -> bool:
        """Return whether the value comes from another stored object: `(desc1)desc2`."""
        return self.text.startswith("(")


@dataclass(frozen=True, slots=True)
class Modifiers:
    """What follows a token directly: `[a,b]` or `[,n]`, then `^` or `~` (spec 7.1)."""

    first: int | None = None
    last: int | None = None
    case: str = ""

    def apply(self, value: str) -> str:
        """Return the value cut and with its letter case changed (ASCII letters only)."""
        if self.last is not None:
            if self.first is None:
                value = value[-self.last :] if self.last else ""
            elif self.first <= self.last:
                value = value[self.first : self.last + 1]
        if self.case:
            value = value.translate(_UPPER if self.case == "^" else _LOWER)
        return value


@dataclass(frozen=True, slots=True)
class Token:
    """One %-token whose value is only known when the line runs."""

    code: str
    """The letter in lower case; `qp`, `qs`... for the look-ups; `OUTER`; `QUEUED_ID`."""
    column: int
    descriptor: Descriptor | None = None
    modifiers: Modifiers | None = None
    index: int = 0
    """OUTER: which value. Aliases: the letter of the file, as typed, as a code point."""


@dataclass(frozen=True, slots=True)
class Template:
    """Text with tokens, parsed. Equal neighbours are joined, so a constant has at most one part."""

    parts: tuple[str | Token, ...]
    column: int

    @property
    def constant(self) -> str | None:
        """Return the text if no token makes it depend on the object, else None."""
        if not self.parts:
            return ""
        first = self.parts[0]
        return first if len(self.parts) == 1 and isinstance(first, str) else None

    @property
    def tokens(self) -> list[Token]:
        """Return the tokens in order."""
        return [part for part in self.parts if isinstance(part, Token)]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Script text in which marks stand for the outer line's tokens (spec converters.md 6.3)."""

    text: Text
    values: tuple[Template, ...]

    def parts(self) -> list[str | int]:
        """Return the text between the marks, and the numbers of the marks, in order."""
        result: list[str | int] = []
        start = 0
        for found in MARK.finditer(self.text.value):
            if int(found.group(1)) < len(self.values):
                result += [self.text.value[start : found.start()], int(found.group(1))]
                start = found.end()
        return [*result, self.text.value[start:]]


def parse_template(text: Text, reading: Reading) -> Template:
    """Parse text with %-tokens."""
    if "%" not in text.value and not reading.outer:
        return Template((text.value,) if text.value else (), text.column)
    value = text.value
    parts: list[str | Token] = []
    start = 0
    while start < len(value):
        stop = _next_token(value, start, reading.outer)
        if stop > start:
            _join(parts, value[start:stop])
        if stop == len(value):
            break
        part, start = _token(text, stop, reading)
        _join(parts, part)
    return Template(tuple(parts), text.column)


def _join(parts: list[str | Token], part: str | Token) -> None:
    """Append a part; literal text next to literal text becomes one."""
    if isinstance(part, str) and parts and isinstance(parts[-1], str):
        parts[-1] += part
    elif part != "":
        parts.append(part)


def parse_skeleton(text: Text, reading: Reading) -> Skeleton:
    """Replace the outer line's tokens in script text by marks; `%%` leaves the script a `%`."""
    pieces: list[str] = []
    columns: list[int] = []
    values: list[Template] = []
    for part, source in located_parts(text, reading):
        piece = part if isinstance(part, str) else mark(len(values))
        if isinstance(part, Token):
            values.append(Template((part,), source.column))
        pieces.append(piece)
        literal = piece == source.value
        columns += source.columns[: len(piece)] if literal else [source.column] * len(piece)
    columns.append(text.end)
    return Skeleton(Text("".join(pieces), tuple(columns)), tuple(values))


def located_parts(text: Text, reading: Reading) -> Iterator[tuple[str | Token, Text]]:
    """Yield literal text and tokens, each with the written text that it comes from."""
    start = 0
    while start < len(text.value):
        stop = _next_token(text.value, start, reading.outer)
        if stop > start:
            yield text.value[start:stop], text.cut(start, stop)
        if stop == len(text.value):
            return
        part, start = _token(text, stop, reading)
        yield part, text.cut(stop, start)


def parse_descriptor(text: Text, start: int, reading: Reading) -> tuple[Descriptor | None, int]:
    """Parse the element descriptor at `start`; return it with the position after it."""
    found = _OTHER_OBJECT.match(text.value, start) or _PATH.match(text.value, start)
    if found is None:
        return None, start
    described = found.group()
    if described.startswith("("):
        return Descriptor(described), found.end()
    tag = None
    for element in re.findall(_ELEMENT, re.sub(r"\.[0-9]+(?=/)", "", described)):
        tag = element_tag(element)
        if tag is None:
            reading.note(
                f"{element} is not a keyword of the DICOM dictionary, so the value is always empty",
                text.columns[start],
                "correct the keyword or write gggg,eeee",
            )
            return Descriptor(described, unknown=True), found.end()
    nested = described.startswith(("/", "*"))
    return Descriptor(described, None if nested else tag), found.end()


def element_tag(element: str) -> int | None:
    """Return the tag for `gggg,eeee` or a keyword; None when there is no such keyword."""
    if _TAG.fullmatch(element):
        return int(element[:4] + element[5:], 16)
    return tag_of(element)


def _next_token(value: str, start: int, outer: int) -> int:
    stop = value.find("%", start)
    stop = len(value) if stop < 0 else stop
    if outer:
        found = MARK.search(value, start, stop)
        if found is not None:
            return found.start()
    return stop


def _token(text: Text, start: int, reading: Reading) -> tuple[str | Token, int]:
    """Parse the token or mark at `start`; empty text when it vanishes."""
    column = text.columns[start]
    found = MARK.match(text.value, start) if reading.outer else None
    if found is not None:
        index = int(found.group(1))
        if index < reading.outer:
            return Token(OUTER, column, index=index), found.end()
        return found.group(), found.end()
    letter = text.value[start + 1 : start + 2]
    code = letter.lower()
    after = start + 2
    token: str | Token
    if letter in _LITERALS or code in _LITERALS:
        token = _LITERALS.get(letter) or _LITERALS[code]
    elif code == "i" and reading.dialect.family is Family.EXPORT:
        token = Token(QUEUED_ID, column)
    elif code in _PLAIN and code:
        token = Token(code, column)
    elif code in _VARIABLES and code:
        token = "" if reading.dialect.family is Family.EXPORT else Token(code, column)
    elif code in _DESCRIBED and code:
        descriptor, after = parse_descriptor(text, after, reading)
        if descriptor is None:
            raise text.fail(f"%{letter} must be followed by an element", at=start)
        token = Token(code, column, descriptor)
    elif code == "q" and reading.dialect.family is Family.IMPORT:
        token, after = _look_up(text, start, reading)
    else:
        return _vanished(text, start, reading)
    modifiers, after = _modifiers(text, after, reading)
    if modifiers is None:
        return token, after
    if isinstance(token, str):
        return modifiers.apply(token), after
    return Token(token.code, column, token.descriptor, modifiers, token.index), after


def _vanished(text: Text, start: int, reading: Reading) -> tuple[str, int]:
    letter = text.value[start + 1 : start + 2]
    shown = f"%{letter}" if letter.isprintable() else "%"
    reading.note(
        f"{shown} is not a token and vanishes", text.columns[start], "write %% for a percent sign"
    )
    keeps_letter = not letter or MARK.match(text.value, start + 1) is not None
    return "", start + (1 if keeps_letter else 2)


def _look_up(text: Text, start: int, reading: Reading) -> tuple[Token, int]:
    """Parse `%QPgggg,eeee` (database) or `%Qcdesc` (alias file)."""
    letter = text.value[start + 2 : start + 3]
    column = text.columns[start]
    if letter.lower() in _DATABASE and letter:
        found = _TAG.match(text.value, start + 3)
        if found is None:
            raise text.fail(f"%Q{letter} must be followed by gggg,eeee", at=start)
        described = Descriptor(found.group(), element_tag(found.group()))
        return Token(f"q{letter.lower()}", column, described), found.end()
    if not (letter.isascii() and letter.isalnum()):
        raise text.fail(
            "%Q must be followed by P, S, E, W or the letter of an alias file", at=start
        )
    descriptor, after = parse_descriptor(text, start + 3, reading)
    if descriptor is None:
        raise text.fail(f"%Q{letter} must be followed by an element", at=start)
    return Token("q", column, descriptor, index=ord(letter)), after


def _modifiers(text: Text, start: int, reading: Reading) -> tuple[Modifiers | None, int]:
    value = text.value
    first = last = None
    after = start
    close = value.find("]", start) if value.startswith("[", start) else -1
    if close >= 0:
        after = close + 1
        found = _RANGE.fullmatch(value, start + 1, close)
        if found is None:
            reading.note(
                f"{value[start:after]} is not [a,b] or [,n], so the value is not cut",
                text.columns[start],
                "write %[ for a bracket after a token",
            )
        else:
            first = int(found.group(1)) if found.group(1) else None
            last = int(found.group(2))
    case = value[after : after + 1]
    if case in ("^", "~"):
        return Modifiers(first, last, case), after + 1
    return (None if after == start else Modifiers(first, last)), after
