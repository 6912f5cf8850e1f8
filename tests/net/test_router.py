"""Which handler serves a request, and what is answered when none does or it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from dgate.dicom.payload import Payload
from dgate.dicom.uids import VERIFICATION
from dgate.errors import Unreachable
from dgate.net import (
    STORAGE,
    Association,
    Command,
    CommandField,
    Message,
    PresentationContext,
    Router,
    Status,
)
from dgate.net.associate import Role
from dgate.net.dimse import encode_command
from tests.net.kit import CT, MR, STUDY_FIND, Server, p_data, proposals, request, serving

pytestmark = pytest.mark.integration

MPPS = "1.2.840.10008.3.1.2.3.3"
CONTEXTS = request(*proposals(VERIFICATION, CT, STUDY_FIND, MPPS, MR))
ECHO_ID, CT_ID, FIND_ID, MPPS_ID, MR_ID = 1, 3, 5, 7, 9


def message(
    context_id: int, field: int, sop_class: str, data: bytes | None, requested: str = ""
) -> bytes:
    command = encode_command(
        Command(
            command_field=field,
            message_id=5,
            has_data_set=data is not None,
            sop_class=sop_class,
            requested_sop_class=requested,
        )
    )
    stream = p_data(context_id, 3, command)
    return stream if data is None else stream + p_data(context_id, 2, data)


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (message(FIND_ID, 0x20, STUDY_FIND, b"key"), 0x0122),
        (message(FIND_ID, 0x21, STUDY_FIND, b"key"), 0x0122),
        (message(FIND_ID, 0x01, STUDY_FIND, b"object"), 0x0122),
        (message(ECHO_ID, 0x01, CT, b"object"), 0x0122),
        (message(CT_ID, 0x01, MR, b"object"), 0x0122),
        (message(CT_ID, 0x30, VERIFICATION, None), 0x0122),
        (message(MPPS_ID, 0x140, MPPS, b"attributes"), 0x0118),
        (message(MPPS_ID, 0x120, "", b"attributes", MPPS), 0x0118),
        (message(MPPS_ID, 0x130, "", None, MPPS), 0x0118),
        (message(MPPS_ID, 0x150, "", None, MPPS), 0x0118),
        (message(MPPS_ID, 0x110, "", None, MPPS), 0x0118),
        (message(MPPS_ID, 0x100, MPPS, None), 0x0118),
        (message(CT_ID, 0x0777, CT, bytes(300_000)[:100_000]), 0x0211),
    ],
    ids=[
        "find without handler",
        "move on a find context",
        "store on a find context",
        "store on the echo context",
        "store of another class",
        "echo on a storage context",
        "create",
        "set",
        "action",
        "delete",
        "get",
        "event report",
        "unknown command with data set",
    ],
)
def test_what_nobody_serves_is_answered_and_the_association_lives_on(
    server: Server, stream: bytes, status: int
) -> None:
    with server.associate(CONTEXTS) as raw:
        raw.send(stream)
        answer = raw.read_command()
        assert raw.echo().status == 0
        raw.release()

    assert answer.status == status
    assert answer.message_id_responded == 5
    assert answer.is_response
    assert server.objects == []


def test_an_answer_to_a_normalized_command_names_its_class(server: Server) -> None:
    with server.associate(CONTEXTS) as raw:
        raw.send(message(MPPS_ID, 0x120, "", None, MPPS))
        answer = raw.read_command()
        raw.release()

    assert (answer.command_field, answer.sop_class) == (0x8120, MPPS)


def test_a_request_without_sop_class_is_taken_as_its_contexts(server: Server) -> None:
    with server.associate(CONTEXTS) as raw:
        raw.send(message(CT_ID, 0x01, "", b"object"))
        assert raw.read_command().status == 0
        raw.release()

    assert server.objects == [b"object"]


def test_a_stray_response_is_ignored(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with server.associate(CONTEXTS) as raw:
        raw.send(message(CT_ID, 0x8001, CT, None))
        assert raw.echo().status == 0
        raw.release()

    assert "Response 8001 of RAW was ignored" in caplog.text


def test_a_handler_of_a_class_comes_before_that_of_all_storage() -> None:
    served = []

    def note(name: str) -> Callable[[Association, Message], None]:
        def handle(association: Association, message: Message) -> None:
            served.append(name)
            association.respond(message)

        return handle

    handlers = {
        (CommandField.C_STORE_RQ, MR): note("MR"),
        (CommandField.C_STORE_RQ, STORAGE): note("any"),
    }
    with serving(handlers=handlers) as server, server.associate(CONTEXTS) as raw:
        for context_id, sop_class in ((MR_ID, MR), (CT_ID, CT)):
            raw.send(message(context_id, 0x01, sop_class, b"object"))
            assert raw.read_command().status == 0
        raw.release()

    assert served == ["MR", "any"]


def test_a_context_on_which_the_peer_is_scp_only_is_not_served(server: Server) -> None:
    wanted = request(*proposals(CT, VERIFICATION), roles={CT: Role(scu=False, scp=True)})
    with server.associate(wanted) as raw:
        raw.send(message(1, 0x01, CT, b"object"))
        assert raw.read_command().status == 0x0122
        raw.release()


@pytest.mark.parametrize(
    ("error", "comment"),
    [
        (ValueError("/secret/path\\in it"), "internal error, see the log"),
        (Unreachable("no route", where="10.0.0.1"), "no route"),
    ],
    ids=["any error", "another peer"],
)
def test_a_handler_that_fails_is_answered_0110_and_the_association_lives_on(
    error: Exception, comment: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(association: Association, message: Message) -> None:
        raise error

    handlers = {(CommandField.C_STORE_RQ, CT): fail}
    with serving(handlers=handlers) as server, server.associate(CONTEXTS) as raw:
        raw.send(message(CT_ID, 0x01, CT, b"object"))
        answer = raw.read_command()
        assert raw.echo().status == 0
        raw.release()

    assert answer.status == Status.PROCESSING_FAILURE
    assert answer.error_comment == comment
    assert caplog.records[0].levelno == logging.ERROR
    assert (caplog.records[0].exc_info is not None) == isinstance(error, ValueError)


@pytest.mark.parametrize("field", [0x01, 0x20])
def test_a_handler_that_fails_after_its_answer_does_not_answer_twice(field: int) -> None:
    def answer_and_fail(association: Association, message: Message) -> None:
        association.respond(message)
        raise ValueError("too late")

    handlers = {
        (CommandField.C_STORE_RQ, CT): answer_and_fail,
        (CommandField.C_FIND_RQ, STUDY_FIND): answer_and_fail,
    }
    context_id, sop_class = (CT_ID, CT) if field == 0x01 else (FIND_ID, STUDY_FIND)
    with serving(handlers=handlers) as server, server.associate(CONTEXTS) as raw:
        raw.send(message(context_id, field, sop_class, b"data"))
        assert raw.read_command().status == 0
        assert raw.echo().status == 0
        raw.release()


def test_a_handler_that_fails_after_a_pending_answer_is_answered_0110() -> None:
    def answer_and_fail(association: Association, message: Message) -> None:
        association.respond(message, Status.PENDING)
        raise ValueError("half way")

    handlers = {(CommandField.C_FIND_RQ, STUDY_FIND): answer_and_fail}
    with serving(handlers=handlers) as server, server.associate(CONTEXTS) as raw:
        raw.send(message(FIND_ID, 0x20, STUDY_FIND, b"data"))
        assert raw.read_command().status == Status.PENDING
        assert raw.read_command().status == Status.PROCESSING_FAILURE
        raw.release()


def test_only_objects_that_will_be_stored_get_a_payload_of_the_archive() -> None:
    made = []
    seen = []

    def factory(
        association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        made.append(context.id)
        return Payload()

    def store(association: Association, message: Message) -> None:
        seen.append(message.payload)
        association.respond(message)

    with serving() as server:
        server.router = Router({(CommandField.C_STORE_RQ, STORAGE): store}, factory)
        with server.associate(CONTEXTS) as raw:
            raw.send(message(FIND_ID, 0x20, STUDY_FIND, b"key"))
            assert raw.read_command().status == 0x0122
            raw.send(message(CT_ID, 0x01, MR, b"refused"))
            assert raw.read_command().status == 0x0122
            raw.send(message(CT_ID, 0x01, CT, b"object"))
            assert raw.read_command().status == 0
            raw.release()

    assert made == [CT_ID]
    assert seen[0].size == len(b"object")
