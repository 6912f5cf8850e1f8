"""The spans of study dates by which two archives are compared, one after the other.

Each span is small enough that what both sides have in it fits into memory, and large enough that
an archive of decades takes few questions. Pure but for the state of a walk, which belongs to one
thread.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

DAY = datetime.timedelta(days=1)
_FEW, _MANY = 250, 1000
"""Studies in a span below which the next is longer, and above which it is shorter."""
_LONGEST_DAYS = 4096
_DAWN = datetime.date(1900, 1, 1)
_DUSK = datetime.date(2100, 1, 1)
"""What lies outside has a date that cannot be meant, and is not divided further."""


@dataclass(frozen=True, slots=True)
class Window:
    """The days from `first` to `last`, both included; None = without end on that side."""

    first: datetime.date | None
    last: datetime.date | None

    @property
    def key(self) -> str:
        """The days as a query has them (PS3.4 C.2.2.2.5): one date, or a range."""
        begin, end = text_of(self.first), text_of(self.last)
        return begin if begin == end and begin else f"{begin}-{end}"

    @property
    def bounds(self) -> tuple[str, str]:
        """From where to before which the text of a date lies; empty = no bound."""
        return text_of(self.first), "" if self.last is None else text_of(self.last + DAY)

    def holds(self, date: str) -> bool:
        """Tell whether a date's text lies within, in the order of its characters."""
        begin, end = self.bounds
        return date >= begin and (not end or date < end)

    def halves(self) -> tuple[Window, Window] | None:
        """Return two windows that are this one together, None for what cannot be divided."""
        first, last = self.first or _DAWN, self.last or _DUSK
        if first >= last:
            return None
        middle = first + (last - first) // 2
        return Window(self.first, middle), Window(middle + DAY, self.last)


class Windows:
    """One walk over all days, from the earliest on."""

    def __init__(
        self,
        since: datetime.date | None,
        until: datetime.date | None,
        earliest: datetime.date,
        today: datetime.date,
    ) -> None:
        """`earliest` is the first day on which we have anything: what is before is one window, as
        is what is after today. An `until` that no date can be meant to be after is no bound."""
        if until is not None and until > _DUSK:
            until = None
        self._since, self._until = since, until
        self._at = since if since is not None else min(max(earliest, _DAWN), today)
        self._end = today if until is None else until
        self._days = 16
        self._waiting: list[Window] = []
        if since is None:
            self._waiting.append(Window(None, self._before(self._at)))
        self._has_tail = until is None

    def __iter__(self) -> Windows:
        """Return itself."""
        return self

    def __next__(self) -> Window:
        """Return the next window."""
        if self._waiting:
            return self._waiting.pop()
        if self._at <= self._end:
            first = self._at
            last = min(first + (self._days - 1) * DAY, self._end)
            self._at = last + DAY
            return Window(first, last)
        if self._has_tail:
            self._has_tail = False
            return Window(self._at, None)
        raise StopIteration

    def note(self, studies: int) -> None:
        """Choose the length of what comes next, by how many studies there were."""
        if studies < _FEW:
            self._days = min(self._days * 2, _LONGEST_DAYS)
        elif studies > _MANY:
            self._days = max(self._days // 2, 1)

    def divide(self, window: Window) -> bool:
        """Have a window's halves come next instead of it; False when it cannot be divided."""
        halves = window.halves()
        if halves is None:
            return False
        self._days = max(self._days // 2, 1)
        self._waiting += [halves[1], halves[0]]
        return True

    def covers(self, date: str) -> bool:
        """Tell whether a date's text lies within the whole walk."""
        return bool(date) and Window(self._since, self._until).holds(date)

    def _before(self, day: datetime.date) -> datetime.date:
        day -= DAY
        return day if self._until is None else min(day, self._until)


def text_of(day: datetime.date | None) -> str:
    """Return a date as DICOM writes it, empty for None."""
    # Not by strftime, which leaves out leading zeros of years.
    return "" if day is None else day.isoformat().replace("-", "")


def date_of(text: str) -> datetime.date | None:
    """Return the date that a text stands for, `YYYYMMDD` or `YYYY-MM-DD`; None when it is none."""
    plain = text.strip().replace("-", "")
    if len(plain) != 8 or not plain.isascii() or not plain.isdecimal():
        return None
    try:
        return datetime.date(int(plain[:4]), int(plain[4:6]), int(plain[6:]))
    except ValueError:
        return None
