"""The servers that are measured: each one fresh and empty, in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import ORTHANC_LUA, Orthanc, StoreScp
from tests.acceptance.processes import Ports, Process


class Contestant(Enum):
    """Who takes part, with the heading of its column."""

    DGATE = "dgate"
    DGATE_NONE = "dgate, Durability = none"
    STORESCP = "storescp"
    ORTHANC = "Orthanc"
    ORTHANC_UNSYNCED = "Orthanc, SyncStorageArea = false"
    STORESCU = "storescu"
    DGATE_ONE = "dgate, one association"
    DGATE_EMPTY = "dgate, empty ledger"
    DGATE_ASLEEP = "dgate, the dead never tried"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, as far as a work needs to know it."""

    port: int
    title: str
    process: Process
    folder: Path


FEW_FILES = 100


def tidy(place: Path) -> None:
    """Remove a folder now if it holds few files, else leave it to the end of the whole run.

    ext4 does not reuse an inode for minutes after its file was deleted, and passes over all such
    inodes one by one whenever a file is created: thousands of deletions would slow down whoever
    is measured next.
    """
    if sum(len(names) for _, _, names in os.walk(place)) <= FEW_FILES:
        shutil.rmtree(place)


@dataclass(slots=True)
class Stable:
    """Makes servers and receivers in a folder."""

    folder: Path
    ports: Ports
    _count: int = 0

    def new_folder(self) -> Path:
        """Return a folder that nothing has used."""
        self._count += 1
        return self.folder / f"run{self._count}"

    @contextmanager
    def serving(
        self, who: Contestant, *, nodes: Sequence[Node] = (), forward: bool = False
    ) -> Iterator[Server]:
        """Run a fresh server; with forward it sends all it stores to SINK."""
        place = self.new_folder()
        place.mkdir()
        if who in (Contestant.DGATE, Contestant.DGATE_NONE):
            program: Gateway | StoreScp | Orthanc = self._dgate(who, place, nodes, forward)
            title = "DGATE"
        elif who is Contestant.STORESCP:
            program = self._storescp(place / "received", "STORESCP", ())
            title = "STORESCP"
        else:
            program = self._orthanc(who, place, nodes, forward)
            title = "ORTHANC"
        # What the one before has left in memory is written now, not while this one is measured.
        os.sync()
        program.start()
        try:
            yield Server(program.port, title, program.process, place)
        finally:
            program.kill()
            tidy(place)

    @contextmanager
    def sink(self) -> Iterator[StoreScp]:
        """Run a storescp that receives what others send on, under the title SINK."""
        place = self.new_folder()
        place.mkdir()
        sink = self._storescp(place / "sink", "SINK", ("+B",)).start()
        try:
            yield sink
        finally:
            sink.kill()
            tidy(place)

    def _storescp(self, folder: Path, title: str, options: Sequence[str]) -> StoreScp:
        # Not verbose: three lines of log per object would slow it down.
        return StoreScp.create(folder, self.ports, title=title, options=options, verbose=False)

    def _dgate(self, who: Contestant, place: Path, nodes: Sequence[Node], forward: bool) -> Gateway:
        settings: dict[str, object] = {
            "Durability": "none" if who is Contestant.DGATE_NONE else "full"
        }
        if forward:
            settings |= {"ExportConverters": 1, "ExportConverter0": "forward to SINK"}
        return Gateway.create(place / "dgate", self.ports, settings=settings, nodes=nodes)

    def _orthanc(
        self, who: Contestant, place: Path, nodes: Sequence[Node], forward: bool
    ) -> Orthanc:
        settings = {"SyncStorageArea": False} if who is Contestant.ORTHANC_UNSYNCED else {}
        lua = ORTHANC_LUA if forward else ""
        return Orthanc.create(
            place / "orthanc", self.ports, nodes=nodes, settings=settings, lua=lua
        )
