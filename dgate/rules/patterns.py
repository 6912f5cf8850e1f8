"""Patterns of filters and `ifmatch`: `*`, `abc`, `abc*`, `*abc`, `*abc*` (spec converters.md 3.1).

Letter case and trailing blanks of the value do not matter; `?` and a `*` inside are ordinary
characters. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable

Matcher = Callable[[str], bool]
FILTER_KEYS = {
    "modality": "Modality",
    "station": "StationName",
    "calling": "CallingAE",
    "called": "CalledAE",
}
"""The filters beside a rule that are patterns: their field, and the part of the key that names
them."""


def matcher(pattern: str) -> Matcher:
    """Return the test for one pattern."""
    if pattern == "*":
        return _anything
    wanted = pattern.lower()
    head = wanted.startswith("*")
    tail = wanted.endswith("*")
    if head and tail:
        part = wanted[1:-1]
        return lambda value: part in value.rstrip(" ").lower()
    if head:
        part = wanted[1:]
        return lambda value: value.rstrip(" ").lower().endswith(part)
    if tail:
        part = wanted[:-1]
        return lambda value: value.rstrip(" ").lower().startswith(part)
    return lambda value: value.rstrip(" ").lower() == wanted


def _anything(value: str) -> bool:
    return True
