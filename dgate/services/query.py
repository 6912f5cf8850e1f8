"""Query service: C-FIND in the Patient Root, Study Root and Patient/Study Only models (PS3.4 annex
C.4.1).

Matches are streamed from the index to the peer; a C-CANCEL between two answers ends the search.
Association threads run the handler; the service holds no state of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from dgate.archive.levels import Level
from dgate.archive.query import Finder
from dgate.config.settings import Settings
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET, encode_data_set
from dgate.errors import DataSetMismatch, RuleError, StoreError
from dgate.net import Association, Handler, Message, Status
from dgate.rules.events import Event, EventHooks, NoEvents
from dgate.services.events import converted, refusal
from dgate.services.identifier import (
    INSTANCE_AVAILABILITY,
    RETRIEVE_AE_TITLE,
    Identifier,
    answer_charset,
    identifier_table,
    plain_charset,
    read_keys,
)
from dgate.services.statuses import comment
from dgate.services.virtual import Match, VirtualServers

log = logging.getLogger(__name__)


class QueryService:
    """Answers C-FIND requests from the index."""

    def __init__(
        self,
        settings: Settings,
        finder: Finder,
        events: EventHooks | None = None,
        virtual: VirtualServers | None = None,
    ) -> None:
        self._settings = settings
        self._finder = finder
        self._virtual = virtual
        events = events or NoEvents()
        self._request_hook = events.hook(Event.QUERY)
        self._result_hook = events.hook(Event.QUERY_RESULT)

    def handler(self, levels: frozenset[Level]) -> Handler:
        """Return the handler of an information model."""

        def handle(association: Association, message: Message) -> None:
            self._answer(association, message, levels)

        return handle

    def _answer(self, association: Association, message: Message, levels: frozenset[Level]) -> None:
        try:
            table = identifier_table(message)
            charset = table.text(SPECIFIC_CHARACTER_SET)
            refused = refusal(self._request_hook, association, table)
            if refused is not None:
                association.respond(message, Status.BLOCKED_QUERY, comment=refused[:64])
                return
            # What a converter adds does not change what the requester understands.
            identifier = replace(
                read_keys(table, levels, association.calling), charset=plain_charset(charset)
            )
        except DataSetMismatch as exc:
            status = (
                Status.UNABLE_TO_PROCESS
                if self._settings.classic_status_codes
                else Status.IDENTIFIER_MISMATCH
            )
            association.respond(message, status, comment=comment(exc))
            return
        except StoreError as exc:
            association.respond(message, Status.UNABLE_TO_PROCESS, comment=comment(exc))
            return
        try:
            cancelled = self._stream(association, message, identifier)
        except RuleError as exc:
            log.error("A query of %s was given up, its rule failed: %s", association.calling, exc)
            association.respond(message, Status.UNABLE_TO_PROCESS, comment=comment(exc))
            return
        except StoreError as exc:
            log.error("A query of %s could not be answered: %s", association.calling, exc)
            status = (
                Status.UNABLE_TO_PROCESS
                if self._settings.classic_status_codes
                else Status.OUT_OF_RESOURCES
            )
            association.respond(message, status, comment=comment(exc))
            return
        association.respond(message, Status.CANCEL if cancelled else Status.SUCCESS)

    def _stream(self, association: Association, message: Message, identifier: Identifier) -> bool:
        """Send every match; return whether the peer cancelled."""
        pending = self._pending_status(identifier)
        message_id = message.command.message_id
        with closing(self._matches(identifier)) as matches:
            for match in matches:
                if association.cancelled(message_id):
                    return True
                if match is None:
                    continue
                answer = converted(
                    self._result_hook,
                    association,
                    self._encode(identifier, match, message),
                    message.context.transfer_syntax,
                )
                if answer is not None:
                    association.respond(message, pending, data=[answer])
        return False

    def _matches(self, identifier: Identifier) -> Generator[Match | None, None, None]:
        """Yield every match, those of virtual servers too; None while these are waited for."""
        level, keys, page = identifier.level, identifier.keys, identifier.page
        if self._virtual is None:
            yield from self._finder.find(level, keys, page)
        else:
            yield from self._virtual.find(identifier.question, level, keys, page, self._finder.find)

    def _pending_status(self, identifier: Identifier) -> Status:
        """Return FF01 when a key with a value to match is not in the index: the answer is wider
        than asked for.
        """
        # The level's own bookkeeping is answered, not matched.
        ours = {RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY}
        if identifier.asks_items:
            return Status.PENDING_KEYS_UNSUPPORTED
        for key in identifier.keys:
            if (
                key.value
                and key.tag not in ours
                and not self._finder.knows(identifier.level, key.tag)
            ):
                return Status.PENDING_KEYS_UNSUPPORTED
        return Status.PENDING

    def _encode(
        self, identifier: Identifier, match: dict[int, str | None], message: Message
    ) -> bytes:
        """Return one answer as data set in the context's transfer syntax."""
        match.update(dict.fromkeys(identifier.sequences))
        match[QUERY_RETRIEVE_LEVEL] = identifier.level.value
        match[RETRIEVE_AE_TITLE] = self._settings.ae_title
        if INSTANCE_AVAILABILITY in match:
            match[INSTANCE_AVAILABILITY] = "ONLINE"
        match.pop(SPECIFIC_CHARACTER_SET, None)
        charset = answer_charset(match, identifier.charset, self._settings.queries_return_iso_ir)
        return encode_data_set(match, message.context.transfer_syntax, charset)
