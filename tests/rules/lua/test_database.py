"""`dbquery`, `sql`, `get_sqldef`, `listoldestpatients`."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from tests.rules.lua.library_kit import Bench


def test_rows_are_tables_from_one(bench: Bench) -> None:
    bench.archive.rows = [["a", ""], ["Müller", "d"]]

    result = bench.run(
        "local r = dbquery('DICOMPatients', 'a, b', nil, '')"
        " return #r .. #r[1] .. r[1][1] .. r[1][2] .. r[2][1] .. type(r[1][2])"
    )

    assert result == "22aMüllerstring"
    assert bench.archive.calls == [("query", "DICOMPatients", "a, b", "", "", [])]


def test_values_for_placeholders_are_passed_apart(bench: Bench) -> None:
    bench.run("dbquery('T', 'a', 'a = ? and b = ?', 'a', {\"O'Brien é\", 3})")

    assert bench.archive.calls == [("query", "T", "a", "a = ? and b = ?", "a", ["O'Brien é", 3])]


def test_refused_query_is_nil_and_nothing_found_a_table(bench: Bench) -> None:
    assert bench.run("return #dbquery('T', 'a', '', '')") == 0
    bench.archive.rows = None
    assert bench.run("return dbquery('T', 'a', '', '')") is None


def test_statement_gives_one_or_nothing(bench: Bench) -> None:
    assert bench.run("return sql('DELETE FROM T')") == 1
    assert bench.run("return sql('DELETE FROM T WHERE a = ?', {'x'})") == 1
    bench.archive.succeeds = False
    assert bench.run("return sql('nonsense')") is None
    assert bench.archive.calls[1] == ("execute", "DELETE FROM T WHERE a = ?", ["x"])


@pytest.mark.parametrize("call", ["sql('x', {{}})", "sql('x', 'y')", "dbquery(nil)", "sql()"])
def test_wrong_arguments_are_errors(bench: Bench, call: str) -> None:
    with pytest.raises(RuleError):
        bench.run(call)


def test_row_of_the_layout(bench: Bench) -> None:
    code = "return table.concat({get_sqldef(0, 0)}, ' ')"

    assert bench.run(code) == "16 32 PatientID 64 SQL_C_CHAR DT_STR"
    assert bench.run("return get_sqldef(9, 0)") is None


def test_oldest_patients(bench: Bench) -> None:
    bench.archive.patients = ["P1", "P2"]

    assert bench.run("return table.concat(listoldestpatients(5, nil, 'StudyDate'), ' ')") == "P1 P2"
    bench.run("listoldestpatients(-1, 'MAG0')")
    assert bench.archive.calls == [("oldest", 5, "", "StudyDate"), ("oldest", -1, "MAG0", "")]
