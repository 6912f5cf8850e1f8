"""Debts that another gateway enters into a shared PostgreSQL wake this one at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.delivery import notices as module
from dgate.delivery.notices import Notices
from tests.delivery.kit import Books, open_books, open_shared_books
from tests.servers import PostgresServer

WAIT_S = 60


@pytest.fixture
def books(postgres: PostgresServer, tmp_path: Path) -> Iterator[Books]:
    opened = open_shared_books(tmp_path, postgres)
    yield opened
    opened.archive.close()


def test_debts_of_another_gateway_are_heard_of(books: Books) -> None:
    woken = threading.Event()
    notices = Notices(books.archive.database, woken.set)
    notices.start()
    # The first wake-up says that it listens.
    assert woken.wait(WAIT_S)
    woken.clear()

    books.owe()

    assert woken.wait(WAIT_S)
    notices.stop()


def test_listening_goes_on_after_the_connection_was_lost(
    books: Books, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    woken = threading.Semaphore(0)
    notices = Notices(books.archive.database, woken.release)
    notices.start()
    assert woken.acquire(timeout=WAIT_S)

    postgres.administer(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
        f"AND datname = '{books.archive.settings.sql_server}'"
    )
    assert woken.acquire(timeout=WAIT_S)
    books.owe()

    assert woken.acquire(timeout=WAIT_S)
    notices.stop()


def test_embedded_database_has_nobody_to_listen_to(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    notices = Notices(books.archive.database, lambda: None)
    before = set(threading.enumerate())
    notices.start()
    assert set(threading.enumerate()) <= before
    notices.stop()
    books.archive.close()
