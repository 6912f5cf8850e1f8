"""Unit tests for rules: what a site expects of them, in a TOML file beside its dicom.ini.

A test names an object, or the values of one, and the association that brings it; and what has to
come of it. The rules that run are those of the configuration, traced, so nothing is stored or sent.
The format is told in docs/trace.md. Pure but for the object files that tests name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dgate.archive.export import read_head
from dgate.archive.files import FileReader
from dgate.dicom.element import parse_tag, vr_of
from dgate.dicom.encode import UTF_8, encode_data_set
from dgate.dicom.recompress import gathered
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.errors import ConfigError, DgateError
from dgate.tracing.report import DestinationTrace, ObjectTrace
from dgate.tracing.tracer import PATIENT_ID, SOP_CLASS, SOP_INSTANCE, Subject, Tracer

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_TEST_KEYS = {"name", "object", "tags", "association", "expect"}
_ASSOCIATION_KEYS = {"calling", "called"}
_LISTS = ("destinations", "fires", "silent", "removed", "unchanged", "changes")
_TEXTS = ("outcome", "device", "reason")
_OUTCOMES = ("keep", "destroy", "reject")
_DESTINATION_KEYS = {"target", "rule", "host", "port", "calling", "called", "compression"}


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One test."""

    name: str
    where: str
    """The file, with the number of the test from 1."""
    object: Path | None
    tags: Mapping[int, str]
    """What is set in the object before it arrives."""
    calling: str
    called: str
    expect: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a test."""

    name: str
    faults: tuple[str, ...]
    """What is other than expected; empty: the test passed."""
    trace: ObjectTrace | None
    """None where the object could not even be made."""


def read_tests(path: Path) -> list[RuleTest]:
    """Return the tests of a file.

    Raises:
        ConfigError: the file cannot be read, or is not written as tests are.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", where=str(path)) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"is not TOML: {exc}", where=str(path)) from exc
    tests = document.pop("test", None)
    if document or not isinstance(tests, list) or not tests:
        raise ConfigError(
            f"has {', '.join(document) or 'no tests'}",
            where=str(path),
            remedy="begin with [[test]]",
        )
    return [_test(path, number, table) for number, table in enumerate(tests, 1)]


def run_test(tracer: Tracer, test: RuleTest, own_title: str) -> Verdict:
    """Trace the object of a test and compare what comes of it with what is expected."""
    try:
        subject = Subject(test.name, _table(test), test.calling, test.called or own_title, None)
        before = subject.table
        trace, after = tracer.trace_with_result(subject)
    except (DgateError, OSError, ValueError) as exc:
        return Verdict(test.name, (f"the object cannot be made: {exc}",), None)
    return Verdict(test.name, tuple(_faults(test.expect, trace, before, after)), trace)


# reading


def _test(path: Path, number: int, table: object) -> RuleTest:
    where = f"{path} test {number}"
    if not isinstance(table, dict):
        raise ConfigError("a test is a table", where=where, remedy="write [[test]]")
    _only(table, _TEST_KEYS, where)
    name = str(table.get("name") or f"test {number}")
    where = f"{where} ({name})"
    association = _table_of(table, "association", where)
    _only(association, _ASSOCIATION_KEYS, f"{where} association")
    expect = _table_of(table, "expect", where)
    if not expect:
        raise ConfigError("nothing is expected", where=where, remedy="add [test.expect]")
    _check_expectations(expect, f"{where} expect")
    named = table.get("object")
    tags = {
        _tag(key, f"{where} tags"): str(value)
        for key, value in _table_of(table, "tags", where).items()
    }
    if named is None and not tags:
        raise ConfigError("there is no object", where=where, remedy="add object or [test.tags]")
    return RuleTest(
        name,
        where,
        None if named is None else path.parent / str(named),
        tags,
        str(association.get("calling", "")),
        str(association.get("called", "")),
        expect,
    )


def _check_expectations(expect: Mapping[str, Any], where: str) -> None:
    _only(expect, {*_LISTS, *_TEXTS, "values"}, where)
    for key in _LISTS:
        if not isinstance(expect.get(key, []), list):
            raise ConfigError(f"{key} is not a list", where=where, remedy=f'write {key} = ["..."]')
    for key in _TEXTS:
        if not isinstance(expect.get(key, ""), str):
            raise ConfigError(f"{key} is not a text", where=where)
    if expect.get("outcome", "keep") not in _OUTCOMES:
        raise ConfigError(f"outcome is none of {', '.join(_OUTCOMES)}", where=where)
    if not isinstance(expect.get("values", {}), dict):
        raise ConfigError("values is not a table", where=where, remedy="write [test.expect.values]")
    for key in (
        *expect.get("removed", []),
        *expect.get("unchanged", []),
        *expect.get("changes", []),
    ):
        _tag(key, where)
    for wanted in expect.get("destinations", []):
        if isinstance(wanted, dict):
            _only(wanted, _DESTINATION_KEYS, f"{where} destinations")


