"""Shows by which index SQLite finds rows of the ledger, for statements as they are really run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgate.archive.connection import Connection
from dgate.archive.writer import Transaction


@dataclass
class Explained:
    """A transaction, or a connection, that looks at the plan of each statement before it runs it;
    for where `Transaction` is asked for."""

    inner: Transaction | Connection
    plans: list[str] = field(default_factory=list)
    """How rows of `dgate_debts` are found, statement by statement."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Run a statement."""
        self._explain(sql, parameters)
        return self.inner.execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of parameters."""
        for row in rows:
            self.execute(sql, row)

    def _explain(self, sql: str, parameters: Sequence[Any]) -> None:
        rows = self.inner.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        self.plans += [row[3] for row in rows if "dgate_debts" in row[3]]

    def check(self) -> None:
        """Fail when all of the ledger, or all that is open in it, is read for something; and when
        nothing was looked for."""
        assert self.plans
        for plan in self.plans:
            assert plan.startswith("SEARCH"), plan
            assert "(state=?)" not in plan, plan
