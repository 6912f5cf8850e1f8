"""The one way to push objects to a peer, for the dispatcher and for C-MOVE.

Opens an association with the contexts that the objects need, keeps it open, opens a further one
when an object needs what was not proposed, and converts an object only when the peer does not take
it as it is stored (spec acrnema-map.md 4.3). Not for deciding what to send or when to try again. A
`Sender` belongs to the thread that uses it; `cut` may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dgate.archive.export import Exporter, Outgoing
from dgate.archive.records import InstanceRef
from dgate.config.settings import Settings
from dgate.delivery.destination import Destination
from dgate.delivery.line import DEADLINE_S, Line, slowest_byte_s, timeouts_for
from dgate.delivery.opening import Connect
from dgate.delivery.proposals import LISTED, Need, proposals
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import transfer_syntax
from dgate.errors import (
    Aborted,
    CannotTranscode,
    DgateError,
    NoContext,
    ProtocolError,
    TimedOut,
)
from dgate.net import requestor, scu
from dgate.net.association import Association
from dgate.net.dimse import PRIORITY_MEDIUM
from dgate.net.requestor import ContextProposal
from dgate.net.stream import Bytes

log = logging.getLogger(__name__)

Rewrite = Callable[[ElementTable], None]
CompressionScripts = Callable[[str], Rewrite | None]
"""Returns what a compression code `s0` to `s9` does to the copy that is sent, None for others."""

MOST_CONTEXTS = 127
MOST_PEEKS = 200
"""Series looked into while an association is prepared; what that misses costs a further one."""
IDLE_CHECK_S = 0.5
"""After so long a pause, look whether the peer has hung up before sending."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """The peer's answer to one object."""

    status: int
    comment: str = ""
    sop_class: str = field(default="", compare=False)
    sop_instance: str = field(default="", compare=False)
    """The UIDs that it was sent under."""


