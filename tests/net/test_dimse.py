"""Command sets as values and bytes."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode as decode_dataset
from pynetdicom.dsutils import encode as encode_dataset

from dgate.net import Command, CommandField, Status, StatusCategory, category, describe
from dgate.net.dimse import CommandError, decode_command, encode_command, store_response

UID = st.text("0123456789.", min_size=1, max_size=64)
NUMBER = st.integers(0, 0xFFFF)
MAYBE_NUMBER = st.none() | NUMBER
TITLE = st.text("ABCxyz019_-.~^", min_size=1, max_size=16)
TAGS = st.lists(st.integers(0, 0xFFFFFFFF), max_size=3).map(tuple)

COMMANDS = st.builds(
    Command,
    command_field=st.sampled_from(CommandField).map(int),
    message_id=st.just(0),
    message_id_responded=NUMBER,
    has_data_set=st.booleans(),
    sop_class=UID | st.just(""),
    sop_instance=UID | st.just(""),
    status=MAYBE_NUMBER,
    priority=MAYBE_NUMBER,
    requested_sop_class=UID | st.just(""),
    requested_sop_instance=UID | st.just(""),
    move_destination=st.none() | st.just("") | TITLE,
    originator=st.just("") | TITLE,
    originator_id=MAYBE_NUMBER,
    remaining=MAYBE_NUMBER,
    completed=MAYBE_NUMBER,
    failed=MAYBE_NUMBER,
    warning=MAYBE_NUMBER,
    error_comment=st.just("") | TITLE,
    error_id=MAYBE_NUMBER,
    offending_elements=TAGS,
    attribute_identifiers=TAGS,
    event_type=MAYBE_NUMBER,
    action_type=MAYBE_NUMBER,
)


@given(COMMANDS)
def test_a_command_comes_back_as_it_was_encoded(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_a_command_error(data: bytes) -> None:
    try:
        decode_command(data)
    except CommandError:
        return
    assert data


def a_move_response() -> Command:
    return Command(
        command_field=CommandField.C_MOVE_RSP,
        message_id_responded=7,
        sop_class="1.2.840.10008.5.1.4.1.2.2.2",
        status=Status.SUBOPERATIONS_FAILED,
        remaining=0,
        completed=3,
        failed=1,
        warning=0,
        error_comment="one failed",
    )


def test_an_encoded_command_is_read_by_another_implementation() -> None:
    dataset = decode_dataset(BytesIO(encode_command(a_move_response())), True, True)

    assert dataset.CommandGroupLength == len(encode_command(a_move_response())) - 12
    assert dataset.CommandField == 0x8021
    assert dataset.MessageIDBeingRespondedTo == 7
    assert dataset.Status == 0xB000
    assert dataset.NumberOfFailedSuboperations == 1
    assert dataset.CommandDataSetType == 0x0101
    assert dataset.ErrorComment == "one failed"


def test_a_command_of_another_implementation_is_read() -> None:
    dataset = Dataset()
    dataset.CommandField = 1
    dataset.MessageID = 12
    dataset.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.AffectedSOPInstanceUID = "1.2.3.4.5"
    dataset.Priority = 2
    dataset.CommandDataSetType = 1
    dataset.MoveOriginatorApplicationEntityTitle = "MOVER"
    dataset.MoveOriginatorMessageID = 3
    encoded = encode_dataset(dataset, True, True)
    assert encoded is not None

    command = decode_command(encoded)

    assert (command.command_field, command.message_id, command.priority) == (1, 12, 2)
    assert command.sop_class == "1.2.840.10008.5.1.4.1.1.2"
    assert command.sop_instance == "1.2.3.4.5"
    assert (command.originator, command.originator_id) == ("MOVER", 3)
    assert command.has_data_set


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34"], ids=["odd", "even"])
def test_the_fast_store_response_is_what_the_general_encoder_makes(instance: str) -> None:
    request = Command(
        command_field=CommandField.C_STORE_RQ,
        message_id=77,
        has_data_set=True,
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        sop_instance=instance,
    )
    response = Command(
        command_field=CommandField.C_STORE_RSP,
        message_id_responded=77,
        sop_class=request.sop_class,
        sop_instance=instance,
        status=0xA700,
    )

    assert store_response(request, 0xA700) == encode_command(response)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        bytes(8),
        bytes.fromhex("08001800 02000000 3100"),
        bytes.fromhex("00000001 02000000 3000"),
        bytes.fromhex("00000008 02000000 0101"),
        bytes.fromhex("00000001 04000000 30000000 00000008 02000000 0101"),
        bytes.fromhex("00000001 ffffffff 3000"),
    ],
    ids=[
        "empty",
        "one byte",
        "nothing but a group length",
        "an element of a data set",
        "no data set type",
        "no command field",
        "a number of four bytes",
        "a length beyond the end",
    ],
)
def test_what_is_no_command_set_is_refused(data: bytes) -> None:
    with pytest.raises(CommandError):
        decode_command(data)


def test_an_error_comment_is_cut_and_cleaned_to_what_dicom_allows() -> None:
    command = Command(
        command_field=CommandField.C_STORE_RSP,
        message_id_responded=1,
        status=0xC000,
        error_comment="Müller\\x\n" + "y" * 100,
    )

    comment = decode_command(encode_command(command)).error_comment

    assert comment == "M?ller?x?" + "y" * 55


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x0000, StatusCategory.SUCCESS),
        (0xFF00, StatusCategory.PENDING),
        (0xFF01, StatusCategory.PENDING),
        (0xFE00, StatusCategory.CANCEL),
        (0xB000, StatusCategory.WARNING),
        (0xB123, StatusCategory.WARNING),
        (0x0107, StatusCategory.WARNING),
        (0x0110, StatusCategory.FAILURE),
        (0xA700, StatusCategory.FAILURE),
        (0xC123, StatusCategory.FAILURE),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else value.value,
)
def test_every_status_has_a_category(status: int, expected: StatusCategory) -> None:
    assert category(status) is expected


def test_a_status_is_described_with_its_name_or_its_category() -> None:
    assert describe(0xA700) == "A700 (out of resources)"
    assert describe(0xC123) == "C123 (failure)"


@pytest.mark.parametrize(
    "value",
    [
        *(0x0000, 0xFF00, 0xFF01, 0xFE00, 0xA700, 0xA701, 0xA702, 0xA801, 0xA900),
        *(0xB000, 0xB006, 0xB007, 0xC000, *range(0xC001, 0xC006), 0xC011, 0xC013),
        *(*range(0x0105, 0x0108), *range(0x0110, 0x011A), *range(0x0120, 0x0125)),
        *range(0x0210, 0x0214),
    ],
    ids=lambda value: f"{value:04X}",
)
def test_every_status_that_is_sent_has_a_name(value: int) -> None:
    assert Status(value).name
