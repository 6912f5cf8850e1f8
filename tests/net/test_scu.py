"""What a service class user asks, and how it takes the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION
from dgate.errors import Aborted, NoContext, ProtocolError, TimedOut
from dgate.net import (
    Association,
    Command,
    CommandField,
    ContextProposal,
    Handler,
    Message,
    Status,
    StatusCategory,
    Timeouts,
    category,
    connect,
    echo,
    find,
    get,
    move,
    store,
)
from dgate.net.dimse import decode_command, encode_command
from tests.net.kit import (
    CT,
    FAST,
    PATIENCE_S,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    Raw,
    Server,
    answer_without_status,
    p_data,
    pdu,
    scripted_peer,
    serving,
)
from tests.net.test_requestor import accept

pytestmark = pytest.mark.integration

CONTEXTS = (
    ContextProposal(VERIFICATION, (IMPLICIT_LE,)),
    ContextProposal(CT, (EXPLICIT_LE,), scp_role=True),
    ContextProposal(STUDY_FIND, (IMPLICIT_LE,)),
    ContextProposal(STUDY_MOVE, (IMPLICIT_LE,)),
    ContextProposal(STUDY_GET, (IMPLICIT_LE,)),
)
CT_ID, FIND_ID, MOVE_ID, GET_ID = 3, 5, 7, 9
Handlers = dict[tuple[CommandField, str], Handler]


def open_to(port: int, timeouts: Timeouts = FAST) -> Association:
    return connect("127.0.0.1", port, "US", "THEM", CONTEXTS, timeouts=timeouts)


def with_handler(field: CommandField, sop_class: str, handler: Handler) -> Handlers:
    return {(field, sop_class): handler}


# C-ECHO and C-STORE


def test_echo_answers_success(server: Server) -> None:
    with open_to(server.port) as association:
        assert echo(association).status == Status.SUCCESS


def test_echo_needs_its_context(server: Server) -> None:
    with (
        connect("127.0.0.1", server.port, "US", "THEM", CONTEXTS[1:2]) as association,
        pytest.raises(NoContext),
    ):
        echo(association)


@pytest.mark.parametrize("size", [0, 1, 4000, 131072, 1 << 20])
def test_an_object_is_stored_as_it_was_sent(server: Server, size: int) -> None:
    data = bytes(index % 251 for index in range(size))

    with open_to(server.port) as association:
        response = store(association, CT_ID, CT, "1.2.3", [data[:100], memoryview(data)[100:]])

    assert response.status == Status.SUCCESS
    assert response.sop_instance == "1.2.3"
    assert server.objects == [data]


def test_the_originator_of_a_move_is_told() -> None:
    seen = []

    def note(association: Association, message: Message) -> None:
        seen.append(message.command)
        association.respond(message, Status.OUT_OF_RESOURCES, comment="disk full")

    with (
        serving(handlers=with_handler(CommandField.C_STORE_RQ, CT, note)) as server,
        open_to(server.port) as association,
    ):
        response = store(
            association, CT_ID, CT, "1.2.3", [b"x"], priority=1, originator=("MOVER", 12)
        )

    assert (seen[0].originator, seen[0].originator_id, seen[0].priority) == ("MOVER", 12, 1)
    assert response.status == Status.OUT_OF_RESOURCES
    assert response.error_comment == "disk full"


def test_message_ids_are_never_zero_and_begin_again(server: Server) -> None:
    with open_to(server.port) as association:
        association._message_id = 0xFFFE
        assert [association.next_message_id() for _ in range(3)] == [0xFFFF, 1, 2]


def scripted_answer(*answers: bytes | None) -> Callable[[Raw], None]:
    """Return a peer that accepts, reads one message, and answers (None: closes)."""

    def script(raw: Raw) -> None:
        accept(raw)
        command = raw.read_command()
        control = 0 if command.has_data_set else 2
        while not control & 2:
            control = raw.read_pdu()[1][5]
        for answer in answers:
            if answer is None:
                return
            raw.send(answer)
        raw.read(1)

    return script


def response(field: int, message_id: int, status: int, context_id: int = CT_ID) -> bytes:
    command = Command(command_field=field, message_id_responded=message_id, status=status)
    return p_data(context_id, 3, encode_command(command))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((None,), Aborted),
        ((pdu(5, bytes(4)),), Aborted),
        ((pdu(7, bytes(4)),), Aborted),
        ((response(0x8001, 99, 0),), ProtocolError),
        ((response(0x8030, 1, 0),), ProtocolError),
        ((p_data(CT_ID, 3, encode_command(Command(command_field=1))),), ProtocolError),
        ((p_data(CT_ID, 3, b"garbage"),), ProtocolError),
        ((response(0x8001, 1, 0, context_id=77),), ProtocolError),
        ((), TimedOut),
    ],
    ids=[
        "closes",
        "releases",
        "aborts",
        "of another message",
        "of another command",
        "a request",
        "garbage",
        "in an unknown context",
        "nothing",
    ],
)
def test_an_answer_to_a_store_that_is_none_ends_the_association(
    answers: tuple[bytes | None, ...], expected: type[Exception]
) -> None:
    with scripted_peer(scripted_answer(*answers)) as port:
        patience_s = 0.2 if expected is TimedOut else PATIENCE_S
        association = open_to(port, Timeouts(response_s=patience_s))
        with pytest.raises(expected):
            store(association, CT_ID, CT, "1.2.3", [b"object"])
        assert not association.is_open


def test_no_response_is_lost_between_several_sending_threads(server: Server) -> None:
    stored: list[int] = []

    def send(number: int) -> None:
        with open_to(server.port) as association:
            for index in range(50):
                status = store(association, CT_ID, CT, f"1.2.{number}.{index}", [bytes(4000)])
                stored.append(status.status or 0)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * PATIENCE_S)

    assert stored == [0] * 400
    assert len(server.objects) == 400


# C-FIND


def answer_find(count: int) -> Handler:
    def handle(association: Association, message: Message) -> None:
        assert message.payload is not None
        key = bytes(message.payload.view())
        for index in range(count):
            if association.cancelled(message.command.message_id):
                association.respond(message, Status.CANCEL)
                return
            association.respond(message, Status.PENDING, data=[key, bytes((index % 256,))])
        association.respond(message)

    return handle


def test_find_yields_every_answer_and_the_final_status() -> None:
    handlers = with_handler(CommandField.C_FIND_RQ, STUDY_FIND, answer_find(3))
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        answers = list(find(association, FIND_ID, b"key"))

    assert [(answer.status, answer.identifier) for answer in answers] == [
        (Status.PENDING, b"key\0"),
        (Status.PENDING, b"key\1"),
        (Status.PENDING, b"key\2"),
        (Status.SUCCESS, b""),
    ]


def test_closing_a_find_early_cancels_it_and_leaves_the_association_usable() -> None:
    handlers = with_handler(CommandField.C_FIND_RQ, STUDY_FIND, answer_find(100_000_000))
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        answers = find(association, FIND_ID, b"key")
        assert isinstance(answers, Iterator)
        assert next(answers).status == Status.PENDING
        answers.close()  # type: ignore[attr-defined]
        assert echo(association).status == Status.SUCCESS


def test_a_find_without_context_is_refused(server: Server) -> None:
    with open_to(server.port) as association, pytest.raises(NoContext):
        list(find(association, 99, b"key"))


def test_a_find_that_fails_ends_with_its_status(server: Server) -> None:
    with open_to(server.port) as association:
        (answer,) = find(association, FIND_ID, b"key")

    assert answer.status == Status.SOP_CLASS_NOT_SUPPORTED


def test_a_find_that_ends_without_a_status_has_failed() -> None:
    handlers = with_handler(CommandField.C_FIND_RQ, STUDY_FIND, answer_without_status)
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        (answer,) = find(association, FIND_ID, b"key")
        assert echo(association).status == Status.SUCCESS

    assert answer.status == Status.PROCESSING_FAILURE


def test_a_cancelled_find_is_over_when_its_answer_has_no_status() -> None:
    def handle(association: Association, message: Message) -> None:
        while not association.cancelled(message.command.message_id):
            association.respond(message, Status.PENDING, data=[b"row"])
        answer_without_status(association, message)

    handlers = with_handler(CommandField.C_FIND_RQ, STUDY_FIND, handle)
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        answers = find(association, FIND_ID, b"key")
        assert next(answers).status == Status.PENDING
        answers.close()
        assert echo(association).status == Status.SUCCESS


def test_a_peer_that_releases_in_the_middle_of_a_find_is_told() -> None:
    pending = response(0x8020, 1, 0xFF00, FIND_ID)
    with scripted_peer(scripted_answer(pending, pdu(5, bytes(4)))) as port:
        answers = find(open_to(port), FIND_ID, b"key")
        assert next(answers).status == Status.PENDING
        with pytest.raises(Aborted):
            next(answers)


# C-MOVE


def test_move_yields_every_response_with_its_counters() -> None:
    def handle(association: Association, message: Message) -> None:
        assert message.command.move_destination == "THIRD"
        association.respond(message, Status.PENDING, remaining=1, completed=0, failed=1, warning=0)
        association.respond(
            message,
            Status.SUBOPERATIONS_FAILED,
            data=[b"failed list"],
            completed=1,
            failed=1,
            warning=0,
        )

    handlers = with_handler(CommandField.C_MOVE_RQ, STUDY_MOVE, handle)
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        first, last = move(association, MOVE_ID, "THIRD", b"key")

    assert (first.status, first.remaining, first.failed) == (Status.PENDING, 1, 1)
    assert (last.status, last.remaining, last.completed) == (Status.SUBOPERATIONS_FAILED, None, 1)


def test_a_response_without_a_status_ends_a_move() -> None:
    handlers = with_handler(CommandField.C_MOVE_RQ, STUDY_MOVE, answer_without_status)
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        (last,) = move(association, MOVE_ID, "THIRD", b"key")
        assert echo(association).status == Status.SUCCESS

    assert last.status is None
    assert last.outcome == Status.PROCESSING_FAILURE


# C-GET


def answer_get(count: int, seen: list[int | None]) -> Handler:
    """Return a C-GET handler that sends objects and remembers the statuses it got."""

    def handle(association: Association, message: Message) -> None:
        (context,) = (item for item in association.contexts_for(CT) if item.scu_role)
        for index in range(count):
            if association.cancelled(message.command.message_id):
                association.respond(message, Status.CANCEL)
                return
            answer = store(association, context.id, CT, f"1.2.{index}", [bytes((index % 256,))])
            seen.append(answer.status)
            association.respond(message, Status.PENDING, completed=index + 1)
        association.respond(message, completed=count)

    return handle


def test_get_hands_every_object_over_and_answers_with_its_status() -> None:
    seen: list[int | None] = []
    objects = []

    def on_store(message: Message) -> int:
        assert message.payload is not None
        objects.append((message.command.sop_instance, bytes(message.payload.view())))
        return Status.COERCED if len(objects) == 2 else Status.SUCCESS

    handlers = with_handler(CommandField.C_GET_RQ, STUDY_GET, answer_get(3, seen))
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        responses = list(get(association, GET_ID, b"key", on_store))
        assert echo(association).status == Status.SUCCESS

    assert objects == [("1.2.0", b"\0"), ("1.2.1", b"\1"), ("1.2.2", b"\2")]
    assert seen == [Status.SUCCESS, Status.COERCED, Status.SUCCESS]
    assert [category(item.status or 0) for item in responses] == [
        *[StatusCategory.PENDING] * 3,
        StatusCategory.SUCCESS,
    ]


def test_closing_a_get_early_cancels_it() -> None:
    seen: list[int | None] = []
    handlers = with_handler(CommandField.C_GET_RQ, STUDY_GET, answer_get(100_000_000, seen))
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        responses = get(association, GET_ID, b"key", lambda message: Status.SUCCESS)
        assert next(responses).status == Status.PENDING
        responses.close()  # type: ignore[attr-defined]
        assert echo(association).status == Status.SUCCESS

    assert seen[0] == Status.SUCCESS
    assert set(seen[1:]) <= {Status.SUCCESS, Status.OUT_OF_RESOURCES}


def test_an_error_of_the_receiver_is_answered_and_passed_on() -> None:
    seen: list[int | None] = []

    def on_store(message: Message) -> int:
        raise OSError("no room")

    handlers = with_handler(CommandField.C_GET_RQ, STUDY_GET, answer_get(100_000_000, seen))
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        with pytest.raises(OSError, match="no room"):
            list(get(association, GET_ID, b"key", on_store))
        assert echo(association).status == Status.SUCCESS

    assert seen[0] == Status.PROCESSING_FAILURE


def test_an_object_in_a_context_without_the_role_is_refused() -> None:
    command = Command(
        command_field=1, message_id=5, has_data_set=True, sop_class=CT, sop_instance="1.2"
    )
    statuses = []

    def script(raw: Raw) -> None:
        accept(raw)
        raw.read_command()
        raw.read_pdu()
        raw.send(p_data(CT_ID, 3, encode_command(command)) + p_data(CT_ID, 2, b"object"))
        statuses.append(decode_command(raw.read_pdu()[1][6:]).status)
        raw.send(response(0x8010, 1, 0, GET_ID))
        raw.read(1)

    with scripted_peer(script) as port:
        association = open_to(port)
        assert not association.contexts[CT_ID].scp_role
        (final,) = get(association, GET_ID, b"key", lambda message: Status.SUCCESS)
        assert final.status == Status.SUCCESS
        association.close()

    assert statuses == [Status.SOP_CLASS_NOT_SUPPORTED]


def test_a_cancel_between_sub_operations_is_seen_by_the_provider() -> None:
    cancelled = threading.Event()
    cancel = Command(command_field=CommandField.C_CANCEL_RQ, message_id_responded=1)

    def handle(association: Association, message: Message) -> None:
        answer = store(association, CT_ID, CT, "1.2", [b"object"])
        assert answer.status == Status.SUCCESS
        if association.cancelled(message.command.message_id):
            cancelled.set()
        association.respond(message, Status.CANCEL)

    def on_store(message: Message) -> int:
        # Before the answer to the object, so that the provider meets it while it waits for that.
        association.send(GET_ID, cancel)
        return Status.SUCCESS

    handlers = with_handler(CommandField.C_GET_RQ, STUDY_GET, handle)
    with serving(handlers=handlers) as server, open_to(server.port) as association:
        (final,) = get(association, GET_ID, b"key", on_store)

    assert final.status == Status.CANCEL
    assert cancelled.wait(PATIENCE_S)
