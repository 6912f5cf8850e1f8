"""What a changed configuration changes: in words for people, and what waits for a restart.

Pure functions over two configurations. Secrets stay out of the words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dgate.config.ini import Section
from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, NODE, Key, registered
from dgate.config.model import Configuration, Value
from dgate.config.nodes import Node
from dgate.config.soplist import SopList
from dgate.printable import printable

MOST_LINES = 40
"""Lines of a difference that are shown of each file."""
LAYOUT = "dicom.sql"
_LONGEST_VALUE = 160
_UNKNOWN = "(not shown)"
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


def _only_grown(old: tuple[object, ...], new: tuple[object, ...]) -> bool:
    return new[: len(old)] == old


_LIVE_IF: dict[str, Callable[[Any, Any], bool]] = {"mag_devices": _only_grown}
"""Fields of which some changes do not need the restart that their key asks for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """A change that takes effect at the next start only."""

    name: str
    """The key, or the file."""
    line: str
    """What is logged."""


def held_back(running: Configuration, wanted: Configuration) -> tuple[Configuration, list[Waiting]]:
    """Return `wanted` with what needs a restart as it is in `running`, and a list of that."""
    kept: dict[str, Any] = {}
    held: set[str] = set()
    waiting: dict[str, Waiting] = {}
    for key in REGISTRY:
        if key.live or not key.feeds:
            continue
        old = getattr(running.settings, key.feeds)
        new = getattr(wanted.settings, key.feeds)
        if old == new or _LIVE_IF.get(key.feeds, _never)(old, new):
            continue
        kept[key.feeds] = old
        held.add(key.name)
        for name, words in _restarts(key, running, wanted):
            line = f"{words} needs a restart; the old value counts till then"
            waiting[name] = Waiting(name, line)
    settings = dataclasses.replace(wanted.settings, **kept)
    values = (
        *(value for value in wanted.values if value.key.name not in held),
        *(value for value in running.values if value.key.name in held),
    )
    layout = wanted.layout
    if running.layout != wanted.layout:
        layout = running.layout
        if not kept.keys() & {"k_factor_file", "truncate_field_names", "max_field_length"}:
            words = f"{LAYOUT}: the new layout needs a restart; the old one counts till then"
            waiting[LAYOUT] = Waiting(LAYOUT, words)
    merged = dataclasses.replace(wanted, settings=settings, layout=layout, values=values)
    return merged, list(waiting.values())


def differences(old: Configuration, new: Configuration) -> list[str]:
    """Return what the files of `new` say differently from those of `old`, a line for each change.

    Both as read, with what waits for a restart. Empty when only comments and layout differ.
    """
    lines: list[str] = []
    for part in (
        _settings(old, new),
        _sections(old, new),
        _nodes(old, new),
        _layout(old, new),
        _sop_list(old.sop_list, new.sop_list),
    ):
        lines += _shortened(list(part))
    return lines


def _never(old: object, new: object) -> bool:
    return False


def _restarts(key: Key, running: Configuration, wanted: Configuration) -> Iterator[tuple[str, str]]:
    """Yield name and change of each setting of a key that differs between the two."""
    before = {value.name: value for value in running.values if value.key is key}
    after = {value.name: value for value in wanted.values if value.key is key}
    for name, old, new in _compared(before, after):
        if old is None or new is None or old.text != new.text:
            yield name, _change(old, new, wanted)


def _settings(old: Configuration, new: Configuration) -> Iterator[str]:
    before = {value.name: value for value in old.values if value.key.section == MAIN}
    after = {value.name: value for value in new.values if value.key.section == MAIN}
    for _, first, second in _compared(before, after):
        if first is None or second is None or first.text != second.text:
            yield _change(first, second, new)


def _change(old: Value | None, new: Value | None, configuration: Configuration) -> str:
    """Say how one setting changes; an old or a new one is there."""
    value = new or old
    assert value is not None
    file = configuration.settings.ini_path.name
    if new is None:
        return f"{value.name}: {_shown(value)} removed"
    place = f" ({file}:{new.line})" if new.line is not None else " (the default)"
    if old is None:
        return f"{value.name}: {_shown(new)} added{place}"
    if value.key.secret:
        return f"{value.name}: changed{place}"
    return f"{value.name}: {_shown(old)} -> {_shown(new)}{place}"


