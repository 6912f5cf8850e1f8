"""The bandwidth of a destination, shared by all its associations.

A `Bucket` hands out times: each piece that is to be sent waits until those before it would be
through at the rate that counts. Waiting is on a condition that ends early when its owner is told to
stop. Any thread may call any method.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from dgate.clock import Clock
from dgate.config.node_settings import Rate
from dgate.delivery.windows import kbit_s_at
from dgate.net.stream import Bytes

LARGEST_PIECE = 1 << 16
SMALLEST_PIECE = 1 << 10
PIECE_S = 0.1
"""A piece takes about so long, so that the line is used evenly and a stop is soon noticed."""
BURST_S = 0.05
"""What was not used for so long may be made up for."""


class Bucket:
    """Lets so many bits pass in a second, whoever sends them."""

    def __init__(self, clock: Clock, rates: tuple[Rate, ...] = ()) -> None:
        self._clock = clock
        self._rates = rates
        self._signal = threading.Condition()
        """Guards `_free_at`."""
        self._free_at = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at any time."""
        return bool(self._rates)

    def change(self, rates: tuple[Rate, ...]) -> None:
        """Go on by other rates."""
        if rates != self._rates:
            with self._signal:
                self._rates = rates
                self._free_at = min(self._free_at, self._clock.monotonic())
                self._signal.notify_all()

    def wake(self) -> None:
        """Let whoever waits look whether it has been told to stop."""
        with self._signal:
            self._signal.notify_all()

    def piece_bytes(self) -> int:
        """Return how much is to be sent at once; 0 = there is no limit now."""
        kbit_s = kbit_s_at(self._rates, self._clock.now())
        if kbit_s <= 0:
            return 0
        return int(min(max(kbit_s * 125 * PIECE_S, SMALLEST_PIECE), LARGEST_PIECE))

    def take(self, count: int, is_stopped: Callable[[], bool]) -> None:
        """Wait until so many bytes may be sent, or `is_stopped`."""
        kbit_s = kbit_s_at(self._rates, self._clock.now())
        if kbit_s <= 0:
            return
        with self._signal:
            now = self._clock.monotonic()
            begin = max(self._free_at, now - BURST_S)
            self._free_at = begin + count / (kbit_s * 125)
            while not is_stopped():
                # Never later than what is handed out: a change of the rates takes that back.
                wait = min(begin, self._free_at) - self._clock.monotonic()
                if wait <= 0:
                    return
                self._signal.wait(wait)

    def paced(self, chunks: Iterable[Bytes], is_stopped: Callable[[], bool]) -> Iterator[Bytes]:
        """Yield the chunks in pieces, each when it may be sent; all at once after a stop."""
        for chunk in chunks:
            view = memoryview(chunk)
            start = 0
            while start < len(view):
                size = self.piece_bytes() or len(view)
                piece = view[start : start + size]
                self.take(len(piece), is_stopped)
                yield piece
                start += len(piece)
