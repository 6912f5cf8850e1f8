"""A retrieval that fetches: when objects are handed over, and how many are held."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from dgate.archive.ingest import Ingest
from dgate.archive.passing import Passing
from dgate.archive.records import InstanceRef
from dgate.config.model import VirtualServer
from dgate.config.nodes import NodeMap
from dgate.config.settings import SopList, default_settings
from dgate.delivery.inquiry import STUDY_ROOT, Listed
from dgate.dicom.uids import EXPLICIT_LE
from dgate.net import (
    STORAGE,
    Association,
    CommandField,
    ContextProposal,
    Message,
    Status,
    connect,
    store,
)
from dgate.rules.events import NoEvents
from dgate.services.question import Question
from dgate.services.virtual import Fetch, Fetches, Located, Lost, Receiver
from dgate.services.virtual.remote import Remote
from tests.acceptance.processes import wait_until
from tests.archive.database_kit import image
from tests.net.kit import CT, FAST, serving

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0
UIDS = [f"1.2.3.{number}" for number in range(10)]


@dataclass
class Peer:
    """A virtual server that answers C-MOVE by sending objects to a port."""

    port: int = 0
    sends: list[str] = field(default_factory=lambda: list(UIDS))
    originator: str = "US"
    confirmed: list[int] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    requests: int = 0
    stored: list[str] = field(default_factory=list)
    """What came to us and was no part of the fetch."""

    def move(self, association: Association, message: Message) -> None:
        self.requests += 1
        proposals = [ContextProposal(CT, (EXPLICIT_LE,))]
        with connect("127.0.0.1", self.port, "PEER", "US", proposals, timeouts=FAST) as sub:
            for uid in self.sends:
                data = image(SOPInstanceUID=uid, SOPClassUID=CT).tobytes()
                origin = (self.originator, 1) if self.originator else None
                answer = store(sub, 1, CT, uid, [data], originator=origin)
                with self.changed:
                    self.confirmed.append(answer.status or 0)
                    self.changed.notify_all()
        association.respond(message, Status.SUCCESS, completed=len(self.sends), failed=0)

    def wait_for(self, count: int) -> bool:
        """Wait until so many objects were confirmed."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.confirmed) >= count, PATIENCE_S)


@contextmanager
def fetching(tmp_path: Path, peer: Peer, overlap: int) -> Iterator[tuple[Fetch, Passing]]:
    """Fetch ten objects of one series from the peer."""
    fetches, passing = Fetches(), Passing()
    others: list[str] = []

    def receive(association: Association, message: Message) -> None:
        if not fetches.accept(association, message):
            others.append(message.command.sop_instance)
            association.respond(message)

    move = {(CommandField.C_MOVE_RQ, f"{STUDY_ROOT}.2"): peer.move}
    with (
        serving(handlers={(CommandField.C_STORE_RQ, STORAGE): receive}) as us,
        serving(handlers=move) as server,
    ):
        peer.port = us.port
        settings = default_settings(
            tmp_path,
            ae_title="US",
            cache_virtual_data=False,
            overlap_virtual_get=overlap,
            tcpip_timeout_s=60,
        )
        nodes, _ = NodeMap.parse(f"PEER 127.0.0.1 {server.port} as\n".encode(), "acrnema.map")
        remote = Remote(VirtualServer(0, "PEER"), nodes, settings, NoEvents())
        wanted = [Located(Listed(CT, uid, "ID", "1.2", "1.2.3"), (remote,)) for uid in UIDS]
        receiver = Receiver(
            settings,
            fetches,
            cast(Ingest, None),
            passing,
            SopList.accept_all(),
            lambda uid: None,
        )
        fetch = Fetch(receiver, Question("VIEWER"), wanted)
        fetch.start()
        yield fetch, passing
        fetch.close()
        peer.stored = others
        assert len(passing) == 0


def take_all(fetch: Fetch) -> list[InstanceRef | Lost]:
    items: list[InstanceRef | Lost] = []
    while not fetch.is_finished:
        item = fetch.take(PATIENCE_S)
        if item is not None:
            items.append(item)
            if isinstance(item, InstanceRef):
                fetch.done(item)
    return items


def test_without_overlap_a_request_is_fetched_to_its_end(tmp_path: Path) -> None:
    peer = Peer()
    with fetching(tmp_path, peer, 0) as (fetch, passing):
        assert peer.wait_for(10)
        assert len(passing) == 10
        assert [item.sop_instance for item in take_all(fetch)] == UIDS


def test_with_overlap_no_more_are_held_than_it_says(tmp_path: Path) -> None:
    peer = Peer()
    with fetching(tmp_path, peer, 2) as (fetch, passing):
        assert peer.wait_for(2)
        with peer.changed:
            peer.changed.wait_for(lambda: len(peer.confirmed) > 2, 0.2)
        assert len(peer.confirmed) == 2
        # The third comes too, but its sender is made to wait.
        wait_until(lambda: len(passing) == 3, "the third")
        assert len(peer.confirmed) == 2
        assert [item.sop_instance for item in take_all(fetch)] == UIDS
    assert peer.confirmed == [0] * 10


def test_what_does_not_come_is_lost_by_name(tmp_path: Path) -> None:
    peer = Peer(sends=UIDS[:7])
    with fetching(tmp_path, peer, 0) as (fetch, _):
        items = take_all(fetch)

    assert [item.sop_instance for item in items if isinstance(item, Lost)] == UIDS[7:]


def test_objects_sent_on_somebody_elses_account_are_not_ours(tmp_path: Path) -> None:
    peer = Peer(originator="SOMEBODY")
    with fetching(tmp_path, peer, 0) as (fetch, passing):
        items = take_all(fetch)
        assert len(passing) == 0

    assert all(isinstance(item, Lost) for item in items)
    assert peer.stored == UIDS


def test_who_still_sends_when_nobody_waits_is_told(tmp_path: Path) -> None:
    peer = Peer()
    with fetching(tmp_path, peer, 1) as (fetch, _):
        assert peer.wait_for(1)
        left = fetch.close()

        assert peer.wait_for(2)
        assert left == UIDS
        assert peer.wait_for(10)
    # The first was taken in before; nothing of the rest, and none of it stored by the way.
    assert peer.confirmed == [Status.SUCCESS] + [Status.OUT_OF_RESOURCES] * 9
    assert peer.stored == []
