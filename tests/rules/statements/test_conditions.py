"""Tests: when they hold."""

from __future__ import annotations

import logging
import time

import pytest

from tests.rules import kit

CASES = [
    ('ifempty ""', True),
    ('ifempty "a"', False),
    ('ifempty "%VPatientBirthDate"', True),
    ('ifnotempty "%VPatientName"', True),
    ('ifnotempty "%VPatientBirthDate"', False),
    ('ifequal "%m", "CT"', True),
    ('ifequal "%m","ct"', False),
    ('ifequal "%m", "%VModality"', True),
    ('ifequal "", ""', True),
    ('ifequal "a, b", "a, b"', True),
    ('ifequal "%m", "CT" ', True),
    ('ifnotequal "%m", "MR"', True),
    ('ifnotequal "%m", "CT"', False),
    ('ifnotequal "%m", "%VModality"', False),
    ('ifmatch "%s", "room*"', True),
    ('ifmatch "%s", "*OO*"', True),
    ('ifmatch "%s", "%VStationName"', True),
    ('ifmatch "%s", "R*1"', False),
    ('ifnotmatch "%s", "room2"', True),
    ('ifnotmatch "%s", "%s"', False),
    ('ifnumequal "007", "7"', True),
    ('ifnumequal "abc", "0"', True),
    ('ifnumequal "7", "8"', False),
    ('ifnumnotequal "7", "8"', True),
    ('ifnumgreater "%VRows", "511"', True),
    ('ifnumgreater "512", "%VRows"', False),
    ('ifnumless "-3", "2"', True),
    ('ifnumless "2", "2"', False),
]


def holds(test: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Return whether the statement after the test runs."""
    caplog.set_level(logging.INFO, "dgate.rules")
    made = kit.importing(f"{test}; nop ran")
    assert made.problems == ()
    kit.run_import(made)
    return kit.nops(caplog) == ["nop ran"]


@pytest.mark.parametrize(("test", "expected"), CASES, ids=[test for test, _ in CASES])
def test_condition_holds(test: str, expected: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert holds(test, caplog) is expected


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [(0, 24, True), (0, 1, True), (1, 2, False), (1, 0, False), (-1, 0, False), (0, 0, False)],
)
def test_between_compares_whole_local_hours(
    begin: int, end: int, expected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hour = time.localtime(kit.NOON).tm_hour
    first = 0 if (begin, end) == (0, 24) else hour + begin
    last = 24 if (begin, end) == (0, 24) else hour + end
    assert holds(f'between "{first}", "{last}"', caplog) is expected


def test_between_wraps_around_midnight(caplog: pytest.LogCaptureFixture) -> None:
    hour = time.localtime(kit.NOON).tm_hour
    assert holds(f'between "{hour}", "{hour - 1}"', caplog)
