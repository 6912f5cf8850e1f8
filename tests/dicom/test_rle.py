"""RLE segments, with pydicom as the other end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.decoders.rle import _rle_decode_segment

from dgate.dicom.rle import decode_frame, encode_frame, pack, unpack
from dgate.errors import NotDicom

RUNS = st.lists(
    st.tuples(st.integers(0, 255), st.sampled_from([1, 1, 1, 2, 3, 4, 127, 128, 129, 130, 257])),
    min_size=1,
    max_size=12,
).map(lambda runs: b"".join(bytes((value,)) * count for value, count in runs))


@given(plane=st.one_of(RUNS, st.binary(min_size=1, max_size=400)), row=st.integers(1, 300))
def test_packed_segment_is_read_by_both_as_it_was(plane: bytes, row: int) -> None:
    segment = pack(plane, row)
    assert len(segment) % 2 == 0
    assert unpack(segment, len(plane)) == plane
    assert bytes(_rle_decode_segment(segment))[: len(plane)] == plane


def _runs(segment: bytes) -> list[tuple[int, int]]:
    """Return head and length of each run and stretch."""
    found, at = [], 0
    while at < len(segment):
        head = segment[at]
        length = head + 1 if head < 128 else 257 - head
        found.append((head, length))
        at += 1 + (length if head < 128 else 1)
    return found


def test_rows_are_encoded_separately() -> None:
    assert _runs(pack(bytes(200), 100)) == [(157, 100), (157, 100)]


@pytest.mark.parametrize("length", [127, 128, 129, 130, 255, 256, 257, 258, 385])
def test_long_run_is_cut_into_runs_of_two_at_least(length: int) -> None:
    lengths = [run for _, run in _runs(pack(bytes(length), length))[: length // 128 + 1]]
    assert sum(lengths) >= length
    assert all(2 <= run <= 128 for run in lengths)
    assert unpack(pack(bytes(length), length), length) == bytes(length)


def test_head_128_is_skipped() -> None:
    assert unpack(b"\x80\x80\xff\x07\x80\x00\x09", 3) == b"\x07\x07\x09"


@pytest.mark.parametrize(
    "segment", [b"", b"\x05\x01\x02", b"\xff", b"\x80" * 10], ids=["empty", "cut", "head", "nops"]
)
def test_short_segment_is_refused(segment: bytes) -> None:
    with pytest.raises(NotDicom, match="where 8 are expected"):
        unpack(segment, 8)


@pytest.mark.parametrize(
    ("coded", "reason"),
    [
        (b"\1\0\0\0", "cut off"),
        (bytes(64), "0 segments"),
        (b"\2" + bytes(63), "2 segments"),
        (b"\1" + bytes(63), "offsets"),
        (b"\1\0\0\0\xff\xff\0\0" + bytes(56), "offsets"),
    ],
)
def test_damaged_header_is_refused(coded: bytes, reason: str) -> None:
    with pytest.raises(NotDicom, match=reason):
        decode_frame(coded, 4, 1, 1)


def test_most_significant_bytes_come_first() -> None:
    coded = encode_frame(b"\1\2\3\4", 2, 1, 2)
    assert coded[:12] == b"\2\0\0\0\x40\0\0\0\x44\0\0\0"
    assert coded[64:] == b"\1\2\4\0\1\1\3\0"


def test_more_segments_than_the_header_has_are_refused() -> None:
    with pytest.raises(NotDicom, match="15 segments"):
        encode_frame(bytes(32), 1, 4, 8)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(coded: bytes) -> None:
    try:
        assert len(decode_frame(coded, 16, 1, 2)) == 32
    except NotDicom:
        return
