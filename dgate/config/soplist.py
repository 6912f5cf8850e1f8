"""dgatesop.lst: what incoming associations may ask for (spec dgatesop-lst.md section 1).

The list only; the checks are made in `dgate.net.negotiation`. Immutable, safe between threads.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from dgate.config.problem import Problem, Report, column_of, lines_place
from dgate.config.text import decode, split_lines

_COMMENT = ("#", "//", ";")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_AE_LENGTH = 16
# Type column, lower case, to the category that it fills.
_CATEGORIES = {
    "sop": "abstract",
    "abstract": "abstract",
    "transfer": "transfer",
    "application": "application",
    "remoteae": "remote_ae",
    "localae": "local_ae",
}


@dataclass(frozen=True, slots=True)
class SopList:
    """The five whitelists; None stands for an empty category, which accepts everything."""

    abstract: frozenset[str] | None = None
    transfer: frozenset[str] | None = None
    application: frozenset[str] | None = None
    remote_ae: frozenset[str] | None = None
    local_ae: frozenset[str] | None = None

    @classmethod
    def accept_all(cls) -> SopList:
        """Return the list that a missing file stands for."""
        return cls()

    @classmethod
    def parse(cls, data: bytes, path: Path | str) -> tuple[SopList, list[Problem]]:
        """Read the file's bytes; lines that are no entry are left out and reported."""
        report = Report(str(path))
        found: dict[str, set[str]] = {}
        lines = split_lines(decode(data, report).text.replace("\0", " "))
        report.place = lines_place(lines)
        for number, line in enumerate(lines, start=1):
            columns = line.split()
            if not columns or columns[0].startswith(_COMMENT):
                continue
            complaint = _read_line(columns, found)
            if complaint is not None:
                message, advice, word = complaint
                report.warning(number, message, advice, column_of(line, word))
        sets = {category: frozenset(values) for category, values in found.items()}
        return cls(**sets), report.problems


def _read_line(columns: list[str], found: dict[str, set[str]]) -> tuple[str, str, str] | None:
    """Put one entry into its category; return message, advice and the word when it is odd."""
    if len(columns) < 3:
        message = f"the line {columns[0]!r} has fewer than three columns"
        return message, "write: name value type", columns[0]
    _, value, kind = columns[:3]
    category = _CATEGORIES.get(kind.lower())
    if category is None:
        near = difflib.get_close_matches(kind.lower(), _CATEGORIES, 1)
        advice = f"did you mean {near[0]}?" if near else "use sop, transfer, RemoteAE or LocalAE"
        return f"the type {kind!r} is not known and the line is ignored", advice, kind
    found.setdefault(category, set()).add(value)
    if category in ("remote_ae", "local_ae"):
        odd = _odd_title(value, kind)
        return None if odd is None else (*odd, value)
    if _UID.fullmatch(value) is None or len(value) > _UID_LENGTH:
        advice = "a UID has digits and dots only, at most 64 characters"
        return f"{value!r} is not a UID", advice, value
    return None


def _odd_title(title: str, kind: str) -> tuple[str, str] | None:
    if title.lower() == "none":
        message = f"{kind} {title!r} is an ordinary title: nobody else is accepted"
        return message, "put # in front of the line to accept every title"
    if len(title) > _AE_LENGTH:
        message = f"the AE title {title!r} is longer than {_AE_LENGTH} characters, nobody has it"
        return message, "shorten it"
    if "*" in title or "?" in title:
        return f"{title!r} is taken literally: there are no wildcards here", "list each AE title"
    return None
