"""The ledger's tables: created, and added to where an earlier version has made them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.database import Database
from dgate.archive.debttable import DEBT_COLUMNS, OPEN_SQL, OPEN_STATES
from dgate.config.settings import Engine
from dgate.delivery.records import Selection, State
from tests.archive.database_kit import ALL_ENGINES, Archive, Place, open_archive, place_of, setup
from tests.delivery.kit import Books, draft, ref

OLD_COLUMNS = DEBT_COLUMNS[: [name for name, _ in DEBT_COLUMNS].index("finished") + 1]
ADDED = [name for name, _ in DEBT_COLUMNS[len(OLD_COLUMNS) :]]


@pytest.fixture(params=ALL_ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return where a database is, on each engine in turn."""
    return place_of(request, tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(setup(tmp_path))
    yield opened
    opened.close()


def write_old_table(place: Place) -> None:
    """Make the table as it was before there were priorities, with a debt of each kind of state."""
    database = Database(place())
    database.open()
    identity = {
        Engine.POSTGRES: "id bigserial PRIMARY KEY",
        Engine.MYSQL: "id bigint auto_increment PRIMARY KEY",
    }.get(database.engine, "id integer PRIMARY KEY AUTOINCREMENT")
    lines = [identity, *(f"{name} {kind}" for name, kind in OLD_COLUMNS)]
    partial = "" if database.engine is Engine.MYSQL else " WHERE state = 'queued'"
    names = [name for name, kind in OLD_COLUMNS if "not null" in kind and "default" not in kind]
    marks = ", ".join("?" * len(names))
    insert = database.sql(f"INSERT INTO dgate_debts ({', '.join(names)}) VALUES ({marks})")
    connection = database.connect()
    connection.execute("BEGIN")
    connection.execute(f"CREATE TABLE dgate_debts ({', '.join(lines)})")
    connection.execute(
        f"CREATE INDEX dgate_debts_open ON dgate_debts (state, destination, due){partial}"
    )
    for state in ("queued", "stuck", "done"):
        values = {"state": state, "kind": "deliver", "destination": "SINK", "due": 5.0}
        values |= {"created": 5.0, "sop_instance": "1.2.3.1", "study": "1.2.3"}
        connection.execute(insert, [values.get(name, "") for name in names])
    connection.execute("COMMIT")
    connection.close()
    database.close()


def index_names(archive: Archive) -> set[str]:
    connection = archive.database.connect()
    found = set(connection.indexes("dgate_debts"))
    connection.close()
    return found


def test_a_table_of_an_earlier_version_gets_what_it_lacks_and_keeps_its_rows(place: Place) -> None:
    write_old_table(place)

    books = Books(open_archive(place()), _Machine())

    [row] = books.archive.rows(f"SELECT {', '.join(ADDED)} FROM dgate_debts WHERE id = 1")
    assert row == (1, *[None] * (len(ADDED) - 1))
    assert books.states() == ["queued", "stuck", "done"]
    assert [debt.id for debt in books.claim()] == [1]
    assert [life.entry.id for life in books.desk.find(Selection(study="1.2.3"))] == [1, 2, 3]
    assert {"dgate_debts_lanes", "dgate_debts_accession"} <= index_names(books.archive)
    assert "dgate_debts_open" not in index_names(books.archive)
    books.archive.close()


def test_new_debts_beside_old_ones_are_claimed_by_priority(place: Place) -> None:
    write_old_table(place)
    books = Books(open_archive(place()), _Machine())

    books.owe(draft(priority=2), to=ref(7))
    books.owe(draft(priority=0), to=ref(8))

    claimed = [(debt.ref.sop_instance, debt.priority) for debt in books.claim()]
    assert claimed == [("1.2.3.8", 0), ("1.2.3.1", 1), ("1.2.3.7", 2)]
    books.archive.close()


def test_a_second_start_finds_nothing_to_do(place: Place) -> None:
    write_old_table(place)
    open_archive(place()).close()
    first = open_archive(place())
    before = index_names(first)
    first.close()

    second = open_archive(place())

    assert index_names(second) == before
    assert second.value("SELECT count(*) FROM dgate_debts") == 3
    second.close()


class _Machine:
    """A clock that no engine with a clock of its own asks."""

    def now(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 1000.0


def plan(archive: Archive, statement: str) -> str:
    rows = archive.rows(f"EXPLAIN QUERY PLAN {statement}")
    return " ".join(row[3] for row in rows)


@pytest.mark.parametrize("column", ["sop_instance", "study", "patient_id", "accession"])
def test_searches_use_an_index(archive: Archive, column: str) -> None:
    found = plan(
        archive,
        f"SELECT kind FROM dgate_debts WHERE {column} = 'X' ORDER BY id + 0 DESC LIMIT 10",
    )
    assert "SEARCH dgate_debts USING INDEX dgate_debts_" in found


def test_claims_need_no_sorting(archive: Archive) -> None:
    found = plan(
        archive,
        "SELECT kind FROM dgate_debts WHERE state = 'queued' AND destination = 'A' "
        "AND priority = 1 AND due <= 5.0 ORDER BY due, id LIMIT 8",
    )
    assert "dgate_debts_lanes (state=? AND destination=? AND priority=? AND due<?)" in found
    assert "TEMP B-TREE" not in found


def test_states_of_the_tables_are_those_of_the_ledger() -> None:
    closed = {State.DONE, State.CANCELLED}
    assert set(OPEN_STATES) == {state.value for state in State} - {s.value for s in closed}
    assert all(repr(state) in OPEN_SQL for state in OPEN_STATES)
