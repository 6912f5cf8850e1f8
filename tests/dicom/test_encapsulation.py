"""Which fragments make a frame."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import generate_frames

from dgate.dicom.encapsulation import encapsulated, frames_of, sequence_end
from dgate.errors import NotDicom
from tests.dicom.samples import implicit, item

END = implicit(0xFFFEE0DD, b"")


def _frames(value: bytes, declared: int, offsets: bytes = b"", **how: bool) -> list[list[bytes]]:
    return [[bytes(part) for part in frame] for frame in frames_of(value, declared, offsets, **how)]


def _table(*offsets: int) -> bytes:
    return struct.pack(f"<{len(offsets)}L", *offsets)


def test_basic_table_tells_fragments_of_frames_apart() -> None:
    value = item(_table(0, 20)) + item(b"aa") + item(b"bb") + item(b"cc") + END
    assert _frames(value, 2) == [[b"aa", b"bb"], [b"cc"]]


def test_extended_table_wins() -> None:
    value = item(b"") + item(b"aa") + item(b"bb") + item(b"cc")
    assert _frames(value, 2, struct.pack("<2Q", 0, 10)) == [[b"aa"], [b"bb", b"cc"]]


def test_without_a_table_a_single_frame_has_all_fragments() -> None:
    assert _frames(item(b"") + item(b"aa") + item(b"bb") + END, 1) == [[b"aa", b"bb"]]


def test_without_a_table_as_many_fragments_as_frames_are_one_each() -> None:
    assert _frames(item(b"") + item(b"aa") + item(b"bb"), 2) == [[b"aa"], [b"bb"]]


def test_more_frames_than_declared_are_found_where_each_has_one_fragment() -> None:
    value = item(b"") + item(b"aa") + item(b"bb") + item(b"cc")
    assert len(_frames(value, 2, one_each=True)) == 3
    with pytest.raises(NotDicom, match="no offset table"):
        _frames(value, 2)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        item(b""),
        item(_table(0, 9)) + item(b"aa") + item(b"bb"),
        item(_table(10, 0)) + item(b"aa") + item(b"bb"),
        item(b"odd") + item(b"aa"),
        item(b"") + b"rubbish!",
        item(b"") + implicit(0xFFFEE000, b"", length=0xFFFFFFFF),
        item(b"") + implicit(0xFFFEE000, b"aa", length=99),
    ],
)
def test_unreadable_items_are_refused(value: bytes) -> None:
    with pytest.raises(NotDicom):
        _frames(value, 2)


@given(
    frames=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6),
    keep=st.integers(0, 120),
)
def test_written_frames_are_found_again_by_both(frames: list[bytes], keep: int) -> None:
    value = b"".join(encapsulated(iter(frames), keep_bytes=keep)) + sequence_end()
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    assert [b"".join(found) for found in _frames(value, len(frames))] == padded
    assert list(generate_frames(value, number_of_frames=len(frames))) == padded


def test_table_is_written_as_long_as_the_frames_may_be_kept() -> None:
    frames = [b"aa", b"bbbb"]
    assert b"".join(encapsulated(frames, keep_bytes=6))[8:16] == _table(0, 10)
    assert b"".join(encapsulated(frames, keep_bytes=5))[4:8] == _table(0)
