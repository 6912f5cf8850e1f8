"""Sizes and short PDUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, A_RELEASE_RP, A_RELEASE_RQ

from dgate.net import pdu

MAX_PDU = 16384


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (1, 300_000_000),
        (2, 300_000_000),
        (4, MAX_PDU + 7),
        (4, 5),
        (3, 5),
        (5, 0),
        (6, 1000),
        (7, 3),
        (0, 10),
        (0x99, 10),
    ],
)
def test_a_length_beyond_what_its_type_allows_is_a_fault(kind: int, length: int) -> None:
    assert pdu.size_fault(kind, length, MAX_PDU)


@pytest.mark.parametrize(
    ("kind", "length"), [(1, 10_000), (2, 300), (4, 6), (4, MAX_PDU + 6), (5, 4), (6, 4), (7, 4)]
)
def test_a_length_within_what_its_type_allows_is_none(kind: int, length: int) -> None:
    assert not pdu.size_fault(kind, length, MAX_PDU)


def test_a_maximum_of_zero_takes_any_p_data() -> None:
    assert not pdu.size_fault(4, 1 << 31, 0)


@given(st.integers(0, 0xFFFFFFFF))
def test_a_fragment_fits_the_peers_maximum_and_is_even(peer_max_pdu: int) -> None:
    size = pdu.max_fragment(peer_max_pdu)

    assert size % 2 == 0
    assert size >= 2
    assert size + pdu.PDV_SIZE <= max(peer_max_pdu, 8) or peer_max_pdu == 0


@pytest.mark.parametrize(
    ("peer_max_pdu", "expected"), [(0, False), (1, True), (63, True), (64, False), (1 << 31, False)]
)
def test_a_maximum_that_leaves_no_room_is_a_fault(peer_max_pdu: int, expected: bool) -> None:
    assert bool(pdu.max_pdu_fault(peer_max_pdu)) is expected


def test_a_peer_without_limit_gets_128_kib() -> None:
    assert pdu.max_fragment(0) == pdu.max_fragment(0xFFFFFFFF) == (1 << 17) - 6


def test_short_pdus_are_read_by_another_implementation() -> None:
    abort = A_ABORT_RQ()
    abort.decode(pdu.abort(2, pdu.AbortReason.INVALID_PARAMETER))
    reject = A_ASSOCIATE_RJ()
    reject.decode(pdu.reject(2, 3, 1))

    assert (abort.source, abort.reason_diagnostic) == (2, 6)
    assert (reject.result, reject.source, reject.reason_diagnostic) == (2, 3, 1)
    assert A_RELEASE_RQ().encode() == pdu.RELEASE_RQ
    assert A_RELEASE_RP().encode() == pdu.RELEASE_RP


def test_refusals_are_described_in_words() -> None:
    assert pdu.describe_rejection(2, 3, 1) == "rejected for now: temporary congestion (2/3/1)"
    assert "reason unknown" in pdu.describe_rejection(1, 9, 9)
    assert pdu.describe_abort(0, 0) == "aborted by the peer's application (source 0)"
    assert pdu.describe_abort(2, 6) == "aborted by the peer's upper layer: invalid parameter"
    assert pdu.describe_abort(2, 77) == "aborted by the peer's upper layer: reason 77"
