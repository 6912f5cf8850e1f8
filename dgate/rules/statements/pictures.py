"""Frames and pictures as files: `save frame`, `save bmp|gif|jpg` (spec converters.md 8.4).

The object is only read. Which files may be written: `dgate.rules.files`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from dgate.dicom.extract import single_frame
from dgate.dicom.frames import Frames
from dgate.dicom.picture import bmp, can_write, gif, jpg
from dgate.dicom.render import View, render
from dgate.dicom.table import ElementTable
from dgate.errors import CannotTranscode, NotDicom, RuleError
from dgate.rules.objectfiles import file_parts
from dgate.rules.run import CONTINUE, Run, Step
from dgate.rules.statements.base import Executable, Scope, Statement
from dgate.rules.syntax import Family, Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_path, compile_template, leading_integer, leading_number

_T = TypeVar("_T")
FORMS = ("bmp", "gif", "jpg")
_CLAUSES = ("level", "window", "frame", "size", "quality", "gamma")
_ANIMATED = 10_000
"""A frame number above this means all frames; its last two digits are frames per second."""
_LEAST_SIZE = 10
_LARGEST = 4096
_QUALITY = 95


@dataclass(frozen=True, slots=True)
class SaveFrame(Executable):
    """`save frame N to file`: one frame, counted from 0, as an object of its own."""

    file: Template
    frame: Template

    def build(self, scope: Scope) -> Step:
        """Return the step that saves."""
        file, frame = compile_path(self.file), compile_template(self.frame)

        def step(run: Run) -> int:
            name = file(run)
            copy = _read(run, lambda table: single_frame(table, _whole(frame(run), "frame")))
            parts = file_parts(copy, name, run.captured.calling)
            run.env.files.save(name + run.name_suffix, parts)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class SavePicture(Executable):
    """`save bmp|gif|jpg [level L] [window W] [frame N] [size S]... to|as file`."""

    form: str
    file: Template
    level: Template | None = None
    window: Template | None = None
    frame: Template | None = None
    size: Template | None = None
    quality: Template | None = None
    gamma: Template | None = None

    def refusal(self) -> str:
        """Return that Pillow is missing for what needs it."""
        if can_write(self.form):
            return ""
        return f"save {self.form} needs Pillow: install dgate[images], or save bmp"

    def build(self, scope: Scope) -> Step:
        """Return the step that draws and saves."""
        file, form = compile_path(self.file), self.form
        values = {
            name: compile_template(template)
            for name in _CLAUSES
            if (template := getattr(self, name)) is not None
        }

        def step(run: Run) -> int:
            wanted = {name: value(run) for name, value in values.items()}
            number = _whole(wanted.get("frame", "0"), "frame")
            view = _view(wanted, form)
            quality = _quality(wanted) if run.export else _QUALITY
            content = _read(run, lambda table: _drawn(table, form, number, view, quality))
            run.env.files.write(file(run), content)
            return CONTINUE

        return step


def _read(run: Run, work: Callable[[ElementTable], _T]) -> _T:
    try:
        return work(run.table)
    except (ValueError, NotDicom, CannotTranscode) as exc:
        raise RuleError(f"the picture cannot be made: {exc}") from exc


def _drawn(table: ElementTable, form: str, number: int, view: View, quality: int) -> bytes:
    frames = Frames(table)
    if form == "gif" and number > _ANIMATED:
        every = (render(table, frames, each, view) for each in range(len(frames)))
        return gif(every, number % 100)
    picture = render(table, frames, number, view)
    if form == "bmp":
        return bmp(picture)
    return jpg(picture, quality) if form == "jpg" else gif(iter((picture,)))


def _view(wanted: dict[str, str], form: str) -> View:
    level = wanted.get("level")
    window = leading_number(wanted.get("window", ""))
    size = leading_integer(wanted.get("size", ""))
    gamma = leading_number(wanted.get("gamma", "")) if form != "gif" else 0.0
    return View(
        None if level is None else leading_number(level),
        window,
        gamma if gamma > 0 else 1.0,
        size if _LEAST_SIZE <= size <= _LARGEST else _LARGEST,
    )


def _quality(wanted: dict[str, str]) -> int:
    quality = leading_integer(wanted.get("quality", ""))
    return quality if 1 <= quality <= 100 else _QUALITY


def _whole(text: str, what: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RuleError(f"{text[:40]!r} is not the number of a {what}")
    return int(text)


def parse_frame(text: Text, number: Template, file: Template) -> Statement:
    """Return the statement for `save frame`."""
    constant = number.constant
    if constant is not None and not (constant.isascii() and constant.isdigit()):
        raise text.fail(f"{constant[:40]!r} is not the number of a frame")
    return SaveFrame(text.column, file, number)


def parse_picture(text: Text, rest: Text, form: str, file: Template, reading: Reading) -> Statement:
    """Return the statement for `save bmp`, `save gif` or `save jpg`; `rest` has its clauses."""
    clauses: dict[str, Template] = {}
    for found in re.finditer(r"([^ ]+)(?: ([^ ]+))?", rest.value):
        name = found.group(1).lower()
        if name not in _CLAUSES or name in clauses or found.group(2) is None:
            raise rest.fail(
                f"{found.group()[:40]} is not expected here",
                at=found.start(),
                remedy=f"before the file come {', '.join(_CLAUSES)}, each with a value",
            )
        clauses[name] = parse_template(rest.cut(found.start(2), found.end(2)), reading)
    if "quality" in clauses:
        place = clauses["quality"].column
        if form != "jpg":
            reading.note(f"quality has no effect on {form} files", place)
        elif reading.dialect.family is Family.IMPORT:
            reading.note(f"quality is always {_QUALITY} in import lines", place)
    if "gamma" in clauses and form == "gif":
        reading.note("gamma has no effect on gif files", clauses["gamma"].column)
    return SavePicture(text.column, form, file, **clauses)
