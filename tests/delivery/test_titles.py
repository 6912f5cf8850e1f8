"""What is remembered about titles that a peer rejects."""

from __future__ import annotations

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery.records import Debt
from dgate.delivery.titles import MOST_PAIRS, RejectedTitles, pair_of
from tests.delivery.kit import ref

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


def test_other_pair_is_served_until_it_is_rejected() -> None:
    titles, other = RejectedTitles(), ("B", "SINK")
    assert not titles.serves_others(PAIR)

    titles.accept(PAIR)
    assert not titles.serves_others(PAIR)
    titles.accept(other)
    assert titles.serves_others(PAIR)

    titles.reject(other, 10.0, "x")
    assert not titles.serves_others(PAIR)
    for end in (RejectedTitles.forget, RejectedTitles.doubt):
        titles.accept(other)
        assert titles.serves_others(PAIR)
        end(titles)
        assert not titles.serves_others(PAIR)


def test_second_rejection_in_a_row_says_that_nobody_may_be_served_any_more() -> None:
    titles, other = RejectedTitles(), ("B", "SINK")
    for _ in range(3):
        titles.accept(other)
        titles.reject(PAIR, 10.0, "x")
        assert titles.serves_others(PAIR)

    titles.reject(PAIR, 10.0, "x")

    assert not titles.serves_others(PAIR)


@pytest.mark.parametrize(
    ("calling", "called", "destination", "pair"),
    [
        ("", "", "SINK", ("GATE", "SINK")),
        ("", "SINK", "SINK", ("GATE", "SINK")),
        ("GATE", "sink", "SINK", ("GATE", "sink")),
        ("A", "VIEWER", "SINK", ("A", "VIEWER")),
        ("A" * 17, "", "archive.site.org:11112", ("A" * 16, "archive.site.org")),
    ],
)
def test_pair_is_as_it_is_on_the_wire(
    calling: str, called: str, destination: str, pair: tuple[str, str]
) -> None:
    kind = DebtKind.DELIVER
    debt = Debt(1, kind, destination, "", calling, called, "", "", ref(), "", 0)

    assert pair_of(debt, "GATE") == pair


def test_not_more_than_so_many_served_pairs_are_remembered() -> None:
    titles = RejectedTitles()
    for number in range(MOST_PAIRS + 1):
        titles.accept((f"A{number}", ""))

    assert not titles.serves_others((f"A{MOST_PAIRS}", ""))
