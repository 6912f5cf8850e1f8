"""Deflated data sets: chunks, cuts and limits."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom.deflate import (
    deflate,
    inflate_all,
    inflate_header,
    inflated_chunks,
    splice,
)
from dgate.dicom.scan import EXPLICIT_LITTLE
from dgate.errors import NotDicom
from tests.dicom.samples import explicit


def test_what_is_deflated_is_inflated() -> None:
    data = bytes(range(256)) * 4096
    deflated = deflate([data[:5], b"", data[5:]])
    assert len(deflated) % 2 == 0
    assert b"".join(inflated_chunks(deflated)) == data
    assert inflate_all(deflated) == data


def test_inflating_never_takes_more_than_a_chunk_at_a_time() -> None:
    bomb = zlib.compress(bytes(32 << 20), 9)[2:-4]
    chunks = inflated_chunks(bomb)
    assert max(map(len, chunks)) == 256 << 10
    with pytest.raises(NotDicom, match="exceeds 1 MiB"):
        inflate_all(bomb, 1 << 20)


def test_a_header_takes_no_more_of_a_large_object_than_its_beginning() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    head = explicit(0x00100010, "PN", b"A^B ")
    deflated = deflate([head, explicit(0x7FE00010, "OW", noise)])
    cut = 192 << 10
    # What lies behind would be refused if it were looked at.
    damaged = memoryview(deflated[:cut] + b"\xff" * (len(deflated) - cut))
    data, layout, whole = inflate_header(damaged, EXPLICIT_LITTLE)
    assert list(layout.entries) == [0x00100010]
    assert not whole
    assert len(data) <= 512 << 10


def test_inflating_reads_the_buffer_only_as_far_as_it_is_asked_for() -> None:
    noise = random.Random(2).randbytes(4 << 20)
    chunks = inflated_chunks(memoryview(deflate([noise])))
    tracemalloc.start()
    try:
        begin = b"".join(islice(chunks, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert noise.startswith(begin)
    assert peak < 1 << 20


def test_damaged_stream_is_refused() -> None:
    with pytest.raises(NotDicom, match="damaged"):
        inflate_all(b"\xff\xff\xff\xff")


CUTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.binary(max_size=4)), max_size=5)


@given(chunks=st.lists(st.binary(min_size=1, max_size=9), max_size=6), wanted=CUTS)
def test_cuts_are_the_same_whatever_the_chunks(
    chunks: list[bytes], wanted: list[tuple[int, int, bytes]]
) -> None:
    data = b"".join(chunks)
    cuts = []
    free = 0
    for start, length, new in sorted(wanted):
        begin = min(max(start, free), len(data))
        free = min(begin + length, len(data))
        cuts.append((begin, free, new))
    expected = bytearray()
    pos = 0
    for begin, end, new in cuts:
        expected += data[pos:begin] + new
        pos = end
    assert b"".join(splice(chunks, cuts)) == bytes(expected + data[pos:])