def _only(table: Mapping[str, object], known: set[str], where: str) -> None:
    strange = sorted(set(table) - known)
    if strange:
        raise ConfigError(
            f"{', '.join(strange)} is not known",
            where=where,
            remedy=f"use {', '.join(sorted(known))}",
        )


def _table_of(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{key} is not a table", where=where, remedy=f"write [test.{key}]")
    return found


def _tag(key: object, where: str) -> int:
    tag = parse_tag(key) if isinstance(key, str) else None
    if tag is None:
        raise ConfigError(
            f"{key!r} is no element", where=where, remedy="write a DICOM keyword or gggg,eeee"
        )
    return tag


# the object


def _table(test: RuleTest) -> ElementTable:
    if test.object is not None:
        with closing(FileReader.of(str(test.object))) as reader:
            meta, _ = read_head(reader)
            table = ElementTable(reader.data(meta.data_offset), meta.syntax)
        for tag, text in test.tags.items():
            table.set_text(tag, text)
        return table.snapshot() if not test.tags else _settled(table)
    values: dict[int, str] = {
        SOP_CLASS: _SECONDARY_CAPTURE,
        SOP_INSTANCE: "2.25.1",
        _STUDY: "2.25.2",
        _SERIES: "2.25.3",
        PATIENT_ID: "TEST",
    }
    values.update(test.tags)
    for tag in test.tags:
        if vr_of(tag) == "SQ":
            raise ValueError("a sequence needs an object file")
    charset = "" if all(text.isascii() for text in values.values()) else UTF_8
    return ElementTable(encode_data_set(values, EXPLICIT_LE, charset), EXPLICIT_LE)


def _settled(table: ElementTable) -> ElementTable:
    """Return the object with what was set as part of it, so that rules start from there."""
    return ElementTable(gathered(table.parts()), table.syntax)


# comparing


def _faults(
    expect: Mapping[str, Any], trace: ObjectTrace, before: ElementTable, after: ElementTable
) -> Iterator[str]:
    wanted = expect.get("outcome", "keep")
    if trace.outcome != wanted:
        reason = f" ({trace.reason})" if trace.reason else ""
        yield f"the outcome is {trace.outcome}{reason}, not {wanted}"
    if "device" in expect and trace.device != expect["device"]:
        yield f"the device is {trace.device or 'none'}, not {expect['device'] or 'none'}"
    if expect.get("reason", "") not in trace.reason:
        yield f"the reason is {trace.reason!r}, without {expect['reason']!r}"
    fired = trace.fired
    for rule in expect.get("fires", []):
        if rule not in fired:
            yield f"{rule} does not run: {_why_silent(trace, rule)}"
    for rule in expect.get("silent", []):
        if rule in fired:
            yield f"{rule} runs"
    yield from _element_faults(expect, trace, before, after)
    if "destinations" in expect:
        yield from _destination_faults(expect["destinations"], trace.destinations)


def _why_silent(trace: ObjectTrace, rule: str) -> str:
    found = next((one for one in (*trace.imports, *trace.exports) if one.rule == rule), None)
    return "there is no such rule" if found is None else found.reason


def _element_faults(
    expect: Mapping[str, Any], trace: ObjectTrace, before: ElementTable, after: ElementTable
) -> Iterator[str]:
    for key, value in expect.get("values", {}).items():
        text = after.element_path(key)
        if text != str(value):
            yield f"{key} is {text!r}, not {str(value)!r}"
    for key in expect.get("removed", []):
        if _tag(key, "") in after:
            yield f"{key} is still there: {after.element_path(key)!r}"
    for key in expect.get("unchanged", []):
        tag = _tag(key, "")
        if before.raw(tag) != after.raw(tag):
            yield f"{key} is changed: {before.element_path(key)!r} -> {after.element_path(key)!r}"
    if "changes" in expect:
        wanted = {_tag(key, "") for key in expect["changes"]}
        found = {int(one.path[1:5] + one.path[6:10], 16): one for one in trace.changes}
        for tag in sorted(found.keys() - wanted):
            yield f"{found[tag].keyword or found[tag].path} is changed, which is not expected"
        for tag in sorted(wanted - found.keys()):
            yield f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is not changed"


def _destination_faults(wanted: list[Any], found: list[DestinationTrace]) -> Iterator[str]:
    left = list(found)
    for one in wanted:
        table = one if isinstance(one, dict) else {"target": str(one)}
        match = next((place for place in left if _matches(place, table)), None)
        if match is None:
            shown = ", ".join(f"{key} {value}" for key, value in table.items())
            yield f"nothing is sent to {shown}"
        else:
            left.remove(match)
    for place in left:
        yield f"it is also sent to {place.target} by {place.rule}"


def _matches(place: DestinationTrace, wanted: Mapping[str, Any]) -> bool:
    return all(getattr(place, key) == value for key, value in wanted.items())
