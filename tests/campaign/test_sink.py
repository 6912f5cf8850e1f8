"""The scripted destination: it writes down what it accepts before it answers, and obeys orders."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.peers import accepts_connections, run_dcmtk
from tests.acceptance.processes import Ports, wait_until
from tests.acceptance.rawdicom import VERIFICATION, Closed, Offer, RawAssociation
from tests.generate import Generated, Kind, Plan, data_set_of, write_files


class Sink:
    """The program, running."""

    def __init__(self, port: int, journal: Path) -> None:
        self.port = port
        self.journal = journal
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.sink", str(port), str(journal)],
            stdin=subprocess.PIPE,
        )
        wait_until(lambda: accepts_connections(port), "the destination")

    def order(self, line: str) -> None:
        """Give it an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def lines(self) -> list[str]:
        """Return what it has written down."""
        return self.journal.read_text().splitlines()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """Return a running destination."""
    ports = Ports()
    sink = Sink(ports.take(), tmp_path / "journal")
    yield sink
    assert sink.process.stdin is not None
    sink.process.stdin.close()
    sink.process.wait()
    ports.close()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Return two small objects."""
    return write_files(tmp_path_factory.mktemp("objects"), Plan(2))


def store(sink: Sink, one: Generated, called: str = "SINK1") -> int:
    """Send an object and return the status."""
    data = data_set_of(one.path.read_bytes())
    with RawAssociation.open(sink.port, [Offer(Kind.SMALL.sop_class)], called=called) as peer:
        return peer.store(one.sop_class, one.sop_instance, data).status


def test_what_is_accepted_is_written_down(sink: Sink, objects: list[Generated]) -> None:
    assert store(sink, objects[0]) == 0
    data = data_set_of(objects[0].path.read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    assert sink.lines() == [f"SINK1 {objects[0].sop_instance} {digest} {len(data)}"]


def test_statuses_are_given_in_turn_and_nothing_is_written_down(
    sink: Sink, objects: list[Generated]
) -> None:
    sink.order("refuse A700 0110")
    wait_until(lambda: store(sink, objects[0]) != 0, "the order to be heard")
    before = len(sink.lines())
    assert {store(sink, objects[0]) for _ in range(2)} == {0xA700, 0x0110}
    assert len(sink.lines()) == before
    sink.order("take")
    wait_until(lambda: store(sink, objects[0]) == 0, "the order to be heard")


def test_associations_are_rejected_for_now(sink: Sink, objects: list[Generated]) -> None:
    sink.order("reject")

    def is_rejected() -> bool:
        try:
            store(sink, objects[0])
        except Closed as closed:
            return "PDU type 3" in str(closed)
        return False

    wait_until(is_rejected, "the order to be heard")


def test_dcmtk_gets_along_with_it(sink: Sink, objects: list[Generated]) -> None:
    run_dcmtk("echoscu", "-aec", "SINK3", "127.0.0.1", str(sink.port))
    paths = [one.path for one in objects]
    run_dcmtk("storescu", "-aec", "SINK3", "127.0.0.1", str(sink.port), *paths)
    assert [line.split()[:2] for line in sink.lines()] == [
        ["SINK3", one.sop_instance] for one in objects
    ]


def test_journal_outlives_a_kill(sink: Sink, objects: list[Generated]) -> None:
    with RawAssociation.open(sink.port) as peer:
        assert peer.echo().status == 0
        assert peer.accepted == {1: peer.offers[1].syntaxes[0]}
        assert peer.offers[1].abstract == VERIFICATION
    assert store(sink, objects[1]) == 0
    sink.process.send_signal(signal.SIGKILL)
    sink.process.wait()
    assert len(sink.lines()) == 1
