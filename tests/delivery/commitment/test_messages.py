"""What is said about storage commitment, as data sets."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from dgate.delivery.commitment import messages
from dgate.delivery.commitment.messages import (
    DUPLICATE_TRANSACTION,
    MOST_BYTES,
    MOST_REFERENCES,
    MOST_REPORTED,
    Fault,
    Finding,
    Reference,
    Report,
    Request,
    Sizes,
    fate_of_answer,
    in_words,
    new_transaction_uid,
    read_report,
    read_request,
    report_data,
    report_pieces,
    request_data,
)
from dgate.delivery.failures import Fate
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    is_uid,
)
from dgate.net import Command, CommandField, Message, PresentationContext
from dgate.net.dimse import LONGEST_LIST

CT = "1.2.840.10008.5.1.4.1.1.2"
A, B = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")


def message(data: bytes | None, syntax: str = EXPLICIT_LE, **changes: Any) -> Message:
    """Return a command with its data set."""
    values: dict[str, Any] = {
        "command_field": CommandField.N_ACTION_RQ,
        "requested_sop_class": STORAGE_COMMITMENT,
        "requested_sop_instance": STORAGE_COMMITMENT_INSTANCE,
        "sop_class": STORAGE_COMMITMENT,
        "sop_instance": STORAGE_COMMITMENT_INSTANCE,
        "action_type": 1,
        "event_type": 1,
    }
    payload = None
    if data is not None:
        payload = Payload(most_bytes=8192)
        payload.append(data)
    context = PresentationContext(1, STORAGE_COMMITMENT, syntax, scu_role=True, scp_role=True)
    return Message(context, Command(**(values | changes)), payload)


def asked(came: Message) -> Request:
    """Return what a request asks for, read to its end."""
    request = read_request(came)
    return Request(request.uid, tuple(request.references))


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_a_request_comes_back_as_it_was_made(syntax: str) -> None:
    request = Request("1.2.3", (A, B))

    assert asked(message(request_data(request, syntax), syntax)) == request


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
@pytest.mark.parametrize("reasons", [{}, {B: 0x0112}, {A: 0x0110, B: 0x0112}, {A: 0, B: 7}])
def test_a_report_in_pieces_is_the_same_as_in_one(syntax: str, reasons: dict[Any, int]) -> None:
    parts = [[Finding(each, reasons.get(each))] for each in (A, B)]
    findings = [finding for part in parts for finding in part]
    sizes = Sizes(
        sum(finding.size for finding in findings if finding.reason is None),
        sum(finding.size for finding in findings if finding.reason is not None),
    )
    committed = tuple(finding.reference for finding in findings if finding.reason is None)
    whole = report_data(Report("1.2.3", committed, reasons), "GATE", syntax)

    pieces = report_pieces("1.2.3", lambda: parts, sizes, "GATE", syntax)

    assert b"".join(pieces) == whole


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_a_report_comes_back_as_it_was_made(syntax: str) -> None:
    report = Report("1.2.3", (A,), {B: 0x0112})

    data = report_data(report, "GATE", syntax)

    assert read_report(message(data, syntax, event_type=2)) == report
    assert (report.event_type, Report("1.2.3", (A,), {}).event_type) == (2, 1)


def test_a_report_is_what_pydicom_expects() -> None:
    data = report_data(Report("1.2.3", (A,), {B: 0x0131}), "GATE", EXPLICIT_LE)

    found = dcmread(BytesIO(data), force=True)

    assert (found.TransactionUID, found.RetrieveAETitle) == ("1.2.3", "GATE")
    assert found.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
    assert found.FailedSOPSequence[0].FailureReason == 0x0131


def test_what_stands_on_both_lists_has_failed() -> None:
    data = report_data(Report("1.2.3", (A, B), {B: 0x0110}), "", EXPLICIT_LE)

    report = read_report(message(data))

    assert (report.committed, dict(report.failed)) == ((A,), {B: 0x0110})


@pytest.mark.parametrize(
    ("data", "changes", "status"),
    [
        (None, {}, 0x0115),
        (b"", {}, 0x0115),
        (b"\x08\x00", {}, 0x0115),
        (bytes(9000), {}, 0x0213),
        (request_data(Request("", (A,)), EXPLICIT_LE), {}, 0x0115),
        (request_data(Request("no UID", (A,)), EXPLICIT_LE), {}, 0x0115),
        (request_data(Request("1.2.3", (Reference("", "1.2"),)), EXPLICIT_LE), {}, 0x0115),
        (request_data(Request("1.2.3", (A,)), EXPLICIT_LE), {"action_type": 2}, 0x0123),
        (request_data(Request("1.2.3", (A,)), EXPLICIT_LE), {"action_type": None}, 0x0123),
        (
            request_data(Request("1.2.3", (A,)), EXPLICIT_LE),
            {"requested_sop_instance": "1.2.3"},
            0x0112,
        ),
        (request_data(Request("1.2.3", (A,)), EXPLICIT_LE), {"requested_sop_class": CT}, 0x0118),
    ],
    ids=[
        "no data set",
        "empty",
        "cut off",
        "too long",
        "no transaction",
        "no UID",
        "no class",
        "other action",
        "no action",
        "other instance",
        "other class",
    ],
)
def test_bad_requests_have_their_status(
    data: bytes | None, changes: dict[str, Any], status: int
) -> None:
    with pytest.raises(Fault) as fault:
        asked(message(data, **changes))

    assert fault.value.status == status


@pytest.mark.parametrize(
    ("data", "changes", "status"),
    [
        (None, {}, 0x0115),
        (report_data(Report("", (A,), {}), "", EXPLICIT_LE), {}, 0x0115),
        (report_data(Report("1.2", (A,), {}), "", EXPLICIT_LE), {"event_type": 3}, 0x0113),
        (report_data(Report("1.2", (A,), {}), "", EXPLICIT_LE), {"sop_instance": "1"}, 0x0112),
        (report_data(Report("1.2", (A,), {}), "", EXPLICIT_LE), {"sop_class": CT}, 0x0118),
    ],
)
def test_bad_reports_have_their_status(
    data: bytes | None, changes: dict[str, Any], status: int
) -> None:
    with pytest.raises(Fault) as fault:
        read_report(message(data, **changes))

    assert fault.value.status == status


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (0x0110, "failed to look after"),
        (0x0112, "does not have the object"),
        (0x0119, "another SOP class"),
        (0x0122, "does not commit to the storage of this SOP class"),
        (DUPLICATE_TRANSACTION, "in use already"),
        (0x0213, "resources"),
        (0x0C00, "0C00"),
    ],
)
def test_every_reason_has_words(reason: int, words: str) -> None:
    assert words in in_words(reason)


def test_transaction_uids_are_uids_that_nobody_guesses() -> None:
    made = {new_transaction_uid() for _ in range(100)}

    assert len(made) == 100
    assert all(map(is_uid, made))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the items that have been read, as they are."""
    read: list[bytes] = []
    make = ElementTable._item

    def item(table: ElementTable, data: bytes, *rest: Any) -> ElementTable:
        read.append(data)
        return make(table, data, *rest)

    monkeypatch.setattr(ElementTable, "_item", item)
    return read


