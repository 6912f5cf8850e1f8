"""`ExportFilterN`: an SQL condition as text, checked before it meets an object (spec 3.1).

It must be one expression that stays inside the parentheses that the query puts around it. Putting
in the names of the database and running it is the archive's work (`archive.filters`), which refuses
the same things. Pure functions.
"""

from __future__ import annotations

import re

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


def check(condition: str) -> None:
    """Raise ParseError for what is not one plain condition."""
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
    if open_at:
        raise ParseError("the parenthesis is not closed", open_at[-1] + 1)
