"""Lossless reader of dicom.ini: sections and entries with line numbers.

Syntax as in spec dicom-ini.md section 1.1. What a key means is in `keys`, which section counts in
`sections`. `render` gives back the bytes that were read. Immutable after parsing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dgate.config.key_table import REGISTRY
from dgate.config.keys import MAIN, NODE, registered
from dgate.config.problem import Problem, Report
from dgate.config.text import Decoded, decode, split_keeping_ends

_COMMENT = ("#", ";", "//")
_OPEN_SECTIONS = ("lua", "scripts")
"""Sections whose values are rules, and so hold no passwords."""
_LOOKS_ALIVE = re.compile(r"[ \t]+(\[[^\]]*\]|[^\s#;/=][^=]*=)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key = value` line."""

    section: str
    key: str
    value: str
    line: int
    column: int
    """1-based column at which the value starts."""
    has_equals: bool = True


@dataclass(slots=True)
class Section:
    """All entries of one name, however often its header stands in the file."""

    name: str
    line: int
    entries: list[Entry] = field(default_factory=list)
    _first: dict[str, Entry] = field(default_factory=dict)

    def add(self, entry: Entry) -> Entry | None:
        """Take an entry; return the earlier one of the same key, which then counts instead."""
        self.entries.append(entry)
        earlier = self._first.setdefault(entry.key.lower(), entry)
        return None if earlier is entry else earlier

    def get(self, key: str) -> Entry | None:
        """Return the first entry of `key`, in whatever letter case; None when absent."""
        return self._first.get(key.lower())

    def counting(self) -> list[Entry]:
        """Return the entries that count: the first of each key, in file order."""
        return list(self._first.values())


class IniFile:
    """A parsed dicom.ini."""

    __slots__ = (
        "_decoded",
        "_entries",
        "_headers",
        "_lines",
        "_report",
        "_sections",
        "head",
        "path",
    )

    def __init__(self, report: Report, decoded: Decoded, lines: list[str]) -> None:
        self.path = report.path
        self._report = report
        self._decoded = decoded
        self._lines = lines
        self._sections: dict[str, Section] = {}
        self._entries: dict[int, Entry] = {}
        self._headers: dict[int, str] = {}
        self.head = Section("", 1)
        """Entries above the first section header."""

    @classmethod
    def parse(cls, data: bytes, path: Path | str) -> IniFile:
        """Read the file's bytes; never fails, oddities of syntax are in `problems`."""
        report = Report(str(path))
        decoded = decode(data, report)
        ini = cls(report, decoded, split_keeping_ends(decoded.text))
        report.place = ini.place
        section = ini.head
        for number, line in enumerate(ini._lines, start=1):
            section = ini._take(line.rstrip("\r\n"), number, section)
        return ini

    @property
    def problems(self) -> list[Problem]:
        """Return what is odd about the syntax."""
        return self._report.problems

    @property
    def sections(self) -> list[Section]:
        """Return the sections in the order of their first headers."""
        return list(self._sections.values())

    @property
    def lines(self) -> list[str]:
        """Return the lines as written, without their ends."""
        return [line.rstrip("\r\n") for line in self._lines]

    def section(self, name: str) -> Section | None:
        """Return the section called `name`, in whatever letter case."""
        return self._sections.get(name.lower())

    def entry_at(self, line: int) -> Entry | None:
        """Return the entry of a line, None for other lines."""
        return self._entries.get(line)

    def header_at(self, line: int) -> str | None:
        """Return the section name of a header line, None for other lines."""
        return self._headers.get(line)

    def place(self, line: int) -> tuple[int, str]:
        """Return the column of a line's value and the text to show, without what may be secret."""
        text = self._lines[line - 1].rstrip("\r\n") if 0 < line <= len(self._lines) else ""
        entry = self._entries.get(line)
        if entry is None:
            key, equals, _ = text.partition("=")
            shown = f"{key}= (not shown)" if equals and _LOOKS_ALIVE.match(text) else text
            return len(text) - len(text.lstrip()) + 1, shown
        column = entry.column if entry.value else 1
        if entry.section.lower() in _OPEN_SECTIONS or not entry.has_equals:
            return column, text
        is_node = registered(entry.section) == NODE
        match = REGISTRY.find(entry.key, NODE if is_node else MAIN)
        if match is None or match.key.secret:
            # An unknown key may be a misspelt Password.
            return 1, f"{text.partition('=')[0]}= (not shown)"
        return column, text

    def render(self, lines: Sequence[str] | None = None) -> bytes:
        """Return the file's bytes, identical to what was parsed; or those of other `lines`.

        Raises UnicodeEncodeError: the file's encoding has no such character.
        """
        return self._decoded.encode("".join(self._lines if lines is None else lines))

    @property
    def encoding(self) -> str:
        """Return the name of the encoding that the file is in."""
        return self._decoded.encoding

    @property
    def written_lines(self) -> list[str]:
        """Return the lines as written, with their ends."""
        return list(self._lines)

    def _take(self, line: str, number: int, section: Section) -> Section:
        """Put one line where it belongs and return the section that the next line is in."""
        if not line or line.startswith(_COMMENT):
            return section
        # Some programs fill files up with them, and no path or database takes them.
        line = line.replace("\0", "")
        if not line:
            return section
        if line[0] in " \t":
            self._note_indented(line, number)
            return section
        if line[0] == "[":
            return self._open(line, number, section)
        key, equals, rest = line.partition("=")
        value = rest.strip(" \t")
        column = len(key) + 1 + (len(rest) - len(rest.lstrip(" \t"))) + 1
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
            column += 1
        entry = Entry(section.name, key.rstrip(" \t"), value, number, column, bool(equals))
        self._entries[number] = entry
        earlier = section.add(entry)
        if earlier is not None and equals:
            self._note_repeated(entry, earlier)
        return section

    def _open(self, line: str, number: int, section: Section) -> Section:
        name, closed, _ = line[1:].partition("]")
        if not closed:
            message = f"the section header {line!r} has no closing bracket and is ignored"
            self._report.warning(number, message, f"write [{name.strip()}]", 1)
            return section
        name = name.strip(" \t")
        self._headers[number] = name
        opened = self._sections.setdefault(name.lower(), Section(name, number))
        if opened.line != number:
            message = f"section [{name}] goes on here, as if it stood below line {opened.line}"
            self._report.info(number, message, "keep the lines of a section together", 1)
        return opened

    def _note_indented(self, line: str, number: int) -> None:
        if _LOOKS_ALIVE.match(line) is None:
            return
        blank = "a tab" if line[0] == "\t" else "a blank"
        # The value stays out of the message: it may be a password.
        subject = line.partition("=")[0].strip()
        message = f"the line begins with {blank}, so {subject!r} is ignored"
        self._report.warning(number, message, "remove the indentation, or write # in column 1", 1)

    def _note_repeated(self, entry: Entry, earlier: Entry) -> None:
        message = f"{entry.key} is set again; line {earlier.line} counts and this line is ignored"
        self._report.warning(
            entry.line, message, f"remove line {entry.line} or line {earlier.line}", 1
        )
