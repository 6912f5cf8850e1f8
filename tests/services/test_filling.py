"""What is taken of that which a node sends when it is asked with C-GET."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import Arrival
from dgate.config.nodes import NodeMap
from dgate.config.settings import SopList, default_settings
from dgate.dicom.payload import Payload
from dgate.dicom.table import ElementTable
from dgate.errors import PeerError, RuleError
from dgate.net import Association, Command, CommandField, Message
from dgate.net.scu import store
from dgate.services.filling import Filling
from tests.net.kit import CT, STUDY_GET, serving

pytestmark = pytest.mark.integration
STUDY, SERIES, INSTANCE = 0x0020000D, 0x0020000E, 0x00080018
SENT = [("1.2.1", "1.2.1.1", "1.2.1.1.1"), ("1.2.1", "1.2.1.2", "1.2.1.2.1"),
        ("1.2.2", "1.2.2.1", "1.2.2.1.1"), ("", "", "1.2.3.1.1")]  # fmt: skip


class Intake:
    """Stands for what stores, and for what cannot retrieve by C-MOVE."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    def payload(self, *named: str) -> Payload:
        return Payload()

    def store(self, arrival: Arrival) -> None:
        self.stored.append(arrival.sop_instance)

    def fetch(self, *asked: Any) -> int:
        raise RuleError("it does not know us")


class Node:
    """Sends everything that it has, whatever it is asked for."""

    def __init__(self, has_status: bool = True) -> None:
        self.has_status = has_status
        self.answers: list[int | None] = []

    def get(self, association: Association, message: Message) -> None:
        context = next(each for each in association.contexts_for(CT) if each.scu_role)
        for study, series, instance in SENT:
            table = ElementTable(b"", context.transfer_syntax)
            for tag, uid in ((INSTANCE, instance), (STUDY, study), (SERIES, series)):
                table.set_raw(tag, "UI", uid.encode())
            data = [table.tobytes()]
            answer = store(association, context.id, CT, instance, data)
            self.answers.append(answer.status)
        response = Command(
            command_field=CommandField.C_GET_RSP,
            message_id_responded=message.command.message_id,
            sop_class=STUDY_GET,
            status=0 if self.has_status else None,
        )
        association.send(message.context.id, response)


def fetch(folder: Path, node: Node, level: str, keys: dict[int, str]) -> tuple[int, list[str]]:
    """Fetch from the node; returns the count and what was stored."""
    intake: Any = Intake()
    with serving(handlers={(CommandField.C_GET_RQ, STUDY_GET): node.get}) as server:
        line = f"NODE 127.0.0.1 {server.port} un\n".encode()
        nodes = NodeMap.parse(line, "acrnema.map")[0]
        settings = default_settings(folder)
        filling = Filling(settings, nodes, intake, intake, SopList.accept_all())
        return filling.fetch("NODE", level, keys, [CT]), intake.stored


@pytest.mark.parametrize(
    ("level", "keys", "taken"),
    [
        ("STUDY", {STUDY: "1.2.1"}, [0, 1]),
        ("SERIES", {STUDY: "1.2.1", SERIES: "1.2.1.2"}, [1]),
        ("IMAGE", {STUDY: "1.2.1", SERIES: "1.2.1.1", INSTANCE: "1.2.1.1.1\\1.2.9"}, [0]),
    ],
)
def test_what_was_not_asked_for_is_refused(
    tmp_path: Path, level: str, keys: dict[int, str], taken: list[int]
) -> None:
    node = Node()

    count, stored = fetch(tmp_path, node, level, keys)

    assert count == len(taken)
    assert stored == [SENT[number][2] for number in taken]
    assert node.answers == [0 if number in taken else 0xA900 for number in range(len(SENT))]


def test_an_end_without_a_status_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="0110"):
        fetch(tmp_path, Node(has_status=False), "STUDY", {STUDY: "1.2.1"})
