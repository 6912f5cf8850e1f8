"""C-GET: which of the accepted contexts an object goes out on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dgate.config.nodes import NodeMap
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, JPEG_2000_LOSSLESS
from dgate.net import (
    Association,
    Command,
    CommandField,
    ContextProposal,
    Message,
    PresentationContext,
    Status,
    connect,
    get,
)
from dgate.ops.log import UserLog
from dgate.rules.effects import Captured, Decision
from dgate.rules.events import Event, EventHook
from dgate.rules.session import Session
from dgate.services.getting import _best_context
from dgate.services.identifier import STUDY_ROOT
from dgate.services.retrieve import RetrieveService
from tests.delivery.kit import CT
from tests.delivery.peer_kit import Store
from tests.net.kit import FAST, serving
from tests.services.kit import TwinFinder, identifier

STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
STUDY = 0x0020000D


def contexts(*syntaxes: str) -> list[PresentationContext]:
    return [
        PresentationContext(2 * place + 1, CT, syntax, True, True)
        for place, syntax in enumerate(syntaxes)
    ]


def chosen(stored: str, code: str | None, *syntaxes: str) -> str | None:
    context = _best_context(contexts(*syntaxes), stored, code)
    return None if context is None else context.transfer_syntax


@pytest.mark.parametrize(
    ("stored", "code", "accepted", "expected"),
    [
        (EXPLICIT_LE, None, [IMPLICIT_LE, EXPLICIT_LE], EXPLICIT_LE),
        (EXPLICIT_LE, None, [EXPLICIT_BE, IMPLICIT_LE], EXPLICIT_BE),
        (EXPLICIT_LE, "ui", [EXPLICIT_LE, IMPLICIT_LE], IMPLICIT_LE),
        (EXPLICIT_LE, "ub", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE], EXPLICIT_BE),
        (IMPLICIT_LE, "ul", [IMPLICIT_LE, EXPLICIT_LE], EXPLICIT_LE),
        (EXPLICIT_LE, "ui", [EXPLICIT_LE], EXPLICIT_LE),
        (EXPLICIT_LE, "as", [IMPLICIT_LE], IMPLICIT_LE),
    ],
)
def test_context_follows_the_code_then_what_is_stored(
    stored: str, code: str | None, accepted: list[str], expected: str
) -> None:
    assert chosen(stored, code, *accepted) == expected


def test_no_context_is_no_answer() -> None:
    assert chosen(EXPLICIT_LE, None) is None
    assert chosen("1.2.840.10008.1.2.4.100", "un", EXPLICIT_LE, JPEG_2000_LOSSLESS) is None


class Rules:
    """A RetrieveConverter0 that asks for little endian, and a counter of what leaves."""

    def __init__(self) -> None:
        self.seen = 0

    def hook(self, event: Event, index: int = 0) -> EventHook | None:
        def request(table: ElementTable, captured: Captured, session: Session | None) -> Decision:
            table.set_text(0x99990700, "ui")
            return Decision()

        def result(table: ElementTable, captured: Captured, session: Session | None) -> Decision:
            self.seen += 1
            return Decision()

        return {Event.RETRIEVE: request, Event.RETRIEVE_RESULT: result}.get(event)


@pytest.mark.integration
def test_converted_objects_pass_the_result_converter_once(tmp_path: Path) -> None:
    store, rules = Store(tmp_path), Rules()
    refs = [store.add(number) for number in (1, 2, 3)]
    nodes, _ = NodeMap.parse(b"", "acrnema.map")
    service = RetrieveService(
        store.settings,
        nodes,
        TwinFinder(refs=refs),  # type: ignore[arg-type]
        store.exporter,
        UserLog(tmp_path / "user.log"),
        rules,
    )
    arrived: list[str] = []

    def keep(message: Message) -> int:
        arrived.append(message.context.transfer_syntax)
        return Status.SUCCESS

    handler = service.get_handler(STUDY_ROOT)
    proposals = [
        ContextProposal(STUDY_GET, (EXPLICIT_LE,)),
        ContextProposal(CT, (EXPLICIT_LE,), scp_role=True),
        ContextProposal(CT, (IMPLICIT_LE,), scp_role=True),
    ]
    with (
        serving(handlers={(CommandField.C_GET_RQ, STUDY_GET): handler}) as server,
        connect("127.0.0.1", server.port, "V", "GATE", proposals, timeouts=FAST) as association,
    ):
        final = _final(association, identifier("STUDY", {STUDY: "1.2.3"}), keep)

    assert (final.status, final.completed) == (Status.SUCCESS, 3)
    assert arrived == [IMPLICIT_LE] * 3
    assert rules.seen == 3


def _final(association: Association, data: bytes, keep: Callable[[Message], int]) -> Command:
    *_, final = get(association, 1, data, keep)
    return final
