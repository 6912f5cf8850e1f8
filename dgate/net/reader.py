"""The inbound half of an association: PDUs and fragments put together to commands and data sets.

What the protocol does not allow is answered with A-ABORT and raised (PS3.8 annex E and table
9-10). Knows framing and contexts, not what messages mean. Owned by the association's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from dgate.dicom.payload import Payload
from dgate.errors import Aborted, ProtocolError
from dgate.net import pdu
from dgate.net.dimse import Command, CommandError, CommandField, decode_command
from dgate.net.negotiation import PresentationContext
from dgate.net.pdu import AbortReason, PduType
from dgate.net.stream import Stream

_HEADER, _HEADER_SIZE = pdu.HEADER, pdu.HEADER_SIZE
_PDV, _PDV_SIZE = pdu.PDV, pdu.PDV_SIZE
_COMMAND, _LAST = pdu.COMMAND_BIT, pdu.LAST_BIT
_WHOLE_COMMAND = _COMMAND | _LAST
_COMMAND_LIMIT = 1 << 16
_CANCEL_LIMIT = 1 << 10
_EMPTY_LIMIT = 8
"""Fragments without a byte that a message may have, so that it comes to an end."""
_P_DATA = int(PduType.P_DATA_TF)
_PDU_TYPES = frozenset(PduType)
_AFTER_RELEASE = frozenset(
    (PduType.P_DATA_TF, PduType.RELEASE_RQ, PduType.RELEASE_RP, PduType.ABORT)
)
_OUT_OF_TURN = AbortReason.UNEXPECTED_PARAMETER
_INVALID = AbortReason.INVALID_PARAMETER


class MessageReader:
    """Reads the messages of one association from its stream."""

    __slots__ = ("_contexts", "_largest_pdu", "_left", "_max_pdu", "_stream")

    def __init__(
        self, stream: Stream, contexts: Mapping[int, PresentationContext], max_pdu: int
    ) -> None:
        """Read from `stream`; `max_pdu` is what we announced as our maximum."""
        self._stream = stream
        self._contexts = contexts
        self._max_pdu = max_pdu
        self._largest_pdu = pdu.largest(max_pdu)
        self._left = 0  # Bytes of the current P-DATA-TF that have not been looked at.

    def begin(self, timeout_s: float) -> bool:
        """Wait for the first PDU of a message; False, and closed, when it is a release."""
        stream = self._stream
        if self._left:
            return True
        if stream.end - stream.start < _HEADER_SIZE:
            stream.fill(_HEADER_SIZE, timeout_s)
        return self._enter_pdu(between_messages=True)

    def command(self) -> tuple[PresentationContext, Command]:
        """Read a command set to its last fragment."""
        stream = self._stream
        encoded = b""
        context_id = 0
        control = 0
        empty = 0
        while not control & _LAST:
            length, fragment_context, control = self._next_fragment()
            if not control & _COMMAND:
                self.refuse(_OUT_OF_TURN, "a data set came where a command was due")
            if fragment_context != (context_id or fragment_context):
                self.refuse(_OUT_OF_TURN, "a command was cut into two presentation contexts")
            context_id = fragment_context
            if not length:
                empty = self._count_empty(empty)
            if len(encoded) + length > _COMMAND_LIMIT:
                self.refuse(_INVALID, f"a command set exceeds {_COMMAND_LIMIT} bytes")
            if stream.end - stream.start < length:
                stream.fill(length, stream.timeouts.read_s)
            encoded += bytes(stream.view[stream.start : stream.start + length])
            stream.start += length
        context = self._contexts.get(context_id)
        if context is None:
            self.refuse(_INVALID, f"presentation context {context_id} was not accepted")
        try:
            return context, decode_command(encoded)
        except CommandError as exc:
            self.refuse(_INVALID, str(exc))

    def data(self, context_id: int, payload: Payload) -> None:
        """Read a data set to its last fragment, into `payload` as it arrives."""
        stream = self._stream
        control = 0
        empty = 0
        while not control & _LAST:
            length, fragment_context, control = self._next_fragment()
            if control & _COMMAND:
                self.refuse(_OUT_OF_TURN, "a command came in the middle of a data set")
            if fragment_context != context_id:
                self.refuse(_OUT_OF_TURN, "a data set came in another context than its command")
            if not length:
                empty = self._count_empty(empty)
            while length:
                if stream.start == stream.end:
                    stream.fill(1, stream.timeouts.read_s)
                stop = min(stream.start + length, stream.end)
                payload.append(stream.view[stream.start : stop])
                length -= stop - stream.start
                stream.start = stop

    def take_cancel(self) -> int | None:
        """Consume a C-CANCEL-RQ that has arrived whole and return whom it cancels; never waits.

        Anything else that has arrived stays where it is. Raises Aborted.
        """
        stream = self._stream
        if self._left:
            return None
        while True:
            buffered = stream.end - stream.start
            if buffered >= _HEADER_SIZE:
                kind, length = _HEADER.unpack_from(stream.buffer, stream.start)
                if kind == PduType.ABORT:
                    self._raise_abort()
                if kind != _P_DATA or not _PDV_SIZE <= length <= _CANCEL_LIMIT:
                    return None
                if buffered >= _HEADER_SIZE + length:
                    break
            if not stream.poll_input():
                return None
        *_, pdv_length, _, control = pdu.P_DATA_HEADER.unpack_from(stream.buffer, stream.start)
        if pdv_length + 4 != length or control & _WHOLE_COMMAND != _WHOLE_COMMAND:
            return None
        start = stream.start + pdu.P_DATA_HEADER.size
        stop = stream.start + _HEADER_SIZE + length
        try:
            command = decode_command(bytes(stream.view[start:stop]))
        except CommandError:
            # Garbage is `command`'s to refuse, in its turn.
            return None
        if command.command_field != CommandField.C_CANCEL_RQ:
            return None
        stream.start = stop
        return command.message_id_responded or 0

    def await_release_reply(self) -> None:
        """Read on to the A-RELEASE-RP, throwing away what the peer still had to say."""
        stream = self._stream
        self._skip(self._left)
        self._left = 0
        kind = 0
        while kind != PduType.RELEASE_RP:
            stream.fill(_HEADER_SIZE, stream.timeouts.artim_s)
            kind, length = _HEADER.unpack_from(stream.buffer, stream.start)
            fault = pdu.size_fault(kind, length, self._max_pdu)
            if fault or kind not in _AFTER_RELEASE:
                self.refuse(AbortReason.UNEXPECTED_PDU, fault or f"PDU type {kind:02X} came late")
            if kind == PduType.ABORT:
                self._raise_abort()
            stream.start += _HEADER_SIZE
            self._skip(length)
            if kind == PduType.RELEASE_RQ:
                # Both sides release at once (PS3.8 9.2.3, states 9 to 12).
                stream.send([pdu.RELEASE_RP])

    def refuse(self, reason: AbortReason, what: str) -> NoReturn:
        """Abort in the name of the upper layer (PS3.8 AA-8) and raise ProtocolError."""
        self._stream.finish(pdu.abort(2, reason))
        raise ProtocolError(what, where=self._stream.where)

    def _enter_pdu(self, between_messages: bool = False) -> bool:
        """Look at the buffered PDU header and step into a P-DATA-TF; False after a release."""
        stream = self._stream
        kind, length = _HEADER.unpack_from(stream.buffer, stream.start)
        if kind == _P_DATA and _PDV_SIZE <= length <= self._largest_pdu:
            stream.start += _HEADER_SIZE
            self._left = length
            return True
        if kind not in _PDU_TYPES:
            self.refuse(AbortReason.UNRECOGNIZED_PDU, f"PDU type {kind:02X} does not exist")
        fault = pdu.size_fault(kind, length, self._max_pdu)
        if fault:
            self.refuse(_INVALID, fault)
        if kind == PduType.ABORT:
            self._raise_abort()
        if kind != PduType.RELEASE_RQ or not between_messages:
            self.refuse(AbortReason.UNEXPECTED_PDU, f"PDU type {kind:02X} came out of turn")
        stream.finish(pdu.RELEASE_RP)
        return False

    def _next_fragment(self) -> tuple[int, int, int]:
        """Step to the next fragment of a message; return its length, context id and control."""
        stream = self._stream
        if self._left == 0:
            if stream.end - stream.start < _HEADER_SIZE:
                stream.fill(_HEADER_SIZE, stream.timeouts.read_s)
            self._enter_pdu()
        if self._left < _PDV_SIZE:
            self.refuse(_INVALID, "a P-DATA-TF ends within a presentation data value")
        if stream.end - stream.start < _PDV_SIZE:
            stream.fill(_PDV_SIZE, stream.timeouts.read_s)
        length, context_id, control = _PDV.unpack_from(stream.buffer, stream.start)
        if not 2 <= length <= self._left - 4:
            self.refuse(_INVALID, f"a presentation data value claims {length} bytes")
        stream.start += _PDV_SIZE
        self._left -= length + 4
        return length - 2, context_id, control

    def _count_empty(self, empty: int) -> int:
        if empty == _EMPTY_LIMIT:
            self.refuse(_INVALID, f"a message has more than {_EMPTY_LIMIT} empty fragments")
        return empty + 1

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