def test_the_list_of_a_stranger_is_read_as_far_as_it_makes_sense(made: list[bytes]) -> None:
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 500
    data = struct.pack("<HHI4s", 0x0008, 0x1195, 4, b"1.2\0")
    data += struct.pack("<HHI", 0x0008, 0x1199, len(items)) + items

    with pytest.raises(Fault) as fault:
        asked(message(data, IMPLICIT_LE))

    assert fault.value.status == 0x0115
    assert len(made) == 1


@pytest.mark.parametrize("listed", ["asked", "committed", "failed"])
def test_more_than_is_looked_after_is_refused(
    listed: str, made: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MOST_REFERENCES", 2)
    monkeypatch.setattr(messages, "MOST_REPORTED", 2)
    many = tuple(Reference(CT, f"1.2.3.{number}") for number in range(5))
    lists = {
        "asked": request_data(Request("1.2.3", many), EXPLICIT_LE),
        "committed": report_data(Report("1.2.3", many, {}), "", EXPLICIT_LE),
        "failed": report_data(Report("1.2.3", (), dict.fromkeys(many, 0x0112)), "", EXPLICIT_LE),
    }
    came = message(lists[listed])
    read: Callable[[Message], object] = asked if listed == "asked" else read_report

    with pytest.raises(Fault) as fault:
        read(came)

    assert fault.value.status == 0x0213
    assert len(made) == 3


def test_the_longest_references_fit_into_what_is_kept() -> None:
    uid = "9" * 64
    sizes = [
        len(report_data(Report("1.2", (), dict.fromkeys(uids, 1)), "", EXPLICIT_LE))
        for uids in ([Reference(uid, f"{number:064}") for number in range(n)] for n in (1, 2))
    ]

    assert (sizes[1] - sizes[0]) * MOST_REPORTED < LONGEST_LIST
    # With as much again for items of undefined length (PS3.5 7.5.2).
    assert (sizes[1] - sizes[0] + 8) * MOST_REFERENCES < MOST_BYTES


@pytest.mark.parametrize(
    ("reason", "number"),
    [
        ("274", 274),
        ("65535", 65535),
        ("65536", 0x0110),
        ("9" * 20, 0x0110),
        ("9" * 6000, 0x0110),
        ("", 0x0110),
        ("-1", 0x0110),
        ("\N{ARABIC-INDIC DIGIT ONE}", 0x0110),
    ],
    ids=lambda value: str(value)[:8],
)
def test_a_failure_reason_is_a_number_of_16_bits_whatever_comes(reason: str, number: int) -> None:
    def element(group: int, tag: int, vr: bytes, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sHI", group, tag, vr, 0, len(value)) + value

    def name(tag: int, value: str) -> bytes:
        raw = value.encode() + b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", 0x0008, tag, b"UI", len(raw)) + raw

    content = name(0x1150, A.sop_class) + name(0x1155, A.sop_instance)
    content += element(0x0008, 0x1197, b"UT", reason.encode())
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    data = name(0x1195, "1.2.3") + element(0x0008, 0x1198, b"SQ", item)

    report = read_report(message(data, event_type=2))

    assert dict(report.failed) == {A: number}


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (0x0000, Fate.DONE),
        (0x0001, Fate.DONE),
        (0x0107, Fate.DONE),
        (0xB000, Fate.DONE),
        # A peer that has the object already has not been asked, nor told, anything.
        (0x0111, Fate.DOUBTFUL),
        (0x0110, Fate.AGAIN),
        (0x0213, Fate.WAIT),
        (0x0124, Fate.STUCK),
        (0xFF00, Fate.DOUBTFUL),
    ],
)
def test_what_an_answer_means(status: int, fate: Fate) -> None:
    assert fate_of_answer(status) is fate
