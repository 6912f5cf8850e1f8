"""Looking through the spool after a start: what a crash, or the loss of the database, left there.

Copies wait there for as long as their destinations do not answer, a million of them perhaps. So
they are looked at in a thread of its own while the server receives already, and only those of
earlier runs, which nobody owns but their debts. May be interrupted and done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dgate.archive.batches import batches
from dgate.archive.index import Index
from dgate.archive.spool import UNFINISHED, Spool
from dgate.disk import sync_folder
from dgate.errors import DgateError
from dgate.ops.rounds import Rounds

log = logging.getLogger(__name__)

TROUBLE_S = 600.0
"""Pause before a sweep that failed is tried again."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    removed: int = 0
    """Unfinished copies, and those whose debts are all closed."""
    set_aside: int = 0
    """Copies that no debt is known for."""


def sweep(spool: Spool, index: Index, is_stopping: Callable[[], bool] = lambda: False) -> Swept:
    """Remove what is unfinished or delivered, and set aside the copies without any debt.

    Those may be all that is left of acknowledged objects, when the database is new or was restored,
    and so must not be removed. Ends with nothing done when it is to stop before all is looked at.

    Raises:
        StoreError: the database does not answer.
        OSError: the folder cannot be read or written.
    """
    removed: list[str] = []
    lost: list[str] = []
    for names in batches(spool.leftovers()):
        if is_stopping():
            return Swept()
        copies = [name for name in names if not name.endswith(UNFINISHED)]
        removed += [name for name in names if name.endswith(UNFINISHED)]
        known = index.known_copies(copies)
        removed += [name for name in copies if known.get(name) is False]
        lost += [name for name in copies if name not in known]
    # Only now: a folder that changes while it is listed may hide names.
    for name in removed:
        spool.remove(name)
    if removed:
        sync_folder(spool.folder)
    if lost:
        folder = spool.set_aside(lost)
        log.error(
            "%d object(s) that were to be passed on have no entry in the queue of deliveries, "
            "because the database is new or older than they are, or because a crash came "
            "before they were acknowledged. They were moved to %s: pass them on with `dgate "
            "send`, or keep them with `dgate import`, then remove them there.",
            len(lost),
            folder,
        )
    return Swept(len(removed), len(lost))


class SpoolSweep:
    """Sweeps the spool once after the start, in the background."""

    def __init__(self, spool: Spool, index: Index) -> None:
        self._spool = spool
        self._index = index
        self._rounds = Rounds(
            "spool sweep",
            self._step,
            "Looking through the spool failed unexpectedly.",
            trouble_s=TROUBLE_S,
        )

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """Change nothing: the spool stays where it was at the start."""

    def stop(self) -> None:
        """End after the copies in hand; safe to call twice."""
        self._rounds.stop()

    def _step(self) -> float | None:
        try:
            swept = sweep(self._spool, self._index, self._rounds.is_stopping)
        except (DgateError, OSError) as exc:
            log.warning("The spool could not be looked through, which is tried again: %s", exc)
            return TROUBLE_S
        log.info(
            "Spool: %d leftover file(s) removed, %d copies set aside.",
            swept.removed,
            swept.set_aside,
        )
        return None
