"""ExportFilterN: an administrator's SQL condition, made fit to be put into a statement.

Spec dicom-ini.md 12.2. It is configuration, not peer data, but a slip in it must not become another
statement: `dgate.rules.sqlfilter` checks that it is one condition. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from dgate.errors import RuleError
from dgate.rules.sqlfilter import Piece, pieces
from dgate.rules.syntax import ParseError

_COMPARISONS = frozenset(("=", "<", ">", "!"))
_NAME = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r"[A-Za-z_]\w*|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_QUALIFIED = re.compile(
    r"(?P<table>[A-Za-z_]\w*)(?P<dot>\s*\.\s*)(?P<column>[A-Za-z_]\w*)", re.DOTALL
)
_MEMBERS = frozenset(("IN", "BETWEEN"))
_REMEDY = "write one SQL condition without ; comments or ?"


class FilterText:
    """Makes conditions fit for one database.

    Args:
        limit: to how many characters TruncateFieldNames cut the columns' names; 0 = not.
        table_name: gives a table's quoted name, None for one that is not of the index.
        columns: the names of all columns, in lower case.
        compares_types: the engine does not compare text with numbers as SQLite does; numbers
            beside columns are written as text there, since all columns are text.
    """

    def __init__(
        self,
        limit: int,
        table_name: Callable[[str], str | None],
        columns: Container[str],
        *,
        compares_types: bool,
    ) -> None:
        self._limit = limit
        self._table_name = table_name
        self._columns = columns
        self._compares_types = compares_types

    def of(self, condition: str) -> str:
        """Return the condition with table and column names as they are in the database.

        Raises RuleError for what is not a single condition.
        """
        try:
            found = list(pieces(condition))
        except ParseError as exc:
            raise RuleError(str(exc), remedy=_REMEDY) from exc
        tokens: list[str] = []
        plain = ""
        for kind, text in ((piece.kind, piece.text) for piece in [*found, Piece("text", "", 0)]):
            if kind == "text":
                tokens += self._named(plain)
                tokens.append(text)
                plain = ""
            else:
                plain += text
        return "".join(self._as_text(tokens) if self._compares_types else tokens)

    def _named(self, text: str) -> list[str]:
        """Return the tokens of text outside quotation marks, with the database's names."""
        tokens: list[str] = []
        end = 0
        for match in _QUALIFIED.finditer(text):
            tokens += map(self._cut, _PART.findall(text[end : match.start()]))
            table = self._table_name(match["table"])
            if table is None:
                what = f"{match['table']} is not a table of the index"
                raise RuleError(what, remedy="name one of dicom.ini's")
            tokens.append(f"{table}.{self._cut(match['column'])}")
            end = match.end()
        return [*tokens, *map(self._cut, _PART.findall(text[end:]))]

    def _cut(self, word: str) -> str:
        """Return a word as it is in the database, if it is a column's full name."""
        if self._limit > 0 and word.lower() not in self._columns:
            cut = word[: self._limit]
            return cut if cut.lower() in self._columns and _NAME.fullmatch(word) else word
        return word

    def _as_text(self, tokens: list[str]) -> list[str]:
        """Return the tokens with quotation marks around numbers that columns are compared with."""
        words = [place for place, token in enumerate(tokens) if token and not token.isspace()]
        made = tokens.copy()
        for at, place in enumerate(words):
            if tokens[place][0].isdigit() and self._meets_column(tokens, words, at):
                made[place] = f"'{tokens[place]}'"
        return made

    def _meets_column(self, tokens: list[str], words: list[int], at: int) -> bool:
        """Tell whether the number at a place is compared with a column by itself."""
        before = [tokens[place] for place in words[:at]]
        after = [tokens[place] for place in words[at + 1 :]]
        if _COMPARISONS.intersection(before[-1:]) and self._is_column(_beyond(before[::-1])):
            return True
        if _COMPARISONS.intersection(after[:1]) and self._is_column(_beyond(after)):
            return True
        # A member of a list, or an end of a range: look back for what it belongs to.
        ands = 0
        for place in range(len(before) - 1, 0, -1):
            word = before[place].upper()
            ands += word == "AND"
            if ands > 1:
                return False
            if word in _MEMBERS:
                column = before[place - 1]
                column = before[place - 2] if column.upper() == "NOT" and place > 1 else column
                return self._is_column(column)
            if word not in ("(", ",", "AND") and not word[0].isdigit():
                return False
        return False

    def _is_column(self, token: str) -> bool:
        return "." in token or token.lower() in self._columns


def _beyond(tokens: list[str]) -> str:
    """Return the first token after the signs of a comparison; empty when there is none."""
    return next((token for token in tokens if token not in _COMPARISONS), "")
