"""What DebugLevel shows of commands and data sets."""

from __future__ import annotations

import logging

import pytest

from dgate.dicom.encode import encode_data_set
from dgate.dicom.payload import Payload
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.net import Command, CommandField, PresentationContext, trace
from dgate.ops.log import COMMANDS, QUERIES, RESULTS

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CONTEXT = PresentationContext(1, FIND, EXPLICIT_LE, scu_role=True, scp_role=True)
QUESTION = {0x00080052: "STUDY", 0x00100010: "DOE^JANE", 0x0020000D: "1.2.3"}


def payload(data: bytes) -> Payload:
    made = Payload()
    made.append(data)
    return made


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            Command(command_field=CommandField.C_FIND_RQ, message_id=7, sop_class=FIND),
            f"C-FIND-RQ, message 7, class {FIND}",
        ),
        (
            Command(
                command_field=CommandField.C_MOVE_RSP,
                message_id_responded=7,
                status=0xFF00,
                remaining=3,
                completed=0,
            ),
            "C-MOVE-RSP, answering 7, remaining 3, completed 0, status FF00",
        ),
        (
            Command(command_field=CommandField.C_MOVE_RQ, message_id=1, move_destination="SINK"),
            "C-MOVE-RQ, message 1, to SINK",
        ),
        (Command(command_field=0x7777, message_id=1), "command 7777, message 1"),
    ],
)
def test_command_is_one_line(command: Command, text: str) -> None:
    assert trace.describe(command) == text


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_data_set_is_one_line(syntax: str) -> None:
    text = trace.shown(encode_data_set(QUESTION, syntax, ""), syntax)

    assert text == (
        "(0008,0052) QueryRetrieveLevel [STUDY]; (0010,0010) PatientName [DOE^JANE]; "
        "(0020,000D) StudyInstanceUID [1.2.3]"
    )


def test_long_values_and_data_sets_are_cut() -> None:
    many: dict[int, str | None] = {0x00091000 + number: "x" * 100 for number in range(300)}
    text = trace.shown(encode_data_set(many, EXPLICIT_LE, ""), EXPLICIT_LE)

    assert "x" * 65 not in text
    assert text.endswith("and 100 more")


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "an empty data set"), (b"\xff" * 9, "cannot be read")]
)
def test_what_is_no_data_set_is_said_so(data: bytes, text: str) -> None:
    assert text in trace.shown(data, EXPLICIT_LE)


@pytest.mark.parametrize(
    ("command_field", "topic"),
    [
        (CommandField.C_FIND_RQ, QUERIES),
        (CommandField.C_FIND_RSP, RESULTS),
        (CommandField.C_STORE_RQ, None),
    ],
)
def test_questions_and_answers_are_told_apart_and_images_are_not_shown(
    caplog: pytest.LogCaptureFixture, command_field: CommandField, topic: str | None
) -> None:
    for name in (COMMANDS, QUERIES, RESULTS):
        caplog.set_level(logging.DEBUG, name)
    data = encode_data_set(QUESTION, EXPLICIT_LE, "")
    command = Command(command_field=command_field, message_id=1)

    trace.received("peer", CONTEXT, command, payload(data))
    trace.sent("peer", CONTEXT, command, [data])

    shown = [record.name for record in caplog.records if "DOE^JANE" in record.getMessage()]
    assert shown == ([] if topic is None else [topic, topic])
    assert [record.name for record in caplog.records].count(COMMANDS) == 2


def test_nothing_is_on_by_itself() -> None:
    assert not trace.is_on()
