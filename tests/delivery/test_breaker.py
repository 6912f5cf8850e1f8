"""Who may work on a destination after a failure."""

from __future__ import annotations

import math

from dgate.delivery.breaker import Breaker


def opened(**options: float) -> Breaker:
    breaker = Breaker()
    breaker.enter(0, 100.0)
    breaker.fail(breaker.begin(), 100.0, options.get("pause_s", 10.0), "refused", counts=True)
    breaker.leave(0)
    return breaker


def test_closed_breaker_lets_everybody_work() -> None:
    breaker = Breaker()

    assert breaker.state(0.0) == "closed"
    assert breaker.wait_s(0.0, 3) == 0.0
    assert not breaker.bars(3)
    assert breaker.pause_s(0.0) == 0.0


def test_failure_stops_all_for_the_pause() -> None:
    breaker = opened()

    assert breaker.state(101.0) == "open"
    assert breaker.wait_s(104.0, 1) == 6.0
    assert breaker.pause_s(104.0) == 6.0
    assert breaker.bars(0)
    assert breaker.bars(1)
    assert (breaker.failures, breaker.last_error, breaker.down_since) == (1, "refused", 100.0)


def test_first_after_the_pause_probes_and_the_others_wait_for_it() -> None:
    breaker = opened()

    breaker.enter(2, 111.0)
    breaker.enter(1, 111.0)

    assert breaker.state(111.0) == "probing"
    assert breaker.wait_s(111.0, 2) == 0.0
    assert breaker.wait_s(111.0, 1) == math.inf
    assert not breaker.bars(2)
    assert breaker.bars(1)


def test_answer_to_the_probe_closes_it() -> None:
    breaker = opened()
    breaker.enter(2, 111.0)

    assert breaker.succeed(breaker.begin(), 2)

    assert breaker.state(111.0) == "closed"
    assert (breaker.failures, breaker.down_since) == (0, None)
    assert not breaker.bars(1)


def test_probe_that_fails_opens_it_again_and_the_outage_goes_on() -> None:
    breaker = opened()
    breaker.enter(1, 111.0)

    breaker.fail(breaker.begin(), 111.0, 20.0, "again", counts=True)

    assert breaker.state(112.0) == "open"
    assert breaker.failures == 2
    assert breaker.pause_s(111.0) == 20.0
    assert breaker.down_since == 100.0


def test_probe_that_ends_without_a_verdict_is_left_to_another() -> None:
    breaker = opened()
    breaker.enter(1, 111.0)

    breaker.leave(1)

    assert breaker.wait_s(111.0, 3) == 0.0
    breaker.enter(3, 111.0)
    assert not breaker.bars(3)


def test_nobody_probes_before_the_end_of_the_pause() -> None:
    breaker = opened()

    breaker.enter(1, 109.0)

    assert breaker.state(109.0) == "open"
    assert breaker.bars(1)
    breaker.leave(1)
    breaker.enter(1, 110.0)
    assert not breaker.bars(1)


def test_failures_of_tries_that_began_together_count_once() -> None:
    breaker = Breaker()
    marks = [breaker.begin() for _ in range(4)]

    pauses = [breaker.fail(mark, 100.0, 10.0, "lost", counts=True) for mark in marks]

    assert breaker.failures == 1
    assert pauses == [10.0] * 4


def test_answer_to_a_try_that_began_before_the_failure_changes_nothing() -> None:
    breaker = Breaker()
    before = breaker.begin()
    breaker.fail(breaker.begin(), 100.0, 10.0, "lost", counts=True)

    assert not breaker.succeed(before, 1)
    assert breaker.state(101.0) == "open"


def test_pause_that_counts_for_nothing_leaves_the_number_of_failures() -> None:
    breaker = Breaker()

    breaker.fail(breaker.begin(), 100.0, 60.0, "held off", counts=False)

    assert breaker.failures == 0
    assert breaker.state(101.0) == "open"
    assert breaker.succeed(breaker.begin(), 0)


def test_operator_ends_the_pause_also_while_it_is_being_written_down() -> None:
    breaker = opened()

    breaker.reset()
    breaker.extend(101.0, 10.0)

    assert breaker.state(101.0) == "closed"
    assert breaker.wait_s(101.0, 0) == 0.0


def test_pause_is_counted_from_when_it_is_written_down() -> None:
    breaker = opened()

    breaker.extend(103.0, 10.0)

    assert breaker.pause_s(103.0) == 10.0


def test_it_is_known_whether_others_are_served() -> None:
    breaker = Breaker()
    breaker.succeed(breaker.begin(), 0)

    assert breaker.is_served_beside(1)
    assert not breaker.is_served_beside(0)
    breaker.lost(0)
    assert not breaker.is_served_beside(1)


def test_pause_of_a_newer_failure_is_not_shortened() -> None:
    breaker = opened(pause_s=10.0)
    breaker.fail(breaker.begin(), 105.0, 500.0, "again", counts=True)

    breaker.extend(106.0, 10.0)

    assert breaker.pause_s(106.0) == 499.0


def test_failure_of_an_old_try_leaves_the_probe_to_who_has_it() -> None:
    breaker = Breaker()
    old = breaker.begin()
    breaker.fail(breaker.begin(), 100.0, 10.0, "lost", counts=True)
    breaker.enter(2, 111.0)

    breaker.fail(old, 111.0, 10.0, "lost", counts=True)
    breaker.extend(111.0, 0.0)

    assert breaker.state(111.0) == "probing"
    assert not breaker.bars(2)
    assert breaker.wait_s(111.0, 1) == math.inf
