"""How the values of sections `[node NAME]` are written: hours, rates, statuses, transfer syntaxes.

Each function takes the text of one setting and returns what it means; `BadValue` names the place in
the text that cannot be understood. Pure functions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

from dgate.config.node_settings import AS_STORED, Rate, Span

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MEANINGS = ("wait", "retry", "fail", "delivered")
ERRORS = ("refused", "rejected", "aborted", "timeout", "syntax")
"""What may stand in the place of a status: no connection, a rejected association, one that was
aborted or lost, no answer in time, no presentation context for the object."""
_DAY_MIN = 24 * 60
_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_STATUS = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{4})(?:\s*-\s*(?:0[xX])?([0-9A-Fa-f]{4}))?")
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_LONGEST_UID = 64
_MOST_PARTS = 64
_PLAIN = re.compile(r"[^a-z0-9]")

_BASE = "1.2.840.10008.1.2"
_SYNTAXES = {
    "implicitvrlittleendian": _BASE,
    "explicitvrlittleendian": f"{_BASE}.1",
    "deflatedexplicitvrlittleendian": f"{_BASE}.1.99",
    "explicitvrbigendian": f"{_BASE}.2",
    "jpegbaseline8bit": f"{_BASE}.4.50",
    "jpegextended12bit": f"{_BASE}.4.51",
    "jpeglossless": f"{_BASE}.4.57",
    "jpeglosslesssv1": f"{_BASE}.4.70",
    "jpeglslossless": f"{_BASE}.4.80",
    "jpeglsnearlossless": f"{_BASE}.4.81",
    "jpeg2000lossless": f"{_BASE}.4.90",
    "jpeg2000": f"{_BASE}.4.91",
    "jpegxllossless": f"{_BASE}.4.110",
    "jpegxl": f"{_BASE}.4.112",
    "htj2klossless": f"{_BASE}.4.201",
    "htj2klosslessrpcl": f"{_BASE}.4.202",
    "htj2k": f"{_BASE}.4.203",
    "rlelossless": f"{_BASE}.5",
}
"""By the keywords of PS3.6 table A-1, in lower case."""
_WORDS = {
    "implicit": (_BASE,),
    "explicit": (f"{_BASE}.1",),
    "bigendian": (f"{_BASE}.2",),
    "deflated": (f"{_BASE}.1.99",),
    "rle": (f"{_BASE}.5",),
    "jpeg": (f"{_BASE}.4.50",),
    "jpeg12": (f"{_BASE}.4.51",),
    "jpeglossless": (f"{_BASE}.4.70", f"{_BASE}.4.57"),
    "jpegls": (f"{_BASE}.4.80",),
    "jpeglslossy": (f"{_BASE}.4.81",),
    "jpeg2000": (f"{_BASE}.4.90",),
    "jpeg2000lossy": (f"{_BASE}.4.91",),
    "htj2k": (f"{_BASE}.4.201", f"{_BASE}.4.202"),
    "jpegxl": (f"{_BASE}.4.110",),
    # Compression codes of acrnema.map.
    "un": (f"{_BASE}.1", _BASE),
    "ui": (_BASE,),
    "ul": (f"{_BASE}.1",),
    "ub": (f"{_BASE}.2",),
    "rl": (f"{_BASE}.5",),
    "j1": (f"{_BASE}.4.70",),
    "j2": (f"{_BASE}.4.57",),
    "js": (f"{_BASE}.4.80",),
    "jk": (f"{_BASE}.4.90",),
    "jl": (f"{_BASE}.4.91",),
}
"""Short words; where one is also a keyword, the lossless syntax is meant."""


class BadValue(ValueError):
    """A text cannot be understood; `at` is the place in it, counted from 0."""

    def __init__(self, at: int, message: str, advice: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message
        self.advice = advice


def times(text: str) -> tuple[Span, ...]:
    """Return the hours of the week that `mon-fri 18:00-07:00, sat 00:00-24:00` names."""
    spans = []
    for at, part, days in _dated_parts(text):
        hours = _HOURS.fullmatch(part)
        if hours is None:
            raise BadValue(at, f"{part!r} is no span of hours", "write it as 22:00-06:00")
        spans.append(_span(at, hours, days))
    return tuple(spans)


def rates(text: str) -> tuple[Rate, ...]:
    """Return the bandwidths that `2000, 07:00-19:00 500` names; those with hours come first."""
    limited: list[Rate] = []
    always: list[Rate] = []
    for at, part, days in _dated_parts(text):
        hours = _HOURS.match(part)
        number = part[hours.end() :].strip() if hours else part
        if _NUMBER.fullmatch(number) is None:
            place = at + part.rfind(number) if number else at
            message = f"{number or part!r} is no bandwidth"
            raise BadValue(place, message, "write kbit/s, as in 2000 or 07:00-19:00 500")
        if hours is not None:
            limited.append(Rate(float(number), _span(at, hours, days)))
        elif days is not None:
            raise BadValue(at, f"{part!r} has days but no hours", "write mon-fri 00:00-24:00 500")
        elif always:
            message = f"{part!r} is a second bandwidth for all other hours"
            raise BadValue(at, message, "put hours before one of them")
        else:
            always.append(Rate(float(number)))
    return (*limited, *always)


class Meanings(NamedTuple):
    """What `Statuses` says."""

    statuses: tuple[tuple[int, int, str], ...]
    """First and last status, and meaning."""
    errors: tuple[tuple[str, str], ...]
    """Word of `ERRORS`, and meaning."""


def statuses(text: str) -> Meanings:
    """Return what `A700 wait, C000-CFFF retry, timeout retry` says."""
    found: list[tuple[int, int, str]] = []
    errors: list[tuple[str, str]] = []
    for at, part in _parts(text):
        name, _, meaning = part.rpartition(" ")
        name = name.strip()
        match = _STATUS.fullmatch(name)
        if match is None and name.lower() not in ERRORS:
            raise _no_status(at, part, name)
        place = at + part.rfind(meaning)
        if meaning.lower() not in MEANINGS:
            near = difflib.get_close_matches(meaning.lower(), MEANINGS, 1)
            advice = f"did you mean {near[0]}?" if near else f"write one of {', '.join(MEANINGS)}"
            raise BadValue(place, f"{meaning!r} is not what a status can mean", advice)
        meaning = meaning.lower()
        if match is not None:
            found.append((*_range_of(at, name, match), meaning))
        elif meaning == "delivered":
            message = f"{name.lower()} does not tell that the node has the object"
            raise BadValue(place, message, "write wait, retry or fail")
        else:
            errors.append((name.lower(), meaning))
    return Meanings(tuple(found), tuple(errors))


def _no_status(at: int, part: str, name: str) -> BadValue:
    near = difflib.get_close_matches(name.lower(), ERRORS, 1) if name else []
    if near:
        return BadValue(
            at, f"{name!r} is neither a status nor an error", f"did you mean {near[0]}?"
        )
    advice = f"write it as A700 wait or C000-CFFF retry, or timeout retry ({', '.join(ERRORS)})"
    return BadValue(at, f"{part!r} is no status with its meaning", advice)


def _range_of(at: int, codes: str, match: re.Match[str]) -> tuple[int, int]:
    """Return first and last status of a range."""
    first = int(match[1], 16)
    last = int(match[2] or match[1], 16)
    if first > last:
        raise BadValue(at, f"{codes} ends before it begins", "swap the two")
    if first == 0:
        message = "0000 is success, which means delivered"
        raise BadValue(at, message, "begin the range at 0001")
    return first, last


def syntaxes(text: str) -> tuple[str, ...]:
    """Return the UIDs of the transfer syntaxes that a list names, and AS_STORED for `as`."""
    found: dict[str, None] = {}
    for at, part in _parts(text):
        word = _PLAIN.sub("", part.lower())
        if word in ("as", "is"):
            found[AS_STORED] = None
        elif part.islower() and word in _WORDS:
            found |= dict.fromkeys(_WORDS[word])
        elif word in _SYNTAXES:
            found[_SYNTAXES[word]] = None
        elif word in _WORDS:
            found |= dict.fromkeys(_WORDS[word])
        elif _UID.fullmatch(part) and len(part) <= _LONGEST_UID:
            found[part] = None
        else:
            near = difflib.get_close_matches(word, [*_WORDS, *_SYNTAXES], 1, 0.7)
            advice = f"did you mean {near[0]}?" if near else "write a name of PS3.6 or its UID"
            raise BadValue(at, f"{part!r} is no transfer syntax", advice)
    return tuple(found)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield what stands between commas, with its place."""
    at = 0
    for count, part in enumerate(text.split(",")):
        blank = len(part) - len(part.lstrip())
        if not part.strip():
            raise BadValue(max(at - 1, 0), "a part of the list is empty", "remove the comma")
        if count >= _MOST_PARTS:
            raise BadValue(at, f"there are more than {_MOST_PARTS} parts", "write fewer")
        yield at + blank, part.strip()
        at += len(part) + 1


