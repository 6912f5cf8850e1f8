"""When a node is sent to, and how fast: the hours of its section of dicom.ini.

Hours are local, by the clock on the wall. Pure functions, safe from any thread.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Sequence

from dgate.config.node_settings import NodeSettings, Priority, Rate, Span

_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN
_DAY = datetime.timedelta(days=1)
_MINUTE = datetime.timedelta(minutes=1)


def spans_of(node: NodeSettings, priority: int) -> tuple[Span, ...]:
    """Return the hours in which deliveries of a priority are sent; empty = always."""
    if priority >= Priority.BULK and node.bulk_window:
        return node.bulk_window
    return node.window


def opens_in_s(node: NodeSettings, priority: int, now: float) -> float:
    """Return how long it is until deliveries of a priority are sent; 0 = they are now.

    `now` is in seconds since the epoch.
    """
    spans = spans_of(node, priority)
    if not spans:
        return 0.0
    if _is_within(spans, _minute_of_week(now)[0]):
        return 0.0
    begin = next_begin(spans, datetime.datetime.fromtimestamp(now))
    # Without one it is looked at again; a configuration has none of these.
    return _WEEK_MIN * 60.0 if begin is None else max(1.0, begin.timestamp() - now)


def next_begin(spans: Iterable[Span], after: datetime.datetime) -> datetime.datetime | None:
    """Return when one of the spans begins next after a local time; None where there are none.

    A begin that the change of the hour leaves out is at the first time that there is after it. In
    the hour that comes twice, the one is meant in which `after` is.
    """
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    # To the same day of the next week, as today's begin may be over.
    days = [midnight + number * _DAY for number in range(8)]
    found = [
        day + datetime.timedelta(minutes=span.begin_min)
        for span in spans
        for day in days
        if day.weekday() in span.days
    ]
    begin = min((each for each in found if each > after), default=None)
    if begin is None:
        return None
    begin = begin.replace(fold=after.fold)
    while not _exists(begin):
        begin += _MINUTE
    return begin


def _exists(local: datetime.datetime) -> bool:
    """Tell whether the clock on the wall ever shows a local time."""
    return datetime.datetime.fromtimestamp(local.timestamp(), local.tzinfo) == local


def opened_s_ago(node: NodeSettings, priority: int, now: float) -> float | None:
    """Return how long deliveries of a priority have been sent without a break; None = for ever, 0 =
    they are not sent now."""
    spans = spans_of(node, priority)
    if not spans:
        return None
    minute, into_s = _minute_of_week(now)
    back = 0
    while _is_within(spans, (minute - back) % _WEEK_MIN):
        # To the begin of a span, then on through those that touch it.
        back += max(_minutes_since(span, (minute - back) % _WEEK_MIN) for span in spans) + 1
        if back > _WEEK_MIN:
            return None
    return 0.0 if back == 0 else (back - 1) * 60.0 + into_s


def open_priorities(node: NodeSettings, now: float) -> tuple[int, ...]:
    """Return the priorities whose deliveries are sent now, the most urgent first."""
    if not node.window and not node.bulk_window:
        return tuple(Priority)
    return tuple(one for one in Priority if opens_in_s(node, one, now) == 0.0)


def kbit_s_at(rates: Sequence[Rate], now: float) -> float:
    """Return the bandwidth that counts at a time; 0 = no limit."""
    minute = -1
    for rate in rates:
        if rate.span is None:
            return rate.kbit_s
        if minute < 0:
            minute, _ = _minute_of_week(now)
        if _is_within((rate.span,), minute):
            return rate.kbit_s
    return 0.0


def least_kbit_s(rates: Sequence[Rate]) -> float:
    """Return the lowest bandwidth that there is at any time; 0 = no limit."""
    return min((rate.kbit_s for rate in rates if rate.kbit_s > 0), default=0.0)


def _minute_of_week(now: float) -> tuple[int, float]:
    """Return the minute of the week by local time, and the seconds that have passed of it."""
    local = time.localtime(now)
    return (local.tm_wday * 24 + local.tm_hour) * 60 + local.tm_min, local.tm_sec + now % 1


def _is_within(spans: Iterable[Span], minute: int) -> bool:
    """Tell whether a minute of the week lies within one of the spans."""
    return any(_minutes_since(span, minute) >= 0 for span in spans)


def _minutes_since(span: Span, minute: int) -> int:
    """Return how many minutes ago the span began, -1 outside of it."""
    found = ((minute - day * _DAY_MIN - span.begin_min) % _WEEK_MIN for day in span.days)
    return max((since for since in found if since < _length(span)), default=-1)


def _length(span: Span) -> int:
    length = span.end_min - span.begin_min
    return length if length > 0 else length + _DAY_MIN
