"""Asking a node for objects by name, before any of them is called missing there.

A list of objects may have been cut off in silence. Belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgate.archive.batches import batches
from dgate.archive.records import InstanceRef
from dgate.delivery.inquiry import plain_uid
from dgate.delivery.reconcile.node import NAMED_AT_ONCE, NodeSide
from dgate.errors import PeerError


class ByName:
    """Asks for many at once where the node can be trusted with that."""

    def __init__(self, there: NodeSide) -> None:
        self._there = there
        self._knows_lists: bool | None = None
        """Whether it answers questions with several UIDs; None = not known yet."""

    def learn(self, study: str, series: str, listed: Sequence[str]) -> None:
        """Find out whether the node answers questions with several UIDs, by two that it lists."""
        if self._knows_lists is None and len(listed) > 1:
            there, _ = self._there.named_objects(study, series, listed)
            self._knows_lists = len(there) > 1

    def absent(self, study: str, series: str, refs: Sequence[InstanceRef]) -> list[InstanceRef]:
        """Return those objects of a series that the node does not have.

        Raises:
            ConfigError, PeerError: it does not answer.
        """
        found: list[InstanceRef] = []
        for batch in batches(refs, NAMED_AT_ONCE):
            named = {plain_uid(ref.sop_instance): ref for ref in batch}
            found += [named[uid] for uid in self._absent(study, series, list(named))]
        return found

    def _absent(self, study: str, series: str, uids: list[str]) -> list[str]:
        while len(uids) > 1 and self._knows_lists is not False:
            there, is_whole = self._there.named_objects(study, series, uids)
            if len(there) > 1:
                self._knows_lists = True
            uids = [uid for uid in uids if uid not in there]
            if not there:
                if is_whole and self._knows_lists:
                    # Even one that it has would be in an answer, however short it may be cut.
                    return uids
                break
        return [uid for uid in uids if not self._has(study, series, uid)]

    def _has(self, study: str, series: str, uid: str) -> bool:
        there, is_whole = self._there.named_objects(study, series, [uid])
        if not (there or is_whole):
            raise PeerError(f"the node does not tell whether it has object {uid}")
        return bool(there)
