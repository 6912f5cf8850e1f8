"""Processor time that a test may use, on machines of any speed and with any load.

Processor time is no constant either: it grows on a slow machine, and where another process uses the
same core's caches. So a bound is stated for the machine that it was measured on, and stretched by
how much longer a piece of work of a fixed size takes here, at this moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_REFERENCE_S = 0.028
"""What `_work` takes on the machine that the bounds were measured on, with nothing else to do."""
_TRIES = 3


def least_processor_s(work: Callable[[], object], bound_s: float) -> float:
    """Do some work, again if it took longer than the bound, and return the least time it took.

    In seconds of processor time of the reference machine.
    """
    least = float("inf")
    for _ in range(_TRIES):
        slowness = _processor_s(_work) / _REFERENCE_S
        spent_s = _processor_s(work)
        slowness = max(slowness, _processor_s(_work) / _REFERENCE_S)
        least = min(least, spent_s / slowness)
        if least < bound_s:
            break
    return least


def _work() -> int:
    """Do what parsers do: cut, look up, put together."""
    found: dict[str, int] = {}
    for number in range(30_000):
        name, _, value = f"key{number % 997} = {number}".partition("=")
        found[name.strip().lower()] = found.get(name, 0) + int(value)
    return len(found)


def _processor_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
