"""Serving an association: each request goes to the handler of its command and SOP class.

Knows the commands of DIMSE, not what they do. Stateless after construction, shared by all
association threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from dgate.dicom.payload import Payload
from dgate.errors import DgateError, PeerError
from dgate.net.association import Association, Message, PayloadFactory
from dgate.net.dimse import LONGEST_LIST, Command, CommandField, Status, describe
from dgate.net.negotiation import PresentationContext
from dgate.net.sop_classes import is_storage

log = logging.getLogger(__name__)

Handler = Callable[[Association, Message], None]
STORAGE = "*"
"""In place of a SOP class: every storage class (all that are not known as something else)."""

QUIET_S = 0.5
"""So long the peer must be silent before a companion speaks: who means to release does so at once,
and is not to be crossed."""

_STORE = int(CommandField.C_STORE_RQ)
_EVENT = int(CommandField.N_EVENT_REPORT_RQ)
_LISTING = frozenset(
    (
        CommandField.N_ACTION_RQ,
        CommandField.N_EVENT_REPORT_RQ,
        CommandField.N_CREATE_RQ,
        CommandField.N_SET_RQ,
    )
)
_COMPOSITE = frozenset(
    (
        CommandField.C_STORE_RQ,
        CommandField.C_GET_RQ,
        CommandField.C_FIND_RQ,
        CommandField.C_MOVE_RQ,
        CommandField.C_ECHO_RQ,
    )
)
_NORMALIZED = frozenset(
    (
        CommandField.N_EVENT_REPORT_RQ,
        CommandField.N_GET_RQ,
        CommandField.N_SET_RQ,
        CommandField.N_ACTION_RQ,
        CommandField.N_CREATE_RQ,
        CommandField.N_DELETE_RQ,
    )
)


class Router:
    """The handlers of a server.

    A handler answers with `association.respond` and may raise: 0110 is answered then. Payloads are
    closed after the handler returns. What has no handler is answered 0211, 0122 or 0118, its data
    set drained, and the association lives on.
    """

    def __init__(
        self,
        handlers: Mapping[tuple[CommandField, str], Handler],
        payload_factory: PayloadFactory | None = None,
    ) -> None:
        """`handlers` by command and abstract syntax or STORAGE; the factory serves C-STORE."""
        self.before: Callable[[Association, Message], bool] | None = None
        """Called with each command before it is served; False when it closed the association."""
        self.refused: Callable[[], None] | None = None
        """Called for each request that nobody serves."""
        self.payloads: Mapping[tuple[int, str], Callable[[], Payload]] = {}
        """Gives room for other data sets that may be long, by command and abstract syntax."""
        self._handlers: dict[tuple[int, str], Handler] = dict(handlers.items())
        self._payload_factory = payload_factory

    def run(self, association: Association) -> None:
        """Serve until released; PeerError (peer gone, time-out, garbage) passes through."""
        try:
            while (message := self._next(association)) is not None:
                try:
                    if self.before is not None and not self.before(association, message):
                        return
                    self._dispatch(association, message)
                finally:
                    if message.payload is not None:
                        message.payload.close()
        finally:
            if association.companion is not None:
                association.companion.ended()

    def _next(self, association: Association) -> Message | None:
        """Return the next message, when the companion has said what it has to say."""
        companion = association.companion
        while (
            companion is not None
            and association.is_open
            and companion.is_waiting()
            and association.is_quiet(QUIET_S)
        ):
            companion.quiet(association)
        return association.receive(self._payload)

    def _payload(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        if (
            self._payload_factory is not None
            and command.command_field == _STORE
            and self._handler(context, command) is not None
        ):
            return self._payload_factory(association, context, command)
        make = self.payloads.get((command.command_field, context.abstract_syntax))
        if make is not None:
            return make()
        if command.command_field in _LISTING:
            return Payload(most_bytes=LONGEST_LIST)
        return Payload()

    def _dispatch(self, association: Association, message: Message) -> None:
        handler = self._handler(message.context, message.command)
        if handler is None:
            is_refused = not _is_taken(association, message) and _refuse(association, message)
            if is_refused and self.refused is not None:
                self.refused()
            return
        try:
            handler(association, message)
        except Exception as exc:
            # The request boundary: an object that was not acknowledged stays with its sender.
            if not association.is_open:
                raise
            _fail(association, message, exc)

    def _handler(self, context: PresentationContext, command: Command) -> Handler | None:
        """Return who serves a command on a context; only what was negotiated is served."""
        field = command.command_field
        abstract_syntax = context.abstract_syntax
        named = command.sop_class
        # Reports come from the SCP. Many do not propose the role for it, and are understood.
        if not context.scp_role and field != _EVENT:
            return None
        if named != abstract_syntax and named and field in _COMPOSITE:
            return None
        handler = self._handlers.get((field, abstract_syntax))
        if handler is None and is_storage(abstract_syntax):
            handler = self._handlers.get((field, STORAGE))
        return handler


def _is_taken(association: Association, message: Message) -> bool:
    """Hand a response to whoever asked; False when nobody did."""
    companion = association.companion
    return message.command.is_response and companion is not None and companion.answered(message)


def _refuse(association: Association, message: Message) -> bool:
    """Answer a request that nobody serves (PS3.7 annex C); the association lives on.

    False when it was no request.
    """
    command = message.command
    field = command.command_field
    if field == CommandField.C_CANCEL_RQ:
        # It crossed the final response of what it wanted to cancel.
        return False
    if command.is_response:
        log.warning(
            "Response %04X of %s was ignored: nothing had been asked",
            field,
            association.calling,
            extra={"assoc": association.label},
        )
        return False
    if field in _COMPOSITE:
        status = Status.SOP_CLASS_NOT_SUPPORTED
    elif field in _NORMALIZED:
        status = Status.NO_SUCH_SOP_CLASS
    else:
        status = Status.UNRECOGNIZED_OPERATION
    log.warning(
        "Command %04X of %s for SOP class %s was answered %s",
        field,
        association.calling,
        command.service_class or message.context.abstract_syntax,
        describe(status),
        extra={"assoc": association.label},
    )
    association.respond(message, status)
    return True


def _fail(association: Association, message: Message, exc: Exception) -> None:
    """Answer 0110 for a handler that raised, unless it had answered already."""
    field = message.command.command_field
    where = {"assoc": association.label}
    if isinstance(exc, PeerError):
        log.error("Command %04X of %s failed: %s", field, association.calling, exc, extra=where)
    else:
        log.error(
            "Command %04X of %s failed by an error of dgate itself",
            field,
            association.calling,
            exc_info=exc,
            extra=where,
        )
    if not association.has_answered(message):
        # What went wrong inside is for our log; only words meant for a peer may leave.
        comment = exc.what if isinstance(exc, DgateError) else "internal error, see the log"
        association.respond(message, Status.PROCESSING_FAILURE, comment=comment)
