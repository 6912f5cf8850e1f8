"""Cutting into lists: nothing is lost, none is longer than wanted, and none is empty."""

from __future__ import annotations

import pytest

from dgate.archive.batches import AT_ONCE, batches


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_nothing_is_lost_and_the_order_stays(count: int) -> None:
    found = list(batches(iter(range(count)), 3))

    assert [each for batch in found for each in batch] == list(range(count))
    assert all(0 < len(batch) <= 3 for batch in found)


def test_only_the_batch_in_hand_is_taken() -> None:
    left = iter(range(2 * AT_ONCE))

    assert len(next(batches(left))) == AT_ONCE
    assert next(left) == AT_ONCE
