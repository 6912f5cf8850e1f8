"""C-MOVE over real associations: what a failing destination costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.config.nodes import NodeMap
from dgate.dicom.uids import EXPLICIT_LE
from dgate.net import Association, Command, CommandField, Message, Status, move
from dgate.ops.log import UserLog
from dgate.services.identifier import STUDY_ROOT
from dgate.services.retrieve import RetrieveService
from tests.delivery.kit import CT, MR
from tests.delivery.peer_kit import Peer, Store, provider
from tests.net.kit import STUDY_MOVE
from tests.services.kit import TwinFinder, asking, identifier

pytestmark = pytest.mark.integration

STUDY = 0x0020000D


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with provider() as running:
        yield running


def move_all(store: Store, port: int, finder: TwinFinder, folder: Path) -> Command:
    """Move what the finder selects to a port and return the final response."""
    nodes, _ = NodeMap.parse(f"SINK 127.0.0.1 {port} as\n".encode(), "acrnema.map")
    service = RetrieveService(
        store.settings,
        nodes,
        finder,  # type: ignore[arg-type]
        store.exporter,
        UserLog(folder / "user.log"),
    )
    handler = service.move_handler(STUDY_ROOT)
    with asking(CommandField.C_MOVE_RQ, STUDY_MOVE, handler) as association:
        data = identifier("STUDY", {STUDY: "1.2.3"})
        *_, final = move(association, 1, "SINK", data)
    return final


def counters(response: Command) -> tuple[int | None, int | None, int | None]:
    return response.status, response.completed, response.failed


def port_of(peer: Peer) -> int:
    assert peer.listener is not None
    return peer.listener.port


class Crash:
    """A peer that ends the association instead of answering."""

    def __init__(self, instance: str = "", times: int = 1000) -> None:
        self.instance = instance
        self.times = times
        self.seen = 0

    def __call__(self, message: Message, association: Association) -> None:
        if message.command.sop_instance.endswith(self.instance):
            self.seen += 1
            if self.seen <= self.times:
                association.abort("the peer crashed")
                raise ConnectionAbortedError("the peer crashed")


def test_class_that_the_destination_refuses_costs_only_its_objects(
    store: Store, tmp_path: Path
) -> None:
    refs = [
        store.add(1),
        store.add(2, sop_class=MR, series="1.2.3.9"),
        store.add(3, syntax=EXPLICIT_LE),
    ]
    with provider(abstract=frozenset({CT})) as peer:
        final = move_all(store, port_of(peer), TwinFinder(refs=refs), tmp_path)

        assert counters(final) == (Status.SUBOPERATIONS_FAILED, 2, 1)
        assert [item.sop_instance for item in peer.arrived] == ["1.2.3.1", "1.2.3.3"]


def test_association_lost_in_the_middle_costs_no_object(
    store: Store, peer: Peer, tmp_path: Path
) -> None:
    refs = [store.add(number) for number in range(1, 5)]
    peer.before_answer = Crash("2", times=1)

    final = move_all(store, port_of(peer), TwinFinder(refs=refs), tmp_path)

    assert counters(final) == (Status.SUCCESS, 4, 0)
    assert [item.sop_instance[-1] for item in peer.arrived] == ["1", "3", "4", "2"]


def test_object_that_the_destination_cannot_bear_costs_only_itself(
    store: Store, peer: Peer, tmp_path: Path
) -> None:
    refs = [store.add(number) for number in range(1, 5)]
    peer.before_answer = crash = Crash("2")

    final = move_all(store, port_of(peer), TwinFinder(refs=refs), tmp_path)

    assert counters(final) == (Status.SUBOPERATIONS_FAILED, 3, 1)
    assert crash.seen == 2


def test_two_lost_associations_in_a_row_end_the_retrieval(
    store: Store, peer: Peer, tmp_path: Path
) -> None:
    refs = [store.add(number) for number in range(1, 9)]
    peer.before_answer = crash = Crash()

    final = move_all(store, port_of(peer), TwinFinder(refs=refs), tmp_path)

    assert counters(final) == (Status.CANNOT_PERFORM_SUBOPERATIONS, 0, 8)
    assert crash.seen == 2


def test_destination_where_nobody_listens_is_tried_once(store: Store, tmp_path: Path) -> None:
    refs = [store.add(number) for number in range(1, 4)]
    with provider() as peer:
        port = port_of(peer)

    final = move_all(store, port, TwinFinder(refs=refs), tmp_path)

    assert counters(final) == (Status.CANNOT_PERFORM_SUBOPERATIONS, 0, 3)
    assert "no connection" in final.error_comment
