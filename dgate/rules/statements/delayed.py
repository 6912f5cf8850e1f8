"""The delayed family: whole patients, studies, series (spec converters.md 8.6, 8.7). Parsed only.

Clauses stand between single blanks and have one word as value, except those that take the rest of
the statement. Unknown words and doubled or trailing blanks are errors (spec S17).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dgate.rules.statements.base import (
    BOTH,
    EXPORT_ONLY,
    Keyword,
    NotYet,
    Statement,
)
from dgate.rules.statements.forwarding import unquoted
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Skeleton, Template, parse_skeleton, parse_template

LEVELS = ("patient", "study", "series", "image")

_FILTERS = frozenset(
    ("date", "now", "age", "modality", "study", "series", "sop", "imagetype", "seriesdesc", "after")
)
_CLAUSES: dict[str, frozenset[str]] = {
    "forward": _FILTERS | {"compressed", "split", "to", "script"},
    "get": _FILTERS | {"from", "script"},
    "delete": _FILTERS,
    "process": _FILTERS | {"by"},
    "merge": _FILTERS | {"script"},
    "submit": frozenset(("study", "series", "sop", "after", "target", "password", "script")),
    "submit2": frozenset(("study", "series", "sop", "after", "target", "command", "script")),
}
_NEEDED = {
    "forward": ("to",),
    "get": ("from",),
    "process": ("by",),
    "submit": ("target", "password"),
    "submit2": ("target", "command"),
}
_FORMS = {
    "date": re.compile(r"[0-9]{8}(?:-[0-9]{8})?"),
    "now": re.compile(r"-[0-9]+\+[0-9]+"),
    "age": re.compile(r"-[0-9]+\+[0-9]+"),
    "after": re.compile(r"[0-9]{1,9}"),
    "split": re.compile(r"[0-9]+/[0-9]+"),
}
_FORM_NAMES = {
    "date": "yyyymmdd or yyyymmdd-yyyymmdd",
    "now": "-DAYS+DAYS",
    "age": "-DAYS+DAYS",
    "after": "seconds",
    "split": "N/M",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a delayed statement."""

    name: str
    value: Template
    column: int


@dataclass(frozen=True, slots=True)
class Delayed(NotYet):
    """`OP LEVEL clauses`: queue an operation on what the object belongs to."""

    operation: str
    level: str
    clauses: tuple[Clause, ...]
    script: Skeleton | None = None

    def title(self) -> str:
        """Return operation and level."""
        return f"{self.operation} {self.level}"


@dataclass(frozen=True, slots=True)
class Fetch(NotYet):
    """`prefetch`, `preretrieve AE`."""

    source: Template | None = None

    def title(self) -> str:
        """Return the word of the statement."""
        return "prefetch" if self.source is None else "preretrieve"


@dataclass(slots=True)
class _Rest:
    """The part of a statement that has not been read yet."""

    text: Text

    def word(self, what: str) -> Text:
        """Take the next word."""
        stop = self.text.value.find(" ")
        word = self.text if stop < 0 else self.text.cut(0, stop)
        if not word.value:
            raise self.text.fail(f"{what} is missing", remedy="one blank stands between words")
        self.text = self.text.cut(len(word.value))
        return word

    def blank(self) -> None:
        """Take the blank before the next word."""
        self.text = self.text.cut(1)

    def everything(self, what: str) -> Text:
        """Take all that is left."""
        rest, self.text = self.text, self.text.cut(len(self.text.value))
        if not rest.value:
            raise rest.fail(f"{what} is missing")
        return rest


def _delayed(text: Text, rest: Text, reading: Reading) -> Statement:
    operation, level = text.value[: len(text.value) - len(rest.value)].lower().split()
    allowed = _CLAUSES[operation]
    if rest.value and not rest.value.startswith(" "):
        raise rest.fail(f"a blank must follow {level}")
    left = _Rest(rest)
    clauses: dict[str, Clause] = {}
    script = None
    while left.text.value:
        left.blank()
        word = left.word("a clause")
        name = word.value.lower()
        if name not in allowed or name in clauses:
            raise word.fail(
                f"{word.value[:40]} is not expected here",
                remedy=f"{operation} {level} takes {', '.join(sorted(allowed))}",
            )
        if left.text.value:
            left.blank()
        if name == "script":
            script = parse_skeleton(unquoted(left.everything("the script")), reading)
            continue
        clauses[name] = Clause(name, _clause_value(name, left, reading), word.column)
    for name in _NEEDED.get(operation, ()):
        if name not in clauses:
            raise rest.fail(f"the clause {name} is missing", at=len(rest.value))
    if "split" in clauses and "imagetype" in clauses:
        raise rest.fail("split cannot be combined with imagetype")
    return Delayed(text.column, operation, level, tuple(clauses.values()), script)


def _clause_value(name: str, left: _Rest, reading: Reading) -> Template:
    if name == "by":
        return parse_template(left.everything("the command").rstrip(), reading)
    if name == "compressed":
        if left.word("as").value.lower() != "as":
            raise left.text.fail("compressed must be followed by: as CC")
        left.blank()
    if name == "command" and left.text.value.startswith("["):
        close = left.text.value.find("]")
        if close < 0:
            raise left.text.fail("the bracket is not closed")
        value = left.text.cut(1, close)
        left.text = left.text.cut(close + 1)
        if left.text.value[:1] not in ("", " "):
            raise left.text.fail("a blank must follow the bracket")
    else:
        value = left.word(f"the value of {name}")
    template = parse_template(value, reading)
    form = _FORMS.get(name)
    if form is not None and template.constant is not None and not form.fullmatch(template.constant):
        raise value.fail(f"{name} must be followed by {_FORM_NAMES[name]}")
    return template


def _prefetch(text: Text, rest: Text, reading: Reading) -> Statement:
    return Fetch(text.column)


def _preretrieve(text: Text, rest: Text, reading: Reading) -> Statement:
    rest = rest.rstrip()
    if not rest.value or " " in rest.value:
        raise rest.fail("preretrieve must be followed by one AE title")
    return Fetch(text.column, parse_template(rest, reading))


def _keywords() -> tuple[Keyword, ...]:
    families = {"delete": EXPORT_ONLY}
    levelled = ("forward", "get", "delete", "process", "submit2", "submit")
    prefixes = [(operation, level) for operation in levelled for level in LEVELS]
    return tuple(
        Keyword(f"{operation} {level}", _delayed, families.get(operation, BOTH))
        for operation, level in [*prefixes, ("merge", "study")]
    )


KEYWORDS = (
    *_keywords(),
    Keyword("preretrieve ", _preretrieve),
    Keyword("prefetch", _prefetch),
)
