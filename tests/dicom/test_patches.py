"""Where changes go: the cuts that patches make, applied and compared with a plain model."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom.patches import Cut, Patch, plan
from dgate.dicom.scan import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Encoding, scan, scan_tail
from tests.dicom.samples import explicit, implicit

TAGS = [0x00080018, 0x00080060, 0x00100010, 0x00100020, 0x0020000D, 0x7FE00010, 0x7FE10010]
NAME, PATIENT, LENGTH_10 = 0x00100010, 0x00100020, 0x00100000

Elements = dict[int, bytes]


def encoded(elements: Elements, encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    """Encode elements in tag order; each has VR UN where it is written."""
    if encoding.explicit:
        return b"".join(explicit(tag, "UN", elements[tag]) for tag in sorted(elements))
    return b"".join(implicit(tag, elements[tag]) for tag in sorted(elements))


def cuts(data: bytes, patches: dict[int, Patch], encoding: Encoding = EXPLICIT_LITTLE) -> list[Cut]:
    head = scan(data, encoding)
    return plan(patches, data, encoding, head, scan_tail(data, encoding, head.stop))


def patched(data: bytes, patches: dict[int, Patch], encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    """Carry cuts out, which must be in order and apart."""
    result, at = b"", 0
    for start, end, new in cuts(data, patches, encoding):
        assert at <= start <= end <= len(data)
        result += data[at:start] + new
        at = end
    return result + data[at:]


VALUES = st.binary(max_size=6).map(lambda value: value + value)
ELEMENTS = st.dictionaries(st.sampled_from(TAGS), VALUES)


@given(ELEMENTS, st.dictionaries(st.sampled_from(TAGS), st.one_of(st.none(), VALUES)))
@pytest.mark.parametrize(
    "encoding", [EXPLICIT_LITTLE, IMPLICIT_LITTLE], ids=["explicit", "implicit"]
)
def test_patched_data_set_is_the_changed_one_encoded_anew(
    encoding: Encoding, elements: Elements, changes: dict[int, bytes | None]
) -> None:
    patches: dict[int, Patch] = {
        tag: None if value is None else ("UN", value, False) for tag, value in changes.items()
    }
    wanted = {**elements, **{tag: value for tag, value in changes.items() if value is not None}}
    for tag, value in changes.items():
        if value is None:
            wanted.pop(tag, None)

    assert patched(encoded(elements, encoding), patches, encoding) == encoded(wanted, encoding)


def test_no_copy_of_a_name_stays_behind() -> None:
    """An element twice, and once more behind the pixels, where a faulty writer put it."""
    data = (
        explicit(NAME, "PN", b"ONE ")
        + explicit(NAME, "PN", b"TWO ")
        + explicit(PATIENT, "LO", b"ID")
        + explicit(0x7FE00010, "OW", b"\0\0")
        + explicit(NAME, "PN", b"LATE")
    )
    for patch in (None, ("PN", b"ANON", False)):
        result = patched(data, {NAME: patch})
        assert b"ONE" not in result
        assert b"TWO" not in result
        assert b"LATE" not in result
        assert result.count(b"ANON") == (patch is not None)
        assert explicit(PATIENT, "LO", b"ID") in result


@pytest.mark.parametrize(
    ("patches", "length"),
    [
        ({NAME: ("PN", b"LONGER", False)}, 24 + 2),
        ({NAME: None}, 24 - 12),
        ({0x00100030: ("DA", b"20240131", False)}, 24 + 16),
        ({0x00080060: ("CS", b"CT", False)}, 24),
        ({NAME: None, PATIENT: None}, 0),
    ],
)
def test_group_length_follows_its_group(patches: dict[int, Patch], length: int) -> None:
    group = explicit(NAME, "PN", b"NAME") + explicit(PATIENT, "LO", b"ID01")
    assert len(group) == 24
    data = explicit(LENGTH_10, "UL", struct.pack("<L", 24)) + group

    result = patched(data, patches)

    at = result.index(explicit(LENGTH_10, "UL", struct.pack("<L", length)))
    rest = result[at + 12 :]
    assert len(rest) == length


def test_group_length_that_was_set_is_the_one_that_counts() -> None:
    data = explicit(LENGTH_10, "UL", struct.pack("<L", 12)) + explicit(NAME, "PN", b"NAME")
    result = patched(
        data, {LENGTH_10: ("UL", struct.pack("<L", 7), False), NAME: ("PN", b"X ", False)}
    )
    assert result == explicit(LENGTH_10, "UL", struct.pack("<L", 7)) + explicit(NAME, "PN", b"X ")


def test_sequence_without_length_is_closed() -> None:
    result = patched(b"", {0x00081115: ("SQ", b"", True)})
    assert result == explicit(0x00081115, "SQ", b"", length=0xFFFFFFFF) + bytes.fromhex(
        "feffdde000000000"
    )


def test_nothing_changed_nothing_cut() -> None:
    assert cuts(encoded({NAME: b"AB"}), {}) == []
    assert cuts(encoded({NAME: b"AB"}), {PATIENT: None}) == []
