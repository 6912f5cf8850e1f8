"""Cutting messages into PDUs."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.net.fragments import fragments, whole_command
from dgate.net.stream import Bytes
from tests.net.kit import pieces


def sent(command: bytes, data: Iterable[Bytes] | None, limit: int) -> bytes:
    """Return what a stream would have sent, each batch copied before the next is asked for."""
    return b"".join(b"".join(batch) for batch in fragments(5, command, data, limit))


def parsed(stream: bytes, limit: int) -> tuple[bytes, bytes]:
    """Check every PDU and return command and data set."""
    parts = {1: b"", 0: b""}
    ended = {1: False, 0: False}
    position = 0
    while position < len(stream):
        kind, length, pdv_length, context_id, control = struct.unpack_from(
            ">BxIIBB", stream, position
        )
        fragment = stream[position + 12 : position + 6 + length]
        assert (kind, context_id) == (4, 5)
        assert pdv_length == len(fragment) + 2 == length - 4
        assert len(fragment) <= limit
        assert not ended[control & 1]
        assert ended[1] or control & 1, "a data set began before its command had ended"
        parts[control & 1] += fragment
        ended[control & 1] = bool(control & 2)
        position += 6 + length
    assert ended[1]
    assert ended[0] or not parts[0]
    return parts[1], parts[0]


@given(
    command=st.binary(min_size=1, max_size=40),
    data=st.binary(max_size=300),
    sizes=st.lists(st.integers(1, 50), min_size=1),
    limit=st.integers(1, 30).map(lambda half: 2 * half),
)
def test_command_and_data_arrive_whole_in_fragments_of_the_right_size(
    command: bytes, data: bytes, sizes: list[int], limit: int
) -> None:
    stream = sent(command, pieces(data, sizes), limit)

    assert parsed(stream, limit) == (command, data)


@given(
    data=st.binary(min_size=1, max_size=300),
    sizes=st.lists(st.integers(1, 50), min_size=1),
    limit=st.integers(1, 30).map(lambda half: 2 * half),
)
def test_pieces_that_reuse_one_buffer_are_sent_right(
    data: bytes, sizes: list[int], limit: int
) -> None:
    def reusing() -> Iterator[memoryview]:
        buffer = bytearray(50)
        for piece in pieces(data, sizes):
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]

    assert parsed(sent(b"c", reusing(), limit), limit) == (b"c", data)


@pytest.mark.parametrize("limit", [4090, 16378, 131066])
def test_large_pieces_of_a_reused_buffer_are_sent_right(limit: int) -> None:
    data = bytes(range(256)) * 5000

    def reusing() -> Iterator[bytearray]:
        buffer = bytearray(100_000)
        for piece in pieces(data, [100_000]):
            buffer[:] = piece
            yield buffer

    assert parsed(sent(b"c", reusing(), limit), limit) == (b"c", data)


def test_a_mapped_file_can_be_closed_by_who_made_the_pieces(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(300_000))

    def mapped() -> Iterator[memoryview]:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as map_:
            view = memoryview(map_)
            for start in range(0, len(view), 100_000):
                part = view[start : start + 100_000]
                yield part
                part.release()
            view.release()

    assert len(parsed(sent(b"c", mapped(), 16378), 16378)[1]) == 300_000


def test_an_empty_data_set_is_one_empty_last_fragment() -> None:
    assert sent(b"c", [], 100).endswith(struct.pack(">BxIIBB", 4, 6, 2, 5, 2))


def test_payload_bytes_are_not_copied() -> None:
    data = bytes(1000)

    (batch,) = fragments(5, b"c", [data], 600)

    views = [buffer for buffer in batch if isinstance(buffer, memoryview)]
    assert [len(view) for view in views] == [600, 400]
    assert all(view.obj is data for view in views)


def test_many_fragments_go_into_one_batch_but_never_more_than_the_kernel_takes() -> None:
    batches = [list(batch) for batch in fragments(5, b"c", [bytes(512 * 1024)], 16378)]
    assert len(batches) == 1

    largest = max(len(list(batch)) for batch in fragments(5, b"c", [bytes(100_000)], 2))
    assert largest <= 1024

    tiny = (bytes(1) for _ in range(5000))
    largest = max(len(list(batch)) for batch in fragments(5, b"c", tiny, 131066))
    assert largest <= 1024


def test_a_whole_command_is_one_pdu() -> None:
    assert whole_command(5, b"cc") == sent(b"cc", None, 100)
