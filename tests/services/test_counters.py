"""What `Global` counts."""

from __future__ import annotations

from typing import Any

import pytest

from dgate.dicom.uids import IMPLICIT_LE
from dgate.errors import ProtocolError
from dgate.net import STORAGE, Command, CommandField, ContextProposal, connect, move
from dgate.services.counters import Counters
from tests.net.kit import FAST, serving

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
VENDOR_MOVE = "1.2.826.0.1.3680043.2.135.1066.5.1.4.1.2.2.2"


@pytest.mark.parametrize(
    ("field", "sop_class", "name"),
    [
        (CommandField.C_STORE_RQ, STORAGE, "ImagesReceived"),
        (CommandField.C_ECHO_RQ, "1.2.840.10008.1.1", "EchoRequest"),
        (CommandField.C_MOVE_RQ, MOVE, "C_Move_StudyRoot"),
        (CommandField.C_MOVE_RQ, VENDOR_MOVE, "C_Move_StudyRootNKI"),
        (CommandField.C_FIND_RQ, "1.2.840.10008.5.1.4.31", "C_Find_ModalityWorkList"),
    ],
)
def test_each_request_is_counted_and_served(field: CommandField, sop_class: str, name: str) -> None:
    counters = Counters()
    served: list[tuple[Any, Any]] = []

    def handler(association: Any, message: Any) -> None:
        served.append((association, message))

    counting = counters.counting({(field, sop_class): handler})
    association: Any = "association"
    message: Any = "message"
    counting[field, sop_class](association, message)
    counting[field, sop_class](association, message)

    assert counters[name] == 2
    assert served == [("association", "message")] * 2


@pytest.mark.parametrize(
    ("field", "sop_class"),
    [(CommandField.N_ACTION_RQ, "1.2.840.10008.1.20.1"), (CommandField.C_MOVE_RQ, "9.9")],
)
def test_request_without_a_name_is_served_and_not_counted(
    field: CommandField, sop_class: str
) -> None:
    counters = Counters()

    def handler(association: Any, message: Any) -> None:
        """Serve."""

    assert counters.counting({(field, sop_class): handler}) == {(field, sop_class): handler}
    assert counters["UnknownRequest"] == 0


def test_associations_are_counted_and_how_many_are_open() -> None:
    counters = Counters()
    seen: list[int] = []

    def serve(association: Any) -> None:
        seen.append(counters["OpenThreadCount"])
        raise ProtocolError("it ended badly")

    counted = counters.serving(serve)
    association: Any = "association"
    for _ in range(2):
        with pytest.raises(ProtocolError):
            counted(association)

    names = ("IncomingAssociations", "ThreadCount", "OpenThreadCount")
    assert [counters[name] for name in names] == [2, 2, 0]
    assert seen == [1, 1]


def test_request_that_nobody_serves_is_counted_and_no_cancel() -> None:
    refused: list[int] = []
    with serving() as server:
        server.router.refused = lambda: refused.append(1)
        with connect(
            "127.0.0.1", server.port, "A", "B", [ContextProposal(MOVE, (IMPLICIT_LE,))],
            timeouts=FAST,
        ) as association:  # fmt: skip
            (context,) = association.contexts_for(MOVE)
            cancel = Command(command_field=CommandField.C_CANCEL_RQ, message_id_responded=7)
            association.send(context.id, cancel)
            answers = list(move(association, context.id, "C", b""))

    assert answers[-1].status == 0x0122
    assert refused == [1]


def test_number_that_nobody_counted_is_none_of_them() -> None:
    counters = Counters()

    assert counters["EchoRequest"] == 0
    counters.change("EchoRequest", 5)
    counters.count("EchoRequest")
    assert counters["EchoRequest"] == 6
