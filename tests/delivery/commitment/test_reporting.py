"""What a peer may answer when it is told what we commit to on an association of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.delivery.commitment import examining
from dgate.delivery.commitment.messages import (
    Finding,
    Reference,
    Sizes,
    debt_ref,
    read_report,
)
from dgate.delivery.commitment.reporting import Reporter
from dgate.delivery.commitment.requests import Totals, Waiting
from dgate.delivery.errands import Done, Leash
from dgate.delivery.failures import Fate
from dgate.dicom.uids import STORAGE_COMMITMENT
from dgate.errors import NoContext, PeerError, StoreError
from dgate.net import Association, CommandField, Message
from dgate.net.associate import Answer, AssociateAccept, Role, UserInformation, decode_request
from dgate.net.associate import encode_accept as encode
from tests.net.kit import CT, Raw, scripted_peer, serving

pytestmark = pytest.mark.integration
FINDING = Finding(Reference(CT, "1.2.3.1"), None)


class Books:
    """Has one request that is to be reported on."""

    def __init__(self, parts: int = 1) -> None:
        self.closed: list[int] = []
        self.waiting = Waiting("1.2.3", False, parts)
        self.is_known = False
        self.prepared = 0
        self.examined = 0
        """Parts about which something was found out, one a time."""
        self.is_told = False
        """Elsewhere, meanwhile."""
        self.lost = 0
        """Parts that are gone when the report is made."""

    def load(self, token: str) -> Waiting:
        return self.waiting

    def close(self, token: str, status: int, text: str) -> None:
        self.closed.append(status)

    def is_ready(self, token: str) -> bool:
        return self.is_known

    def prepare(
        self, token: str, waiting: Waiting, go_on: Callable[[], bool] = lambda: True
    ) -> bool:
        self.prepared += 1
        while not self.is_known:
            self.examined += 1
            self.is_known = self.examined >= waiting.parts
            if not self.is_known and not go_on():
                return False
        return True

    def answer(self, token: str, waiting: Waiting) -> examining.Answer | None:
        if self.is_told:
            return None
        totals = Totals(waiting.parts, 0, Sizes(waiting.parts * FINDING.size, 0))
        return examining.Answer(
            waiting, totals, lambda: iter([[FINDING]] * (waiting.parts - self.lost))
        )


class Owed:
    """A debt of kind `report`."""

    kind = DebtKind.REPORT
    called, calling = "CT1", "GATE"
    ref = debt_ref("token")


def report(port: int, books: Any, folder: Path, leash: Leash | None = None) -> Done:
    """Tell the peer on a port."""
    nodes = NodeMap.parse(f"CT1 127.0.0.1 {port} un\n".encode(), "acrnema.map")[0]
    owed: Any = Owed()
    return Reporter(books, books, default_settings(folder), nodes).report(owed, leash or Leash())


@pytest.mark.parametrize("status", [0, 0xB000, 0x0111, 0x0110])
def test_only_success_and_warnings_close_the_debt(tmp_path: Path, status: int) -> None:
    def answer(association: Association, message: Message) -> None:
        association.respond(message, status)

    books = Books()
    handlers = {(CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): answer}
    with serving(handlers=handlers) as server:
        done = report(server.port, books, tmp_path)

    fates = {0x0111: Fate.DOUBTFUL, 0x0110: Fate.AGAIN}
    assert done.fate is fates.get(status, Fate.DONE)
    assert books.closed == ([status] if done.fate is Fate.DONE else [])


@pytest.mark.parametrize(
    ("role", "is_told"),
    [
        (None, True),
        (Role(False, True), True),
        (Role(False, False), False),
        (Role(True, False), False),
    ],
    ids=["says nothing", "granted", "neither", "user only"],
)
def test_a_peer_that_does_not_grant_the_role_is_told_nothing(
    tmp_path: Path, role: Role | None, is_told: bool
) -> None:
    came: list[int] = []

    def play(raw: Raw) -> None:
        head = raw.read(6)
        request = decode_request(raw.read(int.from_bytes(head[2:], "big")))
        assert request.user.roles == {STORAGE_COMMITMENT: Role(False, True)}
        [proposal] = request.proposals
        roles = {} if role is None else {STORAGE_COMMITMENT: role}
        answers = (Answer(proposal.id, 0, proposal.transfer_syntaxes[0]),)
        accept = AssociateAccept("CT1", "GATE", answers, UserInformation(roles=roles))
        raw.send(encode(accept))
        came.append(raw.read(1)[0])

    with scripted_peer(play) as port, pytest.raises(PeerError) as error:
        report(port, Books(), tmp_path)

    # P-DATA-TF, else A-RELEASE-RQ or A-ABORT (PS3.8 9.3.1).
    assert (came[0] == 4) is is_told
    assert isinstance(error.value, NoContext) is not is_told
    if not is_told:
        assert "be the provider of" in str(error.value)


def test_much_is_looked_after_between_two_associations(tmp_path: Path) -> None:
    items: list[int] = []

    def answer(association: Association, message: Message) -> None:
        items.append(len(read_report(message).committed))
        association.respond(message)

    books = Books(parts=2)
    handlers = {(CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): answer}
    with serving(handlers=handlers) as server:
        done = report(server.port, books, tmp_path)
        first = books.prepared
        again = report(server.port, books, tmp_path)

    assert (done.fate, again.fate) == (Fate.DONE, Fate.DONE)
    assert items == [1, 1]
    # Before the association for the report and on it; then on it only.
    assert (first, books.prepared) == (2, 3)


def test_a_peer_that_is_away_costs_no_look_at_objects(tmp_path: Path) -> None:
    books = Books(parts=2)
    with serving(handlers={}) as server:
        port = server.port

    with pytest.raises(PeerError):
        report(port, books, tmp_path)

    assert books.prepared == 0


def test_a_stop_of_the_server_ends_looking_after_much(tmp_path: Path) -> None:
    leash = Leash()
    leash.stop()
    books = Books(parts=2)
    with serving(handlers={}) as server:
        done = report(server.port, books, tmp_path, leash)

    assert (done.wait_s, books.examined, books.closed) == (0.0, 1, [])


def test_a_peer_does_not_wait_while_much_is_looked_after_again(tmp_path: Path) -> None:
    class Aging(Books):
        def is_ready(self, token: str) -> bool:
            # It was, and is not when the association stands.
            return True

    told: list[Message] = []
    books = Aging(parts=3)
    with serving(handlers={(CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): hear(told)}) as it:
        done = report(it.port, books, tmp_path)

    assert (done.fate, done.wait_s, books.examined) == (Fate.DONE, 0.0, 1)
    assert told == books.closed == []


def hear(told: list[Message]) -> Callable[[Association, Message], None]:
    """Return what takes every report."""

    def answer(association: Association, message: Message) -> None:
        told.append(message)
        association.respond(message)

    return answer


def test_a_peer_that_was_told_meanwhile_is_not_told_again(tmp_path: Path) -> None:
    told: list[Message] = []
    books = Books()
    books.is_told = True
    with serving(handlers={(CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): hear(told)}) as it:
        done = report(it.port, books, tmp_path)

    assert (done.fate, done.wait_s, done.text) == (
        Fate.DONE,
        None,
        "the peer has been told already",
    )
    assert told == books.closed == []


@pytest.mark.parametrize("lost", [1, 3])
def test_a_report_that_would_not_be_whole_is_aborted(tmp_path: Path, lost: int) -> None:
    told: list[Message] = []
    books = Books(parts=3)
    books.lost = lost
    with (
        serving(handlers={(CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): hear(told)}) as it,
        pytest.raises(StoreError, match="has changed"),
    ):
        report(it.port, books, tmp_path)

    assert told == books.closed == []