def _dated_parts(text: str) -> Iterator[tuple[int, str, frozenset[int] | None]]:
    """Yield what stands between commas without the days before it, which may have commas too."""
    days: frozenset[int] | None = None
    last = 0
    for at, part in _parts(text):
        name, _, rest = part.partition(" ")
        found = _days(at, name) if name[:1].isalpha() else None
        if found is None:
            yield at, part, days
            days = None
            continue
        days = found if days is None else days | found
        last = at
        if rest.strip():
            yield at + part.rindex(rest.strip()), rest.strip(), days
            days = None
    if days is not None:
        raise BadValue(last, "no hours stand behind the days", "write mon-fri 00:00-24:00")


def _days(at: int, text: str) -> frozenset[int]:
    names = text.lower().split("-")
    numbers = []
    for name in names:
        if name[:3] not in DAYS or not _is_day(name):
            raise BadValue(at, f"{name!r} is no day of the week", f"write {', '.join(DAYS)}")
        numbers.append(DAYS.index(name[:3]))
    if len(numbers) > 2:
        raise BadValue(at, f"{text!r} is no span of days", "write mon-fri")
    first, last = numbers[0], numbers[-1]
    count = (last - first) % 7 + 1
    return frozenset((first + day) % 7 for day in range(count))


def _is_day(name: str) -> bool:
    whole = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return any(day.startswith(name) for day in whole)


def _span(at: int, hours: re.Match[str], days: frozenset[int] | None) -> Span:
    begin = _minutes(at, hours[1], hours[2])
    end = _minutes(at, hours[3], hours[4])
    if begin == _DAY_MIN or end == 0:
        # 24:00 is the end of a day and 00:00 its begin: read the one that is meant.
        begin, end = begin % _DAY_MIN, end or _DAY_MIN
    return Span(begin, end, frozenset(range(7)) if days is None else days)


def _minutes(at: int, hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _DAY_MIN:
        raise BadValue(at, f"{hours}:{minutes} is no time of day", "write 00:00 to 24:00")
    return total
