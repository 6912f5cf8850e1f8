"""Lua code that runs for long is named in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.rules.hooks import capture
from dgate.rules.lua.engine import LuaEngine
from dgate.rules.lua.state import Limits
from dgate.rules.lua.watchdog import Watchdog
from dgate.rules.run import Run
from dgate.rules.session import Session
from tests.acceptance.processes import wait_until
from tests.archive.intake_kit import data_set
from tests.rules.kit import FakeEnvironment, rules


class Told:
    """A server whose every value is 1 when the log has a warning."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def value(self, name: str) -> int:
        return int("is still running" in self._caplog.text)


def is_over(watchdog: Watchdog) -> Callable[[], bool]:
    return lambda: watchdog._thread is None


@pytest.mark.parametrize(
    ("waits", "doing"), [(False, "is still running"), (True, "is waiting for another node")]
)
def test_code_that_runs_for_long_is_named_more_and_more_seldom(
    caplog: pytest.LogCaptureFixture, waits: bool, doing: str
) -> None:
    watchdog = Watchdog(0.02)
    with caplog.at_level(logging.WARNING, "dgate.lua"):
        key = watchdog.enter("ImportConverter0", "SCANNER at 10.0.0.5", lambda: waits)
        wait_until(lambda: caplog.text.count(doing) >= 2, "two warnings")
        watchdog.leave(key)
        wait_until(is_over(watchdog), "the end of the thread")

    assert "ImportConverter0 (SCANNER at 10.0.0.5)" in caplog.text
    assert threading.current_thread().name in caplog.text


def test_watchdog_ends_when_nothing_runs_and_begins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watchdog = Watchdog(0.02)
    with caplog.at_level(logging.WARNING, "dgate.lua"):
        for _ in range(3):
            watchdog.leave(watchdog.enter("short", "", lambda: False))
        wait_until(is_over(watchdog), "the end of the thread")
        key = watchdog.enter("long", "", lambda: False)
        wait_until(lambda: "long is still running" in caplog.text, "a warning")
        watchdog.leave(key)
        wait_until(is_over(watchdog), "the end of the thread")

    assert "short" not in caplog.text


def test_engine_has_its_code_watched_once_for_a_call_and_what_it_calls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watchdog = Watchdog(0.02)
    engine = LuaEngine(Limits(instructions=0, seconds=0), watchdog)
    session = Session("SCANNER", "GATE")
    table = ElementTable(data_set(), EXPLICIT_LE)
    environment = FakeEnvironment()
    environment.server = Told(caplog)  # type: ignore[attr-defined]
    run = Run(table, capture(table, "SCANNER", "GATE"), environment, session=session)
    entered: list[str] = []
    enter = watchdog.enter

    def counted(name: str, whose: str, is_waiting: Callable[[], bool]) -> int:
        entered.append(f"{name} {whose}")
        return enter(name, whose, is_waiting)

    watchdog.enter = counted  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "dgate.lua"):
        code = b"while Global.Told ~= 1 do end script('nop')"
        engine.run(run, rules().library, code, "=ImportConverter7")
        session.close()
        wait_until(is_over(watchdog), "the end of the thread")

    assert entered == ["ImportConverter7 SCANNER"]
    assert "The Lua code of ImportConverter7 (SCANNER) is still running" in caplog.text
