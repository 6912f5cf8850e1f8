"""The Lua code of the night and of every second, by a clock that the test sets."""

from __future__ import annotations

import threading
import time

import pytest

from dgate.config.model import LuaEvent
from dgate.rules.effects import Captured
from dgate.rules.lua.events import LuaEvents
from dgate.rules.session import Session
from dgate.services.luaclock import LuaClock, next_nightly
from tests.rules import kit

LIMIT_S = 30.0


class SetClock:
    """A clock that the test sets."""

    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Environment(kit.FakeEnvironment):
    """Tells when code asks for a UID."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)

    def new_uid(self) -> str:
        self.asked.release()
        return super().new_uid()


def local(text: str) -> float:
    """Return a local time as a Unix time."""
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-01-02 02:59:59", "2026-01-02 03:00:00"),
        ("2026-01-02 03:00:00", "2026-01-03 03:00:00"),
        ("2026-01-31 23:00:00", "2026-02-01 03:00:00"),
        ("2026-12-31 12:00:00", "2027-01-01 03:00:00"),
    ],
)
def test_the_next_night_begins_at_three(now: str, due: str) -> None:
    assert next_nightly(local(now)) == local(due)


def ticking(env: Environment, clock: SetClock, events: dict[str, str]) -> LuaClock:
    """Return a clock with events."""
    made = LuaEvents(
        [LuaEvent(name, code, "dicom.ini:1") for name, code in events.items()], kit.rules().library
    )

    def surroundings(captured: Captured) -> Environment:
        return env

    return LuaClock(lambda: (made, surroundings), Session(), clock)


def test_background_code_runs_again_and_again_also_after_it_failed() -> None:
    env = Environment()
    clock = ticking(env, SetClock(local("2026-01-02 12:00:00")), {"background": "genuid() x()"})
    clock.start()
    try:
        assert env.asked.acquire(timeout=LIMIT_S)
        assert env.asked.acquire(timeout=LIMIT_S)
    finally:
        clock.stop()


def test_nightly_code_runs_when_three_o_clock_has_passed() -> None:
    env, time_of_day = Environment(), SetClock(local("2026-01-02 02:00:00"))
    clock = ticking(env, time_of_day, {"nightly": "genuid()"})
    clock.start()
    try:
        time_of_day.time = local("2026-01-02 03:00:01")
        # What a changed configuration does: have it look at the clock.
        clock.apply(None)
        assert env.asked.acquire(timeout=LIMIT_S)
        assert not env.asked.acquire(blocking=False)
    finally:
        clock.stop()


def test_without_code_nothing_runs_and_stop_ends_it_twice() -> None:
    clock = ticking(Environment(), SetClock(0.0), {})
    clock.start()
    clock.stop()
    clock.stop()
