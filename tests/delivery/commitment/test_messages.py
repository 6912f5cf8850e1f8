"""What is said about storage commitment, as data sets."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from dgate.delivery.commitment.messages import (
    DUPLICATE_TRANSACTION,
    Fault,
    Reference,
    Report,
    Request,
    in_words,
    new_transaction_uid,
    read_report,
    read_request,
    report_data,
    request_data,
)
from dgate.dicom.payload import Payload
from dgate.dicom.uids import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    is_uid,
)
from dgate.net import Command, CommandField, Message, PresentationContext

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
        payload = Payload(most_bytes=4096)
        payload.append(data)
    context = PresentationContext(1, STORAGE_COMMITMENT, syntax, scu_role=True, scp_role=True)
    return Message(context, Command(**(values | changes)), payload)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_a_request_comes_back_as_it_was_made(syntax: str) -> None:
    request = Request("1.2.3", (A, B))

    assert read_request(message(request_data(request, syntax), syntax)) == request


def test_an_object_that_is_named_twice_is_asked_for_once() -> None:
    data = request_data(Request("1.2.3", (A, B, A)), EXPLICIT_LE)

    assert read_request(message(data)).references == (A, B)


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
        (bytes(5000), {}, 0x0213),
        (request_data(Request("1.2.3", ()), EXPLICIT_LE), {}, 0x0115),
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
        "no references",
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
        read_request(message(data, **changes))

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
