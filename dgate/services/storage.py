"""Storage service class as provider: C-STORE (PS3.4 annex B).

An association's thread runs the handler; success is answered only after `archive.ingest` has
returned.
"""

from __future__ import annotations

import logging

from dgate.archive.ingest import Ingest
from dgate.archive.records import Arrival
from dgate.config.node_settings import Priority
from dgate.config.settings import Settings
from dgate.dicom.payload import Payload
from dgate.errors import StoreError
from dgate.net import Association, Command, Message, PresentationContext, Status
from dgate.ops.log import UserLog
from dgate.services.events import session_of
from dgate.services.retrieval import Expected
from dgate.services.statuses import comment, storage_status
from dgate.services.virtual import Fetches

log = logging.getLogger(__name__)

_PRIORITIES: dict[int | None, int] = {
    1: int(Priority.STAT),
    0: int(Priority.NORMAL),
    2: int(Priority.BULK),
}
"""By Priority (0000,0700): HIGH, MEDIUM and LOW (PS3.7 9.3.1.1)."""


class StorageService:
    """Takes objects in. Stateless, so every association thread may use it at once."""

    def __init__(
        self,
        settings: Settings,
        ingest: Ingest,
        user_log: UserLog,
        fetches: Fetches | None = None,
        expected: Expected | None = None,
    ) -> None:
        """`fetches` are the retrievals that wait for objects of virtual servers, `expected` the
        C-MOVEs to ourselves.
        """
        self._expected = expected
        self._settings = settings
        self._ingest = ingest
        self._user_log = user_log
        self._fetches = fetches

    def payload(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        """Return where the data set of an arriving C-STORE-RQ goes."""
        return self._ingest.payload(
            context.transfer_syntax, command.sop_class, command.sop_instance, association.calling
        )

    def _is_fetched(self, association: Association, command: Command) -> bool:
        """Tell whether an object comes because we had it sent to us, and so passes no rules."""
        return self._expected is not None and self._expected.awaits(
            association.calling, self._settings.ae_title, command
        )

    def store(self, association: Association, message: Message) -> None:
        """Store one object and answer with what became of it.

        A crash before the answer leaves the object stored completely or not at all; the sender has
        no success and will send again.
        """
        command = message.command
        if not (command.sop_class and command.sop_instance):
            association.respond(
                message, Status.DATA_SET_MISMATCH, comment="affected SOP class or instance missing"
            )
            return
        if self._fetches is not None and self._fetches.accept(association, message):
            self._user_log.write("C-Store", association.calling)
            return
        arrival = Arrival(
            payload=message.payload or Payload(),
            syntax=message.context.transfer_syntax,
            calling=association.calling,
            called=association.called,
            sop_class=command.sop_class,
            sop_instance=command.sop_instance,
            session=session_of(association),
            skip_rules=self._is_fetched(association, command),
            source_host=association.peer[0],
            priority=_PRIORITIES.get(command.priority),
        )
        try:
            self._ingest.store(arrival)
        except StoreError as exc:
            status = storage_status(
                exc,
                failed_code=self._settings.storage_failed_error_code,
                classic=self._settings.classic_status_codes,
            )
            log.log(
                logging.DEBUG if self._ingest.troubles.refused(exc) else logging.WARNING,
                "Object %s from %s was not stored, status %04X: %s",
                command.sop_instance,
                association.calling,
                status,
                exc,
            )
            association.respond(message, status, comment=comment(exc))
        else:
            self._ingest.troubles.stored()
            association.respond(message)
        self._user_log.write("C-Store", association.calling)
