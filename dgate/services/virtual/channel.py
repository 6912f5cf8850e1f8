"""A queue from several threads to one, that either side can end.

Thread-safe; everything sits behind `_changed`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """Items on their way from a known number of producers to one consumer."""

    def __init__(self, producers: int, capacity: int | None = None) -> None:
        """`capacity`: so many items wait at most, and `put` waits for room; None = any number."""
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._producers = producers
        self._capacity = capacity
        self._closed = False

    def put(self, item: T) -> bool:
        """Hand an item over; False when nobody wants it any more."""
        with self._changed:
            while (
                not self._closed
                and self._capacity is not None
                and len(self._items) >= self._capacity
            ):
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self) -> None:
        """Note that one producer has ended."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def wait_until_empty(self) -> bool:
        """Wait until everything has been taken; False when nobody takes anything any more."""
        with self._changed:
            while self._items and not self._closed:
                self._changed.wait()
            return not self._closed

    def take(self, timeout_s: float) -> T | None:
        """Return the next item, None when none came in time or all producers have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._producers <= 0, timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    @property
    def is_finished(self) -> bool:
        """Whether all producers have ended and everything has been taken."""
        with self._changed:
            return self._producers <= 0 and not self._items

    def close(self) -> list[T]:
        """Take no more; return what was still waiting."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left
