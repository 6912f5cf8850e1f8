"""When a node is sent to, and how fast: the hours of its section of dicom.ini.

Hours are local. Pure functions, safe from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from dgate.config.node_settings import Lane, NodeSettings, Rate, Span

_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN


def spans_of(node: NodeSettings, priority: int) -> tuple[Span, ...]:
    """Return the hours in which deliveries of a priority are sent; empty = always."""
    if priority >= Lane.BULK and node.bulk_window:
        return node.bulk_window
    return node.window


def opens_in_s(node: NodeSettings, priority: int, now: float) -> float:
    """Return how long it is until deliveries of a priority are sent; 0 = they are now.

    `now` is in seconds since the epoch.
    """
    spans = spans_of(node, priority)
    if not spans:
        return 0.0
    minute, into_s = _minute_of_week(now)
    wait = min(_minutes_until(span, minute) for span in spans)
    return 0.0 if wait == 0 else max(1.0, wait * 60.0 - into_s)


def opened_s_ago(node: NodeSettings, priority: int, now: float) -> float | None:
    """Return how long deliveries of a priority have been sent without a break; None = for ever, 0 =
    they are not sent now."""
    spans = spans_of(node, priority)
    if not spans:
        return None
    minute, into_s = _minute_of_week(now)
    back = 0
    while any(_minutes_until(span, (minute - back) % _WEEK_MIN) == 0 for span in spans):
        # To the begin of a span, then on through those that touch it.
        back += max(_minutes_since(span, (minute - back) % _WEEK_MIN) for span in spans) + 1
        if back > _WEEK_MIN:
            return None
    return 0.0 if back == 0 else (back - 1) * 60.0 + into_s


def open_priorities(node: NodeSettings, now: float) -> tuple[int, ...]:
    """Return the priorities whose deliveries are sent now, the most urgent first."""
    if not node.window and not node.bulk_window:
        return tuple(Lane)
    return tuple(lane for lane in Lane if opens_in_s(node, lane, now) == 0.0)


def kbit_s_at(rates: Sequence[Rate], now: float) -> float:
    """Return the bandwidth that counts at a time; 0 = no limit."""
    minute = -1
    for rate in rates:
        if rate.span is None:
            return rate.kbit_s
        if minute < 0:
            minute, _ = _minute_of_week(now)
        if _minutes_until(rate.span, minute) == 0:
            return rate.kbit_s
    return 0.0


def least_kbit_s(rates: Sequence[Rate]) -> float:
    """Return the lowest bandwidth that there is at any time; 0 = no limit."""
    return min((rate.kbit_s for rate in rates if rate.kbit_s > 0), default=0.0)


def _minute_of_week(now: float) -> tuple[int, float]:
    """Return the minute of the week by local time, and the seconds that have passed of it."""
    local = time.localtime(now)
    return (local.tm_wday * 24 + local.tm_hour) * 60 + local.tm_min, local.tm_sec + now % 1


def _minutes_until(span: Span, minute: int) -> int:
    """Return how many minutes it is until the span begins; 0 within it."""
    waits = []
    for day in span.days:
        since = (minute - day * _DAY_MIN - span.begin_min) % _WEEK_MIN
        if since < _length(span):
            return 0
        waits.append(_WEEK_MIN - since)
    return min(waits)


def _minutes_since(span: Span, minute: int) -> int:
    """Return how many minutes ago the span began, -1 outside of it."""
    found = ((minute - day * _DAY_MIN - span.begin_min) % _WEEK_MIN for day in span.days)
    return max((since for since in found if since < _length(span)), default=-1)


def _length(span: Span) -> int:
    length = span.end_min - span.begin_min
    return length if length > 0 else length + _DAY_MIN
