"""Statements that an administrator wrote for scripts, made fit for the engine that runs them.

Not for conditions of export rules, which become part of dgate's own statements
(`dgate.archive.filters`). Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dgate.config.settings import Engine
from dgate.errors import RuleError

_PIECES = re.compile(
    r"(?P<literal>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`)"
    r"|(?P<comment>--[^\n]*|/\*.*?\*/)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<mark>\?)|(?P<percent>%)",
    re.DOTALL,
)
_ESCAPING = re.compile(_PIECES.pattern.replace("[^']|", r"[^'\\]|\\.|", 1), re.DOTALL)
"""MariaDB takes a backslash in a literal for an escape."""


class UserSql:
    """Makes statements fit for one database."""

    def __init__(self, engine: Engine, tables: Iterable[str]) -> None:
        """`tables` are the names of the index's tables as the database spells them."""
        self._pieces = _ESCAPING if engine is Engine.MYSQL else _PIECES
        self._embedded = engine not in (Engine.MYSQL, Engine.POSTGRES)
        # Only there does the letter case of a table's name count (rulings.md 7).
        self._tables = {name.lower(): name for name in tables} if engine is Engine.MYSQL else {}

    def statement(self, text: str, parameters: int) -> str:
        """Return the statement for the driver, `?` outside quotation marks as its placeholders.

        Raises RuleError when there are not as many `?` as parameters.
        """
        marks = 0

        def made(match: re.Match[str]) -> str:
            nonlocal marks
            if match["name"]:
                return self._tables.get(match[0].lower(), match[0])
            if match["mark"]:
                marks += 1
                return "?" if self._embedded else "%s"
            # Servers' drivers look for placeholders in literals, too, where there are parameters.
            return match[0].replace("%", "%%") if parameters and not self._embedded else match[0]

        result = self._pieces.sub(made, text)
        if marks != parameters:
            raise RuleError(
                f"the statement has {marks} placeholder(s) ?, and {parameters} value(s) are given",
                remedy="give a table with one value for each ?",
            )
        return result
