"""What is answered when nothing can be written down, and what becomes of reports that are not
taken."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.delivery.commitment.asking import EventReports
from dgate.delivery.commitment.examining import Answer
from dgate.delivery.commitment.messages import (
    MOST_BYTES,
    Finding,
    Reference,
    Report,
    Request,
    Sizes,
    report_data,
    request_data,
)
from dgate.delivery.commitment.requests import (
    OF_NODE,
    OF_STRANGER,
    Limits,
    Totals,
    Waiting,
)
from dgate.delivery.schedule import RetryPolicy
from dgate.dicom.uids import EXPLICIT_LE, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.errors import Aborted, DatabaseAway, OutOfSpace, StoreError
from dgate.net import Association, CommandField, ContextProposal, Message, connect, scu
from dgate.net.router import QUIET_S
from dgate.services.commitment import CommitmentService
from tests.acceptance.processes import wait_until
from tests.net.kit import FAST, PATIENCE_S, serving

pytestmark = pytest.mark.integration

CT = "1.2.840.10008.5.1.4.1.1.2"
OBJECT = Reference(CT, "1.2.3.1")
ASKED = Request("1.2.3", (OBJECT,))
WAITING = Waiting("1.2.3", False, 1)


@dataclass
class Books:
    """Stands for what is written down, in both roles."""

    error: StoreError | None = None
    entered: list[tuple[Request, str, str]] = field(default_factory=list)
    closed: list[tuple[str, int, str]] = field(default_factory=list)
    hastened: list[str] = field(default_factory=list)
    known: bool = True
    taken: list[tuple[Report, bool]] = field(default_factory=list)
    prepared: int = 0
    told: str = ""
    """What was reported elsewhere when it is to be reported here."""
    lost: str = ""
    """What is closed while it is reported here."""
    limits: list[Limits] = field(default_factory=list)
    on_prepare: Callable[[Callable[[], bool]], None] = lambda go_on: None
    full: OutOfSpace | None = None
    """Why the disk takes no request."""

    def admit(self) -> None:
        if self.full is not None:
            raise self.full

    def enter(
        self,
        request: Request,
        calling: str,
        called: str,
        limits: Limits,
        is_node: Callable[[str], bool],
    ) -> str:
        self._fail()
        self.limits.append(limits)
        assert is_node(calling) == (limits is OF_NODE)
        named = Request(request.uid, tuple(request.references))
        self.entered.append((named, calling, called))
        return f"token{len(self.entered)}"

    def load(self, token: str) -> Waiting | None:
        self._fail()
        return WAITING

    def close(self, token: str, status: int, text: str) -> None:
        self._fail()
        self.closed.append((token, status, text))

    def hasten(self, token: str) -> None:
        self.hastened.append(token)

    def prepare(self, token: str, waiting: Waiting, go_on: Callable[[], bool]) -> bool:
        self.prepared += 1
        self.on_prepare(go_on)
        return go_on()

    def answer(self, token: str, waiting: Waiting) -> Answer | None:
        if token == self.told:
            return None
        finding = Finding(OBJECT, None)
        found = [] if token == self.lost else [finding]
        return Answer(waiting, Totals(1, 0, Sizes(finding.size, 0)), lambda: iter([found]))

    def take(self, report: Report, *, apart: bool, pause_s: float) -> int | None:
        self._fail()
        self.taken.append((report, apart))
        return 0 if self.known else None

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@contextmanager
def asking(books: Any, node: str = "") -> Iterator[Association]:
    """Serve both commands over these books, and yield an association."""
    service = CommitmentService(
        books, books, EventReports(books, RetryPolicy()), lambda title: title == node, books.admit
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


def never(message: Message) -> None:
    """Take no report."""
    raise AssertionError("a report came before the answer")


def ask(association: Association) -> int | None:
    """Send the request; returns the status."""

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


def test_a_request_is_refused_where_the_disk_has_to_keep_what_is_free() -> None:
    books = Books()
    with asking(books) as association:
        books.full = OutOfSpace("the disk of the database is nearly full")
        assert ask(association) == 0x0213
        books.full = None
        assert ask(association) == 0

    assert len(books.entered) == 1


@pytest.mark.parametrize(("node", "limits"), [("CT1", OF_NODE), ("OTHER", OF_STRANGER)])
def test_a_node_may_ask_for_more_than_a_stranger(node: str, limits: Limits) -> None:
    books = Books()
    with asking(books, node) as association:
        assert ask(association) == 0

    assert books.limits == [limits]


def test_a_report_is_closed_when_the_peer_has_taken_it() -> None:
    books = Books()
    with asking(books) as association:
        assert ask(association) == 0
        assert hear(association, 0) == 1

    wait_until(lambda: books.closed, "the end of the debt")
    assert books.entered == [(ASKED, "CT1", "GATE")]
    assert books.closed == [("token1", 0, "committed to 1 object(s), not to 0")]
    assert books.hastened == []


def both(books: Books) -> Callable[[Callable[[], bool]], None]:
    """Return what keeps the first report back until the second request has come."""

    def hold(go_on: Callable[[], bool]) -> None:
        if len(books.entered) < 2:
            wait_until(lambda: not go_on(), "the second request")

    return hold


def test_a_second_report_waits_for_the_answer_to_the_first() -> None:
    """PS3.7 D.3.3.3: one operation at a time, where no other number was negotiated."""
    books = Books()
    books.on_prepare = both(books)
    with asking(books) as association:
        ask(association)
        ask(association)
        first = association.receive()
        assert first is not None
        # Longer than the gateway waits for silence before it speaks.
        assert association.is_quiet(3 * QUIET_S)
        association.respond(first, 0)
        assert hear(association, 0) == 1
        wait_until(lambda: len(books.closed) == 2, "the end of both debts")

    assert [token for token, _, _ in books.closed] == ["token1", "token2"]


def test_a_second_report_goes_out_after_a_bad_answer_to_the_first() -> None:
    books = Books()
    books.on_prepare = both(books)
    with asking(books) as association:
        ask(association)
        ask(association)
        hear(association, 0x0110)
        hear(association, 0)
        wait_until(lambda: books.closed, "the end of the second debt")

    wait_until(lambda: books.hastened, "the end of the association")
    assert [token for token, _, _ in books.closed] == ["token2"]
    assert books.hastened == ["token1"]


def test_a_report_that_the_peer_refuses_is_left_to_another_association() -> None:
    books = Books()
    with asking(books) as association:
        ask(association)
        hear(association, 0x0110)

    wait_until(lambda: books.hastened, "the end of the association")
    assert (books.closed, books.hastened) == ([], ["token1"])


def test_what_was_reported_elsewhere_meanwhile_is_not_reported_here() -> None:
    books = Books(told="token1")
    with asking(books) as association:
        ask(association)
        ask(association)
        assert hear(association, 0) == 1
        wait_until(lambda: books.closed, "the end of the debt")

    # The second alone.
    assert [token for token, _, _ in books.closed] == ["token2"]
    assert books.prepared == 2


def test_a_report_that_would_not_be_whole_is_left_to_another_association(
    caplog: pytest.LogCaptureFixture,
) -> None:
    books = Books(lost="token1")
    with asking(books) as association:
        ask(association)
        with pytest.raises(Aborted):
            scu.await_event(association, PATIENCE_S, lambda message: None)

    wait_until(lambda: books.hastened, "the end of the association")
    assert (books.closed, books.hastened) == ([], ["token1"])
    assert "was broken off" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_peer_that_leaves_at_once_is_told_elsewhere() -> None:
    books = Books()
    with asking(books) as association:
        ask(association)

    wait_until(lambda: books.hastened, "the end of the association")
    assert (books.closed, books.hastened) == ([], ["token1"])


def test_a_report_about_ours_is_answered_when_it_is_written_down() -> None:
    books = Books()
    data = report_data(Report("1.2.3", (OBJECT,), {}), "", EXPLICIT_LE)

    with asking(books) as association:
        answer = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data)
        books.known = False
        unknown = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data)
        books.error = DatabaseAway("the server is down")
        away = scu.report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data)

    assert [answer.status, unknown.status, away.status] == [0, 0x0115, 0x0110]
    assert books.taken[0] == (Report("1.2.3", (OBJECT,), {}), True)


def test_a_peer_that_speaks_up_is_heard_before_its_report_is_worked_out() -> None:
    books = Books()
    came = threading.Event()
    with asking(books) as association:

        def wait_for_input(go_on: Callable[[], bool]) -> None:
            came.set()
            wait_until(lambda: not go_on(), "a message of the peer")
            books.on_prepare = lambda go_on: None

        books.on_prepare = wait_for_input
        ask(association)
        assert came.wait(PATIENCE_S)
        request = scu.event_report(association, 1, STORAGE_COMMITMENT_INSTANCE, 1)
        data = report_data(Report("1.2.4", (OBJECT,), {}), "", EXPLICIT_LE)
        association.send(1, request, [data])
        answer = association.receive()
        assert answer is not None
        assert answer.command.message_id_responded == request.message_id
        assert hear(association, 0) == 1

    wait_until(lambda: books.closed, "the end of the debt")
    assert books.prepared == 2


def test_a_long_request_is_held_in_a_file_without_a_name(tmp_path: Path) -> None:
    books: Any = Books()
    service = CommitmentService(
        books, books, books, lambda title: True, books.admit, tmp_path / "temp"
    )
    payload = service.payload()
    piece = bytes(1 << 20)

    for _ in range(3):
        payload.append(piece)

    assert payload.spilled is not None
    assert payload.view().nbytes == 3 << 20
    assert list((tmp_path / "temp").iterdir()) == []
    # The disk is not taken for what is refused anyway.
    for _ in range(40):
        payload.append(piece)
    assert payload.error is not None
    assert payload.spilled is None
    payload.close()


@pytest.mark.parametrize(("more", "status"), [(0, 0), (2, 0x0213)])
def test_the_longest_request_is_as_long_as_is_said(tmp_path: Path, more: int, status: int) -> None:
    books = Books()
    data = request_data(ASKED, EXPLICIT_LE)
    padding = MOST_BYTES + more - len(data) - 12
    tail = struct.pack("<HH2s2xI", 0xFFFC, 0xFFFC, b"OB", padding)
    any_books: Any = books
    reports = EventReports(any_books, RetryPolicy())
    service = CommitmentService(
        any_books, any_books, reports, lambda title: True, books.admit, tmp_path
    )
    handlers = {(CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): service.action}
    proposal = ContextProposal(STORAGE_COMMITMENT, (EXPLICIT_LE,))
    with (
        serving(handlers=handlers) as server,
        connect("127.0.0.1", server.port, "CT1", "GATE", [proposal], timeouts=FAST) as association,
    ):
        server.router.payloads = {
            (int(CommandField.N_ACTION_RQ), STORAGE_COMMITMENT): service.payload
        }
        whole = data + tail + bytes(padding)
        answer = scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, whole, never)

    assert answer.status == status
    assert len(books.entered) == (status == 0)
