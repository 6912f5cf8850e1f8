"""VirtualServerFor0..9: the nodes whose archives are offered here as well (spec dicom-ini.md 8).

What is asked of them is `dgate.services.virtual`'s. Pure functions, safe between threads.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from dgate.config.keys import Key
from dgate.config.model import VirtualServer
from dgate.config.nodes import NodeMap
from dgate.config.problem import Report
from dgate.config.values import Values

FIX_KODAK = "FIXKODAK"
CACHE_SERIES = "CACHESERIES"
CACHE_STUDIES = "CACHESTUDIES"
NON_VIRTUAL = "NONVIRTUAL"
WITHOUT_EFFECT = ("IMAGETYPEFIX", "IMAGETYPEFIX3")
"""Accepted, and reported as doing nothing."""
_FLAGS = (FIX_KODAK, CACHE_SERIES, CACHE_STUDIES, NON_VIRTUAL, *WITHOUT_EFFECT)
_FAMILY = "VirtualServerFor"
_AE_LENGTH = 16


@dataclass(frozen=True, slots=True)
class _Line:
    """The text of one setting, taken apart."""

    title: str
    flags: frozenset[str]
    unknown: tuple[str, ...]


def _parse(text: str) -> _Line:
    title, *words = (part.strip() for part in text.split(","))
    upper = [word.upper() for word in words if word]
    known = frozenset(word for word in upper if word in _FLAGS)
    return _Line(title, known, tuple(word for word in upper if word not in _FLAGS))


def virtual_servers(values: Values, report: Report) -> tuple[VirtualServer, ...]:
    """Return the virtual servers in the order of their numbers, and report what is odd."""
    servers = []
    for number in range(_numbers(values)):
        value = values.get(f"{_FAMILY}{number}")
        line = _parse(value.text)
        if value.is_default or not line.title:
            continue
        _note_flags(value.name, value.line, line, report)
        if len(line.title) > _AE_LENGTH or not line.title.isascii() or not line.title.isprintable():
            message = f"{value.name}: {line.title!r} cannot be an AE title"
            report.error(value.line, message, "write a title of acrnema.map")
            continue
        servers.append(
            VirtualServer(
                number,
                line.title,
                line.flags - frozenset(WITHOUT_EFFECT),
                max(0, values.integer(f"VirtualServerPerSeries{number}")),
                value.line or 0,
            )
        )
    return tuple(servers)


def look_at_servers(
    servers: tuple[VirtualServer, ...], own_title: str, nodes: NodeMap, report: Report
) -> None:
    """Report virtual servers that cannot be asked: unknown ones, doubles, this server itself."""
    seen: dict[str, VirtualServer] = {}
    for server in servers:
        name = f"{_FAMILY}{server.number}"
        if server.title == own_title:
            message = f"{name} = {server.title} is this server itself"
            report.error(server.line, message, "name another node, or remove the line")
        elif not nodes.names(server.title):
            message = f"{name} names {server.title}, which acrnema.map does not have"
            titles = [node.ae_title for node in nodes]
            near = difflib.get_close_matches(server.title, titles, 1)
            advice = f"did you mean {near[0]}?" if near else "add the node to acrnema.map"
            report.error(server.line, message, advice)
        elif server.title in seen:
            message = f"{name} names {server.title}, as VirtualServerFor{seen[server.title].number}"
            report.warning(server.line, message, "remove one of the two lines")
        seen.setdefault(server.title, server)


def _numbers(values: Values) -> int:
    key: Key = values.get(f"{_FAMILY}0").key
    return key.numbers


def _note_flags(name: str, line_number: int | None, line: _Line, report: Report) -> None:
    for word in line.unknown:
        near = difflib.get_close_matches(word, _FLAGS, 1)
        advice = f"did you mean {near[0]}?" if near else f"the flags are {', '.join(_FLAGS)}"
        report.warning(line_number, f"{name}: the flag {word} is not known", advice)
    for word in sorted(line.flags & frozenset(WITHOUT_EFFECT)):
        message = f"{name}: {word} has no effect: answers are passed on as the node gives them"
        report.info(line_number, message, "remove it")
