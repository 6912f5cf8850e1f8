"""acrnema.map: the known DICOM nodes and how an AE title is looked up.

Syntax and matching: spec acrnema-map.md sections 1 and 2. Not an access list by itself, and
nothing here resolves host names. Immutable, safe between threads.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dgate.config import codes
from dgate.config.problem import Problem, Report, column_of, lines_place
from dgate.config.text import decode, split_lines

DEFAULT_CODE = "un"
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
"""Only ASCII has letter case here: of other letters, a pair need not be a pair or of one length."""
_AE_LENGTH = 16
_LINE_COMMENT = re.compile(r"//|#|;")
# Stands for a line end inside a removed comment; decoding a file cannot give a lone surrogate.
_FOLDED = "\udc00"
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, slots=True)
class Node:
    """One line of the node table."""

    ae_title: str
    host: str
    port: str
    """Port number or TCP service name, as written."""
    compression: str = DEFAULT_CODE
    extra: tuple[str, ...] = ()
    """Further columns, which scripts may use."""
    line: int = 0

    def is_wildcard(self) -> bool:
        """Tell whether this line stands for every title with a certain beginning."""
        return self.ae_title.endswith("*")


class NodeMap:
    """The node table, in file order."""

    __slots__ = ("_exact", "_folded", "_nodes", "_wildcards")

    def __init__(self, nodes: tuple[Node, ...] = ()) -> None:
        self._nodes = nodes
        self._exact: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        self._wildcards: list[tuple[int, str]] = []
        for place, node in enumerate(nodes):
            self._folded.setdefault(node.ae_title.translate(LOWER), place)
            if node.is_wildcard():
                self._wildcards.append((place, node.ae_title[:-1].translate(LOWER)))
            else:
                self._exact.setdefault(node.ae_title, place)

    @classmethod
    def parse(cls, data: bytes, path: Path | str) -> tuple[NodeMap, list[Problem]]:
        """Read the file's bytes; lines that are no entry are left out and reported."""
        report = Report(str(path))
        text = decode(data, report).text.replace("\0", " ")
        written = split_lines(text)
        report.place = lines_place(written)
        nodes: list[Node] = []
        for number, line in _content_lines(text, report):
            node = _node(line.split(), number, report, written[number - 1])
            if node is not None:
                nodes.append(node)
        _note_hidden(nodes, report)
        return cls(tuple(nodes)), report.problems

    def find(self, ae: str) -> Node | None:
        """Return the node for the title `ae`, with wildcards filled in and `ae` as its title."""
        title = _trimmed(ae)
        place, rest = self._look_up(title)
        if place is None:
            return None
        node = self._nodes[place]
        return replace(node, ae_title=title) if rest is None else _filled(node, title, rest)

    def spelling(self, ae: str) -> str:
        """Return the one name of the node that `ae` means, however it is written; empty = unknown.

        Titles that lead to the same line are spelled as that line is. A wildcard's line gives the
        beginning, and the rest is in upper case, as most titles are.
        """
        written = _trimmed(ae)
        place, rest = self._look_up(written)
        if place is None:
            return ""
        title = self._nodes[place].ae_title
        if rest is None:
            return title
        name = title[:-1] + rest.translate(UPPER)
        # In upper case it may be that of another line.
        return name if self._look_up(name)[0] == place else written

    def _look_up(self, title: str) -> tuple[int | None, str | None]:
        """Return the place of the line for a title, and what a wildcard stands for in it."""
        if not title:
            return None, None
        folded = title.translate(LOWER)
        place = self._exact.get(title)
        for wildcard, prefix in self._wildcards:
            if place is not None and wildcard > place:
                break
            if folded.startswith(prefix):
                return wildcard, title[len(prefix) :]
        return (self._folded.get(folded) if place is None else place), None

    def names(self, ae: str) -> bool:
        """Tell whether the table knows the title `ae`, wildcard lines included."""
        return self.find(ae) is not None

    def nearest(self, ae: str) -> str | None:
        """Return the title of the table that `ae` probably means."""
        if len(ae) > 2 * _AE_LENGTH:
            return None
        titles = {node.ae_title.lower(): node.ae_title for node in self._nodes}
        near = difflib.get_close_matches(ae.lower(), titles, 1, 0.7)
        return titles[near[0]] if near else None

    def __iter__(self) -> Iterator[Node]:
        """Yield the entries in file order."""
        return iter(self._nodes)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._nodes)


