"""Spans of dates: together all days, none twice."""

from __future__ import annotations

import datetime

import pytest

from dgate.delivery.reconcile.windows import DAY, Window, Windows, date_of, text_of

TODAY = datetime.date(2026, 11, 22)
DATES = (
    *("18000101", "19691231", "20191231", "20200101", "20240228", "20240229", "20251231"),
    *("20260101", "20261122", "20261123", "20270101", "29991231"),
)


def day(text: str) -> datetime.date:
    found = date_of(text)
    assert found is not None
    return found


@pytest.mark.parametrize(("since", "until"), [("", ""), ("20200101", ""), ("", "20200101"),
                                              ("20260101", "20260101"), ("20270101", ""),
                                              ("", "19700101")])  # fmt: skip
@pytest.mark.parametrize("studies", [0, 500, 5000])
def test_every_day_is_in_one_window(since: str, until: str, studies: int) -> None:
    walk = Windows(date_of(since), date_of(until), day("20240229"), TODAY)
    found = []
    for window in walk:
        found.append(window)
        walk.note(studies)
    for text in DATES:
        wanted = (not since or text >= since) and (not until or text <= until)
        assert sum(window.holds(text) for window in found) == wanted, text
        assert walk.covers(text) == wanted
    assert not walk.covers("")


@pytest.mark.parametrize("until", ["21000102", "99991231"])
@pytest.mark.parametrize("since", ["", "00010101", "20260101", "99991231"])
def test_end_that_no_date_can_be_meant_to_be_after_is_none(since: str, until: str) -> None:
    walk = Windows(date_of(since), date_of(until), day("20240229"), TODAY)
    found = []
    for window in walk:
        found.append(window)
        walk.note(0)
        assert window.key
        assert len(window.bounds) == 2
    assert len(found) < 300
    assert found[-1].last is None
    for text in DATES:
        wanted = not since or text >= since
        assert sum(window.holds(text) for window in found) == wanted == walk.covers(text), text


def test_last_day_that_is_believed() -> None:
    found = list(Windows(day("20260101"), day("21000101"), day("20240229"), TODAY))
    assert found[-1].last == day("21000101")


def test_dividing_loses_no_day() -> None:
    walk = Windows(day("20260101"), day("20260131"), TODAY, TODAY)
    found = []
    for window in walk:
        if window.first is not None and window.last is not None and window.last > window.first:
            assert walk.divide(window)
        else:
            assert not walk.divide(window)
            found.append(window)
    days = [day("20260101") + number * DAY for number in range(31)]
    assert found == [Window(each, each) for each in days]


@pytest.mark.parametrize(
    ("window", "key", "bounds"),
    [
        (Window(None, None), "-", ("", "")),
        (Window(day("20260105"), day("20260105")), "20260105", ("20260105", "20260106")),
        (Window(day("20260105"), day("20260106")), "20260105-20260106", ("20260105", "20260107")),
        (Window(None, day("20251231")), "-20251231", ("", "20260101")),
        (Window(day("20260101"), None), "20260101-", ("20260101", "")),
    ],
)
def test_keys_and_bounds(window: Window, key: str, bounds: tuple[str, str]) -> None:
    assert (window.key, window.bounds) == (key, bounds)


def test_endless_windows_are_divided_within_reason() -> None:
    window = Window(None, day("20251231"))
    for _ in range(30):
        halves = window.halves()
        if halves is None:
            break
        assert halves[0].first is None
        window = halves[0]
    assert window == Window(None, day("19000101"))
    assert Window(day("21000101"), None).halves() is None


@pytest.mark.parametrize(
    "text", ["", "2026", "20261301", "20260230", "\uff12\uff10\uff12\uff160101", "2026010a"]
)
def test_what_is_no_date(text: str) -> None:
    assert date_of(text) is None


def test_dates_as_people_write_them() -> None:
    assert date_of("2026-01-05") == date_of("20260105") == datetime.date(2026, 1, 5)
    assert text_of(None) == ""
    assert text_of(datetime.date(1, 2, 3)) == "00010203"
