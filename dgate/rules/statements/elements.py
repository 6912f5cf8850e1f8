"""Changing elements: `set`, `setifempty`, `delete gggg,eeee` (spec converters.md 8.3)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from dgate.dicom.dictionary import KEYWORDS as ELEMENT_KEYWORDS
from dgate.dicom.element import vr_of
from dgate.errors import RuleError, StoreError
from dgate.rules.formats import Format, parse_format
from dgate.rules.run import CONTINUE, Run, Step, Value, log
from dgate.rules.statements.base import IMPORT_ONLY, Executable, Keyword, Scope, Statement
from dgate.rules.syntax import Text, quoted
from dgate.rules.tokens import Reading, Template, element_tag, parse_template
from dgate.rules.values import compile_template

_ELEMENT = r"(?:[0-9A-Fa-f]{4},[0-9A-Fa-f]{4}|[A-Za-z0-9]+)"
_NESTED = re.compile(rf"({_ELEMENT})(?:\.([0-9]+|\*))?/({_ELEMENT})")
_SET = re.compile(r'([^ ]+) (?:(to nil) *$|(to|if) (?=")|format (?="))', re.IGNORECASE)
_UNQUOTED = re.compile(r"[^ ]+ (?:to|if|format) ", re.IGNORECASE)
_SECOND = re.compile(r'" (to|if) (?=")', re.IGNORECASE)
_SHOWN = 80
_ABOUT_AS_LONG = 3
_NOT_IN_DATA_SET = frozenset((0x0000, 0x0002, 0xFFFE, 0xFFFF))
"""Groups of commands, of the file's header and of item delimiters."""
_LEVELS = ("patient", "study", "series", "image")

