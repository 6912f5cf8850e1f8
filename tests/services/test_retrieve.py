"""C-MOVE over real associations: what a failing destination costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dgate.config.nodes import NodeMap
from dgate.delivery.sender import Sender
from dgate.dicom.uids import EXPLICIT_LE
from dgate.net import Association, Command, CommandField, Message, Status, move
from dgate.ops.log import UserLog
from dgate.services.identifier import STUDY_ROOT
from dgate.services.retrieve import RetrieveService
from tests.delivery.kit import CT, MR
from tests.delivery.peer_kit import Peer, Store, provider
from tests.net.kit import STUDY_MOVE, dead_port
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


def move_all(
    store: Store, port: int, finder: TwinFinder, folder: Path, **settings: object
) -> Command:
    """Move what the finder selects to a port and return the final response."""
    return responses_of_move(store, port, finder, folder, **settings)[-1]


def responses_of_move(
    store: Store, port: int, finder: TwinFinder, folder: Path, **settings: object
) -> list[Command]:
    """Move what the finder selects to a port and return every response."""
    nodes, _ = NodeMap.parse(f"SINK 127.0.0.1 {port} as\n".encode(), "acrnema.map")
    service = RetrieveService(
        replace(store.settings, **settings),  # type: ignore[arg-type]
        nodes,
        finder,  # type: ignore[arg-type]
        store.exporter,
        UserLog(folder / "user.log"),
    )
    handler = service.move_handler(STUDY_ROOT)
    with asking(CommandField.C_MOVE_RQ, STUDY_MOVE, handler) as association:
        data = identifier("STUDY", {STUDY: "1.2.3"})
        return list(move(association, 1, "SINK", data))


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
    with dead_port() as port:
        final = move_all(store, port, TwinFinder(refs=refs), tmp_path)

    assert counters(final) == (Status.CANNOT_PERFORM_SUBOPERATIONS, 0, 3)
    assert "no connection" in final.error_comment


# StatusCodes = classic (spec dimse.md 5.2)


def told(response: Command) -> tuple[int | None, ...]:
    return response.status, response.completed, response.failed, response.warning


def test_classic_move_that_is_broken_in_the_middle_ends_with_fe00(
    store: Store, peer: Peer, tmp_path: Path
) -> None:
    refs = [store.add(number) for number in range(1, 6)]

    def crash_from_the_third_on(message: Message, association: Association) -> None:
        if len(peer.arrived) >= 2:
            association.abort("the peer crashed")
            raise ConnectionAbortedError("the peer crashed")

    peer.before_answer = crash_from_the_third_on

    pending = responses_of_move(
        store, port_of(peer), TwinFinder(refs=refs), tmp_path, classic_status_codes=True
    )

    assert told(pending[-1]) == (Status.CANCEL, 5, 3, 0)
    assert [each.completed for each in pending[:-1]] == [1, 2]


def test_classic_move_with_an_object_that_is_refused_ends_with_fe00(
    store: Store, peer: Peer, tmp_path: Path
) -> None:
    refs = [store.add(number) for number in range(1, 4)]
    peer.statuses = {"1.2.3.2": Status.OUT_OF_RESOURCES}

    final = move_all(
        store, port_of(peer), TwinFinder(refs=refs), tmp_path, classic_status_codes=True
    )

    assert told(final) == (Status.CANCEL, 3, 1, 0)


def test_classic_move_with_a_class_that_is_not_taken_ends_with_success(
    store: Store, tmp_path: Path
) -> None:
    refs = [store.add(1), store.add(2, sop_class=MR, series="1.2.3.9")]
    with provider(abstract=frozenset({CT})) as peer:
        final = move_all(
            store, port_of(peer), TwinFinder(refs=refs), tmp_path, classic_status_codes=True
        )

    assert told(final) == (Status.SUCCESS, 2, 1, 0)


def test_classic_move_counts_warnings_as_completed(
    store: Store, peer: Peer, tmp_path: Path
) -> None:
    refs = [store.add(1), store.add(2)]
    peer.statuses = {"1.2.3.1": Status.COERCED}

    final = move_all(
        store, port_of(peer), TwinFinder(refs=refs), tmp_path, classic_status_codes=True
    )

    assert told(final) == (Status.SUCCESS, 2, 0, 0)


def test_classic_move_to_nobody_ends_with_c005(store: Store, tmp_path: Path) -> None:
    refs = [store.add(1), store.add(2)]
    with dead_port() as port:
        final = move_all(store, port, TwinFinder(refs=refs), tmp_path, classic_status_codes=True)

    assert told(final) == (Status.CLASSIC_NO_CONNECTION, 2, 2, 0)


def test_next_object_is_read_ahead_unless_that_is_switched_off(
    store: Store, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [store.add(number) for number in range(1, 4)]
    upcoming: list[object] = []
    send = Sender.send

    def watched(self: Sender, *words: object, **options: object) -> object:
        upcoming.append(options["upcoming"])
        return send(self, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Sender, "send", watched)
    finder = TwinFinder(refs=refs)

    move_all(store, port_of(peer), finder, tmp_path, read_ahead=1)
    move_all(store, port_of(peer), finder, tmp_path, read_ahead=0)

    assert upcoming == [refs[1], refs[2], None, None, None, None]
    assert len(peer.arrived) == 6
