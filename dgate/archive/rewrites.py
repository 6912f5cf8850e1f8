"""Replacements of stored files that are complete, until the index has forgotten them too.

A replacement is noted in the index with its own commit (`Index.add_rewrite`), so that recovery can
finish it. The note may go only when the removal of the old file is durable, or a power cut could
bring that file back with nobody knowing. Another gateway may have noted a newer replacement of the
object by then, so that whole notes are remembered, not objects. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from dgate.archive.index import Rewrite
from dgate.disk import sync_folder

log = logging.getLogger(__name__)

_BATCH = 64
"""Notes dropped with one object, so that none waits for the whole list."""


class Completed(NamedTuple):
    """A replacement whose old file was removed."""

    rewrite: Rewrite
    folders: Set[Path]
    """Where the file was; to be synced before the note may go."""


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
        self._unsynced: dict[str, Completed] = {}
        self._synced: dict[str, Rewrite] = {}

    def complete(self, rewrite: Rewrite, folders: Set[Path]) -> None:
        """Note that the old file was removed from these folders, which are not synced yet."""
        with self._lock:
            self._unsynced[rewrite.sop_instance] = Completed(rewrite, folders)

    def begin(self, sop_instance: str) -> None:
        """Forget an earlier replacement of an instance that is being replaced again."""
        with self._lock:
            self._unsynced.pop(sop_instance, None)
            self._synced.pop(sop_instance, None)

    def take(self) -> list[Rewrite]:
        """Return the notes that may be dropped now: exactly these (`Index.forget_rewrites`)."""
        if not self._synced:
            return []
        with self._lock:
            batch = list(self._synced.values())[:_BATCH]
            for rewrite in batch:
                del self._synced[rewrite.sop_instance]
        return batch

    def unsynced(self) -> dict[str, Completed]:
        """Return what `settle` may be told once the folders of a later object are synced."""
        if not self._unsynced:
            return {}
        with self._lock:
            return dict(self._unsynced)

    def settle(self, entries: dict[str, Completed], synced: Set[Path]) -> None:
        """Sync the folders of these entries, those apart that were synced after `unsynced`
        returned the entries; never raises.

        What cannot be synced keeps its note, for recovery at the next start.
        """
        if not entries or not self._syncing.acquire(blocking=False):
            return
        try:
            folders = frozenset().union(*(entry.folders for entry in entries.values())) - synced
            failed = {folder for folder in folders if self._durable and not _is_synced(folder)}
        finally:
            self._syncing.release()
        with self._lock:
            for sop_instance, entry in entries.items():
                # One that was replaced again meanwhile has another entry, or none.
                if self._unsynced.get(sop_instance) is not entry:
                    continue
                del self._unsynced[sop_instance]
                if not entry.folders & failed:
                    self._synced[sop_instance] = entry.rewrite


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
