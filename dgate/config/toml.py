"""dicom.ini and acrnema.map as one TOML document, and back.

Nothing is lost but comments and layout: sections in parts and in order, keys with their spelling,
values, keys that stand there twice, lines without `=`. Numbers stand without quotes where that does
not change a digit. Pure functions.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dgate.config.edit import quoted
from dgate.config.ini import IniFile
from dgate.config.nodes import Node, NodeMap
from dgate.errors import ConfigError

FORMAT = 1
_HEAD = """\
# Written by: dgate config export --toml
# Read by:    dgate config import --toml FILE
"""
_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,17}")
_BREAKING = re.compile(r"[\r\n]")
_NODE_FIELDS = ("ae_title", "host", "port", "compression")


@dataclass(frozen=True, slots=True)
class Part:
    """The lines of dicom.ini below one section header, or above the first."""

    section: str | None
    """None above the first header."""
    continued: bool
    """Whether the part goes on without a header of its own, as TOML has each key once."""
    entries: tuple[tuple[str, str | None], ...]
    """Key and value; None for a line without `=`."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a TOML document holds."""

    parts: tuple[Part, ...]
    nodes: tuple[Node, ...] | None
    """None when the document says nothing about nodes."""


def document_of(ini: IniFile, nodes: NodeMap) -> Document:
    """Return the content of two files."""
    return Document(tuple(_parts(ini)), tuple(nodes))


def _parts(ini: IniFile) -> Iterable[Part]:
    section: str | None = None
    continued = False
    entries: list[tuple[str, str | None]] = []
    keys: set[str] = set()
    for number in range(1, len(ini.written_lines) + 1):
        header = ini.header_at(number)
        entry = ini.entry_at(number)
        twice = entry is not None and entry.key in keys
        if header is not None or twice:
            if section is not None or entries:
                yield Part(section, continued, tuple(entries))
            section = section if header is None else header
            continued = header is None
            entries, keys = [], set()
        if entry is not None:
            entries.append((entry.key, entry.value if entry.has_equals else None))
            keys.add(entry.key)
    if section is not None or entries:
        yield Part(section, continued, tuple(entries))


def to_toml(document: Document) -> str:
    """Return the document as text."""
    # Imported here, as only an export needs it.
    import tomli_w

    data: dict[str, Any] = {"format": FORMAT}
    data["part"] = [_part_table(part) for part in document.parts]
    if document.nodes is not None:
        data["node"] = [_node_table(node) for node in document.nodes]
    return _HEAD + tomli_w.dumps(data)


def _part_table(part: Part) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if part.section is not None:
        table["section"] = part.section
    if part.continued:
        table["continued"] = True
    table["settings"] = {key: _toml_value(value) for key, value in part.entries}
    return table


def _toml_value(value: str | None) -> str | int | bool:
    if value is None:
        return True
    return int(value) if _CANONICAL.fullmatch(value) else value


def _node_table(node: Node) -> dict[str, Any]:
    table: dict[str, Any] = {name: getattr(node, name) for name in _NODE_FIELDS}
    if node.extra:
        table["extra"] = list(node.extra)
    return table


