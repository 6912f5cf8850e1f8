"""Changing whole objects: UIDs, pixels, scrubbing, recompression (spec 8.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from dgate.dicom.element import SOP_CLASS_UID, SOP_INSTANCE_UID, keyword_of
from dgate.dicom.element import SPECIFIC_CHARACTER_SET as CHARACTER_SET
from dgate.dicom.part10 import read_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import is_uid
from dgate.errors import NotDicom, RuleError, StoreError
from dgate.rules.files import private_copy, temporary_file
from dgate.rules.objectfiles import part10
from dgate.rules.run import CONTINUE, Run, Step, log
from dgate.rules.statements.base import (
    IMPORT_ONLY,
    Executable,
    Keyword,
    Scope,
    Statement,
)
from dgate.rules.statements.commands import compile_arguments, parse_arguments
from dgate.rules.statements.pixels import COMPRESSION, CROP, TO_MONO
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Template, element_tag, parse_template
from dgate.rules.uidmapping import Exceptions, mapped_tags, replace_uids, restore_uids
from dgate.rules.values import compile_template

_SCRUB_ITEM = re.compile(r"[0-9A-F]{8}|[0-9A-F]{4}|[A-Z]{2}|Private|priv|PRIV")
_TAG = re.compile("[0-9A-F]{8}")
_GROUP = re.compile("[0-9A-F]{4}")
_CLAUSE = re.compile(" (except|stage) ", re.IGNORECASE)
_LONGEST_STAGE = 32
"""Characters that column Stage of the register holds."""
PATIENT_ID = 0x00100020
_LEAST_ID = 1_000_000
"""Patient IDs up to this number keep their zeros."""
_SHORT_ID = 7


@dataclass(frozen=True, slots=True)
class MapUids(Executable):
    """`newuids`, `olduids`, each with `except LIST`, `stage NAME`, both or neither."""

    word: str
    stage: Template | None = None
    excepted: tuple[Template, ...] = ()
    """Elements and UIDs that stay as they are; known when the object comes, where they hold
    tokens."""
    kept: Exceptions = field(default_factory=Exceptions)
    """Those that are known now."""
    fixed: tuple[tuple[int, Template], ...] = ()
    """Elements that get a value of their own."""

    def templates(self) -> Iterator[Template]:
        """Yield every template of the statement."""
        yield from (() if self.stage is None else (self.stage,))
        yield from self.excepted
        yield from (value for _, value in self.fixed)

    def build(self, scope: Scope) -> Step:
        """Return the step that looks up all UIDs, then changes the object."""
        stage = None if self.stage is None else compile_template(self.stage)
        exceptions = self._exceptions()
        number, is_new = scope.number, self.word == "newuids"

        def step(run: Run) -> int:
            name = "" if stage is None else stage(run)
            excepted = exceptions(run)
            if is_new:
                replace_uids(run.table, run.env.uids, name, excepted)
                return CONTINUE
            for keyword in restore_uids(run.table, run.env.uids, name, excepted):
                log.warning(
                    "%s.%d: nothing is known that %s stands for, so it stays",
                    run.label,
                    number,
                    keyword,
                )
            return CONTINUE

        return step

    def _exceptions(self) -> Callable[[Run], Exceptions]:
        kept = self.kept
        if not self.excepted and not self.fixed:
            return lambda run: kept
        excepted = [compile_template(each) for each in self.excepted]
        fixed = [(tag, compile_template(value)) for tag, value in self.fixed]

        def exceptions(run: Run) -> Exceptions:
            tags, uids = set(kept.tags), set(kept.uids)
            for value in excepted:
                _except(value(run), tags, uids)
            return Exceptions(
                frozenset(tags), frozenset(uids), {tag: _uid(value(run)) for tag, value in fixed}
            )

        return exceptions


def _except(text: str, tags: set[int], uids: set[str]) -> None:
    """Enter what an exception names; an element, or a UID, or nothing."""
    tag = element_tag(text)
    if tag is not None:
        tags.add(tag)
    elif is_uid(text):
        uids.add(text)
    elif text:
        raise RuleError(f"{text[:40]!r} is neither gggg,eeee nor a UID")


def _uid(text: str) -> str:
    if not is_uid(text):
        raise RuleError(f"{text[:80]!r} is not a UID")
    return text


@dataclass(frozen=True, slots=True)
class Kodak(Executable):
    """`fixkodak`, `unfixkodak`: the zero before patient IDs of eight digits goes, or comes back."""

    adds: bool

    def build(self, scope: Scope) -> Step:
        """Return the step that changes the patient ID."""
        adds = self.adds

        def step(run: Run) -> int:
            patient_id = run.table.text(PATIENT_ID)
            if patient_id.isascii() and patient_id.isdigit() and int(patient_id) > _LEAST_ID:
                has_zero = patient_id.startswith("0")
                if adds and len(patient_id) == _SHORT_ID and not has_zero:
                    run.table.set_text(PATIENT_ID, f"0{patient_id}")
                elif not adds and len(patient_id) == _SHORT_ID + 1 and has_zero:
                    run.table.set_text(PATIENT_ID, patient_id[1:])
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class Scrub(Executable):
    """`scrub +LIST` keeps, `scrub -LIST` deletes the listed top-level elements."""

    keep: bool
    items: tuple[str, ...]
    """`GGGGEEEE`, `GGGG`, a VR, or `private` in any case."""

    def build(self, scope: Scope) -> Step:
        """Return the step that deletes; what is kept keeps the character set that it is in."""
        keep = self.keep
        tags = {int(item, 16) for item in self.items if _TAG.fullmatch(item)}
        groups = {int(item, 16) for item in self.items if _GROUP.fullmatch(item)}
        vrs = {item for item in self.items if len(item) == len("VR")}
        private = any(item.lower().startswith("priv") for item in self.items)

        def is_listed(run: Run, tag: int) -> bool:
            group = tag >> 16
            if tag in tags or group in groups or (private and group & 1):
                return True
            return bool(vrs) and run.table.reading_vr(tag) in vrs

        def step(run: Run) -> int:
            for tag in run.table.tags():
                if is_listed(run, tag) is not keep and not (keep and tag == CHARACTER_SET):
                    run.table.delete(tag)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class ProcessWith(Executable):
    """`process with command`: have a program change the object in a temporary file."""

    arguments: tuple[Template, ...]

    def build(self, scope: Scope) -> Step:
        """Return the step that runs the program with the file as its last argument."""
        arguments = compile_arguments(self.arguments)

        def step(run: Run) -> int:
            values = [argument(run) for argument in arguments]
            content = part10(run.table, run.captured.calling)
            with temporary_file(run.env.files.temporary(".dcm"), content) as path:
                status = run.env.programs.run([*values, str(path)])
                if status:
                    raise RuleError(
                        f"{values[0][:200]} ended with status {status}, so what it left of the "
                        "object is not used"
                    )
                _take_over(run.table, private_copy(path))
            return CONTINUE

        return step


def _take_over(table: ElementTable, content: memoryview) -> None:
    """Put what a program has left in the place of the object."""
    try:
        meta = read_meta(content)
        found = ElementTable(content[meta.data_offset :], meta.syntax)
        for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID):
            if table.text(tag) and not is_uid(found.text(tag)):
                raise NotDicom(f"it has no {keyword_of(tag)}")
        if meta.syntax != table.syntax or not _is_same(table, content[meta.data_offset :]):
            table.replace(content[meta.data_offset :], meta.syntax)
    except StoreError as exc:
        raise RuleError(f"what the program left is no object: {exc}") from exc


def _is_same(table: ElementTable, data: memoryview) -> bool:
    at = 0
    for part in table.parts():
        if data[at : at + len(part)] != part:
            return False
        at += len(part)
    return at == len(data)


def _map_uids(text: Text, rest: Text, reading: Reading) -> Statement:
    word = text.value[: len("newuids")].lower()
    rest = rest.rstrip()
    clauses = _clauses(rest)
    if rest.value.startswith(" ") and not clauses:
        raise rest.fail(f"{word} may be followed by except LIST and stage NAME", at=1)
    stage = None
    if "stage" in clauses:
        stage = _stage(word, clauses["stage"], reading)
    if "except" not in clauses:
        return MapUids(text.column, word, stage)
    return _with_exceptions(MapUids(text.column, word, stage), clauses["except"], reading)


def _stage(word: str, text: Text, reading: Reading) -> Template:
    stage = _word(text, reading)
    is_hashed = stage.constant is not None and stage.constant.startswith("#")
    if is_hashed and word == "olduids":
        raise text.fail("a hashed stage has no way back")
    if len(stage.constant or "") > _LONGEST_STAGE and not is_hashed:
        raise text.fail(f"a stage has at most {_LONGEST_STAGE} characters")
    return stage


def _clauses(rest: Text) -> dict[str, Text]:
    """Return what follows `except` and `stage`; a clause ends where the next one begins."""
    begins = sorted(
        (found.start(), found.end(), found[1].lower()) for found in _CLAUSE.finditer(rest.value)
    )
    if not begins or begins[0][0]:
        return {}
    if len(begins) > len({name for _, _, name in begins}):
        raise rest.fail("except and stage may each stand once", at=begins[1][0] + 1)
    ends = [start for start, _, _ in begins[1:]] + [len(rest.value)]
    return {name: rest.cut(begin, end) for (_, begin, name), end in zip(begins, ends, strict=True)}


def _with_exceptions(bare: MapUids, listed: Text, reading: Reading) -> MapUids:
    """Read `gggg,eeee|UID|gggg,eeee=UID`; split before any value is put in."""
    tags: set[int] = set()
    uids: set[str] = set()
    open_: list[Template] = []
    fixed: list[tuple[int, Template]] = []
    start = 0
    for piece in listed.value.split("|"):
        item = listed.cut(start, start + len(piece))
        start += len(piece) + 1
        left, equals, _ = piece.partition("=")
        if equals:
            tag = element_tag(left)
            if tag is None or tag not in mapped_tags():
                raise item.fail(f"{left[:40]!r} is no element whose UID is replaced")
            value = _word(item.cut(len(left) + 1), reading)
            if value.constant is not None and not is_uid(value.constant):
                raise item.fail(f"{value.constant[:80]!r} is not a UID", at=len(left) + 1)
            fixed.append((tag, value))
            continue
        template = _word(item, reading)
        if template.constant is None:
            open_.append(template)
            continue
        try:
            _except(template.constant, tags, uids)
        except RuleError as exc:
            raise item.fail(exc.what) from exc
    kept = Exceptions(frozenset(tags), frozenset(uids))
    return replace(bare, excepted=tuple(open_), kept=kept, fixed=tuple(fixed))


def _word(text: Text, reading: Reading) -> Template:
    if not text.value or text.value.startswith(" "):
        raise text.fail("a word is missing: exactly one blank stands between words")
    return parse_template(text, reading)


def _kodak(text: Text, rest: Text, reading: Reading) -> Statement:
    return Kodak(text.column, adds=text.starts("unfixkodak"))


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
    return ProcessWith(text.column, parse_arguments(rest, "the program", reading))


KEYWORDS = (
    Keyword("newuids", _map_uids, IMPORT_ONLY),
    Keyword("olduids", _map_uids, IMPORT_ONLY),
    Keyword("fixkodak", _kodak, IMPORT_ONLY),
    Keyword("unfixkodak", _kodak, IMPORT_ONLY),
    TO_MONO,
    CROP,
    Keyword("scrub ", _scrub, IMPORT_ONLY),
    COMPRESSION,
    Keyword("process with ", _process_with, IMPORT_ONLY),
)
