"""Dates that are shifted by whole days, in the forms of DA and DT (PS3.5 6.2). Pure functions."""

from __future__ import annotations

import datetime
import re

_DATE = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
_DATE_TIME = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})([0-9]{0,6}(?:\.[0-9]{1,6})?))?)?([+-][0-9]{4})?"
)


def shifted_dates(text: str, days: int) -> str | None:
    r"""Return the dates of a DA value `days` earlier, None when one cannot be understood.

    Several values are separated by `\`, the ends of a range by `-`; an open end and an empty value
    stay. The form `YYYY.MM.DD` of ACR-NEMA becomes that of DICOM.
    """
    values = []
    for value in text.split("\\"):
        ends = [_shifted_date(end.strip(), days) for end in value.split("-")]
        if len(ends) > 2 or None in ends:
            return None
        values.append("-".join(end for end in ends if end is not None))
    return "\\".join(values)


def shifted_date_times(text: str, days: int) -> str | None:
    r"""Return the values of a DT `days` earlier, None when one cannot be understood.

    Time of day and offset from UTC stay. What has only a year, or year and month, is taken as its
    first day and stays as coarse as it was.
    """
    values = []
    for value in text.split("\\"):
        shifted = _shifted_date_time(value.strip(), days)
        if shifted is None:
            return None
        values.append(shifted)
    return "\\".join(values)


def _shifted_date(text: str, days: int) -> str | None:
    if not text:
        return ""
    match = _DATE.fullmatch(text)
    return None if match is None else _earlier(match[1], match[3], match[4], days)


def _shifted_date_time(text: str, days: int) -> str | None:
    if not text:
        return ""
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, rest, offset = match.groups()
    date = _earlier(year, month or "01", day or "01", days)
    if date is None:
        return None
    if month is None:
        date = date[:4]
    elif day is None:
        date = date[:6]
    return f"{date}{rest or ''}{offset or ''}"


def _earlier(year: str, month: str, day: str, days: int) -> str | None:
    try:
        date = datetime.date(int(year), int(month), int(day)) - datetime.timedelta(days)
    except (ValueError, OverflowError):
        # No day of the calendar, or one before year 1.
        return None
    return f"{date.year:04}{date.month:02}{date.day:02}"
