"""The sections `[node NAME]` of dicom.ini: from their lines to `NodeSettings`.

Values are read strictly, as no old file has such sections: what cannot be understood is an error
with its line and place, and the general setting stays in force. Not for the node's address
(`dgate.config.nodes`). Pure functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dgate.config import node_values
from dgate.config.ini import Entry, IniFile, Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import NODE, NODE_PREFIX, Key, KeyType
from dgate.config.model import Value
from dgate.config.node_settings import AS_STORED, Expect, NodeSettings, NodeTable, Priority
from dgate.config.node_values import BadValue
from dgate.config.nodes import NodeMap
from dgate.config.problem import Report

_AE_LENGTH = 16
_WHOLE = re.compile(r"[0-9]{1,12}")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_YES, _NO = ("1", "yes", "true", "on"), ("0", "no", "false", "off")
_PRIORITIES = {"stat": Priority.STAT, "normal": Priority.NORMAL, "bulk": Priority.BULK}
_RETRY_KEYS = ("RetryFirst", "RetryMax")


def node_sections(ini: IniFile) -> Iterator[tuple[str, Section]]:
    """Yield title, in lower case, and entries of each section about a node."""
    for section in ini.sections:
        name = section.name
        if name.lower().startswith(NODE_PREFIX) and name[len(NODE_PREFIX) :].strip():
            yield name[len(NODE_PREFIX) :].strip().lower(), section


def node_table(ini: IniFile, report: Report) -> NodeTable:
    """Return the settings of all nodes, and report what is wrong with their lines."""
    sections = dict(node_sections(ini))
    return NodeTable(
        {title: _node_settings(section, report) for title, section in sections.items()},
        {title: section.name[len(NODE_PREFIX) :].strip() for title, section in sections.items()},
    )


def node_values_of(ini: IniFile) -> tuple[Value, ...]:
    """Return every setting of a node that the file names, for `dgate config show`."""
    return tuple(
        Value(match.key, f"[{section.name}] {match.name}", entry.value, entry.line)
        for _, section in node_sections(ini)
        for entry in section.counting()
        if (match := REGISTRY.find(entry.key, NODE)) is not None
    )


def _node_settings(section: Section, report: Report) -> NodeSettings:
    fields: dict[str, Any] = {}
    for entry in section.counting():
        match = REGISTRY.find(entry.key, NODE)
        if match is None:
            _note_unknown(section, entry, report)
            continue
        key = match.key
        if not key.effective:
            _note_idle(section, entry, key, report)
        if not entry.value:
            message = f"[{section.name}] {key.name} has no value; the general setting counts"
            report.warning(entry.line, message, "write a value, or remove the line", 1)
            continue
        try:
            if key.type is KeyType.STATUSES:
                fields |= node_values.statuses(entry.value)._asdict()
            else:
                fields[key.feeds] = _READERS[key.type](key, entry.value)
        except BadValue as exc:
            message = f"[{section.name}] {key.name}: {exc.message}"
            report.error(entry.line, message, exc.advice, entry.column + exc.at)
    settings = NodeSettings(**fields)
    _look_at_pauses(section, settings, report)
    return settings


def _note_unknown(section: Section, entry: Entry, report: Report) -> None:
    if not entry.has_equals:
        message = f"the line {entry.key[:40]!r} is neither a comment nor key = value"
        report.warning(entry.line, message, "put # in front of comments", 1)
        return
    near = REGISTRY.nearest(entry.key, NODE)
    advice = f"did you mean {near}?" if near else "remove the line, or check the spelling"
    message = f"{entry.key} is not a known setting of a node and has no effect"
    report.warning(entry.line, f"[{section.name}] {message}", advice, 1)


def _note_idle(section: Section, entry: Entry, key: Key, report: Report) -> None:
    message = f"[{section.name}] {key.name} has no effect yet: {key.missing}"
    report.warning(entry.line, message, "put # in front of the line until then", 1)


def _look_at_pauses(section: Section, settings: NodeSettings, report: Report) -> None:
    first, longest = settings.retry_first_s, settings.retry_max_s
    entry = section.get("RetryFirst")
    if entry and first is not None and longest is not None and first > longest:
        message = f"[{section.name}] RetryFirst is longer than RetryMax"
        report.warning(entry.line, message, "raise RetryMax, the longest pause between two tries")
    if settings.retry_delay_s is not None:
        for name in _RETRY_KEYS:
            if found := section.get(name):
                message = f"[{section.name}] {name} has no effect, as RetryDelay is set"
                report.warning(found.line, message, "remove one of the two")


# Readers: they return what a text means, or raise BadValue.


def _integer(key: Key, text: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        raise BadValue(0, f"{text!r} is not a whole number", f"write {_range(key)}")
    return int(_within(key, int(text), text))


def _decimal(key: Key, text: str) -> float:
    if _DECIMAL.fullmatch(text) is None:
        raise BadValue(0, f"{text!r} is not a number", f"write {_range(key)}")
    return _within(key, float(text), text)


def _within(key: Key, number: float, text: str) -> float:
    least = -math.inf if key.least is None else key.least
    most = math.inf if key.most is None else key.most
    if not least <= number <= most:
        raise BadValue(0, f"{text} is out of range", f"write {_range(key)}")
    return number


def _range(key: Key) -> str:
    return f"a number from {key.least} to {key.most}"


def _flag(key: Key, text: str) -> bool:
    word = text.lower()
    if word not in (*_YES, *_NO):
        raise BadValue(0, f"{text!r} is neither yes nor no", "write yes or no")
    return word in _YES


def _priority(key: Key, text: str) -> Priority:
    priority = _PRIORITIES.get(text.lower())
    if priority is None:
        raise BadValue(0, f"{text!r} is no priority", f"write one of {', '.join(_PRIORITIES)}")
    return priority


def _expect(key: Key, text: str) -> Expect:
    word = text.lower()
    if word == Expect.STEPS.value:
        return Expect.STEPS
    if word not in (*_YES, *_NO):
        raise BadValue(0, f"{text!r} is neither yes, no nor mpps", "write yes, no or mpps")
    return Expect.QUERY if word in _YES else Expect.NOBODY


def _level(key: Key, text: str) -> str:
    if text.lower() not in key.choices:
        message = f"{text!r} is no level of a comparison"
        raise BadValue(0, message, f"write one of {', '.join(key.choices)}")
    return text.lower()


_CHOICES: Mapping[str, Callable[[Key, str], object]] = {
    "priority": _priority,
    "expect_counts": _expect,
    "reconcile_level": _level,
}


def _choice(key: Key, text: str) -> object:
    return _CHOICES[key.feeds](key, text)


def _title(key: Key, text: str) -> str:
    if len(text) > _AE_LENGTH or "\\" in text or not text.isascii() or not text.isprintable():
        raise BadValue(0, f"{text!r} cannot be an AE title", "write a title of acrnema.map")
    return text


_READERS: Mapping[KeyType, Callable[[Key, str], Any]] = {
    KeyType.INT: _integer,
    KeyType.SECONDS: _decimal,
    KeyType.MINUTES: _decimal,
    KeyType.BOOL: _flag,
    KeyType.CHOICE: _choice,
    KeyType.AE: _title,
    KeyType.TEXT: _title,
    KeyType.TIMES: lambda key, text: node_values.times(text),
    KeyType.RATES: lambda key, text: node_values.rates(text),
    KeyType.SYNTAXES: lambda key, text: node_values.syntaxes(text),
}


# What the sections show together.


def look_at_peers(table: NodeTable, ini: IniFile, nodes: NodeMap, report: Report) -> None:
    """Report fallbacks and groups that cannot work, and nodes that get objects re-encoded."""
    sections = dict(node_sections(ini))
    for title, settings in table.by_title.items():
        section = sections[title]
        _look_at_fallback(title, settings, section, table, nodes, report)
        _look_at_group(settings, section, table, nodes, report)
        if settings.transfer_syntaxes and settings.transfer_syntaxes[0] != AS_STORED:
            message = f"[{section.name}] TransferSyntaxes: objects are re-encoded where needed"
            advice = "put as in front to send them as they are stored, where the node takes that"
            report.info(_line(section, "TransferSyntaxes"), message, advice)


def _line(section: Section, key: str) -> int:
    entry = section.get(key)
    return section.line if entry is None else entry.line


def _look_at_fallback(
    title: str,
    settings: NodeSettings,
    section: Section,
    table: NodeTable,
    nodes: NodeMap,
    report: Report,
) -> None:
    name = f"[{section.name}]"
    if settings.fallback_after_min is not None and not (settings.fallback or settings.group):
        message = f"{name} FallbackAfter has no effect without Fallback or Group"
        report.warning(_line(section, "FallbackAfter"), message, "name the other node in Fallback")
    if not settings.fallback:
        return
    line = _line(section, "Fallback")
    if not nodes.names(settings.fallback) and not table.members(settings.fallback):
        message = f"{name} Fallback names {settings.fallback}, which acrnema.map does not have"
        near = nodes.nearest(settings.fallback)
        advice = f"did you mean {near}?" if near else "write the name as in acrnema.map"
        report.error(line, message, advice)
    chain = [title]
    following = settings.fallback.lower()
    while following and following not in chain:
        chain.append(following)
        following = table.of(following).fallback.lower()
    if following == title:
        way = " to ".join(one.upper() for one in (*chain, following))
        report.error(line, f"{name} Fallback goes round in a loop: {way}", "name another node")


def _look_at_group(
    settings: NodeSettings, section: Section, table: NodeTable, nodes: NodeMap, report: Report
) -> None:
    if not settings.group:
        return
    line = _line(section, "Group")
    if any(node.ae_title.lower() == settings.group.lower() for node in nodes):
        message = f"[{section.name}] Group = {settings.group} is the name of a node"
        report.error(line, message, "give the group a name that acrnema.map does not have")
    elif section.name.endswith("*"):
        message = f"[{section.name}] Group: a section for several nodes cannot be in a group"
        report.error(line, message, "write a section for each member")
    elif table.members(settings.group)[1:] == ():
        message = f"[{section.name}] is the only member of group {settings.group}"
        report.info(line, message, "write the same Group into the sections of the others")
