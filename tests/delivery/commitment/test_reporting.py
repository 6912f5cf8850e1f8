"""What a peer may answer when it is told what we commit to on an association of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.delivery.commitment.messages import Reference, Report, Request, debt_ref
from dgate.delivery.commitment.reporting import Reporter
from dgate.delivery.errands import Done, Leash
from dgate.delivery.failures import Fate
from dgate.dicom.uids import STORAGE_COMMITMENT
from dgate.errors import NoContext, PeerError
from dgate.net import Association, CommandField, Message
from dgate.net.associate import Answer, AssociateAccept, Role, UserInformation, decode_request
from dgate.net.associate import encode_accept as encode
from tests.net.kit import CT, Raw, scripted_peer, serving

pytestmark = pytest.mark.integration
REQUEST = Request("1.2.3", (Reference(CT, "1.2.3.1"),))


class Books:
    """Has one request that is to be reported on."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    def load(self, token: str) -> tuple[Request, bool]:
        return REQUEST, False

    def close(self, token: str, status: int, text: str) -> None:
        self.closed.append(status)

    def examine(self, request: Request, *, twin: bool) -> Report:
        return Report(request.uid, request.references, {})


class Owed:
    """A debt of kind `report`."""

    kind = DebtKind.REPORT
    called, calling = "CT1", "GATE"
    ref = debt_ref("token")


def report(port: int, books: Any, folder: Path) -> Done:
    """Tell the peer on a port."""
    nodes = NodeMap.parse(f"CT1 127.0.0.1 {port} un\n".encode(), "acrnema.map")[0]
    owed: Any = Owed()
    return Reporter(books, books, default_settings(folder), nodes).report(owed, Leash())


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
