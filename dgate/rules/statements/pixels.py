"""Changing pixels: `tomono`, `crop`, `compression` (spec converters.md 8.3 and 10).

How is in `dgate.dicom.reshape` and `dgate.dicom.recompress`. Objects without pixel data have
nothing to change and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dgate.config.codes import CodeKind, complaint, kind_of
from dgate.dicom import reshape
from dgate.dicom.codes import stored_syntax_for
from dgate.dicom.recompress import IN_MEMORY_BYTES, recompress
from dgate.dicom.table import PIXEL_DATA, ElementTable
from dgate.dicom.transcode import can_encode
from dgate.dicom.uids import EXPLICIT_LE, transfer_syntax
from dgate.errors import CannotTranscode, NotDicom, RuleError
from dgate.rules.run import CONTINUE, Run, Step, log
from dgate.rules.statements.base import IMPORT_ONLY, Executable, Keyword, Scope, Script, Statement
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, parse_template
from dgate.rules.values import compile_template

_BOX = re.compile(r"[0-9]{1,6}(?:,[0-9]{1,6}){3}")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9](?:[0-9]{2})?|[jJnN]#[0-9]{1,9},[0-9]{1,9}")
_BOX_REMEDY = "write crop LEFT,TOP,RIGHT,BOTTOM, the pixels counted from 0"


@dataclass(frozen=True, slots=True)
class ToMono(Executable):
    """`tomono`: colour becomes the mean of red, green and blue."""

    def build(self, scope: Scope) -> Step:
        """Return the step."""

        def step(run: Run) -> int:
            return _changed(run, reshape.to_monochrome)

        return step


@dataclass(frozen=True, slots=True)
class Crop(Executable):
    """`crop x0,y0,x1,y1`: the rectangle that stays, both corners included (spec S12)."""

    box: Template

    def build(self, scope: Scope) -> Step:
        """Return the step."""
        box = compile_template(self.box)

        def step(run: Run) -> int:
            text = box(run).strip()
            if not _BOX.fullmatch(text):
                raise RuleError(f"crop cannot be followed by {text[:40]!r}", remedy=_BOX_REMEDY)
            left, top, right, bottom = map(int, text.split(","))
            return _changed(run, lambda table: reshape.crop(table, left, top, right, bottom))

        return step


def _changed(run: Run, change: Callable[[ElementTable], object]) -> int:
    if PIXEL_DATA not in run.table:
        return CONTINUE
    try:
        change(run.table)
    except (ValueError, NotDicom, CannotTranscode) as exc:
        raise RuleError(f"the pixels cannot be changed: {exc}") from exc
    return CONTINUE


@dataclass(frozen=True, slots=True)
class Compression(Executable):
    """`compression CC`: the object gets another transfer syntax, or size.

    Where that is not possible the failure is logged and the object stays as it is, whatever
    `ScriptErrors` says (spec 8.3): nothing is lost and nothing is revealed by that.
    """

    code: Template

    def refusal(self) -> str:
        """Return that there is no encoder for a code that is known beforehand."""
        code = self.code.constant
        return "" if code is None else _lacking(code)

    def build(self, scope: Scope) -> Step:
        """Return the step."""
        code, number, library = compile_template(self.code), scope.number, scope.library

        def step(run: Run) -> int:
            text = code(run).strip()
            if not _CODE.fullmatch(text) or kind_of(text) is CodeKind.UNKNOWN:
                raise RuleError(
                    f"the compression code {text[:20]!r} is not known", remedy="use as, un or rl"
                )
            text = text.lower()
            if kind_of(text) is CodeKind.SCRIPT:
                return _scripted(run, library.compression(int(text[1])), f"compression {text}")
            try:
                recompress(run.table, text, _folder(run))
            except (CannotTranscode, NotDicom, OSError) as exc:
                log.error("%s.%d: the object keeps its transfer syntax: %s", run.label, number, exc)
            return CONTINUE

        return step


def _scripted(run: Run, script: Script | None, name: str) -> int:
    """Run CompressionConverterN over the object; its result does not matter (spec 3)."""
    if script is None:
        return CONTINUE
    if name in run.callers:
        raise RuleError(f"{name} leads to itself")
    callers = run.callers
    run.callers = (*callers, name)
    try:
        script.run(run)
    finally:
        run.callers = callers
    return CONTINUE


def _folder(run: Run) -> Path | None:
    """Return the folder for what is too long for memory; None where nothing is."""
    if run.table.size <= IN_MEMORY_BYTES // 4:
        return None
    return run.env.files.temporary(".dcm").parent


def _lacking(code: str) -> str:
    if kind_of(code) is CodeKind.SCRIPT:
        return ""
    target = stored_syntax_for(code, EXPLICIT_LE)
    if not transfer_syntax(target).encapsulated or can_encode(target):
        return ""
    name = transfer_syntax(target).name
    return f"compression {code} is not executable: there is no encoder for {name}"


def _word(text: Text, reading: Reading) -> Template:
    if not text.value or text.value.startswith(" "):
        raise text.fail("a word is missing: exactly one blank stands between words")
    return parse_template(text, reading)


def _tomono(text: Text, rest: Text, reading: Reading) -> Statement:
    return ToMono(text.column)


def _crop(text: Text, rest: Text, reading: Reading) -> Statement:
    box = _word(rest.rstrip(), reading)
    if box.constant is not None:
        if not _BOX.fullmatch(box.constant):
            raise rest.fail(f"crop cannot be followed by {box.constant[:40]!r}", remedy=_BOX_REMEDY)
        left, top, right, bottom = map(int, box.constant.split(","))
        if left > right or top > bottom:
            raise rest.fail("the rectangle ends before it begins", remedy=_BOX_REMEDY)
    return Crop(text.column, box)


def _compression(text: Text, rest: Text, reading: Reading) -> Statement:
    code = _word(rest.rstrip(), reading)
    if code.constant is not None and not _CODE.fullmatch(code.constant):
        raise rest.fail(f"compression cannot be followed by {code.constant[:40]!r}")
    if code.constant is not None and kind_of(code.constant) is CodeKind.UNKNOWN:
        raise rest.fail(f"the compression code {code.constant!r} is not known")
    if code.constant is not None and (oddity := complaint(code.constant)):
        reading.note(oddity[0], code.column, oddity[1])
    return Compression(text.column, code)


TO_MONO = Keyword("tomono", _tomono, IMPORT_ONLY)
CROP = Keyword("crop ", _crop, IMPORT_ONLY)
COMPRESSION = Keyword("compression ", _compression, IMPORT_ONLY)
