"""What is remembered about titles that a peer rejects."""

from __future__ import annotations

from dgate.delivery.titles import MOST_PAIRS, RejectedTitles

PAIR = ("A", "SINK")


def test_pair_pauses_alone_until_its_time_has_come() -> None:
    titles = RejectedTitles()

    titles.reject(PAIR, 10.0, "not known")

    found = titles.pausing(PAIR, 9.9)
    assert found is not None
    assert found.error == "not known"
    assert titles.pausing(("B", "SINK"), 9.9) is None
    assert titles.pausing(PAIR, 10.0) is None
    assert titles.times(PAIR) == 1


def test_rejection_is_fresh_for_the_batch_that_found_it() -> None:
    titles = RejectedTitles()
    titles.begin_batch()
    titles.reject(PAIR, 10.0, "x")
    found = titles.pausing(PAIR, 0.0)
    assert found is not None
    assert titles.is_fresh(found)

    titles.begin_batch()

    assert not titles.is_fresh(found)


def test_success_and_an_operator_end_the_pause() -> None:
    for end in (lambda titles: titles.accept(PAIR), RejectedTitles.forget):
        titles = RejectedTitles()
        titles.reject(PAIR, 10.0, "x")

        end(titles)

        assert titles.pausing(PAIR, 0.0) is None
        assert titles.times(PAIR) == 0


def test_not_more_than_so_many_pairs_are_remembered() -> None:
    titles = RejectedTitles()
    for number in range(MOST_PAIRS + 1):
        titles.reject((f"A{number}", ""), 10.0, "x")

    assert titles.pausing(("A0", ""), 0.0) is None
    assert titles.pausing(("A1", ""), 0.0) is not None
    assert titles.pausing((f"A{MOST_PAIRS}", ""), 0.0) is not None
