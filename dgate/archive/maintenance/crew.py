"""Worker processes that take a job apart and give the results back in order.

Not for what is done (a picklable function). Each worker has a pipe of its own, so that it ends
with the process that started it, however that ends. A `Crew` belongs to one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from dgate.errors import DgateError

B = TypeVar("B")
R = TypeVar("R")

_AHEAD = 2
"""Batches that a worker has at a time, so that it never waits for the next."""
_NICE = 10
"""How much the workers stand back behind a server that serves."""
_JOIN_S = 5.0


class Crew(Generic[B, R]):
    """Runs a function over batches in several processes; with no workers, in the caller's."""

    def __init__(self, work: Callable[[B], R], workers: int, *, polite: bool = False) -> None:
        """Start the processes; `polite` lowers their priority."""
        self._work = work
        # Not forked: the caller may have threads.
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, work, polite), name=f"reader-{number}", daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, batches: Iterable[B]) -> Iterator[R]:
        """Yield the result of each batch, in their order; raises what reading `batches` raises."""
        if not self._pipes:
            yield from map(self._work, batches)
            return
        source = iter(batches)
        waiting: deque[Connection] = deque()
        # A worker gets its next batch when it has given a result back, so both sides of its pipe
        # never write at once more than the pipe holds.
        for _ in range(_AHEAD):
            for pipe in self._pipes:
                self._hand_out(source, pipe, waiting)
        while waiting:
            pipe = waiting.popleft()
            result = self._receive(pipe)
            self._hand_out(source, pipe, waiting)
            yield result

    def close(self) -> None:
        """End the processes; safe to call twice."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_JOIN_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes = [], []

    def _hand_out(self, source: Iterator[B], pipe: Connection, waiting: deque[Connection]) -> None:
        batch = next(source, None)
        if batch is None:
            return
        try:
            pipe.send(batch)
        except OSError as exc:
            raise _ended() from exc
        waiting.append(pipe)

    def _receive(self, pipe: Connection) -> R:
        try:
            result = pipe.recv()
        except (EOFError, OSError) as exc:
            raise _ended() from exc
        if isinstance(result, BaseException):
            raise result
        return result  # type: ignore[no-any-return]


def worker_count() -> int:
    """Return how many workers this machine can keep busy."""
    return len(os.sched_getaffinity(0))


def _ended() -> DgateError:
    return DgateError(
        "a process that reads files has ended",
        remedy="look whether the machine ran out of memory, then start the command again: it goes "
        "on where it was",
    )


def _serve(pipe: Connection, work: Callable[[Any], Any], polite: bool) -> None:
    """Be a worker, until the pipe is closed."""
    # Ctrl-C reaches every process of the terminal; the one that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if polite:
        os.nice(_NICE)
    while True:
        try:
            batch = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            result = work(batch)
        except Exception as exc:
            # Raised again by the process that asked; nothing is written here.
            result = exc
        try:
            pipe.send(result)
        except OSError:
            return
