"""A thread that does a step again and again: its pauses, its end, and its troubles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dgate.ops.rounds import UNTIL_WOKEN, Rounds

PATIENCE_S = 60.0
LONG_S = 3600.0


class Steps:
    """Returns one pause after the other, the last one for ever, and lets a test wait for steps."""

    def __init__(self, *pauses: float | Exception | None) -> None:
        self.pauses = list(pauses)
        self.done = 0
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> float | None:
        pause = self.pauses.pop(0) if len(self.pauses) > 1 else self.pauses[0]
        self.begun.release()
        assert self.gate.wait(PATIENCE_S)
        self.done += 1
        if isinstance(pause, Exception):
            raise pause
        return pause

    def await_step(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE_S)


@contextmanager
def running(
    steps: Callable[[], float | None],
    *,
    trouble_s: float = LONG_S,
    gather_s: float = 0.0,
    bell: threading.Event | None = None,
) -> Iterator[Rounds]:
    rounds = Rounds(
        "test-rounds",
        steps,
        "Counting the beds failed unexpectedly.",
        trouble_s=trouble_s,
        gather_s=gather_s,
        bell=bell,
    )
    rounds.start()
    try:
        yield rounds
    finally:
        rounds.stop()
        assert not [each for each in threading.enumerate() if each.name == "test-rounds"]


def test_step_is_done_at_once_and_again_after_its_pause() -> None:
    steps = Steps(0.001)

    with running(steps):
        steps.await_step(3)


@pytest.mark.parametrize("pause", [LONG_S, UNTIL_WOKEN], ids=["long", "for ever"])
def test_pause_ends_when_somebody_wakes_it(pause: float) -> None:
    steps = Steps(pause)

    with running(steps) as rounds:
        steps.await_step()
        rounds.wake()
        steps.await_step()


def test_bell_that_others_have_wakes_it() -> None:
    steps, bell = Steps(UNTIL_WOKEN), threading.Event()

    with running(steps, bell=bell):
        steps.await_step()
        bell.set()
        steps.await_step()


def test_what_comes_during_a_step_brings_another_one() -> None:
    steps = Steps(UNTIL_WOKEN)
    steps.gate.clear()

    with running(steps) as rounds:
        steps.await_step()
        rounds.wake()
        steps.gate.set()
        steps.await_step()


def test_it_pauses_unless_somebody_wakes_it() -> None:
    steps = Steps(UNTIL_WOKEN)

    with running(steps):
        steps.await_step()
        assert not steps.begun.acquire(timeout=0.05)


def test_what_comes_within_the_least_pause_shares_a_step() -> None:
    steps = Steps(UNTIL_WOKEN)

    with running(steps, gather_s=LONG_S) as rounds:
        steps.await_step()
        rounds.wake()
        assert not steps.begun.acquire(timeout=0.05)


@pytest.mark.parametrize("gather_s", [0.0, LONG_S])
@pytest.mark.parametrize("pause", [LONG_S, UNTIL_WOKEN])
def test_stop_waits_for_no_pause(pause: float, gather_s: float) -> None:
    steps = Steps(pause)

    with running(steps, gather_s=gather_s) as rounds:
        steps.await_step()
        assert not rounds.is_stopping()
        rounds.stop()
        rounds.stop()

        assert rounds.is_stopping()
    assert steps.done == 1


def test_stop_waits_for_the_step_in_hand_which_can_see_it() -> None:
    seen: list[bool] = []
    bell, began = threading.Event(), threading.Event()

    def step() -> float:
        began.set()
        # A stop rings it; so the rounds are there by then.
        assert bell.wait(PATIENCE_S)
        seen.append(rounds.is_stopping())
        return 0.0

    with running(step, bell=bell) as rounds:
        assert began.wait(PATIENCE_S)
        rounds.stop()
        assert seen == [True]


def test_rest_is_ended_by_a_stop_alone() -> None:
    made: list[Rounds] = []

    class Resting(Steps):
        def __call__(self) -> float | None:
            pause = super().__call__()
            made[0].rest(LONG_S)
            return pause

    steps = Resting(UNTIL_WOKEN)
    made.append(Rounds("resting", steps, "It failed.", trouble_s=LONG_S))
    made[0].start()
    steps.await_step()
    made[0].wake()

    made[0].stop()

    assert steps.done == 1


def test_nothing_is_done_after_a_stop_that_came_before_the_start() -> None:
    steps = Steps(LONG_S)
    rounds = Rounds("test-rounds", steps, "", trouble_s=LONG_S)
    rounds.stop()

    rounds.start()
    rounds.await_end(PATIENCE_S)
    rounds.stop()

    assert steps.done == 0


def test_step_can_be_the_last() -> None:
    steps = Steps(0.0, None)

    with running(steps) as rounds:
        rounds.await_end(PATIENCE_S)
        assert "test-rounds" not in {thread.name for thread in threading.enumerate()}
    assert steps.done == 2


def test_nobody_waits_for_the_end_of_what_was_not_begun() -> None:
    Rounds("test-rounds", Steps(None), "", trouble_s=LONG_S).await_end(LONG_S)


def test_unexpected_error_is_logged_and_the_rounds_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = Steps(ValueError("a bed is missing"), LONG_S)

    with running(steps, trouble_s=0.001):
        steps.await_step(2)

    assert "Counting the beds failed unexpectedly." in caplog.messages
    assert "ValueError: a bed is missing" in caplog.text


def test_pause_after_trouble_is_its_own_and_can_be_ended() -> None:
    steps = Steps(ValueError("a bed is missing"), LONG_S)

    with running(steps, trouble_s=LONG_S) as rounds:
        steps.await_step()
        assert not steps.begun.acquire(timeout=0.05)
        rounds.wake()
        steps.await_step()
