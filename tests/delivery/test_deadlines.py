"""What takes too long is cut, and nothing else."""

from __future__ import annotations

import threading

import pytest

from dgate.delivery.deadlines import Deadlines

PATIENCE_S = 60.0


def test_watch_is_cut_when_its_time_is_over() -> None:
    deadlines, cut = Deadlines(), threading.Event()
    watch = deadlines.watch(cut.set)

    watch.set(0.05)

    assert cut.wait(PATIENCE_S)
    assert watch.has_fired
    deadlines.stop()


def test_watch_that_is_cleared_is_left_alone() -> None:
    deadlines, cut, other = Deadlines(), threading.Event(), threading.Event()
    watch = deadlines.watch(cut.set)
    later = deadlines.watch(other.set)

    watch.set(0.05)
    watch.clear()
    later.set(0.2)

    assert other.wait(PATIENCE_S)
    assert not cut.is_set()
    assert not watch.has_fired
    deadlines.stop()


def test_nearer_deadline_is_kept_although_a_later_one_is_waited_for() -> None:
    deadlines, near = Deadlines(), threading.Event()
    deadlines.watch(lambda: None).set(3600.0)

    deadlines.watch(near.set).set(0.05)

    assert near.wait(PATIENCE_S)
    deadlines.stop()


def test_watch_can_be_set_again() -> None:
    deadlines = Deadlines()
    cuts = threading.Semaphore(0)
    watch = deadlines.watch(cuts.release)

    watch.set(0.02)
    assert cuts.acquire(timeout=PATIENCE_S)
    watch.set(0.02)

    assert cuts.acquire(timeout=PATIENCE_S)
    deadlines.stop()


def test_forgotten_watch_and_stopped_thread_do_nothing() -> None:
    deadlines, cut = Deadlines(), threading.Event()
    watch = deadlines.watch(cut.set)
    deadlines.forget(watch)
    watch.set(0.01)
    deadlines.stop()
    deadlines.stop()

    late = deadlines.watch(cut.set)
    late.set(0.0)

    assert not [thread for thread in threading.enumerate() if thread.name == "delivery-deadlines"]
    assert not cut.is_set()


@pytest.mark.parametrize("by", ["watch", "set"])
def test_thread_that_could_not_start_is_started_by_the_next_who_needs_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    deadlines, cut = Deadlines(), threading.Event()
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse_thread)
        watch = deadlines.watch(cut.set)
        watch.set(3600.0)
        watch.set(0.0)
    assert caplog.text.count("No thread for the deadlines") == 1
    assert not cut.is_set()

    if by == "watch":
        deadlines.watch(lambda: None)
    else:
        watch.set(0.0)

    assert cut.wait(PATIENCE_S)
    deadlines.stop()


def refuse_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_object_that_ends_while_another_is_cut_does_not_cut_the_next() -> None:
    deadlines, both_due, cut = Deadlines(), threading.Event(), threading.Semaphore(0)
    cuts: list[str] = []
    gate = deadlines.watch(lambda: both_due.wait(PATIENCE_S))

    def cut_and_go_on(name: str, other: str) -> None:
        # Meanwhile the other one's object ends, and its next one begins.
        cuts.append(name)
        watches[other].clear()
        watches[other].set(3600.0)
        cut.release()

    watches = {
        name: deadlines.watch(lambda name=name, other=other: cut_and_go_on(name, other))
        for name, other in (("a", "b"), ("b", "a"))
    }
    gate.set(-1.0)
    watches["a"].set(-1.0)
    watches["b"].set(-1.0)
    both_due.set()

    assert cut.acquire(timeout=PATIENCE_S)
    deadlines.stop()
    assert len(cuts) == 1
    [other] = watches.keys() - set(cuts)
    assert not watches[other].has_fired


def test_clearing_waits_for_a_cut_that_is_under_way() -> None:
    deadlines, begun, go_on = Deadlines(), threading.Event(), threading.Event()
    events: list[str] = []

    def cut() -> None:
        begun.set()
        go_on.wait(PATIENCE_S)
        events.append("cut")

    watch = deadlines.watch(cut)
    watch.set(0.0)
    assert begun.wait(PATIENCE_S)

    def end_object() -> None:
        watch.clear()
        events.append("cleared")

    owner = threading.Thread(target=end_object)
    owner.start()
    go_on.set()
    owner.join(PATIENCE_S)

    assert events == ["cut", "cleared"]
    deadlines.stop()
