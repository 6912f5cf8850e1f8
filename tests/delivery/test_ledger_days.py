"""How long the dispatcher keeps the history."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from dgate.clock import SystemClock
from dgate.delivery.dispatcher import Dispatcher
from tests.delivery.kit import draft, open_books, ref
from tests.delivery.twins import Workshop

DAY = 86_400.0
PATIENCE_S = 60.0


def test_history_is_kept_for_as_many_days_as_are_wanted(tmp_path: Path) -> None:
    """LedgerDays."""
    books = open_books(tmp_path, SystemClock())
    shop = Workshop(books, tmp_path, ledger_days=3)
    for number in range(4):
        books.owe(draft(), to=ref(number))
    now = books.clock.now()
    for number, (state, days) in enumerate(
        (("done", 2.9), ("done", 3.1), ("cancelled", 9.0), ("held", 99.0)), start=1
    ):
        values = (state, now - days * DAY, number)
        books.archive.writer.transact(
            lambda transaction, values=values: transaction.execute(
                "UPDATE dgate_debts SET state = ?, finished = ? WHERE id = ?", values
            )
        )
    pruned = threading.Event()
    real = books.ledger.prune

    def prune(age_s: float, is_stopping: Callable[[], bool]) -> int:
        count = real(age_s, is_stopping)
        pruned.set()
        return count

    books.ledger.prune = prune  # type: ignore[method-assign]
    dispatcher = Dispatcher(lambda: shop.tools)

    dispatcher.start()

    assert pruned.wait(PATIENCE_S)
    dispatcher.stop()
    assert books.rows() == [(1, "done"), (4, "held")]
    books.archive.close()
