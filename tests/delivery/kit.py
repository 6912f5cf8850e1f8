"""What the delivery tests share: a clock that stands still, a ledger on a real SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.config.settings import Engine
from dgate.delivery.desk import Desk
from dgate.delivery.ledger import Ledger
from dgate.delivery.records import Debt, Settlement, State
from tests.archive.database_kit import Archive, Setup, open_archive, setup
from tests.servers import USER, DatabaseServer

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


class StillClock:
    """A clock that only the test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.time = now

    def now(self) -> float:
        """Return the test's time."""
        return self.time

    def monotonic(self) -> float:
        """Return the test's time."""
        return self.time


def ref(number: int = 1, **changes: Any) -> InstanceRef:
    """Return a reference to object `number` of one study."""
    values: dict[str, Any] = {
        "sop_class": CT,
        "sop_instance": f"1.2.3.{number}",
        "patient_id": "P1",
        "study": "1.2.3",
        "series": "1.2.3.0",
        "device": "MAG0",
        "name": f"P1/{number}.dcm",
    }
    return InstanceRef(**(values | changes))


def draft(destination: str = "SINK", **changes: Any) -> DebtDraft:
    """Return a delivery that is owed."""
    values: dict[str, Any] = {
        "kind": DebtKind.DELIVER,
        "destination": destination,
        "rule": "ExportConverter0.1",
    }
    return DebtDraft(**(values | changes))


@dataclass
class Books:
    """A ledger with both its sides and the archive that it lies in."""

    archive: Archive
    clock: Any
    """A `StillClock` unless a test needs real time."""
    released: list[str] = field(default_factory=list)
    """Names of the spool copies that were given up."""

    def __post_init__(self) -> None:
        self.ledger = self.reopen()
        self.desk = Desk(
            self.archive.database, self.archive.writer, self.clock, self.released.append
        )

    def reopen(self) -> Ledger:
        """Return the ledger as another start of the gateway sees it."""
        return Ledger(
            self.archive.database,
            self.archive.writer,
            self.clock,
            self.archive.index.add_debts,
            self.released.append,
        )

    def owe(self, *drafts: DebtDraft, to: InstanceRef | None = None) -> None:
        """Enter debts as intake does."""
        object_ref = to or ref()
        self.archive.writer.transact(
            lambda transaction: self.archive.index.add_debts(
                transaction, object_ref, drafts or (draft(),), self.clock.now()
            )
        )

    def claim(self, destination: str = "SINK", limit: int = 100) -> list[Debt]:
        """Claim due debts."""
        return self.ledger.exchange([], destination, limit)

    def settle(self, *settlements: Settlement) -> None:
        """Write down what became of debts."""
        self.ledger.exchange(settlements, settlements[0].debt.destination, 0)

    def rows(self, columns: str = "id, state") -> list[tuple[Any, ...]]:
        """Return columns of all debts in the order of their ids."""
        return self.archive.rows(f"SELECT {columns} FROM dgate_debts ORDER BY id")

    def states(self) -> Sequence[str]:
        """Return the states of all debts in the order of their ids."""
        return [row[0] for row in self.rows("state")]


def open_books(folder: Path, clock: Any = None) -> Books:
    """Open an empty archive with its ledger on an SQLite file."""
    return Books(open_archive(setup(folder)), clock or StillClock())


class ServersClock(StillClock):
    """The clock of a database server, which only the test moves: a table with one row."""

    SQL = "(SELECT at FROM still_clock)"

    def __init__(self, server: DatabaseServer, database: str, now: float = 1000.0) -> None:
        self._server = server
        self._database = database
        server.administer("CREATE TABLE still_clock (at double precision)", database)
        server.administer(f"INSERT INTO still_clock VALUES ({now})", database)
        account = f"{USER}@'127.0.0.1'" if server.engine is Engine.MYSQL else USER
        server.administer(f"GRANT SELECT ON still_clock TO {account}", database)

    @property
    def time(self) -> float:  # type: ignore[override]
        """Return the server's time."""
        [(now,)] = self._server.query(self._database, "SELECT at FROM still_clock")
        return float(now)

    @time.setter
    def time(self, now: float) -> None:
        self._server.administer(f"UPDATE still_clock SET at = {now}", self._database)


def open_on(request: pytest.FixtureRequest, folder: Path) -> Books:
    """Open an empty archive with its ledger on the engine that a fixture's parameter names."""
    if request.param == "sqlite":
        return open_books(folder)
    return open_shared_books(folder, request.getfixturevalue(request.param))


def open_shared_books(folder: Path, server: DatabaseServer) -> Books:
    """Open an empty archive with its ledger on a database server."""
    settings = replace(Setup(folder), **server.settings())
    clock = ServersClock(server, settings.sql_server)
    return Books(open_archive(settings, clock_sql=clock.SQL), clock)


def done(debt: Debt, status: int = 0, text: str = "") -> Settlement:
    """Return that a debt was paid."""
    return Settlement(debt, State.DONE, status, text)
