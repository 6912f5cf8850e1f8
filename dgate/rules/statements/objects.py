"""Changing whole objects: UIDs, pixels, scrubbing, recompression (spec 8.3). Parsed only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dgate.rules.statements.base import IMPORT_ONLY, Keyword, NotYet, Statement
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template

_SCRUB_ITEM = re.compile(r"[0-9A-F]{8}|[0-9A-F]{4}|[A-Z]{2}|Private|priv|PRIV")
_BOX = re.compile(r"[0-9]{1,6}(?:,[0-9]{1,6}){3}")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9](?:[0-9]{2})?|[jJnN]#[0-9]{1,9},[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class MapUids(NotYet):
    """`newuids`, `olduids`, each with `except LIST` or `stage NAME` or neither."""

    word: str
    excepted: Template | None = None
    stage: Template | None = None

    def title(self) -> str:
        """Return the word of the statement."""
        return self.word


@dataclass(frozen=True, slots=True)
class Change(NotYet):
    """A change of the whole object that takes at most one argument."""

    word: str
    argument: Template | None = None

    def title(self) -> str:
        """Return the word of the statement."""
        return self.word


@dataclass(frozen=True, slots=True)
class Scrub(NotYet):
    """`scrub +LIST` keeps, `scrub -LIST` deletes the listed top-level elements."""

    keep: bool
    items: tuple[str, ...]


def _map_uids(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: len("newuids")].lower()
    rest = rest.rstrip()
    if rest.starts(" except "):
        return MapUids(text.column, word, excepted=_word(rest.cut(len(" except ")), reading))
    if rest.starts(" stage "):
        return MapUids(text.column, word, stage=_word(rest.cut(len(" stage ")), reading))
    if rest.value.startswith(" "):
        raise rest.fail(f"{word} may be followed by except LIST or stage NAME", at=1)
    return MapUids(text.column, word)


def _word(text: Text, reading: Reading) -> Template:
    if not text.value or text.value.startswith(" "):
        raise text.fail("a word is missing: exactly one blank stands between words")
    return parse_template(text, reading)


def _bare_word(word: str) -> Keyword:
    def parse(text: Text, rest: Text, reading: Reading) -> Statement:
        return Change(text.column, word)

    return Keyword(word, parse, IMPORT_ONLY)


def _checked(text: Text, rest: Text, reading: Reading, word: str, form: re.Pattern[str]) -> Change:
    argument = _word(rest.rstrip(), reading)
    if argument.constant is not None and not form.fullmatch(argument.constant):
        raise rest.fail(f"{word} cannot be followed by {argument.constant[:40]!r}")
    return Change(text.column, word, argument)


def _crop(text: Text, rest: Text, reading: Reading) -> Statement:
    return _checked(text, rest, reading, "crop", _BOX)


def _compression(text: Text, rest: Text, reading: Reading) -> Statement:
    return _checked(text, rest, reading, "compression", _CODE)


def _scrub(text: Text, rest: Text, reading: Reading) -> Statement:
    sign, listed = rest.value[:1], rest.rstrip().cut(1)
    if sign not in ("+", "-"):
        raise rest.fail("scrub must be followed by + or - and a list")
    start = 0
    for item in listed.value.split(","):
        if not _SCRUB_ITEM.fullmatch(item):
            raise listed.fail(
                f"{item[:40]!r} is not GGGGEEEE, GGGG, a VR or Private",
                at=start,
                remedy="hexadecimal digits are written in upper case",
            )
        start += len(item) + 1
    return Scrub(text.column, sign == "+", tuple(listed.value.split(",")))


def _process_with(text: Text, rest: Text, reading: Reading) -> Statement:
    return Change(text.column, "process with", _word(rest.rstrip(), reading))


KEYWORDS = (
    Keyword("newuids", _map_uids, IMPORT_ONLY),
    Keyword("olduids", _map_uids, IMPORT_ONLY),
    _bare_word("fixkodak"),
    _bare_word("unfixkodak"),
    _bare_word("tomono"),
    Keyword("crop ", _crop, IMPORT_ONLY),
    Keyword("scrub ", _scrub, IMPORT_ONLY),
    Keyword("compression ", _compression, IMPORT_ONLY),
    Keyword("process with ", _process_with, IMPORT_ONLY),
)
