"""Peers whose objects take longer to look after than they stay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind, InstanceRef
from dgate.config.nodes import NodeMap
from dgate.config.settings import Durability, default_settings
from dgate.delivery.commitment import requests as requests_module
from dgate.delivery.commitment.examining import Answers, Examiner
from dgate.delivery.commitment.messages import (
    REPORT_LANE,
    Reference,
    Report,
    Request,
    read_report,
    request_data,
)
from dgate.delivery.commitment.reporting import Reporter
from dgate.delivery.commitment.requests import OWN_ASSOCIATION_S, Requests
from dgate.delivery.errands import Done, Leash
from dgate.delivery.failures import Fate
from dgate.delivery.records import Debt
from dgate.dicom.uids import EXPLICIT_LE, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.net import Association, CommandField, ContextProposal, Message, connect, scu
from dgate.services.commitment import CommitmentService
from tests.acceptance.processes import wait_until
from tests.delivery.commitment.test_ledger import states
from tests.delivery.kit import open_books
from tests.delivery.peer_kit import Store
from tests.net.kit import FAST, PATIENCE_S, serving

pytestmark = pytest.mark.integration
LANE = f"{REPORT_LANE}CT1"


class Slow:
    """An index that answers its first question when the test says so."""

    def __init__(self) -> None:
        self.rows: dict[str, InstanceRef] = {}
        self.asked: list[str] = []
        self.begun = threading.Event()
        self.go = threading.Event()

    def find(self, sop_instance: str) -> InstanceRef | None:
        self.asked.append(sop_instance)
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(PATIENCE_S)
        return self.rows.get(sop_instance)


class House:
    """A gateway that has two objects and serves requests for commitment to them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.books = open_books(folder / "books")
        stack.callback(self.books.archive.close)
        self.slow = Slow()
        store = Store(folder)
        refs = [store.add(number) for number in (1, 2)]
        self.slow.rows = {ref.sop_instance: ref for ref in refs}
        self.references = tuple(Reference(ref.sop_class, ref.sop_instance) for ref in refs)
        archive = self.books.archive
        self.requests = Requests(archive.database, archive.writer, self.books.clock, lambda: None)
        examiner = Examiner(self.slow.find, store.exporter, lambda uid: True, Durability.FULL)
        self.answers = Answers(self.requests, examiner)
        self.told: list[Report] = []
        """On associations that we open."""
        unused: Any = None
        service = CommitmentService(
            self.requests, self.answers, unused, lambda title: True, lambda: None
        )
        handlers = {(CommandField.N_ACTION_RQ, STORAGE_COMMITMENT): service.action}
        self._server = stack.enter_context(serving(handlers=handlers))
        ears = {(CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT): self._hear}
        self._peer = stack.enter_context(serving(handlers=ears))
        # Before the servers are closed: nobody is left to wait for.
        stack.callback(self.slow.go.set)

    def call(self) -> Association:
        """Open an association to the gateway."""
        proposal = ContextProposal(STORAGE_COMMITMENT, (EXPLICIT_LE,))
        return connect("127.0.0.1", self._server.port, "CT1", "GATE", [proposal], timeouts=FAST)

    def ask(self, association: Association) -> None:
        """Ask for commitment to both objects."""

        def never(message: Message) -> None:
            raise AssertionError("a report came before the answer")

        data = request_data(Request("1.2.3", self.references), EXPLICIT_LE)
        answer = scu.action(association, 1, STORAGE_COMMITMENT_INSTANCE, 1, data, never)
        assert answer.status == 0

    def report(self, debt: Debt) -> Done:
        """Tell the peer on an association of our own, as a worker does."""
        line = f"CT1 127.0.0.1 {self._peer.port} un\n".encode()
        nodes = NodeMap.parse(line, "acrnema.map")[0]
        settings = default_settings(self.folder)
        return Reporter(self.requests, self.answers, settings, nodes).report(debt, Leash())

    def _hear(self, association: Association, message: Message) -> None:
        self.told.append(read_report(message))
        association.respond(message)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(tmp_path, stack)


def test_who_releases_while_it_takes_long_is_told_on_a_new_association(house: House) -> None:
    association = house.call()
    house.ask(association)
    assert house.slow.begun.wait(PATIENCE_S)
    leaving = threading.Thread(target=association.release, daemon=True)
    leaving.start()
    assert house.books.claim(LANE) == []

    # It is still being worked out when so long has passed.
    house.books.clock.time += OWN_ASSOCIATION_S
    [debt] = house.books.claim(LANE)
    done = house.report(debt)

    assert done.fate is Fate.DONE
    assert states(house.books, DebtKind.REPORT) == ["done"]
    # What comes of the first look changes nothing, and is told nobody.
    house.slow.go.set()
    leaving.join(PATIENCE_S)
    assert not leaving.is_alive()
    assert [(each.uid, each.committed) for each in house.told] == [("1.2.3", house.references)]
    assert states(house.books, DebtKind.REPORT) == ["done"]
    assert house.requests.load(debt.ref.name) is None


def test_what_was_found_out_when_the_peer_left_is_not_found_out_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "PART_REFERENCES", 1)
    association = house.call()
    house.ask(association)
    assert house.slow.begun.wait(PATIENCE_S)
    association.abort("the peer has no time")
    first, second = (each.sop_instance for each in house.references)

    house.slow.go.set()

    # At once: nobody is left to hear it there.
    debts: list[Debt] = []
    wait_until(lambda: debts.extend(house.books.claim(LANE)) or debts, "the debt")
    [debt] = debts
    assert house.slow.asked == [first]
    assert house.report(debt).fate is Fate.DONE
    assert house.slow.asked == [first, second]
    assert [each.committed for each in house.told] == [house.references]
