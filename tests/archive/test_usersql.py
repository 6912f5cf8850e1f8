"""Statements of scripts in the style of each engine's driver."""

from __future__ import annotations

import pytest

from dgate.archive.usersql import UserSql
from dgate.config.settings import Engine
from dgate.errors import RuleError

TABLES = ("DICOMImages", "DICOMPatients")


@pytest.mark.parametrize(
    ("engine", "text", "parameters", "made"),
    [
        (Engine.SQLITE, "a = ? AND b = '?'", 1, "a = ? AND b = '?'"),
        (Engine.POSTGRES, "a = ? AND b = '?%'", 1, "a = %s AND b = '?%%'"),
        (Engine.POSTGRES, "a LIKE 'x%' AND 7 % 2 = 1", 0, "a LIKE 'x%' AND 7 % 2 = 1"),
        (Engine.POSTGRES, '"odd?" = ?', 1, '"odd?" = %s'),
        (Engine.MYSQL, "`odd?` = ? -- why?", 1, "`odd?` = %s -- why?"),
        (Engine.MYSQL, r"'it\'s?' = ?", 1, r"'it\'s?' = %s"),
        (Engine.POSTGRES, r"'back\' = ?", 1, r"'back\' = %s"),
        (Engine.MYSQL, "FROM dicomimages", 0, "FROM DICOMImages"),
        (Engine.MYSQL, "'dicomimages'", 0, "'dicomimages'"),
        (Engine.POSTGRES, "FROM dicomimages", 0, "FROM dicomimages"),
        (Engine.SQLITE, "a = 'it''s?' /* ? */ AND b = ?", 1, "a = 'it''s?' /* ? */ AND b = ?"),
    ],
)
def test_statement_is_made_fit(engine: Engine, text: str, parameters: int, made: str) -> None:
    assert UserSql(engine, TABLES).statement(text, parameters) == made


@pytest.mark.parametrize(("text", "parameters"), [("a = ?", 0), ("a = 1", 1), ("a = ?", 2)])
def test_each_value_needs_a_place(text: str, parameters: int) -> None:
    with pytest.raises(RuleError, match="placeholder"):
        UserSql(Engine.SQLITE, TABLES).statement(text, parameters)
