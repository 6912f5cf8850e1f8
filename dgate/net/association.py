"""An established association of either role: messages, release and abort (PS3.8 7 and annex E).

What the messages mean is not known here; negotiation is over. An association is owned by one
thread, which alone reads and writes it: there is no other reader that could take a response away.
Only `stop_when_idle` and `cut` are for other threads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from dgate.dicom.payload import Payload
from dgate.errors import Aborted, PeerError, ProtocolError
from dgate.net import pdu
from dgate.net.dimse import (
    RESPONSE_BIT,
    Command,
    CommandError,
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
from dgate.net.pdu import AbortReason, PduType
from dgate.net.stream import Bytes, Stream

log = logging.getLogger(__name__)

_HEADER, _HEADER_SIZE = pdu.HEADER, pdu.HEADER_SIZE
_PDV, _PDV_SIZE = pdu.PDV, pdu.PDV_SIZE
_COMMAND, _LAST = pdu.COMMAND_BIT, pdu.LAST_BIT
_COMMAND_LIMIT = 1 << 16
_WHOLE_COMMAND = _COMMAND | _LAST
_CANCEL_LIMIT = 1 << 10
_P_DATA = int(PduType.P_DATA_TF)
_PDU_TYPES = frozenset(PduType)
_AFTER_RELEASE = frozenset(
    (PduType.P_DATA_TF, PduType.RELEASE_RQ, PduType.RELEASE_RP, PduType.ABORT)
)
_OUT_OF_TURN = AbortReason.UNEXPECTED_PARAMETER
_INVALID = AbortReason.INVALID_PARAMETER
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


class Association:
    """An established association."""

    __slots__ = (
        "_answered",
        "_cancels",
        "_first_byte_s",
        "_fragment_bytes",
        "_largest_pdu",
        "_left",
        "_max_pdu",
        "_message_id",
        "_stopping",
        "_stream",
        "_waiting",
        "called",
        "calling",
        "contexts",
        "is_acceptor",
        "label",
        "peer",
        "peer_implementation",
        "peer_max_pdu",
        "refused",
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
        self._stream = stream
        self._max_pdu = parties.own_max_pdu
        self._largest_pdu = parties.own_max_pdu + _HEADER_SIZE
        self._fragment_bytes = pdu.max_fragment(parties.peer_max_pdu)
        timeouts = stream.timeouts
        self._first_byte_s = timeouts.idle_s if parties.is_acceptor else timeouts.response_s
        self._left = 0  # Bytes of the current P-DATA-TF that have not been looked at.
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
            if self._left == 0 and not self._begin_message():
                return None
            context, command = self._receive_command()
            if command.has_data_set:
                if payload_factory is None:
                    payload = Payload()
                else:
                    payload = payload_factory(self, context, command)
                self._receive_data(context.id, payload)
        except BaseException as exc:
            if payload is not None:
                payload.close()
            # A message is half read, so nothing that follows can be understood; says nothing if
            # already closed.
            self.abort(f"{type(exc).__name__} while receiving")
            raise
        self._answered = None
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
            self._transmit(message.context.id, store_response(request, status), None)
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
            while message_id not in self._cancels and self._take_cancel():
                pass
        except PeerError:
            self._stream.close()
            raise
        return message_id in self._cancels

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
            self._skip(self._left)
            self._stream.send([pdu.RELEASE_RQ])
            while not self._is_release_reply():
                pass
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
        """Wait for the first PDU of a message; False when the association ended in good order."""
        stream = self._stream
        self._waiting = True
        try:
            # Read after `_waiting` was set, which `stop_when_idle` reads after it has set
            # `_stopping`.
            if self._stopping:
                self.abort("the server stops")
                return False
            if stream.end - stream.start < _HEADER_SIZE:
                stream.fill(_HEADER_SIZE, self._first_byte_s)
        except Aborted:
            if not self._stopping:
                raise
            self.abort("the server stops")
            return False
        finally:
            self._waiting = False
        return self._enter_pdu(between_messages=True)

    def _enter_pdu(self, between_messages: bool = False) -> bool:
        """Look at the buffered PDU header and step into a P-DATA-TF; False after a release."""
        stream = self._stream
        kind, length = _HEADER.unpack_from(stream.buffer, stream.start)
        if kind == _P_DATA and _PDV_SIZE <= length <= self._largest_pdu:
            stream.start += _HEADER_SIZE
            self._left = length
            return True
        fault = pdu.size_fault(kind, length, self._max_pdu)
        if kind not in _PDU_TYPES:
            self._refuse(AbortReason.UNRECOGNIZED_PDU, f"PDU type {kind:02X} does not exist")
        if fault:
            self._refuse(AbortReason.INVALID_PARAMETER, fault)
        if kind == PduType.ABORT:
            self._raise_abort()
        if kind != PduType.RELEASE_RQ or not between_messages:
            self._refuse(AbortReason.UNEXPECTED_PDU, f"PDU type {kind:02X} came out of turn")
        stream.finish(pdu.RELEASE_RP)
        return False

    def _receive_command(self) -> tuple[PresentationContext, Command]:
        stream = self._stream
        encoded = b""
        context_id = 0
        control = 0
        while not control & _LAST:
            length, fragment_context, control = self._next_fragment()
            if not control & _COMMAND:
                self._refuse(_OUT_OF_TURN, "a data set came where a command was due")
            if fragment_context != (context_id or fragment_context):
                self._refuse(_OUT_OF_TURN, "a command was cut into two presentation contexts")
            context_id = fragment_context
            if len(encoded) + length > _COMMAND_LIMIT:
                self._refuse(_INVALID, f"a command set exceeds {_COMMAND_LIMIT} bytes")
            if stream.end - stream.start < length:
                stream.fill(length, stream.timeouts.read_s)
            encoded += bytes(stream.view[stream.start : stream.start + length])
            stream.start += length
        context = self.contexts.get(context_id)
        if context is None:
            self._refuse(_INVALID, f"presentation context {context_id} was not accepted")
        try:
            command = decode_command(encoded)
        except CommandError as exc:
            self._refuse(_INVALID, str(exc))
        if self._cancels and not command.is_response:
            self._cancels.discard(command.message_id)
        return context, command

    def _receive_data(self, context_id: int, payload: Payload) -> None:
        stream = self._stream
        control = 0
        while not control & _LAST:
            length, fragment_context, control = self._next_fragment()
            if control & _COMMAND:
                self._refuse(_OUT_OF_TURN, "a command came in the middle of a data set")
            if fragment_context != context_id:
                self._refuse(_OUT_OF_TURN, "a data set came in another context than its command")
            while length:
                if stream.start == stream.end:
                    stream.fill(1, stream.timeouts.read_s)
                stop = min(stream.start + length, stream.end)
                payload.append(stream.view[stream.start : stop])
                length -= stop - stream.start
                stream.start = stop

    def _next_fragment(self) -> tuple[int, int, int]:
        """Step to the next fragment of a message; return its length, context id and control."""
        stream = self._stream
        if self._left == 0:
            if stream.end - stream.start < _HEADER_SIZE:
                stream.fill(_HEADER_SIZE, stream.timeouts.read_s)
            self._enter_pdu()
        if self._left < _PDV_SIZE:
            self._refuse(_INVALID, "a P-DATA-TF ends within a presentation data value")
        if stream.end - stream.start < _PDV_SIZE:
            stream.fill(_PDV_SIZE, stream.timeouts.read_s)
        length, context_id, control = _PDV.unpack_from(stream.buffer, stream.start)
        if not 2 <= length <= self._left - 4:
            self._refuse(_INVALID, f"a presentation data value claims {length} bytes")
        stream.start += _PDV_SIZE
        self._left -= length + 4
        return length - 2, context_id, control

    def _take_cancel(self) -> bool:
        """Consume one C-CANCEL-RQ that has arrived whole; return whether there was one."""
        stream = self._stream
        if self._left:
            return False
        while True:
            buffered = stream.end - stream.start
            if buffered >= _HEADER_SIZE:
                kind, length = _HEADER.unpack_from(stream.buffer, stream.start)
                if kind == PduType.ABORT:
                    self._raise_abort()
                if kind != _P_DATA or not _PDV_SIZE <= length <= _CANCEL_LIMIT:
                    return False
                if buffered >= _HEADER_SIZE + length:
                    break
            if not stream.poll_input():
                return False
        stop = stream.start + _HEADER_SIZE + length
        *_, pdv_length, _, control = pdu.P_DATA_HEADER.unpack_from(stream.buffer, stream.start)
        if pdv_length + 4 != length or control & _WHOLE_COMMAND != _WHOLE_COMMAND:
            return False
        try:
            command = decode_command(bytes(stream.view[stream.start + 12 : stop]))
        except CommandError:
            return False
        if command.command_field != CommandField.C_CANCEL_RQ:
            return False
        stream.start = stop
        if command.message_id_responded is not None:
            self._cancels.add(command.message_id_responded)
        return True

    def _is_release_reply(self) -> bool:
        """Look at one PDU after our A-RELEASE-RQ."""
        stream = self._stream
        stream.fill(_HEADER_SIZE, stream.timeouts.artim_s)
        kind, length = _HEADER.unpack_from(stream.buffer, stream.start)
        fault = pdu.size_fault(kind, length, self._max_pdu)
        if fault or kind not in _AFTER_RELEASE:
            self._refuse(AbortReason.UNEXPECTED_PDU, fault or f"PDU type {kind:02X} came late")
        if kind == PduType.ABORT:
            self._raise_abort()
        stream.start += _HEADER_SIZE
        self._skip(length)
        if kind == PduType.RELEASE_RQ:
            # Both sides release at once (PS3.8 9.2.3, states 9 to 12).
            stream.send([pdu.RELEASE_RP])
        return bool(kind == PduType.RELEASE_RP)

    def _skip(self, length: int) -> None:
        stream = self._stream
        while length:
            if stream.start == stream.end:
                stream.fill(1, stream.timeouts.artim_s)
            step = min(length, stream.end - stream.start)
            stream.start += step
            length -= step

    def _raise_abort(self) -> NoReturn:
        stream = self._stream
        stream.fill(pdu.ABORT_SIZE, stream.timeouts.artim_s)
        source, reason = stream.buffer[stream.start + 8], stream.buffer[stream.start + 9]
        stream.close()
        raise Aborted(pdu.describe_abort(source, reason), where=stream.where)

    def _refuse(self, reason: AbortReason, what: str) -> NoReturn:
        """Answer what the protocol does not allow with A-ABORT of the upper layer (PS3.8 AA-8)."""
        self._stream.finish(pdu.abort(2, reason))
        raise ProtocolError(what, where=self._stream.where)

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
