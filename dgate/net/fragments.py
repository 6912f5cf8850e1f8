"""Cutting a message into P-DATA-TF PDUs (PS3.8 section 9.3.5 and annex E).

One fragment per PDU, many PDUs per system call, payload bytes not copied. Pure functions, any
thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dgate.net.pdu import COMMAND_BIT, LAST_BIT, P_DATA_HEADER, PduType
from dgate.net.stream import Bytes

_BATCH_BYTES = 1 << 20
# Linux takes at most 1024 buffers per call; a fragment adds a header and the pieces it consists of.
_BATCH_BUFFERS = 512
_SMALL = 1 << 16
_P_DATA = int(PduType.P_DATA_TF)


def fragments(
    context_id: int, command: bytes, data: Iterable[Bytes] | None, limit: int
) -> Iterator[list[Bytes]]:
    """Yield batches of buffers to be sent one after another; no fragment is longer than `limit`.

    Pieces of `data` that are not `bytes` may change once the next one is asked for, as those of a
    reused buffer or a mapped file do: what has not been yielded of them by then is copied.
    """
    batch = _command_fragments(context_id, command, limit)
    if data is None:
        yield batch
        return
    weight = 0
    held: list[Bytes] = []
    room = limit
    for piece in data:
        is_fleeting = not isinstance(piece, bytes)
        if is_fleeting and len(piece) <= _SMALL:
            piece, is_fleeting = bytes(piece), False
        rest = memoryview(piece)
        while rest:
            if room == 0:
                # Only now is it known that the fragment that was held is not the last one.
                batch.append(_header(context_id, limit, 0))
                batch += held
                weight += limit
                held, room = [], limit
                if weight >= _BATCH_BYTES or len(batch) >= _BATCH_BUFFERS:
                    yield batch
                    batch.clear()
                    weight = 0
            held.append(rest[:room])
            room -= len(held[-1])
            rest = rest[len(held[-1]) :]
        if is_fleeting:
            if batch:
                yield batch
                batch.clear()
                weight = 0
            held = [b"".join(held)]
        elif len(held) >= _BATCH_BUFFERS:
            held = [b"".join(held)]
        # While the next piece is made, nothing here may keep a mapped file from being closed.
        del piece, rest
    batch.append(_header(context_id, limit - room, LAST_BIT))
    yield batch + held


def whole_command(context_id: int, command: bytes) -> bytes:
    """Return the PDU of a message that is a command only, and short enough for one fragment."""
    return _header(context_id, len(command), COMMAND_BIT | LAST_BIT) + command


def _header(context_id: int, length: int, control: int) -> bytes:
    return P_DATA_HEADER.pack(_P_DATA, length + 6, length + 2, context_id, control)


def _command_fragments(context_id: int, command: bytes, limit: int) -> list[Bytes]:
    batch: list[Bytes] = []
    for start in range(0, len(command), limit):
        part = command[start : start + limit]
        last = LAST_BIT if start + limit >= len(command) else 0
        batch.append(_header(context_id, len(part), COMMAND_BIT | last) + part)
    return batch
