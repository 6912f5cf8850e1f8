"""N-ACTION and N-EVENT-REPORT between two ends of our own, on associations of either side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dgate.dicom.uids import (
    EXPLICIT_LE,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    VERIFICATION,
)
from dgate.errors import Aborted, NoContext, ProtocolError
from dgate.net import Association, CommandField, ContextProposal, Message, Status, connect, scu
from dgate.net.associate import Role
from dgate.net.scu import event_report
from tests.net.kit import FAST, PATIENCE_S, STUDY_FIND, Server, serving

pytestmark = pytest.mark.integration

PROPOSALS = (
    ContextProposal(STORAGE_COMMITMENT, (EXPLICIT_LE,)),
    ContextProposal(VERIFICATION, (EXPLICIT_LE,)),
)
PROVIDER = (ContextProposal(STORAGE_COMMITMENT, (EXPLICIT_LE,), scp_role=True, scu_role=False),)
LIST = bytes(3 << 20)
"""More than is kept of an identifier."""


class Reporter:
    """A companion that reports once."""

    def __init__(self, context_id: int, data: bytes) -> None:
        self.context_id, self.data = context_id, data
        self.waiting = True
        self.statuses: list[int | None] = []
        self.over = threading.Event()

    def is_waiting(self) -> bool:
        return self.waiting

    def quiet(self, association: Association) -> None:
        self.waiting = False
        command = event_report(association, self.context_id, STORAGE_COMMITMENT_INSTANCE, 1)
        association.send(self.context_id, command, [self.data])

    def answered(self, message: Message) -> bool:
        self.statuses.append(message.command.status)
        return message.command.message_id_responded == 1

    def ended(self) -> None:
        self.over.set()


class Provider:
    """Takes N-ACTION requests, and reports on the same association."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, int | None, int]] = []
        self.events: list[tuple[str, str, int | None, int]] = []
        self.companions: list[Reporter] = []
        self.reports = True

    def action(self, association: Association, message: Message) -> None:
        command = message.command
        size = 0 if message.payload is None else len(message.payload.view())
        self.heard.append(
            (command.requested_sop_class, command.requested_sop_instance, command.action_type, size)
        )
        if self.reports:
            association.companion = Reporter(message.context.id, b"report")
            self.companions.append(association.companion)
        association.respond(message)

    def event(self, association: Association, message: Message) -> None:
        command = message.command
        size = 0 if message.payload is None else len(message.payload.view())
        self.events.append((command.sop_class, command.sop_instance, command.event_type, size))
        association.respond(message)


@contextmanager
def provider() -> Iterator[tuple[Server, Provider]]:
    """Run a provider."""
    made = Provider()
    handlers = {
        (CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): made.action,
        (CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): made.event,
    }
    with serving(handlers=handlers) as server:
        yield server, made


def open_to(server: Server, proposals: tuple[ContextProposal, ...] = PROPOSALS) -> Association:
    """Open an association."""
    return connect("127.0.0.1", server.port, "USER", "GATE", proposals, timeouts=FAST)


def never(message: Message) -> None:
    """Fail: no report is expected."""
    raise AssertionError("a report came")


def test_an_action_is_answered_and_the_report_follows_on_the_same_association() -> None:
    came: list[tuple[int | None, bytes]] = []
    with provider() as (server, made), open_to(server) as association:

        def on_event(message: Message) -> None:
            assert message.payload is not None
            came.append((message.command.event_type, bytes(message.payload.view())))
            association.respond(message)

        answer = scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, LIST, never)
        assert scu.await_event(association, PATIENCE_S, on_event)
        assert scu.echo(association).status == 0
        [companion] = made.companions

    assert companion.over.wait(PATIENCE_S)
    assert (answer.status, answer.action_type) == (0, 1)
    assert (answer.sop_class, answer.sop_instance) == (
        STORAGE_COMMITMENT,
        STORAGE_COMMITMENT_INSTANCE,
    )
    assert made.heard == [(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, 1, len(LIST))]
    assert came == [(1, b"report")]
    assert companion.statuses == [0]


def test_no_report_comes_where_the_peer_speaks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgate.net.router.QUIET_S", PATIENCE_S)
    with provider() as (server, made):
        with open_to(server) as association:
            scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, b"", never)
            assert scu.echo(association).status == 0
        [companion] = made.companions
        assert companion.over.wait(PATIENCE_S)

    assert companion.waiting


def test_nothing_comes_in_time() -> None:
    with provider() as (server, made), open_to(server) as association:
        made.reports = False
        scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, b"", never)

        assert not scu.await_event(association, 0.05, never)


def test_a_report_on_an_association_of_the_providers() -> None:
    with provider() as (server, made), open_to(server, PROVIDER) as association:
        [context] = association.contexts.values()
        answer = scu.report(association, context.id, STORAGE_COMMITMENT_INSTANCE, 2, LIST)

    assert (context.scp_role, context.scu_role) == (True, False)
    assert (answer.status, answer.event_type) == (0, 2)
    assert made.events == [(STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, 2, len(LIST))]


def test_who_is_only_provider_cannot_ask() -> None:
    with provider() as (server, made), open_to(server, PROVIDER) as association:
        [context] = association.contexts.values()
        answer = scu.action(association, context.id, STORAGE_COMMITMENT_INSTANCE, 1, b"", never)

    assert answer.status == Status.NO_SUCH_SOP_CLASS
    assert made.heard == []


def test_a_report_without_the_role_is_understood() -> None:
    with provider() as (server, made), open_to(server) as association:
        answer = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, b"")

    assert answer.status == 0
    assert len(made.events) == 1


def test_the_role_of_other_services_is_refused() -> None:
    proposal = ContextProposal(STUDY_FIND, (EXPLICIT_LE,), scp_role=True)
    with provider() as (server, _), open_to(server, (proposal,)) as association:
        [context] = association.contexts.values()

        assert (context.scp_role, context.scu_role) == (False, True)
        assert Role(True, False) == Role(context.scu_role, context.scp_role)


def test_a_context_that_was_not_accepted_is_named() -> None:
    with provider() as (server, _), open_to(server) as association:
        with pytest.raises(NoContext):
            scu.action(association, 9, STORAGE_COMMITMENT_INSTANCE, 1, b"", never)
        with pytest.raises(NoContext):
            scu.report(association, 9, STORAGE_COMMITMENT_INSTANCE, 1, b"")


def test_a_release_in_place_of_an_answer_is_an_error() -> None:
    def leave(association: Association, message: Message) -> None:
        association.cut()

    handlers = {(CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): leave}
    with (
        serving(handlers=handlers) as server,
        open_to(server) as association,
        pytest.raises((Aborted, ProtocolError)),
    ):
        scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, b"", never)
