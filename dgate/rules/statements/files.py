"""Files and programs: `write append copy save mkdir rm system` (spec 8.4). Parsed only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dgate.rules.statements.base import Keyword, NotYet, Statement
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template

_CLOSING = re.compile(r'" (?:to|TO) ')
_TO = re.compile(r" (?:to|TO) ")
_TO_OR_AS = re.compile(r" (?:to|TO|as|AS) ")
_FRAME = re.compile(r"frame ([^ ]+) (?:to|TO) ", re.IGNORECASE)
_PICTURES = ("bmp", "gif", "jpg")
_CLAUSES = ("level", "window", "frame", "size", "quality", "gamma")


@dataclass(frozen=True, slots=True)
class WriteText(NotYet):
    """`write "text" to file`, `append "text" to file`."""

    word: str
    text: Template
    file: Template

    def title(self) -> str:
        """Return the word of the statement."""
        return self.word


@dataclass(frozen=True, slots=True)
class Copy(NotYet):
    """`copy src to dst`."""

    source: Template
    target: Template


@dataclass(frozen=True, slots=True)
class Save(NotYet):
    """`save to file`, `save frame N to file`."""

    file: Template
    frame: Template | None = None


@dataclass(frozen=True, slots=True)
class SavePicture(NotYet):
    """`save bmp|gif|jpg [level L] [window W] [frame N] [size S]... to|as file`."""

    form: str
    file: Template
    level: Template | None = None
    window: Template | None = None
    frame: Template | None = None
    size: Template | None = None
    quality: Template | None = None
    gamma: Template | None = None

    def title(self) -> str:
        """Return how a message names the statement."""
        return f"save {self.form}"


@dataclass(frozen=True, slots=True)
class OnPath(NotYet):
    """`mkdir path`, `rm file`, `system command`."""

    word: str
    argument: Template

    def title(self) -> str:
        """Return the word of the statement."""
        return self.word


def _argument(text: Text, what: str, reading: Reading) -> Template:
    text = text.rstrip()
    if not text.value:
        raise text.fail(f"{what} is missing")
    return parse_template(text, reading)


def _write(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: text.value.index(" ")].lower()
    if not rest.value.startswith('"'):
        raise rest.fail(f'{word} must be followed by a text in double quotes: expected " here')
    closing = _CLOSING.search(rest.value, 1)
    if closing is None:
        raise rest.fail('the text must be followed by: " to FILE', at=len(rest.value))
    content = parse_template(rest.cut(1, closing.start()), reading)
    return WriteText(text.column, word, content, _file(rest, closing, reading))


def _file(rest: Text, before: re.Match[str], reading: Reading) -> Template:
    return _argument(rest.cut(before.end()), "the name of the file", reading)


def _copy(text: Text, rest: Text, reading: Reading) -> Statement:
    middle = _TO.search(rest.value)
    if middle is None:
        raise rest.fail("the file to copy must be followed by: to TARGET", at=len(rest.value))
    source = _argument(rest.cut(0, middle.start()), "the file to copy", reading)
    return Copy(text.column, source, _file(rest, middle, reading))


def _save(text: Text, rest: Text, reading: Reading) -> Statement:
    form = rest.value[:3].lower()
    if form in _PICTURES:
        return _save_picture(text, rest.cut(3), form, reading)
    frame = _FRAME.match(rest.value)
    if frame is not None:
        number = parse_template(rest.cut(frame.start(1), frame.end(1)), reading)
        return Save(text.column, _file(rest, frame, reading), number)
    if not rest.starts("to "):
        raise rest.fail("save must be followed by to FILE, frame N to FILE, bmp, gif or jpg")
    return Save(text.column, _argument(rest.cut(3), "the name of the file", reading))


def _save_picture(text: Text, rest: Text, form: str, reading: Reading) -> Statement:
    middle = _TO_OR_AS.search(rest.value)
    if middle is None:
        raise rest.fail("the picture must be followed by: to FILE", at=len(rest.value))
    clauses: dict[str, Template] = {}
    for found in re.finditer(r"([^ ]+)(?: ([^ ]+))?", rest.value[: middle.start()]):
        name = found.group(1).lower()
        if name not in _CLAUSES or name in clauses or found.group(2) is None:
            raise rest.fail(
                f"{found.group()[:40]} is not expected here",
                at=found.start(),
                remedy=f"before the file come {', '.join(_CLAUSES)}, each with a value",
            )
        clauses[name] = parse_template(rest.cut(found.start(2), found.end(2)), reading)
    return SavePicture(text.column, form, _file(rest, middle, reading), **clauses)


def _on_path(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: text.value.index(" ")].lower()
    return OnPath(text.column, word, _argument(rest, f"what to {word}", reading))


KEYWORDS = (
    Keyword("write ", _write),
    Keyword("append ", _write),
    Keyword("copy ", _copy),
    Keyword("save ", _save),
    Keyword("mkdir ", _on_path),
    Keyword("rm ", _on_path),
    Keyword("system ", _on_path),
)
