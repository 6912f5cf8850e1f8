"""`ExportFilterN`: an SQL condition as text, checked and with its names cut (spec 3.1).

Running it is the archive's work. A condition is one expression: no `;`, no comments, balanced
parentheses, so that it stays inside the parentheses that the query puts around it. Pure
functions.
"""

from __future__ import annotations

import re

from dgate.rules.syntax import ParseError

_PIECES = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
      | (?P<quoted>"[^"]*"|`[^`]*`|\[[^\]]*\])
      | (?P<comment>--|/\*|\*/|\#)
      | (?P<end>;)
      | (?P<loose>['"`\[])
      | (?P<paren>[()])
      | (?P<name>[A-Za-z_][A-Za-z0-9_$]*)
      | (?P<other>[^A-Za-z_])""",
    re.VERBOSE | re.DOTALL,
)
_NOT_COLUMN = re.compile(r"\s*[.(]")
_WORDS = frozenset(("current_date", "current_time", "current_timestamp"))


def is_no_filter(condition: str) -> bool:
    """Return whether the condition means that there is none: it begins with `*`."""
    return condition.startswith("*")


def prepare(condition: str, truncate: int) -> str:
    """Return the condition with column names cut to `truncate` characters (0 = uncut).

    Text in quotes, table names before a dot and function names stay as they are. Raises
    ParseError for what is not one plain condition.
    """
    pieces: list[str] = []
    open_at: list[int] = []
    for found in _PIECES.finditer(condition):
        kind, piece, at = found.lastgroup, found.group(), found.start()
        if kind in ("comment", "end", "loose") or "\0" in piece:
            raise _unfit(kind or "", piece, at)
        if piece == "(":
            open_at.append(at)
        elif piece == ")":
            if not open_at:
                raise ParseError("the parenthesis closes nothing", at + 1)
            open_at.pop()
        elif kind == "name" and truncate > 0 and _is_column(condition, found):
            piece = piece[:truncate]
        pieces.append(piece)
    if open_at:
        raise ParseError("the parenthesis is not closed", open_at[-1] + 1)
    return "".join(pieces).strip()


def _is_column(condition: str, found: re.Match[str]) -> bool:
    is_other = _NOT_COLUMN.match(condition, found.end()) or found.group().lower() in _WORDS
    # In `1e5` and `0x1F` the letters belong to the number.
    return not is_other and not condition[: found.start()][-1:].isdigit()


def _unfit(kind: str, piece: str, at: int) -> ParseError:
    if kind == "comment":
        what = f"a filter must not hold an SQL comment ({piece})"
    elif kind == "end":
        what = "a filter is one condition and must not hold a semicolon"
    elif kind == "loose":
        what = f"the quotation mark {piece} is not closed"
    else:
        what = "a filter must not hold NUL"
    return ParseError(what, at + 1)
