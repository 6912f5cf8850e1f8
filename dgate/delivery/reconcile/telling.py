"""What a comparison says while it works, and counts for its summary. Belongs to one thread."""

from __future__ import annotations

from collections.abc import Iterator

from dgate.delivery.reconcile.values import Summary
from dgate.ops.control import Answer

MOST_REMEMBERED = 5000
"""Things that are said once; whoever is compared with may give cause for any number."""


class Telling:
    """Makes the answers that are no differences."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.summary = Summary(node)
        self._said: set[str] = set()

    def progress(self, at: str) -> Answer:
        """Return how far the comparison is."""
        summary = self.summary
        return {
            "kind": "progress",
            "at": at,
            "studies": summary.studies,
            "differing": summary.differing,
        }

    def warn(self, key: str, text: str) -> Iterator[Answer]:
        """Say something odd once, by its key."""
        if self._is_new(key):
            self.summary.warnings += 1
            yield {"kind": "warning", "text": text}

    def uncompared(self, part: str, reason: str) -> Iterator[Answer]:
        """Say once which part of the archives was not compared."""
        if self._is_new(part):
            self.summary.uncompared += 1
            yield {"kind": "uncompared", "part": part, "text": f"{part}: {reason}"}

    def residual(self, part: str, reason: str) -> Iterator[Answer]:
        """Say once what cannot be asked for, where nothing speaks for there being any of it."""
        if self._is_new(part):
            self.summary.residual += 1
            yield {"kind": "residual", "part": part, "text": f"{part}: {reason}"}

    def _is_new(self, key: str) -> bool:
        if key in self._said:
            return False
        if len(self._said) < MOST_REMEMBERED:
            self._said.add(key)
        return True
