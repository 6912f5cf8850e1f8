"""The books of storage commitment are looked after at the start, and again and again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dgate.delivery.commitment import keeper
from dgate.delivery.commitment.keeper import Keeper
from dgate.errors import DatabaseAway

PATIENCE_S = 60.0


class Books:
    """Notes what is done."""

    def __init__(self, rounds: int) -> None:
        self.done: list[str] = []
        self.rounds = rounds
        self.enough = threading.Event()
        self.failing = False

    def hasten_all(self) -> None:
        self._note("hasten")

    def adopt(self) -> int:
        self._note("adopt")
        return 1

    def forget_orphans(self) -> None:
        self._note("forget")
        self.rounds -= 1
        if not self.rounds:
            self.enough.set()

    def _note(self, what: str) -> None:
        self.done.append(what)
        if self.failing:
            self.failing = False
            raise DatabaseAway("the server is down")


def run(books: Any) -> None:
    """Run a keeper until it has come round often enough."""
    keeper = Keeper(books, books)
    keeper.start()
    assert books.enough.wait(PATIENCE_S)
    keeper.stop()
    keeper.stop()


def test_reports_are_hastened_once_and_the_rest_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "EVERY_S", 0.0)
    books = Books(2)

    run(books)

    assert books.done[:5] == ["hasten", "adopt", "forget", "adopt", "forget"]


def test_a_database_that_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "EVERY_S", 0.0)
    books = Books(1)
    books.failing = True

    run(books)

    assert books.done[:4] == ["hasten", "hasten", "adopt", "forget"]
    assert "cannot be looked at" in caplog.text


def test_stopping_does_not_wait_for_the_hour() -> None:
    run(Books(1))
