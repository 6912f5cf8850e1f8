"""The sub-operations of a C-GET: sending a supply of objects back to the requester (PS3.4 C.4.3.3).

Belongs to the thread of the C-GET's association.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from dgate.archive.export import Exporter, Outgoing, Rewrite
from dgate.archive.records import InstanceRef
from dgate.dicom.transcode import can_convert, proposed_syntaxes
from dgate.errors import DgateError, RuleError, StoreError
from dgate.net import PresentationContext, store
from dgate.services.progress import Progress
from dgate.services.suboperations import End


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
        code: str | None = None,
    ) -> None:
        """`rewrite` changes the copies that are sent; `code` is the compression code that they
        are to be sent by where the requester takes that, None = as they are stored.
        """
        self._code = code
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
        return response.outcome

    def _open(self, ref: InstanceRef) -> _Opened:
        stored = self._exporter.peek(ref)
        contexts = self._progress.association.contexts_for(stored.sop_class)
        offered = [each for each in contexts if each.scu_role]
        context = _best_context(offered, stored.syntax, self._code)
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
                chunks = opened.outgoing.read_ahead()
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
    contexts: list[PresentationContext], stored_syntax: str, code: str | None
) -> PresentationContext | None:
    """Prefer what the code offers, in its order, then the stored transfer syntax, then one that it
    can be converted to: what the requester has accepted is all that there is to choose from.
    """
    wanted = [stored_syntax]
    if code is not None:
        wanted[:0] = [syntax for each in proposed_syntaxes(code, stored_syntax) for syntax in each]
    ranked = sorted(contexts, key=lambda each: _rank(each.transfer_syntax, wanted))
    return next((c for c in ranked if can_convert(stored_syntax, c.transfer_syntax)), None)


def _rank(syntax: str, wanted: list[str]) -> int:
    return wanted.index(syntax) if syntax in wanted else len(wanted)
