"""When a node is sent to: hours of days, over midnight, by priority; and how fast."""

from __future__ import annotations

import datetime
import os
import time
import zoneinfo
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.node_settings import NodeSettings, Rate, Span
from dgate.delivery.windows import (
    kbit_s_at,
    least_kbit_s,
    next_begin,
    open_priorities,
    opened_s_ago,
    opens_in_s,
)

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    """Have local time be UTC, and put it back."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def at(day: int, hour: int, minute: int = 0, second: int = 0) -> float:
    """Return a time of a week in which day 0 is a Monday."""
    monday = 1_600_041_600.0  # 2020-09-14 00:00 UTC
    return monday + day * DAY + hour * HOUR + minute * 60 + second


def node(*spans: Span, **changes: object) -> NodeSettings:
    return NodeSettings(window=spans, **changes)  # type: ignore[arg-type]


NIGHT = Span(22 * 60, 6 * 60)
WORKDAYS = Span(18 * 60, 7 * 60, frozenset(range(5)))


@pytest.mark.parametrize(
    ("span", "now", "wait"),
    [
        (NIGHT, at(0, 22), 0),
        (NIGHT, at(0, 23, 59, 59), 0),
        (NIGHT, at(1, 5, 59), 0),
        (NIGHT, at(1, 6), 16 * HOUR),
        (NIGHT, at(1, 21, 59, 30), 30),
        (NIGHT, at(6, 23), 0),
        (NIGHT, at(0, 3), 0),
        (WORKDAYS, at(4, 20), 0),
        (WORKDAYS, at(5, 6), 0),
        (WORKDAYS, at(5, 8), 2 * DAY + 10 * HOUR),
        (WORKDAYS, at(6, 20), 22 * HOUR),
        (WORKDAYS, at(0, 3), 15 * HOUR),
        (Span(0, 1440), at(2, 12), 0),
        (Span(480, 480), at(2, 7), 0),
    ],
)
def test_time_until_the_window_opens(span: Span, now: float, wait: float) -> None:
    assert opens_in_s(node(span), 1, now) == wait


def test_window_opens_by_the_clock_on_the_wall_when_the_hour_changes() -> None:
    # Central Europe: 2020-03-29 goes from 02:00 to 03:00, 2020-10-25 from 03:00 back to 02:00.
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    morning = node(Span(7 * 60, 8 * 60))

    spring = time.mktime((2020, 3, 28, 23, 0, 0, 0, 0, -1))
    autumn = time.mktime((2020, 10, 24, 23, 0, 0, 0, 0, -1))
    assert opens_in_s(morning, 1, spring) == 7 * HOUR
    assert opens_in_s(morning, 1, autumn) == 9 * HOUR


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def berlin(*numbers: int, fold: int = 0) -> datetime.datetime:
    return datetime.datetime(*numbers, tzinfo=BERLIN, fold=fold)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("begin_min", "after", "expected"),
    [
        # There is no 02:15 on this day.
        (135, berlin(2020, 3, 29, 1, 50), berlin(2020, 3, 29, 3, 0)),
        (135, berlin(2020, 3, 29, 3, 0), berlin(2020, 3, 30, 2, 15)),
        (200, berlin(2020, 3, 29, 1, 50), berlin(2020, 3, 29, 3, 20)),
        # 02:15 comes twice.
        (135, berlin(2020, 10, 25, 1, 50), berlin(2020, 10, 25, 2, 15)),
        (135, berlin(2020, 10, 25, 2, 5), berlin(2020, 10, 25, 2, 15)),
        (135, berlin(2020, 10, 25, 2, 5, fold=1), berlin(2020, 10, 25, 2, 15, fold=1)),
        (135, berlin(2020, 10, 25, 2, 20, fold=1), berlin(2020, 10, 26, 2, 15)),
    ],
)
def test_next_begin_where_the_hour_changes(
    begin_min: int, after: datetime.datetime, expected: datetime.datetime
) -> None:
    found = next_begin([Span(begin_min, begin_min + 30)], after)

    assert found is not None
    assert found.timestamp() == expected.timestamp()


@pytest.mark.parametrize("day", [(2020, 3, 29), (2020, 10, 25)])
@pytest.mark.parametrize("begin_min", [0, 110, 120, 135, 165, 180, 200])
def test_wait_for_a_window_ends_when_the_hour_changes(
    day: tuple[int, int, int], begin_min: int
) -> None:
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    found = node(Span(begin_min, begin_min + 20))
    midnight = berlin(*day).timestamp()

    for minute in range(5 * 60):
        now = midnight + minute * 60 + 0.5
        wait = opens_in_s(found, 1, now)
        # What does not open then is the window that the day leaves out.
        is_left_out = day[1] == 3 and 120 <= begin_min < 180
        assert wait == 0 or wait >= 59
        assert is_left_out or opens_in_s(found, 1, now + wait) == 0
        assert wait <= DAY + HOUR


def test_nearest_of_several_windows_counts() -> None:
    found = node(Span(600, 660), Span(720, 780))

    assert opens_in_s(found, 1, at(0, 11)) == HOUR
    assert opens_in_s(found, 1, at(0, 10, 30)) == 0


def test_node_without_window_is_always_sent_to() -> None:
    assert opens_in_s(NodeSettings(), 2, at(0, 0)) == 0
    assert open_priorities(NodeSettings(), at(0, 0)) == (0, 1, 2)


def test_bulk_has_hours_of_its_own() -> None:
    found = node(Span(360, 1320), bulk_window=(NIGHT,))

    assert open_priorities(found, at(0, 12)) == (0, 1)
    assert open_priorities(found, at(0, 23)) == (2,)
    assert open_priorities(node(Span(360, 1320)), at(0, 12)) == (0, 1, 2)


@pytest.mark.parametrize(
    ("spans", "now", "ago"),
    [
        ((), at(0, 0), None),
        ((NIGHT,), at(0, 12), 0.0),
        ((NIGHT,), at(0, 23, 30), 1.5 * HOUR),
        ((NIGHT,), at(1, 5), 7 * HOUR),
        ((Span(600, 660), Span(660, 720)), at(0, 11, 30), 1.5 * HOUR),
        ((Span(0, 1440),), at(3, 12), None),
    ],
)
def test_time_since_the_window_opened(
    spans: tuple[Span, ...], now: float, ago: float | None
) -> None:
    assert opened_s_ago(node(*spans), 1, now) == ago


spans = st.builds(
    Span,
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.frozensets(st.integers(0, 6), min_size=1),
)


@given(st.lists(spans, min_size=1, max_size=4), st.integers(0, 7 * 1440 - 1))
def test_window_is_open_when_it_is_said_to_open(found: list[Span], minute: int) -> None:
    now = at(0, 0) + minute * 60
    wait = opens_in_s(node(*found), 1, now)

    assert 0 <= wait <= 7 * DAY
    assert opens_in_s(node(*found), 1, now + wait) == 0
    if wait > 60:
        assert opens_in_s(node(*found), 1, now + wait - 60) > 0


@given(st.lists(spans, min_size=1, max_size=4), st.integers(0, 7 * 1440 - 1))
def test_window_has_been_open_for_as_long_as_is_said(found: list[Span], minute: int) -> None:
    now = at(0, 0) + minute * 60
    ago = opened_s_ago(node(*found), 1, now)

    is_open = opens_in_s(node(*found), 1, now) == 0
    assert (ago == 0.0 and not is_open) or is_open
    if ago is not None and is_open:
        assert opens_in_s(node(*found), 1, now - ago) == 0
        assert opens_in_s(node(*found), 1, now - ago - 60) > 0


def test_first_rate_that_fits_counts() -> None:
    rates = (Rate(500.0, Span(420, 1140)), Rate(2000.0))

    assert kbit_s_at(rates, at(0, 12)) == 500.0
    assert kbit_s_at(rates, at(0, 20)) == 2000.0
    assert kbit_s_at((), at(0, 0)) == 0.0
    assert kbit_s_at((Rate(500.0, Span(420, 1140)),), at(0, 20)) == 0.0
    assert least_kbit_s(rates) == 500.0
    assert least_kbit_s((Rate(0.0),)) == 0.0
