"""The objects of one retrieval in the order in which they can be sent: those that are here, then
those of virtual servers as they arrive.

Belongs to the retrieval's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dgate.archive.records import InstanceRef
from dgate.services.virtual import Fetch, Lost


class Supply:
    """What is still to be sent."""

    def __init__(self, refs: Sequence[InstanceRef], fetch: Fetch | None = None) -> None:
        """`refs` are here; `fetch` brings the others and is started and closed by the supply."""
        self.total = len(refs) + (fetch.count if fetch else 0)
        self.here = refs
        self._waiting = deque(refs)
        self._again: deque[InstanceRef] = deque()
        self._repeated: set[str] = set()
        self._fetch = fetch
        if fetch is not None:
            fetch.start()

    @property
    def is_empty(self) -> bool:
        """Whether nothing will come any more."""
        fetched = self._fetch is None or self._fetch.is_finished
        return not self._waiting and fetched and not self._again

    def take(self, timeout_s: float) -> InstanceRef | Lost | None:
        """Return the next object; None when there is none in time, or none at all."""
        if self._waiting:
            return self._waiting.popleft()
        if self._fetch is not None and not self._fetch.is_finished:
            return self._fetch.take(timeout_s)
        return self._again.popleft() if self._again else None

    @property
    def upcoming(self) -> InstanceRef | None:
        """The object that will be next, as far as it is here already."""
        return self._waiting[0] if self._waiting else None

    def put_back(self, ref: InstanceRef) -> bool:
        """Have an object come once more when all others have; False when it did so before."""
        if ref.sop_instance in self._repeated:
            return False
        self._repeated.add(ref.sop_instance)
        self._again.append(ref)
        return True

    def done(self, ref: InstanceRef) -> None:
        """Note that an object is not needed any more."""
        if self._fetch is not None:
            self._fetch.done(ref)

    def close(self) -> list[str]:
        """End it; return the instances that have not been taken. Safe to call twice."""
        left = [ref.sop_instance for ref in (*self._waiting, *self._again)]
        for ref in self._again:
            self.done(ref)
        self._waiting.clear()
        self._again.clear()
        return left if self._fetch is None else left + self._fetch.close()
