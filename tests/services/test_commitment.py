"""What is answered when nothing can be written down, and what becomes of reports that are not
taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from dgate.delivery.commitment.asking import EventReports
from dgate.delivery.commitment.messages import Reference, Report, Request, report_data, request_data
from dgate.delivery.schedule import RetryPolicy
from dgate.dicom.uids import EXPLICIT_LE, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.errors import DatabaseAway, OutOfSpace, StoreError
from dgate.net import Association, CommandField, ContextProposal, Message, connect, scu
from dgate.services.commitment import CommitmentService
from tests.acceptance.processes import wait_until
from tests.net.kit import FAST, PATIENCE_S, serving

pytestmark = pytest.mark.integration

CT = "1.2.840.10008.5.1.4.1.1.2"
ASKED = Request("1.2.3", (Reference(CT, "1.2.3.1"),))


@dataclass
class Books:
    """Stands for what is written down, in both roles."""

    error: StoreError | None = None
    entered: list[tuple[Request, str, str]] = field(default_factory=list)
    closed: list[tuple[str, int, str]] = field(default_factory=list)
    hastened: list[str] = field(default_factory=list)
    known: bool = True
    taken: list[tuple[Report, bool]] = field(default_factory=list)

    def enter(self, request: Request, calling: str, called: str, most: int) -> str:
        self._fail()
        self.entered.append((request, calling, called))
        return f"token{len(self.entered)}"

    def load(self, token: str) -> tuple[Request, bool] | None:
        self._fail()
        return self.entered[int(token.removeprefix("token")) - 1][0], False

    def close(self, token: str, status: int, text: str) -> None:
        self._fail()
        self.closed.append((token, status, text))

    def hasten(self, token: str) -> None:
        self.hastened.append(token)

    def examine(self, request: Request, *, twin: bool) -> Report:
        return Report(request.uid, request.references, {})

    def take(self, report: Report, *, apart: bool, pause_s: float) -> int | None:
        self._fail()
        self.taken.append((report, apart))
        return 0 if self.known else None

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@contextmanager
def asking(books: Any) -> Iterator[Association]:
    """Serve both commands over these books, and yield an association."""
    service = CommitmentService(
        books, books, EventReports(books, RetryPolicy()), lambda title: False
    )
    handlers = {
        (CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): service.action,
        (CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): service.event,
    }
    with serving(handlers=handlers) as server:
        proposal = ContextProposal(STORAGE_COMMITMENT, (EXPLICIT_LE,))
        with connect(
            "127.0.0.1", server.port, "CT1", "GATE", [proposal], timeouts=FAST
        ) as association:
            yield association


def ask(association: Association) -> int | None:
    """Send the request; returns the status."""

    def never(message: Message) -> None:
        raise AssertionError("a report came before the answer")

    data = request_data(ASKED, EXPLICIT_LE)
    answer = scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data, never)
    return answer.status


def hear(association: Association, status: int) -> int | None:
    """Wait for a report and answer it so; returns its event type."""
    events: list[int | None] = []

    def answer(message: Message) -> None:
        events.append(message.command.event_type)
        association.respond(message, status)

    assert scu.await_event(association, PATIENCE_S, answer)
    return events[0]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DatabaseAway("the server is down"), 0x0213),
        (OutOfSpace("the database is full"), 0x0213),
        (StoreError("the database refused a row"), 0x0110),
    ],
)
def test_a_request_that_cannot_be_written_down_is_refused(error: StoreError, status: int) -> None:
    with asking(Books(error)) as association:
        assert ask(association) == status


def test_a_report_is_closed_when_the_peer_has_taken_it() -> None:
    books = Books()
    with asking(books) as association:
        assert ask(association) == 0
        assert hear(association, 0) == 1

    wait_until(lambda: books.closed, "the end of the debt")
    assert books.entered == [(ASKED, "CT1", "GATE")]
    assert books.closed == [("token1", 0, "committed to 1 object(s), not to 0")]
    assert books.hastened == []


def test_a_report_that_the_peer_refuses_is_left_to_another_association() -> None:
    books = Books()
    with asking(books) as association:
        ask(association)
        hear(association, 0x0110)

    wait_until(lambda: books.hastened, "the end of the association")
    assert (books.closed, books.hastened) == ([], ["token1"])


def test_a_peer_that_leaves_at_once_is_told_elsewhere() -> None:
    books = Books()
    with asking(books) as association:
        ask(association)

    wait_until(lambda: books.hastened, "the end of the association")
    assert (books.closed, books.hastened) == ([], ["token1"])


def test_a_report_about_ours_is_answered_when_it_is_written_down() -> None:
    books = Books()
    data = report_data(Report("1.2.3", ASKED.references, {}), "", EXPLICIT_LE)

    with asking(books) as association:
        answer = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data)
        books.known = False
        unknown = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data)
        books.error = DatabaseAway("the server is down")
        away = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data)

    assert [answer.status, unknown.status, away.status] == [0, 0x0115, 0x0110]
    assert books.taken[0] == (Report("1.2.3", ASKED.references, {}), True)
