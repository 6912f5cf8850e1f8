"""How commands say which deliveries are meant, and who gives the order."""

from __future__ import annotations

import os
import pwd
import time
from datetime import datetime

import click
import pytest

from dgate.cli.selecting import Moment, current_user, described, moment, selection_of
from dgate.delivery.records import Selection, State


def at(text: str, *, ends: bool = False) -> float:
    return Moment(ends=ends).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-31", datetime(2024, 1, 31)),
        ("20240131", datetime(2024, 1, 31)),
        ("2024-01-31 10:15", datetime(2024, 1, 31, 10, 15)),
        ("2024-01-31T10:15:20", datetime(2024, 1, 31, 10, 15, 20)),
    ],
)
def test_time_is_read(text: str, expected: datetime) -> None:
    assert at(text) == expected.timestamp()


def test_day_that_ends_a_search_is_part_of_it() -> None:
    assert at("2024-01-31", ends=True) == datetime(2024, 1, 31, 23, 59, 59, 999_999).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("90m", 5400), ("2h", 7200), ("3 d", 259_200)]
)
def test_time_ago_is_counted_from_now(text: str, seconds: int) -> None:
    before = time.time()
    found = at(text)
    # A change of daylight saving time may lie between.
    assert any(
        before - seconds + shift - 1 <= found <= time.time() - seconds + shift + 1
        for shift in (0, 3600, -3600)
    )


def test_time_without_a_day_is_today() -> None:
    assert datetime.fromtimestamp(at("10:15")).strftime("%H:%M:%S") == "10:15:00"


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-13-01", "25:00", "10:60", "-1h", "1y", "9" * 400, "999999w"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(click.BadParameter, match="2024-01-31"):
        at(text)


def test_selection_is_what_was_given() -> None:
    selection = selection_of((1, 2), study=" 1.2 ", states=("stuck",), since=5.0)

    assert selection == Selection((1, 2), states=(State.STUCK,), study="1.2", since=5.0)
    assert selection_of() == Selection()


def test_selection_is_described_in_words() -> None:
    selection = Selection(states=(State.STUCK, State.HELD), study="1.2", until=5.0)

    assert described(selection) == f"study 1.2, state stuck or held, until {moment(5.0)}"
    assert described(Selection()) == "everything"


def test_user_is_named_with_who_became_root(monkeypatch: pytest.MonkeyPatch) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert current_user() == name

    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "anna")
    assert current_user() == "anna as root"

    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert current_user() == "uid 3999999999"
