"""Retrieve service: C-MOVE and C-GET in the three query/retrieve models (PS3.4 annex C.4.2 and
C.4.3).

Objects leave through `archive.export`; C-MOVE uses the same sender as delivery. One association
thread runs one retrieval; nothing is shared between them.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from dgate.archive.export import Exporter, Rewrite
from dgate.archive.levels import Level
from dgate.archive.query import Finder
from dgate.archive.records import InstanceRef
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.sender import CompressionScripts, Sender
from dgate.dicom.table import ElementTable
from dgate.errors import ConfigError, DataSetMismatch, StoreError
from dgate.net import Association, Handler, Message, Status
from dgate.ops.log import UserLog
from dgate.rules.events import Event, EventHooks, NoEvents
from dgate.services.controls import Controls, keep_to_rules, read_controls
from dgate.services.copies import Statements, copy_rewrite, no_statements
from dgate.services.events import refusal, result_rewrite
from dgate.services.getting import Getting
from dgate.services.identifier import Identifier, check_unique_keys, identifier_table, read_keys
from dgate.services.moving import Moving
from dgate.services.progress import Progress
from dgate.services.statuses import comment
from dgate.services.suboperations import End, SubOperations
from dgate.services.supply import Supply
from dgate.services.virtual import Fetch, VirtualRetrieval

log = logging.getLogger(__name__)


class RetrieveService:
    """Sends stored objects to whoever asks for them."""

    def __init__(
        self,
        settings: Settings,
        nodes: NodeMap,
        finder: Finder,
        exporter: Exporter,
        user_log: UserLog,
        events: EventHooks | None = None,
        compress: CompressionScripts | None = None,
        virtual: VirtualRetrieval | None = None,
        statements: Statements = no_statements,
    ) -> None:
        """`statements` runs the scripts that RetrieveConverter0 asks for."""
        events = events or NoEvents()
        self._statements = statements
        self._request_hook = events.hook(Event.RETRIEVE)
        self._result_hook = events.hook(Event.RETRIEVE_RESULT)
        self._compress = compress
        self._virtual = virtual
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

    def _request(
        self, association: Association, message: Message, destination: str = ""
    ) -> tuple[ElementTable, Controls] | None:
        """Return the identifier as its converter left it, or answer why not and return None."""
        try:
            table = identifier_table(message)
        except StoreError as exc:
            association.respond(message, Status.UNABLE_TO_PROCESS, comment=comment(exc))
            return None
        keep_to_rules(table)
        refused = refusal(self._request_hook, association, table, destination)
        if refused is not None:
            association.respond(message, Status.BLOCKED_RETRIEVE, comment=refused[:64])
            return None
        try:
            return table, read_controls(table)
        except (DataSetMismatch, ConfigError) as exc:
            log.error("A retrieval of %s was refused: %s", association.calling, exc)
            status = Status.CANNOT_PERFORM_SUBOPERATIONS
            if isinstance(exc, DataSetMismatch):
                status = self._mismatch()
            association.respond(message, status, comment=comment(exc))
            return None

    def _select(
        self,
        association: Association,
        message: Message,
        table: ElementTable,
        controls: Controls,
        levels: frozenset[Level],
    ) -> Supply | None:
        """Return the objects asked for, or answer the request's fault and return None."""
        try:
            identifier = read_keys(table, levels, association.calling)
            check_unique_keys(identifier)
        except DataSetMismatch as exc:
            association.respond(message, self._mismatch(), comment=comment(exc))
            return None
        try:
            refs = self._finder.select(identifier.keys, identifier.level)
            fetch = self._elsewhere(association, message, identifier, controls, refs)
            return Supply(controls.choose(refs), fetch)
        except StoreError as exc:
            log.error("A retrieval of %s could not be answered: %s", association.calling, exc)
            classic = self._settings.classic_status_codes
            status = Status.CLASSIC_NO_MATCHES if classic else Status.CANNOT_COUNT_MATCHES
            association.respond(message, status, comment=comment(exc))
            return None

    def _mismatch(self) -> Status:
        classic = self._settings.classic_status_codes
        return Status.CLASSIC_NO_MATCHES if classic else Status.IDENTIFIER_MISMATCH

    def _elsewhere(
        self,
        association: Association,
        message: Message,
        identifier: Identifier,
        controls: Controls,
        here: list[InstanceRef],
    ) -> Fetch | None:
        """Return how to get what is asked for and not here; None = there is nothing of that kind.

        Raises PeerError when the requester has gone meanwhile.
        """
        chosen = len(controls.choose(here))
        if self._virtual is None or chosen == controls.most:
            return None
        return self._virtual.missing(
            identifier.question,
            {key.tag: key.value for key in identifier.keys if key.value},
            [ref.sop_instance for ref in here],
            lambda: not association.cancelled(message.command.message_id),
            lambda found: controls.choose(found, len(here), chosen),
        )

    # C-MOVE

    def _move(self, association: Association, message: Message, levels: frozenset[Level]) -> None:
        title = (message.command.move_destination or "").strip()
        request = self._request(association, message, title)
        destination = None if request is None else self._destination(association, message)
        if request is None or destination is None:
            return
        table, controls = request
        if controls.code is not None:
            destination = replace(destination, code=controls.code)
        if controls.calling is not None:
            destination = replace(destination, calling=controls.calling)
        supply = self._select(association, message, table, controls, levels)
        if supply is None or self._is_nothing(association, message, supply):
            return
        progress = Progress(association, message, supply, self._operations(supply))
        rewrite = self._rewrite(association, controls, title)
        sender = Sender(destination, self._exporter, self._settings, compress=self._compress)
        try:
            ahead = self._settings.read_ahead > 0
            end, text = Moving(progress, sender, rewrite, reads_ahead=ahead).run()
        finally:
            left = supply.close()
            sender.close()
        self._finish(progress, end, left, text)

    def _rewrite(
        self, association: Association, controls: Controls, destination: str = ""
    ) -> Rewrite | None:
        """Return what is to be done to each copy, None for nothing."""
        result = result_rewrite(self._result_hook, association, destination)
        return copy_rewrite(controls, result, self._statements, association, destination)

    def _operations(self, supply: Supply) -> SubOperations:
        return SubOperations(supply.total, classic=self._settings.classic_status_codes)

    def _is_nothing(self, association: Association, message: Message, supply: Supply) -> bool:
        """Answer a request that means no objects as the original does, where that is asked for."""
        if supply.total or not self._settings.classic_status_codes:
            return False
        association.respond(message, Status.CLASSIC_NO_MATCHES, comment="no matching objects")
        return True

    def _finish(self, progress: Progress, end: End, left: list[str], text: str = "") -> None:
        """Send the final response; `left` are the objects that were not tried."""
        operations = progress.operations
        if end is not End.CANCELLED or operations.classic:
            operations.give_up(left)
        status = operations.final_status(end)
        operations.respond_final(progress.association, progress.message, status, text)

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

    # C-GET

    def _get(self, association: Association, message: Message, levels: frozenset[Level]) -> None:
        request = self._request(association, message)
        if request is None:
            return
        table, controls = request
        supply = self._select(association, message, table, controls, levels)
        if supply is None or self._is_nothing(association, message, supply):
            return
        progress = Progress(association, message, supply, self._operations(supply))
        rewrite = self._rewrite(association, controls)
        ahead, code = self._settings.read_ahead > 0, controls.code
        try:
            end = Getting(progress, self._exporter, rewrite, reads_ahead=ahead, code=code).run()
        finally:
            left = supply.close()
        self._finish(progress, end, left)


def _with_suffix(destination: Destination, called: str) -> Destination:
    """Apply a called AE written `SERVER~xx` or `SERVER~pN` (spec acrnema-map.md section 5).

    `~xx` overrides the destination's compression code, `~pN` adds N to its port.
    """
    _, _, suffix = called.partition("~")
    if len(suffix) == 2 and suffix[0] in "pP" and suffix[1].isdecimal():
        return replace(destination, port=destination.port + int(suffix[1]))
    return replace(destination, code=suffix) if suffix else destination
