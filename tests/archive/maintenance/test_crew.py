"""Workers: results in order, errors handed back, no process left over."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from dgate.archive.maintenance.crew import Crew
from dgate.errors import DgateError, NotDicom


def square(batch: list[int]) -> list[int]:
    """Work of uneven length."""
    time.sleep(0.02 if batch[0] % 3 == 0 else 0)
    return [number * number for number in batch]


def process_of(batch: int) -> int:
    """Return who did it."""
    return os.getpid()


def fail(batch: int) -> int:
    """Fail at a certain batch."""
    if batch == 3:
        raise NotDicom("three is none")
    return batch


def die(batch: int) -> int:
    """End the process without a word."""
    os._exit(1)


def large(batch: list[str]) -> list[str]:
    """Give back much more than a pipe holds."""
    return [name * 100 for name in batch]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order(workers: int) -> None:
    crew = Crew(square, workers)

    results = list(crew.run([[number, number + 1] for number in range(40)]))
    crew.close()

    assert results == [[n * n, (n + 1) * (n + 1)] for n in range(40)]


def test_workers_are_other_processes() -> None:
    crew = Crew(process_of, 2)

    found = set(crew.run(range(8)))
    crew.close()

    assert len(found) == 2
    assert os.getpid() not in found


def test_error_of_a_worker_is_raised_here() -> None:
    crew = Crew(fail, 2)

    with pytest.raises(NotDicom, match="three is none"):
        list(crew.run(range(8)))
    crew.close()


def test_worker_that_ended_is_an_error_with_a_remedy() -> None:
    crew = Crew(die, 1)

    with pytest.raises(DgateError, match="has ended") as caught:
        list(crew.run(range(8)))
    crew.close()
    assert "goes on where it was" in caught.value.remedy


def test_results_larger_than_a_pipe_do_not_stop_anybody() -> None:
    names = ["x" * 120] * 128
    crew = Crew(large, 2)

    count = sum(len(result) for result in crew.run([names] * 20))
    crew.close()

    assert count == 20 * 128


def test_batches_are_taken_only_as_they_are_needed() -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    crew = Crew(process_of, 2)
    results = crew.run(source())
    next(results)
    crew.close()

    assert taken <= 6
