"""An established association of either role: messages, release and abort (PS3.8 7 and annex E).

What the messages mean is not known here; negotiation is over. An association is owned by one
thread, which alone reads and writes it: there is no other reader that could take a response away.
Only `stop_when_idle` and `cut` are for other threads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dgate.dicom.payload import Payload
from dgate.errors import Aborted, PeerError
from dgate.net import pdu, trace
from dgate.net.dimse import (
    RESPONSE_BIT,
    Command,
    CommandField,
    Status,
    StatusCategory,
    category,
    decode_command,
    encode_command,
    store_response,
)
from dgate.net.fragments import fragments, whole_command
from dgate.net.negotiation import PresentationContext
from dgate.net.reader import MessageReader
from dgate.net.stream import Bytes, Stream

log = logging.getLogger(__name__)

_STORE = int(CommandField.C_STORE_RQ)


@dataclass(slots=True)
class Message:
    """A command with its data set, as received."""

    context: PresentationContext
    command: Command
    payload: Payload | None
    """None when no data set came with the command. Whoever takes the message closes it."""


class PayloadFactory(Protocol):
    """Makes the place where the data set of an arriving command goes."""

    def __call__(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        """Return a fresh payload; called before the first byte of the data set is read."""
        ...


@dataclass(frozen=True, slots=True)
class Parties:
    """Who talks to whom, and what the negotiation settled."""

    calling: str
    called: str
    peer: tuple[str, int]
    """Address and port of the other side."""
    contexts: Mapping[int, PresentationContext]
    refused: Mapping[int, int]
    """Requestor: context id to result (1 to 4, PS3.8 table 9-18) of what the peer refused."""
    is_acceptor: bool
    own_max_pdu: int
    peer_max_pdu: int
    peer_implementation: str
    """Implementation class UID and version name of the other side."""


class Companion(Protocol):
    """What says something on an association that the peer has opened, when nothing is asked of us.

    Called by the association's own thread only.
    """

    def is_waiting(self) -> bool:
        """Tell whether there is something to say."""
        ...

    def quiet(self, association: Association) -> None:
        """Say it: the peer has been silent for a moment."""
        ...

    def answered(self, message: Message) -> bool:
        """Take a response; False when nothing had been asked."""
        ...

    def ended(self) -> None:
        """Learn that the association is over."""
        ...


class Association:
    """An established association."""

    __slots__ = (
        "_answered",
        "_cancels",
        "_first_byte_s",
        "_fragment_bytes",
        "_message_id",
        "_reader",
        "_stopping",
        "_stream",
        "_waiting",
        "called",
        "calling",
        "companion",
        "contexts",
        "is_acceptor",
        "label",
        "peer",
        "peer_implementation",
        "peer_max_pdu",
        "refused",
        "session",
    )

    def __init__(self, stream: Stream, parties: Parties, label: str) -> None:
        """Take over a stream whose negotiation has just been completed; `label` is for logs."""
        self.calling = parties.calling
        self.called = parties.called
        self.peer = parties.peer
        self.contexts = parties.contexts
        self.refused = parties.refused
        self.is_acceptor = parties.is_acceptor
        self.peer_max_pdu = parties.peer_max_pdu
        self.peer_implementation = parties.peer_implementation
        self.label = label
        self.session: object | None = None
        """What services keep for the length of the association."""
        self.companion: Companion | None = None
        """What speaks up between two requests of the peer."""
        self._stream = stream
        self._reader = MessageReader(stream, parties.contexts, parties.own_max_pdu)
        self._fragment_bytes = pdu.max_fragment(parties.peer_max_pdu)
        timeouts = stream.timeouts
        self._first_byte_s = timeouts.idle_s if parties.is_acceptor else timeouts.response_s
        self._message_id = 0
        self._answered: int | None = None
        self._cancels: set[int] = set()
        self._stopping = False
        self._waiting = False

    @property
    def is_open(self) -> bool:
        """Whether messages can still be exchanged."""
        return not self._stream.is_closed

    def receive(self, payload_factory: PayloadFactory | None = None) -> Message | None:
        """Return the next message, or None when the peer has released the association.

        Without a factory, data sets stay in memory up to 1 MiB (`Payload()`). Raises TimedOut,
        Aborted or ProtocolError; the association is closed then.
        """
        payload = None
        try:
            if not self._begin_message():
                return None
            context, command = self._reader.command()
            if command.has_data_set:
                if payload_factory is None:
                    payload = Payload()
                else:
                    payload = payload_factory(self, context, command)
                self._reader.data(context.id, payload)
        except BaseException as exc:
            if payload is not None:
                payload.close()
            # A message is half read, so nothing that follows can be understood; says nothing if
            # already closed.
            self.abort(f"{type(exc).__name__} while receiving")
            raise
        self._answered = None
        if self._cancels and not command.is_response:
            self._cancels.discard(command.message_id)
        if trace.is_on():
            trace.received(self.label, context, command, payload)
        return Message(context, command, payload)

    def send(
        self, context_id: int, command: Command | bytes, data: Iterable[Bytes] | None = None
    ) -> None:
        """Send a message; `data` is the data set in pieces of any size, streamed.

        `has_data_set` of a Command is set by whether there is `data`. Raises TimedOut or Aborted,
        closed then; when `data` itself raises after something was sent, the association is aborted
        and the error passed on.
        """
        if isinstance(command, bytes):
            encoded = command
            command = decode_command(encoded)
        else:
            command.has_data_set = data is not None
            encoded = encode_command(command)
        if trace.is_on():
            trace.sent(self.label, self.contexts[context_id], command, data)
        self._transmit(context_id, encoded, data)
        status = command.status
        if (
            status is not None
            and command.message_id_responded is not None
            and category(status) is not StatusCategory.PENDING
        ):
            self._answered = command.message_id_responded

    def respond(
        self,
        message: Message,
        status: int = Status.SUCCESS,
        *,
        data: Iterable[Bytes] | None = None,
        comment: str = "",
        offending: tuple[int, ...] = (),
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
    ) -> None:
        """Answer `message` with the ids and UIDs of the request; raises what `send` raises."""
        request = message.command
        if request.command_field == _STORE and not (comment or offending):
            encoded = store_response(request, status)
            if trace.is_on():
                trace.sent(self.label, message.context, decode_command(encoded), None)
            self._transmit(message.context.id, encoded, None)
            self._answered = request.message_id
            return
        response = Command(
            command_field=request.command_field | RESPONSE_BIT,
            message_id_responded=request.message_id,
            sop_class=request.service_class,
            sop_instance=request.sop_instance or request.requested_sop_instance,
            status=status,
            error_comment=comment,
            offending_elements=offending,
            remaining=remaining,
            completed=completed,
            failed=failed,
            warning=warning,
            event_type=request.event_type,
            action_type=request.action_type,
        )
        self.send(message.context.id, response, data)

    def has_answered(self, message: Message) -> bool:
        """Whether the last message received was answered with a final status."""
        return self._answered == message.command.message_id

    def cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL-RQ for `message_id` has arrived; never waits.

        Raises Aborted when the peer aborted or went away. Anything else that has arrived is left
        for `receive`.
        """
        try:
            while message_id not in self._cancels:
                cancelled_id = self._reader.take_cancel()
                if cancelled_id is None:
                    return False
                self._cancels.add(cancelled_id)
        except PeerError:
            self._stream.close()
            raise
        return True

    def is_quiet(self, seconds: float) -> bool:
        """Wait so long for the peer to begin a message; return whether it did not."""
        return not self._stream.has_input(seconds)

    def is_alive(self) -> bool:
        """Whether a requestor's idle association can be used again: nothing came, nobody left."""
        stream = self._stream
        try:
            if not stream.is_closed and stream.start == stream.end and not stream.poll_input():
                return True
        except PeerError as exc:
            log.debug("%s had ended while it was idle: %s", self.label, exc)
        stream.close()
        return False

    def note_cancel(self, message: Message) -> None:
        """Remember a C-CANCEL-RQ that came where a response was awaited (C-GET sub-operations)."""
        if message.command.message_id_responded is not None:
            self._cancels.add(message.command.message_id_responded)

    def contexts_for(self, abstract_syntax: str) -> list[PresentationContext]:
        """Return the accepted contexts of an abstract syntax in the order of their ids."""
        found = (item for item in self.contexts.values() if item.abstract_syntax == abstract_syntax)
        return sorted(found, key=lambda context: context.id)

    def next_message_id(self) -> int:
        """Return a fresh message id, 1 to 65535."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def release(self) -> None:
        """Release in good order and close; a peer that has gone is no error. Safe to call twice."""
        if self._stream.is_closed:
            return
        try:
            self._stream.send([pdu.RELEASE_RQ])
            self._reader.await_release_reply()
        except PeerError as exc:
            log.debug("The release of %s was not answered properly: %s", self.label, exc)
        finally:
            self._stream.close()

    def abort(self, reason: str = "") -> None:
        """Send A-ABORT as service user and close; `reason` is for our log. Safe to call twice."""
        if self._stream.is_closed:
            return
        log.debug("%s was aborted by this side: %s", self.label, reason or "no reason given")
        self._stream.finish(pdu.abort(0, 0))

    def close(self) -> None:
        """Drop the connection without a word."""
        self._stream.close()

    def stop_when_idle(self) -> None:
        """End the association as soon as it is between two operations. For other threads."""
        self._stopping = True
        if self._waiting:
            self._stream.cut_input()

    def cut(self) -> None:
        """End the association whatever it is doing; its thread gets Aborted. For other threads."""
        self._stream.cut()

    def __enter__(self) -> Association:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Release, or abort when leaving with an exception."""
        if kind is None:
            self.release()
        else:
            self.abort(f"left with {kind.__name__}")

    def _begin_message(self) -> bool:
        """Wait for a message to begin; False when the association has ended in good order."""
        self._waiting = True
        try:
            # Looked at after `_waiting` is set; `stop_when_idle` does it the other way round.
            if not self._stopping:
                return self._reader.begin(self._first_byte_s)
        except Aborted:
            if not self._stopping:
                raise
        finally:
            self._waiting = False
        self._stream.finish(pdu.abort(0, 0), linger=False)
        return False

    def _transmit(self, context_id: int, encoded: bytes, data: Iterable[Bytes] | None) -> None:
        if data is None and len(encoded) <= self._fragment_bytes:
            try:
                self._stream.send([whole_command(context_id, encoded)])
            except PeerError:
                self._stream.close()
                raise
            return
        started = False
        try:
            for batch in fragments(context_id, encoded, data, self._fragment_bytes):
                started = True
                self._stream.send(batch)
        except PeerError:
            self._stream.close()
            raise
        except BaseException:
            if started:
                self.abort("the data set could not be sent to its end")
            raise
