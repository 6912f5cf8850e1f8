"""Replacements of stored files that are complete, until the index has forgotten them too.

A replacement is noted in the index with its own commit (`Index.add_rewrite`), so that recovery can
finish it. The note may go only when the removal of the old file is durable, or a power cut could
bring that file back with nobody knowing. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Set
from pathlib import Path

from dgate.disk import sync_folder

log = logging.getLogger(__name__)

_BATCH = 64
"""Notes dropped with one object, so that none waits for the whole list."""


class CompletedRewrites:
    """The way of a note: `complete`, its folder synced after a later object, dropped by `take`.

    A crash at any point leaves notes whose replacement is complete, which recovery just drops.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._durable = durable
        self._lock = threading.Lock()
        """Guards both dictionaries."""
        self._syncing = threading.Lock()
        """Held by the thread that syncs folders, so that the others need not sync them too."""
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
        """Return what `settle` may be told once the folders of a later object are synced."""
        if not self._unsynced:
            return {}
        with self._lock:
            return dict(self._unsynced)

    def settle(self, entries: dict[str, Set[Path]], synced: Set[Path]) -> None:
        """Sync the folders of these entries, those apart that were synced after `unsynced`
        returned the entries; never raises.

        What cannot be synced keeps its note, for recovery at the next start.
        """
        if not entries or not self._syncing.acquire(blocking=False):
            return
        try:
            folders = frozenset().union(*entries.values()) - synced
            failed = {folder for folder in folders if self._durable and not _is_synced(folder)}
        finally:
            self._syncing.release()
        with self._lock:
            for sop_instance, places in entries.items():
                # One that was replaced again meanwhile has other folders, or none.
                if self._unsynced.get(sop_instance) is not places:
                    continue
                del self._unsynced[sop_instance]
                if not places & failed:
                    self._synced[sop_instance] = None


def _is_synced(folder: Path) -> bool:
    """Sync a folder; one that is gone has nothing that a power cut could bring back."""
    try:
        sync_folder(folder)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as exc:
        log.warning(
            "The folder %s, from which a replaced file was removed, cannot be synced: %s.",
            folder,
            exc.strerror,
        )
        return False
    return True