class _Route(NamedTuple):
    """How the objects of one need go out on the open association."""

    context_id: int
    target: str | None
    """Transfer syntax to convert to; None = as stored."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """An object that is ready to go out."""

    outgoing: Outgoing
    need: Need
    route: _Route
    chunks: Iterable[Bytes]


@dataclass(frozen=True, slots=True)
class _Staged:
    """An object that was opened while the peer was busy with the one before."""

    ref: InstanceRef
    code: str
    opened: _Opened


class Sender:
    """Pushes objects to one destination over one association at a time."""

    def __init__(
        self,
        destination: Destination,
        exporter: Exporter,
        settings: Settings,
        *,
        connect: Connect = requestor.connect,
        compress: CompressionScripts | None = None,
    ) -> None:
        self._compress = compress
        self.destination = destination
        self._exporter = exporter
        self._connect = connect
        self._node = settings.peers.of(destination.node)
        self._byte_s = slowest_byte_s(self._node, settings.delayed_forwarder_threads)
        self._timeouts = timeouts_for(settings, self._node)
        self._max_pdu = settings.pdu_size
        self._pad_with_zeros = settings.pad_ae_with_zeros
        self._association: Association | None = None
        self._needs: dict[Need, list[ContextProposal]] = {}
        self._proposed: frozenset[ContextProposal] = frozenset()
        self._routes: dict[Need, _Route | str] = {}
        self._staged: _Staged | None = None
        self._used_at = 0.0
        self._refresh_s = settings.forward_association_refresh_delay_s
        self._opened_at = 0.0
        self._line: Line | None = None
        self._was_cut = False
        self.in_doubt = False
        """After an error of `send`: whether the peer may have the object all the same."""

    @property
    def is_open(self) -> bool:
        """Whether an association is open."""
        return self._association is not None

    def go_on_as(self, fresh: Sender) -> bool:
        """Take the place of a sender that was made by another configuration; False when the
        association that may be open does not fit it.

        Not while `send` runs.
        """
        if self._manner() != fresh._manner():
            return False
        self._exporter = fresh._exporter
        self._compress = fresh._compress
        self._refresh_s = fresh._refresh_s
        self._node, self._byte_s = fresh._node, fresh._byte_s
        return True

    def _manner(self) -> tuple[object, ...]:
        return (
            self.destination,
            self._timeouts,
            self._max_pdu,
            self._pad_with_zeros,
            self._node.transfer_syntaxes,
        )

    def join(self, line: Line) -> None:
        """Keep to the bandwidth and the deadlines of the destination from now on."""
        self._line = line
        line.attend(self.cut)

    def leave(self) -> None:
        """Have no more to do with the destination's line."""
        if self._line is not None:
            self._line.dismiss()
            self._line = None

    def prepare(self, refs: Iterable[InstanceRef], code: str | None = None) -> None:
        """Note what is about to be sent, so that one association proposes all of it.

        Does nothing while an association is open. What cannot be read is left for `send` to report.
        """
        if self._association is not None:
            return
        code = self._code_of(code)
        classes: set[str] = set()
        series: set[tuple[str, str]] = set()
        for ref in refs:
            # Objects of a series are nearly always stored alike: one look tells enough.
            alike = (ref.sop_class, ref.series)
            if alike in series or (len(series) >= MOST_PEEKS and ref.sop_class in classes):
                continue
            series.add(alike)
            classes.add(ref.sop_class)
            with contextlib.suppress(DgateError, OSError):
                stored = self._exporter.peek(ref)
                self._add(Need(stored.sop_class, stored.syntax, code))

    def send(
        self,
        ref: InstanceRef,
        rewrite: Rewrite | None = None,
        originator: tuple[str, int] | None = None,
        code: str | None = None,
        *,
        priority: int = PRIORITY_MEDIUM,
        upcoming: InstanceRef | None = None,
    ) -> SendResult:
        """Send one object and return the peer's answer.

        `rewrite` changes the copy that is sent, `originator` is the AE title and message ID of a
        C-MOVE, `code` overrides the destination's compression code. `upcoming` is opened while the
        peer works on this object. Raises PeerError (the association is gone then), NoContext,
        Missing, CannotTranscode, and what `rewrite` raises (the association stays).
        """
        self.in_doubt = self._was_cut = False
        script = None
        if self._compress is not None:
            script = self._compress(self.destination.code if code is None else code)
        code = self._code_of(code)
        if script is not None:
            rewrite = script if rewrite is None else _both(rewrite, script)
            upcoming = None
        opened = self._take_staged(ref, code) if rewrite is None else None
        if opened is None:
            opened = self._open(ref, rewrite, code)
        association = self._association
        assert association is not None
        outgoing, line = opened.outgoing, self._line
        chunks = opened.chunks
        limit_s = self._node.deadline_s or DEADLINE_S + outgoing.size * self._byte_s
        try:
            if line is not None:
                chunks = line.paced(chunks, lambda: self._was_cut)
                line.set_deadline(limit_s)
            response = scu.store(
                association,
                opened.route.context_id,
                outgoing.sop_class,
                outgoing.sop_instance,
                chunks,
                priority=priority,
                originator=originator,
                meanwhile=None if upcoming is None else lambda: self._stage(upcoming, code),
            )
        except BaseException as exc:
            # Half a message may be on the wire, whoever failed: nothing can follow it.
            self.in_doubt = True
            self._abort()
            if line is not None and line.is_overdue and isinstance(exc, DgateError):
                raise TimedOut(
                    f"the object was not taken within {limit_s:g} s", where=str(self.destination)
                ) from exc
            raise
        finally:
            outgoing.close()
            if line is not None:
                line.clear_deadline()
        self._used_at = time.monotonic()
        return SendResult(
            response.outcome, response.error_comment, outgoing.sop_class, outgoing.sop_instance
        )

    def close(self, *, release: bool = True) -> None:
        """End the association in good order, or drop the connection; the next `send` opens anew.

        What the peer refused is forgotten too, so that it is asked again.
        """
        self._unstage()
        self._needs.clear()
        association = self._leave()
        if association is not None and release:
            association.release()
        elif association is not None:
            association.close()

    def cut(self) -> None:
        """End the connection under the owner, whose `send` raises Aborted. For other threads."""
        self._was_cut = True
        association = self._association
        if association is not None:
            association.cut()
        line = self._line
        if line is not None:
            line.wake()

    def _code_of(self, code: str | None) -> str:
        """Return the code that decides about contexts; a rule's counts more than the node's."""
        if code is not None:
            return code
        return LISTED if self._node.transfer_syntaxes else self.destination.code

    def _leave(self) -> Association | None:
        """Forget the association and return it, for the caller to end."""
        association, self._association = self._association, None
        self._routes = {}
        self._proposed = frozenset()
        return association

    def _abort(self) -> None:
        association = self._leave()
        if association is not None:
            association.abort("a delivery failed")

    def _open(self, ref: InstanceRef, rewrite: Rewrite | None, code: str) -> _Opened:
        """Open the object in the syntax that the association takes, connecting when needed."""
        outgoing = self._exporter.open(ref, None, rewrite)
        try:
            need = Need(outgoing.sop_class, outgoing.syntax, code)
            route = self._route(need)
        except BaseException:
            outgoing.close()
            raise
        if route.target is None:
            return _Opened(outgoing, need, route, outgoing.chunks())
        try:
            # Not opened anew: rules have seen this copy, and must see each only once.
            outgoing = self._exporter.converted(outgoing, route.target)
        except CannotTranscode as exc:
            native = self._native_route(need, route.target)
            if native is None or rewrite is not None:
                raise
            log.debug("An object goes out uncompressed to %s: %s", self.destination, exc)
            route = native
            outgoing = self._exporter.open(ref, route.target)
        return _Opened(outgoing, need, route, outgoing.chunks())

    def _native_route(self, need: Need, target: str) -> _Route | None:
        """Return the way out for an object that cannot be compressed as the peer would like it."""
        association = self._association
        if association is None or not transfer_syntax(target).encapsulated:
            return None
        for context in association.contexts_for(need.sop_class):
            syntax = context.transfer_syntax
            if not transfer_syntax(syntax).encapsulated:
                return _Route(context.id, None if syntax == need.syntax else syntax)
        return None

    def _route(self, need: Need) -> _Route:
        """Return how to send objects of this need, on a further association if it must be."""
        association = self._association
        if association is not None and time.monotonic() - self._used_at > IDLE_CHECK_S:
            association = self._still_open(association)
        if association is not None:
            found = self._routes.get(need)
            if found is None and self._proposed.issuperset(self._add(need)):
                found = self._routes[need] = self._choose(association, need)
            if isinstance(found, str) and time.monotonic() - self._opened_at >= self._refresh_s:
                # The peer may take by now what it refused when the association was opened.
                found = None
        else:
            found = None
        if found is None:
            # Put last, it is the one that a full association does not leave out.
            contexts = self._add(need)
            del self._needs[need]
            self._needs[need] = contexts
            found = self._reconnect()[need]
        if isinstance(found, str):
            raise NoContext(
                found,
                where=str(self.destination),
                remedy="configure the peer to take it, or give the node another compression code",
            )
        return found

    def _still_open(self, association: Association) -> Association | None:
        """Return the association unless the peer ended it while nothing was sent."""
        if not association.is_alive():
            self._abort()
            return None
        return association

    def _add(self, need: Need) -> list[ContextProposal]:
        """Remember the need for the next association and return the contexts it proposes."""
        contexts = self._needs.get(need)
        if contexts is None:
            contexts = self._needs[need] = proposals(need, self._node.transfer_syntaxes)
        return contexts

    def _reconnect(self) -> dict[Need, _Route | str]:
        previous = self._leave()
        if previous is not None:
            previous.release()
        wanted: dict[ContextProposal, None] = {}
        kept: dict[Need, list[ContextProposal]] = {}
        # Newest first: when not all fit, what was needed long ago gives way.
        for need, contexts in reversed(self._needs.items()):
            if len(wanted | dict.fromkeys(contexts)) > MOST_CONTEXTS:
                break
            kept[need] = contexts
            wanted |= dict.fromkeys(contexts)
        self._needs = dict(reversed(kept.items()))
        offered = [context for contexts in self._needs.values() for context in contexts]
        self._proposed = frozenset(offered)
        target = self.destination
        try:
            association = self._connect(
                target.host,
                target.port,
                target.calling,
                target.called,
                list(dict.fromkeys(offered)),
                timeouts=self._timeouts,
                max_pdu=self._max_pdu,
                pad_with_zeros=self._pad_with_zeros,
            )
        except (Aborted, ProtocolError):
            # One of these may be why: the next association need not fail of it as well.
            self._needs.clear()
            raise
        self._association = association
        self._used_at = self._opened_at = time.monotonic()
        if self._line is not None:
            self._line.note(self.destination, association, list(dict.fromkeys(offered)))
        self._routes = {need: self._choose(association, need) for need in self._needs}
        return self._routes

    def _choose(self, association: Association, need: Need) -> _Route | str:
        """Pick among the accepted contexts, the first proposed and the stored syntax first; else
        say why there is none."""
        accepted: dict[str, int] = {}
        for context in association.contexts_for(need.sop_class):
            accepted.setdefault(context.transfer_syntax, context.id)
        for proposal in self._needs[need]:
            if need.syntax in proposal.syntaxes and need.syntax in accepted:
                return _Route(accepted[need.syntax], None)
            for syntax in proposal.syntaxes:
                if syntax in accepted:
                    return _Route(accepted[syntax], syntax)
        stored = transfer_syntax(need.syntax).name
        if accepted:
            return f"the peer takes {need.sop_class}, but not from {stored}"
        return f"the peer refused SOP class {need.sop_class} (stored as {stored})"

    def _stage(self, ref: InstanceRef, code: str) -> None:
        """Open the next object in advance if the association can take it as it is stored.

        If that fails, `send` meets the same failure and reports it.
        """
        with contextlib.suppress(DgateError, OSError):
            outgoing = self._exporter.open(ref)
            need = Need(outgoing.sop_class, outgoing.syntax, code)
            route = self._routes.get(need)
            try:
                if not isinstance(route, _Route) or route.target is not None:
                    outgoing.close()
                    return
                chunks = outgoing.read_ahead()
            except BaseException:
                outgoing.close()
                raise
            self._staged = _Staged(ref, code, _Opened(outgoing, need, route, chunks))

    def _take_staged(self, ref: InstanceRef, code: str) -> _Opened | None:
        """Return the object opened in advance if it is this one and its route still stands."""
        staged, self._staged = self._staged, None
        if staged is None:
            return None
        opened = staged.opened
        try:
            is_it = staged.ref is ref and staged.code == code
            if is_it and self._route(opened.need) == opened.route:
                return opened
        except BaseException:
            opened.outgoing.close()
            raise
        opened.outgoing.close()
        return None

    def _unstage(self) -> None:
        if self._staged is not None:
            self._staged.opened.outgoing.close()
            self._staged = None


def _both(first: Rewrite, second: Rewrite) -> Rewrite:
    def rewrite(table: ElementTable) -> None:
        first(table)
        second(table)

    return rewrite
