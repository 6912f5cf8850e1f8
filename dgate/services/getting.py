"""The sub-operations of a C-GET: sending a supply of objects back to the requester (PS3.4 C.4.3.3).

Belongs to the thread of the C-GET's association.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from dgate.archive.export import Exporter, Outgoing, Rewrite
from dgate.archive.records import InstanceRef
from dgate.dicom.transcode import can_convert
from dgate.errors import DgateError, RuleError, StoreError
from dgate.net import PresentationContext, Status, store
from dgate.services.progress import Progress
from dgate.services.suboperations import End

READ_AHEAD_BYTES = 1 << 20
"""Objects up to this size are read while the requester works on the one before."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """An object that is ready to go out."""

    ref: InstanceRef
    context: PresentationContext
    outgoing: Outgoing
    chunks: Iterable[bytes | memoryview]


class Getting:
    """One C-GET at work."""

    def __init__(
        self,
        progress: Progress,
        exporter: Exporter,
        rewrite: Rewrite | None = None,
        *,
        reads_ahead: bool = True,
    ) -> None:
        """`rewrite` changes the copies that are sent."""
        self._progress = progress
        self._exporter = exporter
        self._rewrite = rewrite
        self._reads_ahead = reads_ahead and rewrite is None
        self._staged: _Opened | None = None

    def run(self) -> End:
        """Send every object; return how it ended. Raises PeerError when the requester is lost."""
        progress = self._progress
        try:
            for ref in progress.objects():
                try:
                    status = self._store(ref)
                except (StoreError, RuleError) as exc:
                    progress.failed(ref, exc)
                else:
                    progress.operations.count_sent(ref.sop_instance, status)
                    progress.settled(ref)
        finally:
            self._unstage()
        return End.CANCELLED if progress.is_cancelled else End.COMPLETE

    def _store(self, ref: InstanceRef) -> int:
        """Send one object under a context that the requester offered; return the C-STORE status.

        Raises:
            StoreError: no context fits, or the object cannot be read or converted.
            RuleError: its converter failed.
            PeerError: the association is lost.
        """
        opened = self._take_staged(ref) or self._open(ref)
        upcoming = self._progress.supply.upcoming if self._reads_ahead else None
        try:
            response = store(
                self._progress.association,
                opened.context.id,
                opened.outgoing.sop_class,
                opened.outgoing.sop_instance,
                opened.chunks,
                meanwhile=None if upcoming is None else lambda: self._stage(upcoming),
            )
        finally:
            opened.outgoing.close()
        return Status.PROCESSING_FAILURE if response.status is None else response.status

    def _open(self, ref: InstanceRef) -> _Opened:
        stored = self._exporter.peek(ref)
        contexts = self._progress.association.contexts_for(stored.sop_class)
        context = _best_context([each for each in contexts if each.scu_role], stored.syntax)
        if context is None:
            raise StoreError(
                f"the requester offered no presentation context for SOP class {stored.sop_class}"
                f" in a syntax that {stored.syntax} can be sent in"
            )
        outgoing = self._exporter.open(ref, context.transfer_syntax, self._rewrite)
        return _Opened(ref, context, outgoing, outgoing.chunks())

    def _stage(self, ref: InstanceRef) -> None:
        """Open and read the next object in advance; a failure comes again when it is its turn."""
        with suppress(DgateError, OSError):
            opened = self._open(ref)
            try:
                is_small = opened.outgoing.size <= READ_AHEAD_BYTES
                chunks = [*opened.chunks] if is_small else opened.chunks
            except BaseException:
                opened.outgoing.close()
                raise
            self._staged = _Opened(ref, opened.context, opened.outgoing, chunks)

    def _take_staged(self, ref: InstanceRef) -> _Opened | None:
        staged = self._staged
        if staged is not None and staged.ref is ref:
            self._staged = None
            return staged
        self._unstage()
        return None

    def _unstage(self) -> None:
        staged, self._staged = self._staged, None
        if staged is not None:
            staged.outgoing.close()


def _best_context(
    contexts: list[PresentationContext], stored_syntax: str
) -> PresentationContext | None:
    """Prefer the stored transfer syntax, then one that it can be converted to."""
    for context in contexts:
        if context.transfer_syntax == stored_syntax:
            return context
    for context in contexts:
        if can_convert(stored_syntax, context.transfer_syntax):
            return context
    return None