def from_toml(text: str, where: str) -> Document:
    """Read a document.

    Raises ConfigError: it is no TOML, or not of this form.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        remedy = "dgate config export --toml shows what is expected"
        raise ConfigError(f"this is not TOML: {exc}", where=where, remedy=remedy) from exc
    except ValueError as exc:
        # Python does not convert integers of thousands of digits.
        raise ConfigError(f"this cannot be read: {exc}", where=where) from exc
    if data.get("format") != FORMAT:
        what = f"the document has no line: format = {FORMAT}"
        raise ConfigError(what, where=where, remedy="write it with: dgate config export --toml")
    unknown = sorted(set(data) - {"format", "part", "node"})
    if unknown:
        _fail(where, f"{unknown[0]} is not known here")
    parts = [_part(table, where) for table in _tables(data.get("part", []), "part", where)]
    _check_order(parts, where)
    nodes = None
    if "node" in data:
        nodes = tuple(_node(table, where) for table in _tables(data["node"], "node", where))
    return Document(tuple(parts), nodes)


def _fail(where: str, what: str) -> None:
    raise ConfigError(what, where=where, remedy="dgate config export --toml shows what is expected")


def _tables(found: object, name: str, where: str) -> Sequence[Mapping[str, object]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        _fail(where, f"{name} has to be written as [[{name}]]")
    return cast(Sequence[Mapping[str, object]], found)


def _part(table: Mapping[str, object], where: str) -> Part:
    section = table.get("section")
    settings = table.get("settings", {})
    if not isinstance(settings, dict) or not (section is None or isinstance(section, str)):
        _fail(where, "a part has a section (text) and settings (a table)")
    if unknown := sorted(set(table) - {"section", "continued", "settings"}):
        _fail(where, f"{unknown[0]} is not known in a part")
    if isinstance(section, str) and (_BREAKING.search(section) or "]" in section):
        _fail(where, f"{section!r} cannot be the name of a section")
    entries = tuple(
        (_key(key, where), _value(key, value, where))
        for key, value in cast(dict[str, object], settings).items()
    )
    return Part(cast(str | None, section), table.get("continued") is True, entries)


def _check_order(parts: Sequence[Part], where: str) -> None:
    """Refuse parts that would become lines of another section."""
    for before, part in itertools.pairwise(parts):
        if part.continued and part.section != before.section:
            _fail(where, f"a part goes on with {part.section}, but follows {before.section}")
        if part.section is None and not part.continued:
            _fail(where, "only the first part may be without a section")


def _key(key: str, where: str) -> str:
    # An empty key stands for a line such as `= text`, which some file may hold.
    if _BREAKING.search(key) or "=" in key or key != key.strip(" \t") or "\0" in key:
        _fail(where, f"{key!r} cannot be the name of a setting")
    if key.startswith(("[", "#", ";", "//")):
        _fail(where, f"{key!r} would be a comment or a section, not a setting")
    return key


def _value(key: str, value: object, where: str) -> str | None:
    if value is True:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        _fail(where, f"the value of {key} is neither text nor a whole number")
    text = str(value)
    if _BREAKING.search(text) or "\0" in text:
        _fail(where, f"the value of {key} has a line end in it")
    return text


def _node(table: Mapping[str, object], where: str) -> Node:
    extra = table.get("extra", [])
    columns = [table.get(name, "un" if name == "compression" else None) for name in _NODE_FIELDS]
    words = [*columns, *extra] if isinstance(extra, list) else [None]
    words = [str(word) if type(word) is int else word for word in words]
    for word in words:
        if not isinstance(word, str) or word.split() != [word] or not _is_plain(word):
            fields = ", ".join(_NODE_FIELDS)
            _fail(where, f"a node has the words {fields}, each without blanks: {word!r}")
    if unknown := sorted(set(table) - {*_NODE_FIELDS, "extra"}):
        _fail(where, f"{unknown[0]} is not known in a node")
    title, host, port, code, *rest = cast(list[str], words)
    return Node(title, host, port, code, tuple(rest))


def _is_plain(word: str) -> bool:
    """Tell whether a word would not be taken for a comment."""
    return not any(mark in word for mark in ("#", "//", ";", "/*", "\0"))


def ini_text(document: Document) -> str:
    """Return a dicom.ini with this content and nothing else."""
    lines: list[str] = []
    for part in document.parts:
        if part.section is not None and not part.continued:
            lines += [*([""] if lines else []), f"[{part.section}]"]
        for key, value in part.entries:
            # A line must not begin with a blank, not even where the key is empty.
            named = f"{key} = {quoted(value or '')}".strip(" ")
            lines.append(key if value is None else named)
    return "\n".join([*lines, ""])


def map_text(nodes: Sequence[Node]) -> str:
    """Return an acrnema.map with these nodes and a header."""
    lines = ["# AE title      host                     port    code"]
    for node in nodes:
        row = f"{node.ae_title:<15} {node.host:<24} {node.port:<7} {node.compression}"
        lines.append(" ".join([row, *node.extra]))
    return "\n".join([*lines, ""])


def same_shape(first: Document, second: Document) -> bool:
    """Tell whether two documents have the same keys in the same order, whatever the values."""
    return [_shape(part) for part in first.parts] == [_shape(part) for part in second.parts]


def _shape(part: Part) -> tuple[str | None, bool, tuple[tuple[str, bool], ...]]:
    keys = tuple((key, value is None) for key, value in part.entries)
    return part.section, part.continued, keys