def _shown(value: Value) -> str:
    if value.key.secret:
        return _UNKNOWN
    return _cut(value.text) or "(empty)"


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _sections(old: Configuration, new: Configuration) -> Iterator[str]:
    """Yield what changes in the other sections of dicom.ini."""
    before, after = _other_sections(old), _other_sections(new)
    file = new.settings.ini_path.name
    for _, first, second in _compared(before, after):
        old_entries = _entries(first)
        new_entries = _entries(second)
        name = (second or first or Section("", 0)).name
        for _, was, entry in _compared(old_entries, new_entries):
            if was == entry:
                continue
            # What a section of another program holds may be a password: only scripts and
            # the known settings of nodes are shown.
            spelled = (entry or was or ("", "", 0))[0]
            is_open = name.lower() in ("lua", "scripts") or (
                registered(name) == NODE and REGISTRY.find(spelled, NODE) is not None
            )
            key = f"[{name}] {spelled}"
            if entry is None:
                yield f"{key}: removed"
            elif was is None:
                text = _cut(entry[1]) if is_open else _UNKNOWN
                yield f"{key}: {text} added ({file}:{entry[2]})"
            elif was[1] != entry[1]:
                text = f"{_cut(was[1])} -> {_cut(entry[1])}" if is_open else "changed"
                yield f"{key}: {text} ({file}:{entry[2]})"


def _other_sections(configuration: Configuration) -> dict[str, Section]:
    """Return the sections that hold no settings of the main section, by lower-case name."""
    if configuration.ini is None:
        return {}
    profile = configuration.settings.profile.lower()
    return {
        section.name.lower(): section
        for section in configuration.ini.sections
        if section.name.lower() != profile
    }


def _entries(section: Section | None) -> dict[str, tuple[str, str, int]]:
    if section is None:
        return {}
    return {entry.key.lower(): (entry.key, entry.value, entry.line) for entry in section.counting()}


def _nodes(old: Configuration, new: Configuration) -> Iterator[str]:
    file = new.settings.acrnema_map.name
    before, after = _by_title(old.nodes), _by_title(new.nodes)
    for (title, _), was, node in _compared(before, after):
        if node is None and was is not None:
            yield f"{file}: node {title} removed"
        elif node is not None and was is None:
            yield f"{file}:{node.line}: node {title} added: {_address(node)}"
        elif node is not None and was is not None and _address(was) != _address(node):
            yield f"{file}:{node.line}: node {title}: {_address(was)} -> {_address(node)}"
    common = before.keys() & after.keys()
    if [title for title in before if title in common] != [t for t in after if t in common]:
        yield f"{file}: the order of the nodes has changed"


def _by_title(nodes: Iterable[Node]) -> dict[tuple[str, int], Node]:
    """Return the nodes by title, and by how manieth of that title they are."""
    seen: dict[str, int] = {}
    found = {}
    for node in nodes:
        number = seen[node.ae_title] = seen.get(node.ae_title, -1) + 1
        found[node.ae_title, number] = node
    return found


def _address(node: Node) -> str:
    return _cut(" ".join((node.host, node.port, node.compression, *node.extra)))


def _layout(old: Configuration, new: Configuration) -> Iterator[str]:
    if old.layout == new.layout:
        return
    file = new.settings.k_factor_file.name
    for level in ("patient", "study", "series", "image", "worklist"):
        before = getattr(old.layout, level, None)
        after = getattr(new.layout, level, None)
        if before == after:
            continue
        first = {column.name: column for column in before.columns} if before else {}
        second = {column.name: column for column in after.columns} if after else {}
        for name, was, column in _compared(first, second):
            if was == column:
                continue
            what = "added" if was is None else "removed" if column is None else "changed"
            yield f"{file}: column {name} of the {level} table {what}"


def _sop_list(old: SopList, new: SopList) -> Iterator[str]:
    for field in dataclasses.fields(SopList):
        before: frozenset[str] | None = getattr(old, field.name)
        after: frozenset[str] | None = getattr(new, field.name)
        if before == after:
            continue
        name = f"dgatesop.lst: {field.name.replace('_ae', ' AE')}"
        if after is None:
            yield f"{name}: everything is accepted now"
            continue
        if before is None:
            yield f"{name}: only what is listed is accepted now"
        for uid in sorted(after - (before or frozenset())):
            yield f"{name}: {_cut(uid)} added"
        for uid in sorted((before or frozenset()) - after):
            yield f"{name}: {_cut(uid)} removed"


def _compared(
    before: Mapping[_K, _V], after: Mapping[_K, _V]
) -> Iterator[tuple[_K, _V | None, _V | None]]:
    """Yield what either has, in the order of `after`, then what is gone."""
    for key, value in after.items():
        yield key, before.get(key), value
    for key, value in before.items():
        if key not in after:
            yield key, value, None


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES} more changes there"]
