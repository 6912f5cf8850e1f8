"""Retrieve service: C-MOVE and C-GET in the three query/retrieve models (PS3.4 annex C.4.2 and
C.4.3).

Objects leave through `archive.export`; C-MOVE uses the same sender as delivery. One association
thread runs one retrieval; nothing is shared between them.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace

from dgate.archive.export import Exporter
from dgate.archive.query import Finder
from dgate.archive.records import InstanceRef
from dgate.archive.schema import Level
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.sender import Sender
from dgate.dicom.transcode import can_convert
from dgate.errors import (
    ConfigError,
    DataSetMismatch,
    NoContext,
    PeerError,
    Rejected,
    StoreError,
    Unreachable,
)
from dgate.net import Association, Handler, Message, PresentationContext, Status, store
from dgate.ops.log import UserLog
from dgate.services.identifier import check_unique_keys, read_identifier
from dgate.services.statuses import comment
from dgate.services.suboperations import SubOperations

log = logging.getLogger(__name__)

PREPARE_AHEAD = 2000
"""How many objects are looked at before the association to the destination is opened."""
MOST_LOSSES = 2
"""So many associations lost one after another, with no object sent between, end a C-MOVE."""
_NOT_OPENED = (Unreachable, Rejected)


class RetrieveService:
    """Sends stored objects to whoever asks for them."""

    def __init__(
        self,
        settings: Settings,
        nodes: NodeMap,
        finder: Finder,
        exporter: Exporter,
        user_log: UserLog,
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._finder = finder
        self._exporter = exporter
        self._user_log = user_log

    def move_handler(self, levels: frozenset[Level]) -> Handler:
        """Return the C-MOVE handler of an information model."""

        def handle(association: Association, message: Message) -> None:
            self._move(association, message, levels)
            self._user_log.write("C-Move ", association.calling)

        return handle

    def get_handler(self, levels: frozenset[Level]) -> Handler:
        """Return the C-GET handler of an information model."""

        def handle(association: Association, message: Message) -> None:
            self._get(association, message, levels)
            self._user_log.write("C-Get ", association.calling)

        return handle

    def _select(
        self, association: Association, message: Message, levels: frozenset[Level]
    ) -> list[InstanceRef] | None:
        """Return the objects asked for, or answer the request's fault and return None."""
        classic = self._settings.classic_status_codes
        try:
            identifier = read_identifier(message, levels)
            check_unique_keys(identifier)
        except DataSetMismatch as exc:
            status = Status.CLASSIC_NO_MATCHES if classic else Status.IDENTIFIER_MISMATCH
            association.respond(message, status, comment=comment(exc))
            return None
        except StoreError as exc:
            association.respond(message, Status.UNABLE_TO_PROCESS, comment=comment(exc))
            return None
        try:
            return self._finder.select(identifier.keys, identifier.level)
        except StoreError as exc:
            log.error("A retrieval of %s could not be answered: %s", association.calling, exc)
            status = Status.CLASSIC_NO_MATCHES if classic else Status.CANNOT_COUNT_MATCHES
            association.respond(message, status, comment=comment(exc))
            return None

    # C-MOVE

    def _move(self, association: Association, message: Message, levels: frozenset[Level]) -> None:
        destination = self._destination(association, message)
        if destination is None:
            return
        refs = self._select(association, message, levels)
        if refs is None:
            return
        classic = self._settings.classic_status_codes
        if not refs and classic:
            association.respond(message, Status.CLASSIC_NO_MATCHES, comment="no matching objects")
            return
        operations = SubOperations(len(refs))
        sender = Sender(destination, self._exporter, self._settings)
        try:
            status, text = self._send_all(association, message, refs, sender, operations)
        finally:
            sender.close()
        if classic and status in (
            Status.SUBOPERATIONS_FAILED,
            Status.CANNOT_PERFORM_SUBOPERATIONS,
        ):
            status = Status.CLASSIC_NO_CONNECTION if text else Status.SUCCESS
        operations.respond_final(association, message, status, text)

    def _destination(self, association: Association, message: Message) -> Destination | None:
        """Resolve the move destination, or answer the fault and return None."""
        title = message.command.move_destination
        classic = self._settings.classic_status_codes
        node = self._nodes.find(title.strip()) if title else None
        if title and node is not None:
            try:
                found = resolve(title.strip(), self._nodes, self._settings)
            except ConfigError as exc:
                association.respond(
                    message, Status.CANNOT_PERFORM_SUBOPERATIONS, comment=comment(exc)
                )
                return None
            if self._settings.send_upper_case_ae:
                found = replace(found, called=found.called.upper())
            return _with_suffix(found, association.called)
        if not classic:
            status = Status.MOVE_DESTINATION_UNKNOWN
        elif title is None:
            status = Status.UNABLE_TO_PROCESS
        elif not title.strip():
            status = Status.CLASSIC_EMPTY_DESTINATION
        else:
            status = Status.CLASSIC_UNKNOWN_DESTINATION
        log.warning(
            "C-MOVE of %s was refused: the destination %r is not in acrnema.map.",
            association.calling,
            title,
        )
        association.respond(message, status, comment="move destination not in acrnema.map")
        return None

    def _send_all(
        self,
        association: Association,
        message: Message,
        refs: list[InstanceRef],
        sender: Sender,
        operations: SubOperations,
    ) -> tuple[int, str]:
        """Send every object; return the final status and an error comment.

        An object whose association was lost is sent once more when all others have been, so that
        one which the peer cannot bear costs none of them.
        """
        message_id = message.command.message_id
        originator = (association.calling, message_id)
        sender.prepare(refs[:PREPARE_AHEAD])
        waiting = deque(refs)
        again: set[str] = set()
        losses = 0
        has_sent = False
        while waiting:
            if association.cancelled(message_id):
                return Status.CANCEL, ""
            ref = waiting.popleft()
            try:
                upcoming = waiting[0] if waiting else None
                result = sender.send(ref, originator=originator, upcoming=upcoming)
                operations.count(ref.sop_instance, result.status)
                losses = 0
                has_sent = True
            except (StoreError, NoContext) as exc:
                # This object only: the next one goes out on the same association, or a new one.
                log.warning("Object %s could not be sent: %s", ref.sop_instance, exc)
                operations.count(ref.sop_instance, Status.PROCESSING_FAILURE)
            except PeerError as exc:
                losses += 1
                is_nobody_there = losses == 1 and not has_sent and isinstance(exc, _NOT_OPENED)
                if losses == MOST_LOSSES or is_nobody_there:
                    log.warning("C-MOVE to %s ended early: %s", sender.destination.called, exc)
                    for left in (ref, *waiting):
                        operations.count(left.sop_instance, Status.PROCESSING_FAILURE)
                    return operations.final_status(), comment(exc)
                log.warning("C-MOVE to %s opens a new association: %s", sender.destination, exc)
                if ref.sop_instance not in again:
                    again.add(ref.sop_instance)
                    waiting.append(ref)
                    continue
                operations.count(ref.sop_instance, Status.PROCESSING_FAILURE)
            operations.respond_pending(association, message)
        return operations.final_status(), ""

    # C-GET

    def _get(self, association: Association, message: Message, levels: frozenset[Level]) -> None:
        refs = self._select(association, message, levels)
        if refs is None:
            return
        if not refs and self._settings.classic_status_codes:
            association.respond(message, Status.CLASSIC_NO_MATCHES, comment="no matching objects")
            return
        operations = SubOperations(len(refs))
        for ref in refs:
            if association.cancelled(message.command.message_id):
                operations.respond_final(association, message, Status.CANCEL)
                return
            try:
                status = self._store_back(association, ref)
            except StoreError as exc:
                log.warning("Object %s could not be sent: %s", ref.sop_instance, exc)
                status = Status.PROCESSING_FAILURE
            operations.count(ref.sop_instance, status)
            operations.respond_pending(association, message)
        operations.respond_final(association, message, operations.final_status())

    def _store_back(self, association: Association, ref: InstanceRef) -> int:
        """Send one object to the requester under a context it offered; return the C-STORE status.

        Raises:
            StoreError: no context fits, or the object cannot be read or converted.
            PeerError: the association is lost.
        """
        stored = self._exporter.peek(ref)
        contexts = [each for each in association.contexts_for(stored.sop_class) if each.scu_role]
        context = _best_context(contexts, stored.syntax)
        if context is None:
            raise StoreError(
                f"the requester offered no presentation context for SOP class {stored.sop_class}"
                f" in a syntax that {stored.syntax} can be sent in"
            )
        outgoing = self._exporter.open(ref, context.transfer_syntax)
        try:
            response = store(
                association,
                context.id,
                outgoing.sop_class,
                outgoing.sop_instance,
                outgoing.chunks(),
            )
        finally:
            outgoing.close()
        return Status.PROCESSING_FAILURE if response.status is None else response.status


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


def _with_suffix(destination: Destination, called: str) -> Destination:
    """Apply a called AE written `SERVER~xx` or `SERVER~pN` (spec acrnema-map.md section 5).

    `~xx` overrides the destination's compression code, `~pN` adds N to its port.
    """
    _, _, suffix = called.partition("~")
    if len(suffix) == 2 and suffix[0] in "pP" and suffix[1].isdecimal():
        return replace(destination, port=destination.port + int(suffix[1]))
    return replace(destination, code=suffix) if suffix else destination
