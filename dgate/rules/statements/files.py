"""Files: `write append copy save mkdir rm` (spec converters.md 8.4).

Which files may be touched: `dgate.rules.files`. What the object says is one part of a name and
never leads into another folder (`compile_path`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dgate.errors import RuleError
from dgate.rules.objectfiles import file_parts
from dgate.rules.run import CONTINUE, Run, Step
from dgate.rules.statements.base import Executable, Keyword, Scope, Statement
from dgate.rules.statements.pictures import FORMS, parse_frame, parse_picture
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_path, compile_template, needs_file

_CLOSING = re.compile(r'" (?:to|TO) ')
_TO = re.compile(r" (?:to|TO) ")
_TO_OR_AS = re.compile(r" (?:to|TO|as|AS) ")
_FRAME = re.compile(r"frame ([^ ]+) (?:to|TO) ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WriteText(Executable):
    """`write "text" to file`, `append "text" to file`."""

    word: str
    text: Template
    file: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that writes."""
        text, file = compile_template(self.text), compile_path(self.file)
        append = self.word == "append"

        def step(run: Run) -> int:
            content = text(run).encode("utf-8", "surrogateescape")
            run.env.files.write(file(run), content, append=append)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class Copy(Executable):
    """`copy src to dst`."""

    source: Template
    target: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that copies; in import lines the object's own file is not there yet."""
        source, target = compile_path(self.source), compile_path(self.target)
        names_object = needs_file((self.source,))

        def step(run: Run) -> int:
            name = source(run)
            if names_object and not run.export and not _is_there(run.env.files.place(name)):
                raise RuleError(
                    "the object's own file does not exist yet while import rules run",
                    remedy="copy it in an export line, or use save to FILE",
                )
            run.env.files.copy(name, target(run))
            return CONTINUE

        return step


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Too long a name, for one: what reads it then says so.
        return True


@dataclass(frozen=True, slots=True)
class Save(Executable):
    """`save to file`: Part 10, or with the extension `.v2` the bare data set in implicit VR."""

    file: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that saves the object as it is now."""
        file = compile_path(self.file)

        def step(run: Run) -> int:
            name = file(run)
            parts = file_parts(run.table, name, run.captured.calling)
            run.env.files.save(name + run.name_suffix, parts)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class OnPath(Executable):
    """`mkdir path`, `rm file`."""

    word: str
    path: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that creates the folders, or removes the file."""
        path = compile_path(self.path)
        creates = self.word == "mkdir"

        def step(run: Run) -> int:
            if creates:
                run.env.files.make_folder(path(run))
            else:
                run.env.files.remove(path(run))
            return CONTINUE

        return step


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
    if form in FORMS:
        return _save_picture(text, rest.cut(3), form, reading)
    frame = _FRAME.match(rest.value)
    if frame is not None:
        number = parse_template(rest.cut(frame.start(1), frame.end(1)), reading)
        return parse_frame(text, number, _file(rest, frame, reading))
    if not rest.starts("to "):
        raise rest.fail("save must be followed by to FILE, frame N to FILE, bmp, gif or jpg")
    return Save(text.column, _argument(rest.cut(3), "the name of the file", reading))


def _save_picture(text: Text, rest: Text, form: str, reading: Reading) -> Statement:
    middle = _TO_OR_AS.search(rest.value)
    if middle is None:
        raise rest.fail("the picture must be followed by: to FILE", at=len(rest.value))
    clauses = rest.cut(0, middle.start())
    return parse_picture(text, clauses, form, _file(rest, middle, reading), reading)


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
)
