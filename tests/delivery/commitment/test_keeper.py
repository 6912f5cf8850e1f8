"""The books of storage commitment are looked after at the start, and again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dgate.delivery.commitment import keeper
from dgate.delivery.commitment.keeper import Keeper, Wishes
from dgate.errors import DatabaseAway

PATIENCE_S = 60.0
WISHES = Wishes(lambda node: False, lambda title: title == "PACS", 2)
ROUND = ["do without", "stop", "adopt", "forget", "drop"]


class Books:
    """Notes what is done."""

    def __init__(self, rounds: int) -> None:
        self.done: list[str] = []
        self.rounds = rounds
        self.enough = threading.Event()
        self.failing = False

    def hasten_all(self) -> None:
        self._note("hasten")

    def do_without_all(self, is_wanted: Callable[[str], bool]) -> int:
        self._note("do without" if not is_wanted("PACS") else "ask")
        return 1

    def stop_stuck(self) -> int:
        self._note("stop")
        return 1

    def adopt(self) -> int:
        self._note("adopt")
        return 1

    def forget_orphans(self) -> None:
        self._note("forget")

    def forget_strangers(self, is_node: Callable[[str], bool], age_s: float) -> int:
        assert (is_node("PACS"), is_node("CT1"), age_s) == (True, False, 2 * 86400.0)
        self._note("drop")
        self.rounds -= 1
        if self.rounds <= 0:
            self.enough.set()
        return 1

    def _note(self, what: str) -> None:
        self.done.append(what)
        if self.failing:
            self.failing = False
            raise DatabaseAway("the server is down")


def run(books: Any) -> None:
    """Run a keeper until it has come round often enough."""
    keeper = Keeper(books, books, lambda: WISHES)
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

    assert books.done[:11] == ["hasten", *ROUND, *ROUND]


def test_a_database_that_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "EVERY_S", 0.0)
    books = Books(1)
    books.failing = True

    run(books)

    assert books.done[:7] == ["hasten", "hasten", *ROUND]
    assert "cannot be looked at" in caplog.text


def test_stopping_does_not_wait_for_the_hour() -> None:
    run(Books(1))


def test_another_configuration_makes_it_look_at_once() -> None:
    books: Any = Books(1)
    keeper = Keeper(books, books, lambda: WISHES)
    keeper.start()
    assert books.enough.wait(PATIENCE_S)
    books.enough.clear()

    keeper.apply(None)

    assert books.enough.wait(PATIENCE_S)
    keeper.stop()
