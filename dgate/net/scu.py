"""What is asked of a peer: C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET, N-ACTION, and N-EVENT-REPORT,
which a provider tells (PS3.7 9.1 and 10.1).

Data sets are bytes here, encoded by the caller in the context's transfer syntax. Used by the
association's owner thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple, NoReturn

from dgate.dicom.payload import Payload
from dgate.dicom.uids import VERIFICATION
from dgate.errors import Aborted, NoContext, ProtocolError
from dgate.net.association import Association, Message, PayloadFactory
from dgate.net.dimse import (
    LONGEST_LIST,
    PRIORITY_MEDIUM,
    RESPONSE_BIT,
    Command,
    CommandField,
    Status,
    StatusCategory,
    category,
)
from dgate.net.negotiation import PresentationContext
from dgate.net.stream import Bytes

OnEvent = Callable[[Message], None]
"""Answers an N-EVENT-REPORT."""


class FindAnswer(NamedTuple):
    """One C-FIND response."""

    status: int
    """0110 where the peer gave none."""
    identifier: bytes
    """Empty in the final response."""
    command: Command


def echo(association: Association, *, extra: bytes = b"") -> Command:
    """C-ECHO and return the response; raises NoContext when Verification was not accepted.

    `extra`: encoded elements of group 9999 that join the command set.
    """
    contexts = association.contexts_for(VERIFICATION)
    if not contexts:
        raise NoContext("the peer did not accept Verification", where=association.called)
    request = _request(association, CommandField.C_ECHO_RQ, VERIFICATION, priority=None)
    request.extra = extra
    association.send(contexts[0].id, request)
    return _response(association, request)


def store(
    association: Association,
    context_id: int,
    sop_class: str,
    sop_instance: str,
    chunks: Iterable[Bytes],
    *,
    priority: int = PRIORITY_MEDIUM,
    originator: tuple[str, int] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Command:
    """C-STORE one object and return the peer's response.

    `originator` is AE title and message ID of the C-MOVE behind it. `meanwhile` is called when the
    object is out and the peer works on it; if it raises, the association is of no more use.

    Also used by a C-GET provider for its sub-operations: a C-CANCEL-RQ that comes before the
    response is kept for `cancelled`.
    """
    request = _request(association, CommandField.C_STORE_RQ, sop_class, priority=priority)
    request.sop_instance = sop_instance
    if originator is not None:
        request.originator, request.originator_id = originator
    association.send(context_id, request, chunks)
    if meanwhile is not None:
        meanwhile()
    return _response(association, request)


def find(
    association: Association,
    context_id: int,
    identifier: bytes,
    *,
    priority: int = PRIORITY_MEDIUM,
) -> Generator[FindAnswer, None, None]:
    """C-FIND; yields every response, the final one last. Closing the iterator early cancels."""
    request = _request_on(association, context_id, CommandField.C_FIND_RQ, priority)
    for message in _responses(association, context_id, request, identifier):
        yield FindAnswer(message.command.outcome, _content(message), message.command)


def move(
    association: Association,
    context_id: int,
    destination: str,
    identifier: bytes,
    *,
    priority: int = PRIORITY_MEDIUM,
    extra: bytes = b"",
    message_id: int | None = None,
) -> Iterator[Command]:
    """C-MOVE; yields every response, the final one last. Closing the iterator early cancels.

    `extra`: encoded elements of group 9999 that join the command set. `message_id`: which one the
    objects come with; None = the association's next.
    """
    request = _request_on(association, context_id, CommandField.C_MOVE_RQ, priority)
    request.extra = extra
    if message_id is not None:
        request.message_id = message_id
    request.move_destination = destination
    for message in _responses(association, context_id, request, identifier):
        _content(message)
        yield message.command


def get(
    association: Association,
    context_id: int,
    identifier: bytes,
    on_store: Callable[[Message], int],
    *,
    payload_factory: PayloadFactory | None = None,
    priority: int = PRIORITY_MEDIUM,
) -> Iterator[Command]:
    """C-GET; yields C-GET responses, the final one last. Closing the iterator early cancels.

    `on_store(message) -> status` takes every object that arrives; its payload is closed afterwards.
    An error it raises is answered 0110, ends the C-GET and is passed on.
    """
    request = _request_on(association, context_id, CommandField.C_GET_RQ, priority)
    for message in _responses(
        association, context_id, request, identifier, on_store, payload_factory
    ):
        _content(message)
        yield message.command


def action(
    association: Association,
    context_id: int,
    instance: str,
    action_type: int,
    information: bytes,
    on_event: OnEvent,
) -> Command:
    """N-ACTION and return the response.

    `on_event` answers an N-EVENT-REPORT that comes before it; its payload is closed afterwards.
    """
    command = Command(
        command_field=CommandField.N_ACTION_RQ,
        requested_sop_class=_context(association, context_id).abstract_syntax,
        requested_sop_instance=instance,
        action_type=action_type,
    )
    return request(association, context_id, command, [information], on_event)[0]


def await_event(association: Association, seconds: float, on_event: OnEvent) -> bool:
    """Wait for an N-EVENT-REPORT on an association that we have opened, and have it answered.

    Returns False when nothing came in time, or the peer released.
    """
    if association.is_quiet(seconds):
        return False
    message = association.receive(_listing)
    if message is None:
        return False
    if message.command.command_field != CommandField.N_EVENT_REPORT_RQ:
        _refuse(association, message)
    _hand_over(message, on_event)
    return True


def report(
    association: Association,
    context_id: int,
    instance: str,
    event_type: int,
    information: bytes | Iterable[Bytes],
) -> Command:
    """N-EVENT-REPORT on an association that we have opened, and return the response.

    `information` is the data set, or its pieces.
    """
    request = event_report(association, context_id, instance, event_type)
    pieces = [information] if isinstance(information, bytes) else information
    association.send(context_id, request, pieces)
    return _response(association, request)


def request(
    association: Association,
    context_id: int,
    command: Command,
    data: Iterable[Bytes] | None,
    on_event: OnEvent,
) -> tuple[Command, bytes]:
    """Send an N-service request as it is given, and return the response with its data set.

    For contexts of a meta SOP class, where the request names a class of its own. `on_event` answers
    an N-EVENT-REPORT that comes before the response; its payload is closed afterwards.
    """
    command.message_id = association.next_message_id()
    association.send(context_id, command, data)
    while True:
        message = association.receive(_listing)
        if message is None:
            raise Aborted("the peer released instead of answering", where=association.called)
        if message.command.command_field == CommandField.N_EVENT_REPORT_RQ:
            _hand_over(message, on_event)
        elif _answers(message, command):
            return message.command, _content(message)
        else:
            _refuse(association, message)


def event_report(
    association: Association, context_id: int, instance: str, event_type: int
) -> Command:
    """Return the command of an N-EVENT-REPORT."""
    return Command(
        command_field=CommandField.N_EVENT_REPORT_RQ,
        message_id=association.next_message_id(),
        sop_class=_context(association, context_id).abstract_syntax,
        sop_instance=instance,
        event_type=event_type,
    )


def _listing(association: Association, context: PresentationContext, command: Command) -> Payload:
    return Payload(most_bytes=LONGEST_LIST)


def _hand_over(message: Message, on_event: OnEvent) -> None:
    try:
        on_event(message)
    finally:
        _close(message)


def _request(
    association: Association, field: CommandField, sop_class: str, *, priority: int | None
) -> Command:
    return Command(
        command_field=field,
        message_id=association.next_message_id(),
        sop_class=sop_class,
        priority=priority,
    )


def _request_on(
    association: Association, context_id: int, field: CommandField, priority: int
) -> Command:
    abstract_syntax = _context(association, context_id).abstract_syntax
    return _request(association, field, abstract_syntax, priority=priority)


def _context(association: Association, context_id: int) -> PresentationContext:
    context = association.contexts.get(context_id)
    if context is None:
        raise NoContext(
            f"presentation context {context_id} was not accepted", where=association.called
        )
    return context


def _response(association: Association, request: Command) -> Command:
    """Wait for the one response to `request`."""
    while True:
        message = association.receive()
        if message is None:
            raise Aborted("the peer released instead of answering", where=association.called)
        _close(message)
        if _answers(message, request):
            return message.command
        if message.command.command_field != CommandField.C_CANCEL_RQ:
            _refuse(association, message)
        association.note_cancel(message)


def _responses(
    association: Association,
    context_id: int,
    request: Command,
    identifier: bytes,
    on_store: Callable[[Message], int] | None = None,
    payload_factory: PayloadFactory | None = None,
) -> Iterator[Message]:
    """Send `request` and yield its responses up to the final one."""
    association.send(context_id, request, [identifier])
    finished = False
    try:
        while not finished:
            message = association.receive(payload_factory)
            if message is None:
                raise Aborted("the peer released instead of answering", where=association.called)
            if _answers(message, request):
                finished = category(message.command.outcome) is not StatusCategory.PENDING
                yield message
            elif on_store is not None and message.command.command_field == CommandField.C_STORE_RQ:
                _take_object(association, message, on_store)
            else:
                _refuse(association, message)
    finally:
        if not finished and association.is_open:
            _cancel(association, context_id, request)


def _take_object(
    association: Association, message: Message, on_store: Callable[[Message], int]
) -> None:
    status: int = Status.PROCESSING_FAILURE
    try:
        may_store = message.context.scp_role
        status = on_store(message) if may_store else Status.SOP_CLASS_NOT_SUPPORTED
    finally:
        _close(message)
        association.respond(message, status)


def _cancel(association: Association, context_id: int, request: Command) -> None:
    """Send C-CANCEL-RQ and read on until the peer has ended the operation."""
    cancel = Command(
        command_field=CommandField.C_CANCEL_RQ, message_id_responded=request.message_id
    )
    association.send(context_id, cancel)
    while (message := association.receive()) is not None:
        _close(message)
        if message.command.command_field == CommandField.C_STORE_RQ:
            association.respond(message, Status.OUT_OF_RESOURCES)
        elif not _answers(message, request):
            _refuse(association, message)
        elif category(message.command.outcome) is not StatusCategory.PENDING:
            return


def _answers(message: Message, request: Command) -> bool:
    command = message.command
    return (
        command.command_field == request.command_field | RESPONSE_BIT
        and command.message_id_responded == request.message_id
    )


def _refuse(association: Association, message: Message) -> NoReturn:
    _close(message)
    association.abort("a message came that nothing asked for")
    raise ProtocolError(
        f"command {message.command.command_field:04X} came where a response was due",
        where=association.called,
    )


def _content(message: Message) -> bytes:
    content = b"" if message.payload is None else bytes(message.payload.view())
    _close(message)
    return content


def _close(message: Message) -> None:
    if message.payload is not None:
        message.payload.close()
