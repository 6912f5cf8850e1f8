"""The whole of delivery against DCMTK's storescp: ledger, dispatcher, exporter, association."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery.records import Selection
from dgate.dicom.uids import EXPLICIT_BE, IMPLICIT_LE
from tests.acceptance.processes import (
    START_DEADLINE_S,
    Ports,
    Process,
    find_program,
    peer_environment,
    wait_until,
)
from tests.delivery.gate_kit import Gate
from tests.delivery.kit import MR

pytestmark = pytest.mark.integration


class Sink:
    """A storescp that may come and go."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.folder = folder
        self.log = folder.with_suffix(".log")
        folder.mkdir()
        self._process: Process | None = None

    def start(self, *options: str) -> None:
        """Start it and wait until it listens."""
        command = [find_program("storescp"), *options, "-v", "+B", "-od", str(self.folder)]
        self._process = Process([*command, str(self.port)], self.log, peer_environment())
        self._process.launch()
        self._process.wait_ready(lambda: _listens(self.port), START_DEADLINE_S)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)
            self._process = None

    def received(self) -> set[str]:
        """Return the SOP instances that were written."""
        return {path.name.partition(".")[2] for path in self.folder.iterdir()}

    def data(self) -> set[bytes]:
        """Return the files' contents without their headers' own part."""
        return {path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    ports = Ports()
    running = Sink(tmp_path / "sink", ports.take())
    yield running
    running.stop()
    ports.close()


@pytest.fixture
def gate(tmp_path: Path, sink: Sink) -> Iterator[Gate]:
    opened = Gate(tmp_path, {"SINK": sink.port})
    yield opened
    opened.close()


def test_every_object_arrives_as_it_is_stored(gate: Gate, sink: Sink) -> None:
    sink.start("+xa")
    refs = [gate.store.add(number) for number in range(200)]
    refs.append(gate.store.add(900, sop_class=MR))
    refs.append(gate.store.add(901, syntax=IMPLICIT_LE))
    refs.append(gate.store.add(902, syntax=EXPLICIT_BE))
    gate.owe(*refs)

    gate.dispatcher.start()

    gate.await_states(done=203)
    assert sink.received() == {one.sop_instance for one in refs}
    contents = sink.data()
    assert all(
        any(content.endswith(data) for content in contents) for data in gate.store.bytes.values()
    )
    assert {(entry.attempts, entry.repeats, entry.last_status) for entry in gate.entries()} == {
        (1, 0, 0)
    }


def test_objects_wait_for_a_destination_that_comes_up_later(gate: Gate, sink: Sink) -> None:
    refs = [gate.store.add(number) for number in range(5)]
    gate.dispatcher.start()
    gate.owe(*refs)
    wait_until(lambda: gate.entries()[0].attempts >= 2, "two tries")

    sink.start()

    gate.await_states(done=5)
    assert sink.received() == {one.sop_instance for one in refs}
    assert all(entry.repeats == 0 for entry in gate.entries())


def test_destination_that_dies_in_between_gets_the_rest_later(gate: Gate, sink: Sink) -> None:
    sink.start("--sleep-after", "1")
    refs = [gate.store.add(number) for number in range(4)]
    gate.owe(*refs)
    gate.dispatcher.start()
    wait_until(lambda: len(sink.received()) >= 2, "two objects at the destination")
    sink.stop()
    wait_until(lambda: any(entry.last_error for entry in gate.entries()), "a failure")

    sink.start()

    gate.await_states(done=4)
    assert sink.received() == {one.sop_instance for one in refs}
    assert sum(entry.repeats for entry in gate.entries()) >= 1


@pytest.mark.parametrize(
    ("option", "reason", "repeats"),
    [("--refuse", "reject", False), ("--abort-after", "abort", True), ("--abort-during", "", True)],
)
def test_reason_of_a_failing_destination_is_shown(
    gate: Gate, sink: Sink, option: str, reason: str, repeats: bool
) -> None:
    sink.start(option)
    gate.owe(gate.store.add(1))
    gate.dispatcher.start()

    wait_until(lambda: gate.entries()[0].last_error, "a reason")

    [entry] = gate.entries()
    assert reason in entry.last_error.lower()
    assert (entry.repeats > 0) is repeats
    sink.stop()
    sink.start()
    gate.await_states(done=1)


def test_class_that_the_destination_does_not_take_is_stuck(gate: Gate, sink: Sink) -> None:
    sink.start()
    odd = gate.store.add(1, sop_class="1.2.826.0.1.3680043.2.135.99.1")
    gate.owe(odd, gate.store.add(2))

    gate.dispatcher.start()

    gate.await_states(done=1, stuck=1)
    assert "refused SOP class" in gate.entries()[0].last_error


def test_object_is_converted_for_a_destination_that_takes_only_another_syntax(
    gate: Gate, sink: Sink
) -> None:
    sink.start("+xi")
    gate.owe(gate.store.add(1))

    gate.dispatcher.start()

    gate.await_states(done=1)
    [content] = sink.data()
    assert IMPLICIT_LE.encode() in content[:400]


def test_several_rules_deliver_one_object_once_each(gate: Gate, sink: Sink) -> None:
    sink.start()
    stored = gate.store.add(1)
    gate.owe(stored, rule="ExportConverter0.1")
    gate.owe(stored, rule="ExportConverter1.1")

    gate.dispatcher.start()

    gate.await_states(done=2)
    assert sink.log.read_text().count("Received Store Request") == 2


def test_copy_in_the_spool_goes_when_it_has_arrived(gate: Gate, sink: Sink) -> None:
    sink.start()
    stored = gate.store.add(1)
    content = (gate.store.root / stored.name).read_bytes()
    name = gate.store.devices.spool.add([content])
    gate.owe(stored, spool=Path(name), kind=DebtKind.DELIVER)

    gate.dispatcher.start()

    gate.await_states(done=1)
    wait_until(lambda: not list(gate.store.devices.spool.names()), "an empty spool")


def test_stuck_objects_go_after_retry(gate: Gate, sink: Sink, tmp_path: Path) -> None:
    stored = gate.store.add(1)
    path = gate.store.root / stored.name
    path.rename(path.with_suffix(".away"))
    sink.start()
    gate.owe(stored)
    gate.dispatcher.start()
    gate.await_states(stuck=1)
    assert "cannot be found" in gate.entries()[0].last_error
    path.with_suffix(".away").rename(path)

    gate.desk.retry(Selection())
    gate.dispatcher.retry_now()

    gate.await_states(done=1)


def _listens(port: int) -> bool:
    state = f":{port:04X} "
    with Path("/proc/net/tcp").open() as four, Path("/proc/net/tcp6").open() as six:
        return any(state in line and " 0A " in line for line in (*four, *six))