def _trimmed(ae: str) -> str:
    return ae.rstrip(" \t\r\n")


def _filled(node: Node, title: str, rest: str) -> Node:
    host = node.host[:-1] + rest if node.host.endswith("*") else node.host
    port = node.port[:-1] + rest if node.port.endswith("*") else node.port
    return replace(node, ae_title=title, host=host, port=port)


def _content_lines(text: str, report: Report) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold something besides comments, each with the number it begins on."""
    number = 1
    for line in split_lines(_without_blocks(text)):
        content = _LINE_COMMENT.split(line, maxsplit=1)[0]
        content, unclosed, _ = content.partition("/*")
        words = content.lstrip(_FOLDED + " \t")
        begun = number + content[: len(content) - len(words)].count(_FOLDED)
        if words.strip():
            yield begun, words.replace(_FOLDED, "")
        if unclosed:
            message = "the comment that begins with /* is never closed; the rest is not read"
            advice = "write */ where the comment ends"
            report.warning(number, message, advice)
            return
        number += 1 + line.count(_FOLDED)


def _without_blocks(text: str) -> str:
    """Return `text` without its closed block comments, a `_FOLDED` for each line end inside one.

    They go first, before comments up to the line's end are looked at, as in the original program.
    """
    parts = []
    position = 0
    while (start := text.find("/*", position)) >= 0:
        end = text.find("*/", start + 2)
        if end < 0:
            break
        parts.append(text[position:start])
        parts.append(_FOLDED * (len(split_lines(text[start:end])) - 1))
        position = end + 2
    parts.append(text[position:])
    return "".join(parts)


def _node(columns: list[str], line: int, report: Report, written: str) -> Node | None:
    if len(columns) < 3:
        message = f"the entry {columns[0]!r} has no {'host' if len(columns) == 1 else 'port'}"
        report.warning(line, f"{message} and is left out", "write: AE-title host port [code]")
        return None
    title, host, port = columns[:3]
    if len(title.rstrip("*")) > _AE_LENGTH:
        message = f"the AE title {title!r} is longer than {_AE_LENGTH} characters"
        report.warning(line, message, "DICOM cannot carry it; shorten it at both ends")
    if not _is_port(port, title.endswith("*")):
        message = f"{port!r} is neither a port number nor a service name"
        place = column_of(written, port)
        report.warning(line, message, "write a number from 1 to 65535", place)
    compression = columns[3] if len(columns) > 3 else DEFAULT_CODE
    if bad := codes.complaint(compression):
        report.warning(line, *bad, column_of(written, compression))
    return Node(title, host, port, compression, tuple(columns[4:]), line)


def _is_port(port: str, wildcard: bool) -> bool:
    if wildcard and port.endswith("*"):
        return port == "*" or port[:-1].isdigit()
    if port.isascii() and port.isdigit():
        return 1 <= int(port[:6]) <= 65535
    return _SERVICE.fullmatch(port) is not None and not port[0].isdigit()


def _note_hidden(nodes: list[Node], report: Report) -> None:
    """Report entries that a look-up never reaches, because an earlier line takes their titles."""
    wildcards: dict[str, Node] = {}
    lengths: set[int] = set()
    seen: dict[str, Node] = {}
    for node in nodes:
        title = node.ae_title.translate(LOWER).removesuffix("*")
        above = seen.get(node.ae_title)
        if above is None and wildcards:
            prefixes = (title[:length] for length in lengths if length <= len(title))
            taking = [wildcards[prefix] for prefix in prefixes if prefix in wildcards]
            above = min(taking, key=lambda wildcard: wildcard.line, default=None)
        if above is not None:
            message = (
                f"{node.ae_title} is never used: line {above.line} ({above.ae_title}) comes first"
            )
            same = above.ae_title == node.ae_title
            advice = "remove one of the two" if same else f"move it above line {above.line}"
            report.warning(node.line, message, advice)
        seen.setdefault(node.ae_title, node)
        if node.is_wildcard():
            wildcards.setdefault(title, node)
            lengths.add(len(title))
