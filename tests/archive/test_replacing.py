"""Reading an object that another gateway is just replacing, with one PostgreSQL and one device."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dgate.archive.export import Exporter
from dgate.archive.folder import FolderDevice
from dgate.archive.ownership import Owner
from dgate.archive.records import InstanceRef
from dgate.archive.replacing import Replacing
from dgate.config.settings import Durability, Engine
from tests.acceptance.processes import wait_until
from tests.archive.intake_kit import SOP, Station, data_set, open_station

if TYPE_CHECKING:
    from tests.servers import PostgresServer

PATIENCE_S = 120.0


class Pair:
    """A gateway that stores and another that delivers."""

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        settings = postgres.settings(durability=Durability.NONE)
        self.one, self.other = (
            open_station(folder, owner=Owner.named(name, shared=True), **settings)
            for name in ("one", "other")
        )
        self.exporter = Exporter(
            self.other.devices,
            self.other.settings,
            replacing=Replacing.of(self.other.database),
        )

    def read(self, ref: InstanceRef) -> bytes:
        """Return the data set as the other gateway would send it."""
        with self.exporter.table(ref) as table:
            return bytes(table.tobytes())

    @contextmanager
    def replacing(self, content: bytes) -> Iterator[threading.Event]:
        """Have the first gateway stand still between commit and renaming of another content."""
        device = self.one.devices.get("MAG0")
        assert isinstance(device, FolderDevice)
        publish, arrived, go_on = device.publish, threading.Event(), threading.Event()

        def late(staged: str, name: str, *, keep_previous: bool) -> Set[Path]:
            arrived.set()
            assert go_on.wait(PATIENCE_S)
            return publish(staged, name, keep_previous=keep_previous)

        device.publish = late  # type: ignore[method-assign]
        sending = threading.Thread(target=self.one.send, args=(content,))
        sending.start()
        try:
            assert arrived.wait(PATIENCE_S)
            yield go_on
        finally:
            go_on.set()
            sending.join(PATIENCE_S)
            device.publish = publish  # type: ignore[method-assign]
        assert not sending.is_alive()


@pytest.fixture
def pair(tmp_path: Path, postgres: PostgresServer) -> Iterator[Pair]:
    made = Pair(tmp_path, postgres)
    yield made
    for station in (made.one, made.other):
        station.index.close()
        station.close()


def test_acknowledged_content_is_sent_before_its_file_has_the_name(pair: Pair) -> None:
    old, new = data_set(InstanceNumber="1"), data_set(InstanceNumber="22")
    pair.one.send(old)
    # Now: the gateway that stands still answers nothing.
    ref, path = pair.one.ref(), pair.one.path()
    assert pair.read(ref) == old

    with pair.replacing(new) as go_on:
        under_its_name = path.read_bytes()
        assert pair.read(ref) == new
        assert path.read_bytes() == under_its_name
        go_on.set()
        wait_until(lambda: path.read_bytes() != under_its_name, "the renaming")
        assert pair.read(ref) == new

    assert pair.read(ref) == new
    assert pair.one.content(SOP) == new


def test_note_of_another_gateway_is_not_dropped_with_an_older_one(pair: Pair) -> None:
    """The gateway that delivers has replaced the object itself before, and cleans up now."""
    newest = data_set(StudyDescription="Newest")
    pair.other.send(data_set())
    pair.other.send(data_set(StudyDescription="Newer"))
    # With the next object the folder is synced, so that the note may go with the one after it.
    pair.other.send(data_set(SOPInstanceUID="1.2.9"), sop_instance="1.2.9")
    ref = pair.one.ref()

    with pair.replacing(newest):
        pair.other.send(data_set(SOPInstanceUID="1.2.10"), sop_instance="1.2.10")
        assert pair.one.rewrites() == [SOP]
        assert pair.read(ref) == newest

    assert pair.read(ref) == newest


def test_note_goes_with_a_later_object(pair: Pair) -> None:
    for _ in range(2):
        pair.one.send(data_set())
    for number in (9, 10):
        assert pair.one.rewrites() == [SOP]
        sop_instance = f"1.2.{number}"
        pair.one.send(data_set(SOPInstanceUID=sop_instance), sop_instance=sop_instance)

    assert pair.one.rewrites() == []


def test_file_that_was_never_committed_is_not_sent(pair: Pair) -> None:
    old, new = data_set(InstanceNumber="1"), data_set(InstanceNumber="22")
    pair.one.send(old)
    ref = pair.one.ref()
    with pair.replacing(new):
        pass
    device = pair.one.devices.get("MAG0")
    assert isinstance(device, FolderDevice)
    device.stage(SOP, ref.name, [b"not what the index notes"], rewrites=True)

    assert pair.read(ref) == new


def test_gateway_that_is_alone_does_not_ask(tmp_path: Path) -> None:
    station: Station = open_station(tmp_path)
    assert station.settings.engine is Engine.SQLITE
    assert Replacing.of(station.database) is None
    station.close()
