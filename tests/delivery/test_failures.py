"""What becomes of a debt after each status and error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.delivery.failures import Fate, fate_of_error, fate_of_status, is_passing
from dgate.errors import (
    Aborted,
    CannotTranscode,
    ConfigError,
    DatabaseAway,
    Missing,
    NoContext,
    NotDicom,
    NotExecutable,
    OutOfSpace,
    ProtocolError,
    Rejected,
    RuleError,
    StoreError,
    TimedOut,
    Unreachable,
)


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (0x0000, Fate.DONE),
        (0xB000, Fate.DONE),
        (0xB007, Fate.DONE),
        (0xBFFF, Fate.DONE),
        (0x0107, Fate.DONE),
        (0x0111, Fate.DONE),
        (0xA700, Fate.WAIT),
        (0xA7FF, Fate.WAIT),
        (0xA801, Fate.WAIT),
        (0x0213, Fate.WAIT),
        (0x0110, Fate.AGAIN),
        (0xA900, Fate.STUCK),
        (0xA9FF, Fate.STUCK),
        (0x0122, Fate.STUCK),
        (0x0124, Fate.STUCK),
        (0xC000, Fate.DOUBTFUL),
        (0xCFFF, Fate.DOUBTFUL),
        (0x0211, Fate.DOUBTFUL),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else value.value,
)
def test_status_decides(status: int, fate: Fate) -> None:
    assert fate_of_status(status) is fate


@given(st.integers(1, 0xFFFF))
def test_only_warnings_count_as_delivered_beside_success(status: int) -> None:
    warning = status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0111, 0x0116)

    assert (fate_of_status(status) is Fate.DONE) is warning


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (Unreachable("x"), Fate.WAIT),
        (Rejected("x", result=1, source=1, reason=1), Fate.WAIT),
        (Rejected("x", result=2, source=3, reason=2), Fate.WAIT),
        (Rejected("x", result=1, source=1, reason=3), Fate.AGAIN),
        (Rejected("x", result=1, source=1, reason=7), Fate.AGAIN),
        (Rejected("x", result=1, source=2, reason=7), Fate.WAIT),
        (TimedOut("x"), Fate.WAIT),
        (Aborted("x"), Fate.WAIT),
        (ProtocolError("x"), Fate.WAIT),
        (DatabaseAway("x"), Fate.WAIT),
        (NoContext("x"), Fate.STUCK),
        (CannotTranscode("x"), Fate.STUCK),
        (Missing("x"), Fate.STUCK),
        (NotDicom("x"), Fate.STUCK),
        (RuleError("x"), Fate.STUCK),
        (NotExecutable("x"), Fate.STUCK),
        (ConfigError("x"), Fate.STUCK),
        (PermissionError("x"), Fate.AGAIN),
        (OutOfSpace("x"), Fate.WAIT),
        (StoreError("x"), Fate.DOUBTFUL),
        (ZeroDivisionError("x"), Fate.STUCK),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.value,
)
def test_error_decides(error: Exception, fate: Fate) -> None:
    assert fate_of_error(error) is fate


@pytest.mark.parametrize(
    ("result", "source", "reason", "passing"),
    [
        (2, 3, 1, True),
        (2, 3, 2, True),
        (1, 3, 2, True),
        (2, 1, 1, True),
        (1, 1, 1, False),
        (1, 1, 3, False),
        (2, 1, 7, False),
        (1, 2, 2, False),
        (1, 3, 0, False),
    ],
)
def test_rejection_that_comes_from_the_load_of_the_peer(
    result: int, source: int, reason: int, passing: bool
) -> None:
    assert is_passing(Rejected("x", result=result, source=source, reason=reason)) is passing
