"""Lua functions for the index database: `dbquery`, `sql`, `get_sqldef`, `listoldestpatients`.

The functions belong to the thread that runs the Lua state.
"""

from __future__ import annotations

from typing import Final

from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Function, Library, decoded


def _db_query(context: Context) -> Function:
    def dbquery(
        tables: object,
        fields: object,
        where: object = None,
        sort: object = None,
        parameters: object = None,
    ) -> object:
        rows = context.env.archive.query(
            context.text(tables, "the tables"),
            context.text(fields, "the fields"),
            _optional(context, where, "the condition"),
            _optional(context, sort, "the order"),
            _parameters(context, parameters),
        )
        if rows is None:
            return None
        return context.sequence([context.sequence(row) for row in rows])

    return dbquery


def _sql(context: Context) -> Function:
    def sql(statement: object, parameters: object = None) -> int | None:
        text = context.text(statement, "the statement")
        done = context.env.archive.execute(text, _parameters(context, parameters))
        return 1 if done else None

    return sql


def _parameters(context: Context, given: object) -> list[str | int | float | bytes | None]:
    """Return the values for `?`, as they are bound."""
    if given is None:
        return []
    values: list[str | int | float | bytes | None] = []
    for value in context.values(given):
        if isinstance(value, str):
            values.append(decoded(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            values.append(value)
        else:
            raise RuleError("the values for ? must be strings or numbers")
    return values


def _optional(context: Context, value: object, what: str) -> str:
    return "" if value is None else context.text(value, what)


def _column(context: Context) -> Function:
    def get_sqldef(level: object, row: object) -> object:
        return context.env.archive.column(
            context.integer(level, "the level"), context.integer(row, "the row")
        )

    return get_sqldef


def _oldest_patients(context: Context) -> Function:
    def listoldestpatients(most: object, device: object = None, sort: object = None) -> object:
        found = context.env.archive.oldest_patients(
            context.integer(most, "the number"),
            _optional(context, device, "the device"),
            _optional(context, sort, "the order"),
        )
        return context.sequence(found)

    return listoldestpatients


LIBRARY: Final = Library(
    functions={
        "dbquery": _db_query,
        "sql": _sql,
        "get_sqldef": _column,
        "listoldestpatients": _oldest_patients,
    }
)
