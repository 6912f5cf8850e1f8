"""`ExportFilterN`: an SQL condition as text, checked before it meets an object (spec 3.1).

It must be one expression that stays inside the parentheses that the query puts around it. Putting
in the names of the database and running it is the archive's work (`archive.filters`). Pure
functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dgate.rules.syntax import ParseError

_PIECES = re.compile(
    r"""(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<comment>--|/\*|\#)
      | (?P<end>;)
      | (?P<loose>['"])
      | (?P<strange>[?\0])
      | (?P<paren>[()])
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMPLAINTS = {
    "comment": "a filter must not hold an SQL comment",
    "end": "a filter is one condition and must not hold a semicolon",
    "loose": "the quotation mark is not closed",
    "strange": "a filter must hold neither ? nor NUL",
}


def is_no_filter(condition: str) -> bool:
    """Return whether the condition means that there is none: it begins with `*`."""
    return condition.startswith("*")


class Piece(NamedTuple):
    """A part of a condition."""

    kind: str
    """`text` is what stands between quotation marks, with them; the rest is `paren` or `other`."""
    text: str
    at: int
    """Its place, counted from 0."""


def pieces(condition: str) -> Iterator[Piece]:
    """Yield the parts of a condition; raises ParseError for what is not one plain condition."""
    open_at: list[int] = []
    for found in _PIECES.finditer(condition):
        kind, piece, at = found.lastgroup or "", found.group(), found.start()
        if kind in _COMPLAINTS:
            raise ParseError(_COMPLAINTS[kind], at + 1)
        if piece == "(":
            open_at.append(at)
        elif piece == ")":
            if not open_at:
                raise ParseError("the parenthesis closes nothing", at + 1)
            open_at.pop()
        yield Piece(kind, piece, at)
    if open_at:
        raise ParseError("the parenthesis is not closed", open_at[-1] + 1)


def check(condition: str) -> None:
    """Raise ParseError for what is not one plain condition."""
    for _ in pieces(condition):
        pass
