"""A whole gateway inside the test process, on a folder and a port of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.scripting import Archive
from dgate.config.settings import load
from dgate.config.template import new_set
from dgate.dicom.element import tag_of
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE
from dgate.gateway import Gateway
from dgate.services.peers import Peers
from dgate.surroundings import Outreach
from tests.acceptance.harness import _with_key
from tests.acceptance.processes import Ports
from tests.archive.intake_kit import data_set

AE = "SITE"


@dataclass(frozen=True)
class Site:
    """A running gateway."""

    folder: Path
    gateway: Gateway

    @property
    def outreach(self) -> Outreach:
        """What its scripts talk to."""
        world = self.gateway.generation.hooks.world
        assert world is not None
        assert world.outreach is not None
        return world.outreach

    @property
    def archive(self) -> Archive:
        """Its archive as scripts see it."""
        archive = self.outreach.archive
        assert isinstance(archive, Archive)
        return archive

    @property
    def peers(self) -> Peers:
        """Other nodes as its scripts see them; it is one itself."""
        peers = self.outreach.peers
        assert isinstance(peers, Peers)
        return peers

    def add(self, number: int, **elements: object) -> str:
        """Store an object of study 1.2.3.1 by scripts' way; return its SOP Instance UID."""
        made = instance(number, **elements)
        self.archive.add(made)
        return made.text(0x00080018)

    def instances(self) -> list[str]:
        """Return the SOP Instance UIDs of what is stored."""
        rows = self.archive.query("DICOMImages", "SOPInstanc", "", "SOPInstanc")
        return [row[0] for row in rows or []]


def instance(number: int, **elements: object) -> ElementTable:
    """Return the object with a number."""
    values = {"SOPInstanceUID": f"1.2.3.1.1.{number}", "InstanceNumber": str(number)} | elements
    return ElementTable(data_set(**values), EXPLICIT_LE)


def query(**texts: str) -> ElementTable:
    """Return an object with these elements, by keyword or `x` and tag in hex."""
    table = ElementTable(b"", EXPLICIT_LE)
    for name, text in texts.items():
        tag = int(name[1:], 16) if name[0] == "x" else tag_of(name)
        assert tag is not None
        table.set_text(tag, text)
    return table


@contextmanager
def running_site(folder: Path, ports: Ports, *nodes: str, **keys: str) -> Iterator[Site]:
    """Run a gateway; `nodes` are further lines of acrnema.map, `keys` are set in dicom.ini."""
    folder.mkdir()
    port = ports.take()
    for name, content in new_set(AE, port).items():
        text = content.decode()
        if name == "acrnema.map":
            text += "\n".join(("", f"{AE} 127.0.0.1 {port} as", *nodes, ""))
        if name == "dicom.ini":
            for key, value in keys.items():
                text = _with_key(text, key, value)
        (folder / name).write_text(text)
    gateway = Gateway(load(folder))
    gateway.start()
    try:
        yield Site(folder, gateway)
    finally:
        gateway.stop()
