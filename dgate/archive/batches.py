"""Cuts what is long into lists that one statement, transaction or question takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")

AT_ONCE = 500
"""Short enough for one statement or transaction on every engine."""


def batches(items: Iterable[_T], most: int = AT_ONCE) -> Iterator[list[_T]]:
    """Yield the items in lists of at most so many; none where there are no items."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, most)):
        yield batch