Assign = Callable[[Run, str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a `set` changes: a variable, a top-level element, or an element in a sequence item."""

    variable: str = ""
    tag: int = 0
    path: str = ""
    """`/seq.N/elem`, with `*` for N when an item is to be appended."""

    def assign(self) -> Assign:
        """Return the closure that stores a text in the target."""
        if self.variable:
            return self._variable()
        if self.path:
            return self._nested()
        return _sequence(self.tag) if vr_of(self.tag) == "SQ" else self._element()

    def _variable(self) -> Assign:
        name = self.variable

        def assign(run: Run, text: str) -> None:
            run.variables[name] = text

        return assign

    def _element(self) -> Assign:
        tag = self.tag

        def assign(run: Run, text: str) -> None:
            try:
                run.table.set_text(tag, text)
            except (ValueError, StoreError) as exc:
                raise RuleError(f"{_show(tag)} cannot be set: {exc}") from exc

        return assign

    def _nested(self) -> Assign:
        path = self.path

        def assign(run: Run, text: str) -> None:
            try:
                run.table.set_path(path, text)
            except (ValueError, StoreError) as exc:
                raise RuleError(f"{path} cannot be set: {exc}") from exc

        return assign


def _sequence(tag: int) -> Assign:
    def assign(run: Run, text: str) -> None:
        if text:
            raise RuleError(f"{_show(tag)} is a sequence and cannot be set to a text")
        if tag not in run.table:
            run.table.set_raw(tag, "SQ", b"")

    return assign


def _show(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True, slots=True)
class Set(Executable):
    """`set T to "v"`, `set T if "v"`, both also with `format "F"`."""

    target: Target
    value: Template
    unless_empty: bool = False
    form: Format | None = None

    def build(self, scope: Scope) -> Step:
        """Return the step that sets."""
        assign = self.target.assign()
        value = compile_template(self.value)
        if self.form is not None:
            return _formatted(assign, value, self.form.compile(), self.unless_empty)
        if self.unless_empty:
            return _set_if(assign, value)

        def step(run: Run) -> int:
            assign(run, value(run))
            return CONTINUE

        return step


def _set_if(assign: Assign, value: Value) -> Step:
    def step(run: Run) -> int:
        text = value(run)
        if text:
            assign(run, text)
        return CONTINUE

    return step


def _formatted(
    assign: Assign, value: Value, form: Callable[[Run, str], str], unless_empty: bool
) -> Step:
    def step(run: Run) -> int:
        text = value(run)
        if text or not unless_empty:
            assign(run, form(run, text))
        return CONTINUE

    return step


@dataclass(frozen=True, slots=True)
class Unset(Executable):
    """`set T to nil`, `delete gggg,eeee`: remove a top-level element or empty a variable."""

    target: Target

    def build(self, scope: Scope) -> Step:
        """Return the step that removes."""
        tag = self.target.tag
        name = self.target.variable

        def step(run: Run) -> int:
            if name:
                run.variables.pop(name, None)
            else:
                run.table.delete(tag)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class SetIfEmpty(Executable):
    """`setifempty T to "v"` and its `if` form, which are swapped on purpose (spec S10).

    Both act only on a missing or empty T. The `to` form does nothing for an empty v, the `if`
    form sets even that.
    """

    target: Target
    value: Template
    also_empty: bool

    def build(self, scope: Scope) -> Step:
        """Return the step that sets."""
        assign = self.target.assign()
        value = compile_template(self.value)
        name, tag, also_empty = self.target.variable, self.target.tag, self.also_empty

        def step(run: Run) -> int:
            if run.variables.get(name) if name else run.table.raw(tag):
                return CONTINUE
            text = value(run)
            if text or also_empty:
                assign(run, text)
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class DeleteLevel(Executable):
    """`delete patient|study|series|image` in an import line, where it deletes nothing (S4)."""

    level: str

    def build(self, scope: Scope) -> Step:
        """Return the step that does nothing but says so."""
        number, level = scope.number, self.level

        def step(run: Run) -> int:
            log.warning("%s.%d: delete %s has no effect in import lines", run.label, number, level)
            return CONTINUE

        return step


def parse_target(text: Text) -> Target:
    """Parse what stands between `set` and `to`."""
    if "%" in text.value:
        raise text.fail("the element to set must not contain %-tokens", at=text.value.index("%"))
    if text.value.lower() in ("x", "y", "z"):
        return Target(variable=text.value.lower())
    nested = _NESTED.fullmatch(text.value)
    if nested is None:
        return Target(tag=_known_tag(text))
    sequence, item, element = nested.groups()
    if vr_of(_known_tag(text.cut(0, nested.end(1)))) != "SQ":
        raise text.fail(f"{sequence} is not a sequence")
    _known_tag(text.cut(nested.start(3)))
    return Target(path=f"/{sequence}.{item or 0}/{element}")


def _known_tag(text: Text) -> int:
    tag = element_tag(text.value)
    if tag is None:
        near = _nearest_keywords(text.value[:_SHOWN])
        remedy = f"did you mean {near[0]}?" if near else "write gggg,eeee or a DICOM keyword"
        raise text.fail(f"{text.value[:_SHOWN]} is not an element", remedy=remedy)
    if tag >> 16 in _NOT_IN_DATA_SET:
        raise text.fail(f"group {tag >> 16:04X} is not part of an object's data set")
    return tag


def _nearest_keywords(word: str) -> list[str]:
    """Return the keyword that was probably meant, if there is one.

    Only those that begin alike and are about as long are compared: all five thousand would take a
    tenth of a second for each mistake.
    """
    begin = word[:1].upper()
    least, most = len(word) - _ABOUT_AS_LONG, len(word) + _ABOUT_AS_LONG
    alike = [
        keyword
        for keyword in ELEMENT_KEYWORDS
        if keyword.startswith(begin) and least <= len(keyword) <= most
    ]
    return difflib.get_close_matches(word, alike, n=1)


def _set(text: Text, rest: Text, reading: Reading) -> Statement:
    found = _SET.match(rest.value)
    if found is None:
        raise _misplaced_quote(rest)
    target = parse_target(rest.cut(0, found.end(1)))
    if found.group(2):
        if target.path:
            raise rest.fail("only top-level elements can be set to nil")
        return Unset(text.column, target)
    argument = rest.cut(found.end())
    if found.group(3):
        value = parse_template(quoted(argument, "the value"), reading)
        return Set(text.column, target, value, found.group(3).lower() == "if")
    second = _SECOND.search(argument.value, 1)
    if second is None:
        raise argument.fail('the format must be followed by " to "value"', at=len(argument.value))
    form = parse_format(argument.cut(1, second.start()), reading)
    value = parse_template(quoted(argument.cut(second.end()), "the value"), reading)
    return Set(text.column, target, value, second.group(1).lower() == "if", form)


def _misplaced_quote(rest: Text) -> RuleError:
    unquoted = _UNQUOTED.match(rest.value)
    if unquoted is not None:
        return rest.fail(
            'the value must stand in double quotes: expected " here', at=unquoted.end()
        )
    element = rest.value.partition(" ")[0]
    return rest.fail(
        "the element must be followed by one blank and to, if or format",
        at=len(element),
        remedy='write: set Element to "value"',
    )


def _set_if_empty(text: Text, rest: Text, reading: Reading) -> Statement:
    found = _SET.match(rest.value)
    if found is None:
        raise _misplaced_quote(rest)
    if not found.group(3):
        raise rest.fail("setifempty is followed by to or if and a value", at=found.end(1))
    target = parse_target(rest.cut(0, found.end(1)))
    if target.path:
        raise rest.fail("setifempty works on top-level elements only")
    value = parse_template(quoted(rest.cut(found.end()), "the value"), reading)
    return SetIfEmpty(text.column, target, value, found.group(3).lower() == "if")


def _delete(text: Text, rest: Text, reading: Reading) -> Statement:
    word = rest.value.partition(" ")[0].lower()
    if word in _LEVELS:
        reading.note(
            f"delete {word} has no effect in an import line: nothing is deleted",
            rest.column,
            "it works in export lines",
        )
        return DeleteLevel(text.column, word)
    return Unset(text.column, Target(tag=_known_tag(rest.rstrip())))


KEYWORDS = (
    Keyword("set ", _set, IMPORT_ONLY),
    Keyword("setifempty ", _set_if_empty, IMPORT_ONLY),
    Keyword("delete ", _delete, IMPORT_ONLY),
)
