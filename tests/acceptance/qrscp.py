"""DCMTK's dcmqrscp: a small archive with C-FIND, C-MOVE and C-GET, strict about the hierarchy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.acceptance.harness import Node
from tests.acceptance.peers import accepts_connections
from tests.acceptance.processes import (
    START_DEADLINE_S,
    Ports,
    Process,
    find_program,
    peer_environment,
)

_CONFIGURATION = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
{hosts}
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{title} {folder} RW (200, 1024mb) ANY
AETable END
"""


@dataclass(slots=True)
class QrScp:
    """A dcmqrscp with a folder of its own."""

    folder: Path
    port: int
    title: str
    process: Process

    @classmethod
    def create(
        cls,
        folder: Path,
        ports: Ports,
        *,
        title: str = "QRSCP",
        nodes: Iterable[Node] = (),
        options: Iterable[str] = (),
    ) -> Self:
        """Write its configuration; `nodes` are the destinations it knows."""
        storage = folder / "storage"
        storage.mkdir(parents=True)
        port = ports.take()
        hosts = "\n".join(
            f"host{place} = ({node.title}, 127.0.0.1, {node.port})"
            for place, node in enumerate(nodes)
        )
        path = folder / "dcmqrscp.cfg"
        path.write_text(_CONFIGURATION.format(port=port, hosts=hosts, title=title, folder=storage))
        command = [find_program("dcmqrscp"), "-v", "-c", str(path), *options]
        log = folder.parent / f"{folder.name}.log"
        return cls(folder, port, title, Process(command, log, peer_environment()))

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node(self.title, self.port)

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self.process.launch()
        self.process.wait_ready(lambda: accepts_connections(self.port), START_DEADLINE_S)
        return self
