"""What templates are worth for an object: templates to closures, compiled once (spec 7).

The text side is `dgate.rules.tokens`. Pure functions; the closures belong to whoever runs them.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable

from dgate.dicom.element import vr_of
from dgate.dicom.table import ElementTable
from dgate.errors import RuleError, StoreError
from dgate.rules.run import Record, Run, Value
from dgate.rules.tokens import (
    OUTER,
    QUEUED_ID,
    Descriptor,
    Modifiers,
    Template,
    Token,
    element_tag,
)

ReadElement = Callable[[ElementTable], str]
"""Reads one element of an object as text."""

_MODALITY = 0x00080060
_STATION = 0x00081010
_SOP_INSTANCE = 0x00080018
_PATIENT_ID = 0x00100020

_BY_TOKEN = "percente"
"""MODType of what `%E` has entered."""
_SEQUENCE = "(sequence)"
_TOO_LONG = "(too long)"
_LONGEST = 255
_PIXELS = 0x7FE0
_SURELY_SHORT = 40
"""No text of so few characters comes from more than `_LONGEST` bytes."""

_ASKING = frozenset(("e", "r", "q"))
"""Tokens that ask the UID register or an alias file."""
_BAD_IN_NAMES = {code: "_" for code in (*range(32), 127, ord("/"))}
_RECORDS = {f"q{record.value}": record for record in Record}
_TWO_OBJECTS = re.compile(r"\(([^)]*)\)(.*)", re.DOTALL)

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,400})")
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")


def leading_integer(text: str) -> int:
    """Return the integer at the start of a text, 0 when there is none (as C's atoi)."""
    found = _INTEGER.match(text)
    return int(found.group(1)) if found else 0


def leading_number(text: str) -> float:
    """Return the number at the start of a text, 0 when there is none (as C's atof)."""
    found = _NUMBER.match(text)
    return float(found.group(1)) if found else 0.0


class FilePath(str):
    """The path of the object's own file: the only value that may bring folders into a name."""

    __slots__ = ()


def needs_file(templates: Iterable[Template]) -> bool:
    """Return whether a template asks for the object's file name."""
    return any(token.code in "fbp" for template in templates for token in template.tokens)


def reads_outside(templates: Iterable[Template]) -> bool:
    """Return whether a template asks the index, the UID register, an alias file or another stored
    object."""
    return any(
        token.code in _RECORDS
        or token.code in _ASKING
        or (token.descriptor is not None and token.descriptor.reads_other_object)
        for template in templates
        for token in template.tokens
    )


def compile_template(template: Template) -> Value:
    """Return the closure that gives the template's text for a run."""
    constant = template.constant
    if constant is not None:
        return lambda run: constant
    pieces = [_constant(part) if isinstance(part, str) else _value(part) for part in template.parts]
    if len(pieces) == 1:
        return pieces[0]
    return lambda run: "".join([piece(run) for piece in pieces])


def compile_path(template: Template) -> Value:
    """Return the closure that gives the template's text as the name of a file.

    What the object says is one part of the name: `/` and control characters become `_`, and so do
    values that are nothing but dots. So a header value never leads into another folder.
    """
    constant = template.constant
    if constant is not None:
        return lambda run: constant
    pieces = [
        _constant(part) if isinstance(part, str) else _named(_value(part))
        for part in template.parts
    ]
    return lambda run: "".join([piece(run) for piece in pieces])


def _named(value: Value) -> Value:
    def name(run: Run) -> str:
        text = value(run)
        if isinstance(text, FilePath):
            return text
        if text and not text.strip("."):
            return "_" * len(text)
        return text.translate(_BAD_IN_NAMES)

    return name


def compile_descriptor(descriptor: Descriptor) -> Value:
    """Return the closure that reads an element as text."""
    if descriptor.unknown:
        return _constant("")
    if descriptor.reads_other_object:
        return _other_object(descriptor.text)
    reading = _reading(descriptor.text, descriptor.tag)
    return lambda run: reading(run.table)


def _other_object(text: str) -> Value:
    """Return the closure for `(desc1)desc2`: desc2 of the stored object named by desc1."""
    found = _TWO_OBJECTS.fullmatch(text)
    assert found is not None, "the parser lets nothing else through"
    own, other = (_reading(path, _top_level(path)) for path in found.groups())

    def value(run: Run) -> str:
        sop_instance = own(run.table)
        if not sop_instance:
            return ""
        with run.env.stored(sop_instance, run.table.text(_PATIENT_ID)) as table:
            return "" if table is None else other(table)

    return value


def _top_level(path: str) -> int | None:
    return None if path.startswith(("/", "*")) else element_tag(path)


def _reading(path: str, tag: int | None) -> ReadElement:
    if tag is None:
        return _nested(path)
    return _sequence_mark(tag) if vr_of(tag) == "SQ" else _element(tag)


def _nested(path: str) -> ReadElement:
    def value(table: ElementTable) -> str:
        try:
            return table.element_path(path)
        except (StoreError, RecursionError) as exc:
            raise RuleError(f"{path} cannot be read: {exc}") from exc

    return value


def _element(tag: int) -> ReadElement:
    if tag >> 16 == _PIXELS:
        # Never read: pixel data is as long as objects get.
        return lambda table: _TOO_LONG if tag in table else ""

    def value(table: ElementTable) -> str:
        text = table.text(tag)
        if not text:
            return _blank(table, tag) if tag in table else ""
        if len(text) > _SURELY_SHORT and len(table.raw(tag) or b"") > _LONGEST:
            return _TOO_LONG
        return text

    return value


def _blank(table: ElementTable, tag: int) -> str:
    """Return what stands for an element without text: a value of one blank stays one (spec 7.2)."""
    if table.vr(tag) == "SQ":
        return _SEQUENCE
    return " " if table.raw(tag) == b" " else ""


def _sequence_mark(tag: int) -> ReadElement:
    return lambda table: _SEQUENCE if tag in table else ""


def _constant(text: str) -> Value:
    return lambda run: text


def _value(token: Token) -> Value:
    plain = _plain(token)
    modifiers = token.modifiers
    return plain if modifiers is None else _modified(plain, modifiers)


def _modified(plain: Value, modifiers: Modifiers) -> Value:
    apply = modifiers.apply
    return lambda run: apply(plain(run))


def _plain(token: Token) -> Value:
    code = token.code
    if code == OUTER:
        return _outer(token.index)
    if code in "xyz":
        return lambda run: run.variables.get(code, "")
    if token.descriptor is None:
        return _SIMPLE[code]
    if code in _RECORDS:
        return _record(_RECORDS[code], token.descriptor.tag)
    value = compile_descriptor(token.descriptor)
    if code == "q":
        letter = chr(token.index)
        return lambda run: run.env.files.alias(letter, value(run))
    if code == "e":
        return lambda run: run.env.uids.forward(_mappable(value(run)), kind=_BY_TOKEN)
    if code == "r":
        return lambda run: run.env.uids.back(_mappable(value(run))) or ""
    return value if code == "v" else lambda run: checksum(value(run))


def _mappable(text: str) -> str:
    """Return a value for the register, which must not take the mark of another for one."""
    if text in (_TOO_LONG, _SEQUENCE):
        raise RuleError(f"a value {text} cannot be replaced")
    return text


def _record(record: Record, tag: int | None) -> Value:
    if tag is None:
        return _constant("")
    return lambda run: run.env.record(record, run.table, tag)


def _outer(index: int) -> Value:
    def value(run: Run) -> str:
        try:
            return run.outer[index]
        except IndexError:
            raise RuleError("a value of the calling line is missing") from None

    return value


def checksum(text: str) -> str:
    """Return `%A` of a text: its CRC-32 without the final inversion, in decimal."""
    return str(zlib.crc32(text.encode("utf-8", "surrogateescape"), 0xFFFFFFFF) ^ 0xFFFFFFFF)


def _modality(run: Run) -> str:
    return run.captured.modality or run.table.text(_MODALITY)


def _station(run: Run) -> str:
    return run.captured.station or run.table.text(_STATION)


def _sop_instance(run: Run) -> str:
    return run.captured.sop_instance or run.table.text(_SOP_INSTANCE)


def _queued_id(run: Run) -> str:
    return run.captured.patient_id or run.table.text(_PATIENT_ID)


def _date(run: Run) -> str:
    return time.asctime(time.localtime(run.env.clock.now()))


_SIMPLE: dict[str, Value] = {
    "f": lambda run: FilePath(run.file()),
    "b": lambda run: run.file().stem,
    "p": lambda run: FilePath(run.file().parent),
    "m": _modality,
    "s": _station,
    "o": _sop_instance,
    "i": lambda run: run.table.text(_PATIENT_ID),
    QUEUED_ID: _queued_id,
    "u": lambda run: run.captured.calling,
    "c": lambda run: run.captured.called,
    "d": _date,
    "g": lambda run: run.env.new_uid(),
}
