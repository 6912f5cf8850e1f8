"""Replacements of stored files that are complete, until the index has forgotten them too.

A replacement is noted in the index with its own commit (`Index.add_rewrite`), so that recovery can
finish it. The note may go only when the removal of the old file is durable, or a power cut could
bring that file back with nobody knowing. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from pathlib import Path

_BATCH = 64
"""Notes dropped with one object, so that none waits for the whole list."""


class CompletedRewrites:
    """The way of a note: `complete`, its folder synced with a later group, dropped by `take`.

    A crash at any point leaves notes whose replacement is complete, which recovery just drops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards both dictionaries."""
        self._unsynced: dict[str, Set[Path]] = {}
        self._synced: dict[str, None] = {}

    def complete(self, sop_instance: str, folders: Set[Path]) -> None:
        """Note that the old file was removed from these folders, which are not synced yet."""
        with self._lock:
            self._unsynced[sop_instance] = folders

    def begin(self, sop_instance: str) -> None:
        """Forget an earlier replacement of an instance that is being replaced again."""
        with self._lock:
            self._unsynced.pop(sop_instance, None)
            self._synced.pop(sop_instance, None)

    def take(self) -> list[str]:
        """Return the instances whose notes may be dropped now."""
        if not self._synced:
            return []
        with self._lock:
            batch = list(self._synced)[:_BATCH]
            for sop_instance in batch:
                del self._synced[sop_instance]
        return batch

    def unsynced(self) -> dict[str, Set[Path]]:
        """Return what `synced` may be told once its folders are synced."""
        if not self._unsynced:
            return {}
        with self._lock:
            return dict(self._unsynced)

    def synced(self, entries: dict[str, Set[Path]]) -> None:
        """Note that the folders of these entries have been synced."""
        with self._lock:
            for sop_instance, folders in entries.items():
                # One that was replaced again meanwhile has other folders, or none.
                if self._unsynced.get(sop_instance) is folders:
                    del self._unsynced[sop_instance]
                    self._synced[sop_instance] = None
