"""ExportFilterN: an administrator's SQL condition, made safe to put into a statement.

Spec dicom-ini.md 12.2. It is configuration, not peer data, but a slip in it must not become another
statement. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from dgate.errors import RuleError

_PIECE = re.compile(
    r"""(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<table>[A-Za-z_]\w*)\s*\.\s*(?P<column>[A-Za-z_]\w*)
    |(?P<call>[A-Za-z_]\w*)(?=\s*\()|(?P<word>[A-Za-z_]\w*)|(?P<open>\()|(?P<close>\))
    |(?P<bad>;|--|/\*|\#|\0|['"?])|(?P<rest>\d+(?:\.\d+)?|\s+|.)""",
    re.VERBOSE | re.DOTALL,
)
_REMEDY = "write one SQL condition without ; comments or ?"


def filter_text(condition: str, limit: int, table_name: Callable[[str], str | None]) -> str:
    """Return the condition with table names and column names as they are in the database.

    Column names are cut to `limit` characters (0 = not cut), as TruncateFieldNames cut them when
    the tables were made; `table_name` gives a table's quoted name. Raises RuleError for what is not
    a single condition.
    """
    parts: list[str] = []
    depth = 0
    for match in _PIECE.finditer(condition):
        piece, kind = match.group(), match.lastgroup
        if kind == "bad":
            raise RuleError(f"{piece!r} is not allowed in a filter", remedy=_REMEDY)
        if kind == "column":
            parts.append(_qualified(match["table"], match["column"], limit, table_name))
            continue
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            break
        parts.append(_cut(piece, limit) if kind == "word" else piece)
    if depth != 0:
        raise RuleError("the filter's parentheses do not match", remedy=_REMEDY)
    return "".join(parts)


def _qualified(table: str, column: str, limit: int, table_name: Callable[[str], str | None]) -> str:
    name = table_name(table)
    if name is None:
        raise RuleError(f"{table} is not a table of the index", remedy="name one of dicom.ini's")
    return f"{name}.{_cut(column, limit)}"


def _cut(word: str, limit: int) -> str:
    # No SQL keyword that a condition may hold is longer than ten characters.
    return word[:limit] if limit > 0 else word
