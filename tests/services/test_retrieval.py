"""What a C-MOVE to ourselves is taken for, by the answer of a scripted node."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.nodes import NodeMap
from dgate.config.settings import default_settings
from dgate.errors import DgateError, PeerError, RuleError
from dgate.net import Association, Command, CommandField, Handler, Message, Status
from dgate.services.retrieval import Expected, Retrieval
from tests.net.kit import STUDY_MOVE, answer_without_status, serving

pytestmark = pytest.mark.integration

STUDY = 0x0020000D


def answering(status: int, completed: int, failed: int) -> Handler:
    """Return a node that says how it went."""

    def handle(association: Association, message: Message) -> None:
        association.respond(message, Status.PENDING, remaining=completed + failed, completed=0)
        association.respond(message, status, completed=completed, failed=failed)

    return handle


def fetch(folder: Path, handler: Handler, expected: Expected | None = None) -> int:
    """Fetch a study from the node; returns how many objects came."""
    with serving(handlers={(CommandField.C_MOVE_RQ, STUDY_MOVE): handler}) as server:
        nodes = NodeMap.parse(f"NODE 127.0.0.1 {server.port} un\n".encode(), "acrnema.map")[0]
        settings = default_settings(folder, ae_title="US")
        retrieval = Retrieval(settings, nodes, expected or Expected())
        return retrieval.fetch("NODE", "STUDY", {STUDY: "1.2.3"})


def test_success_counts_what_came(tmp_path: Path) -> None:
    assert fetch(tmp_path, answering(Status.SUCCESS, 3, 0)) == 3


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        (answering(Status.SUBOPERATIONS_FAILED, 2, 1), PeerError, "B000.*2 object.* came, 1 did"),
        (answering(Status.SUCCESS, 2, 1), PeerError, "1 did not"),
        (answering(Status.OUT_OF_RESOURCES, 0, 0), PeerError, "A700"),
        (answering(Status.MOVE_DESTINATION_UNKNOWN, 0, 0), RuleError, "A801"),
        (answer_without_status, PeerError, "0110"),
    ],
    ids=["incomplete", "incomplete success", "failure", "we are not known", "no status"],
)
def test_anything_else_is_an_error(
    tmp_path: Path, handler: Handler, error: type[DgateError], words: str
) -> None:
    with pytest.raises(error, match=words):
        fetch(tmp_path, handler)


def test_objects_are_expected_only_while_the_move_is_under_way(tmp_path: Path) -> None:
    expected = Expected()
    seen: list[bool] = []

    def awaited(message_id: int) -> bool:
        command = Command(originator="US", originator_id=message_id)
        return expected.awaits("NODE", "US", command)

    def handle(association: Association, message: Message) -> None:
        request = message.command.message_id
        seen.extend((awaited(request), awaited(request ^ 1)))
        association.respond(message, completed=0, failed=0)

    assert fetch(tmp_path, handle, expected) == 0

    assert seen == [True, False]
    assert not any(awaited(message_id) for message_id in range(0x10000))
