"""Patterns of filters and of `ifmatch`."""

from __future__ import annotations

import pytest

from dgate.rules.patterns import matcher


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("*", "", True),
        ("*", "anything", True),
        ("**", "anything", True),
        ("abc", "abc", True),
        ("abc", "ABC", True),
        ("ABC", "abc", True),
        ("abc", "abc  ", True),
        ("abc", "abcd", False),
        ("abc*", "abcd", True),
        ("abc*", "abc", True),
        ("abc*", "xabc", False),
        ("*abc", "xabc ", True),
        ("*abc", "abcx", False),
        ("*abc*", "xABCx", True),
        ("*abc*", "xabx", False),
        ("a*c", "abc", False),
        ("a*c", "a*c", True),
        ("a?c", "abc", False),
        ("", "", True),
        ("", "  ", True),
        ("", "a", False),
        ("CT,MR", "CT", False),
    ],
)
def test_pattern_matches(pattern: str, value: str, expected: bool) -> None:
    assert matcher(pattern)(value) is expected
