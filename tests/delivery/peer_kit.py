"""A store provider on a loopback port, and stored objects to send to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dgate.archive.devices import Devices
from dgate.archive.export import Exporter
from dgate.archive.records import InstanceRef
from dgate.clock import SystemClock
from dgate.config.settings import Durability, Settings, SopList, default_settings
from dgate.delivery.destination import Destination
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.transcode import convert
from dgate.dicom.uids import EXPLICIT_LE
from dgate.net import (
    STORAGE,
    Association,
    CommandField,
    Listener,
    Message,
    Policy,
    Router,
    Terms,
)
from tests.archive.database_kit import image
from tests.delivery.kit import CT, ref

PATIENT_NAME = 0x00100010


@dataclass
class Arrived:
    """One object as the peer got it."""

    sop_instance: str
    sop_class: str
    syntax: str
    data: bytes
    association: str
    originator: tuple[str, int | None]
    called: str
    calling: str

    @property
    def table(self) -> ElementTable:
        """The data set."""
        return ElementTable(self.data, self.syntax)


@dataclass
class Peer:
    """What a provider is to do, and what it got."""

    statuses: dict[str, int] = field(default_factory=dict)
    """Status by SOP Instance UID; 0 for the others."""
    comment: str = ""
    before_answer: Callable[[Message, Association], None] = lambda message, association: None
    arrived: list[Arrived] = field(default_factory=list)
    proposed: list[int] = field(default_factory=list)
    """How many contexts each association accepted."""
    listener: Listener | None = None

    def destination(self, **changes: Any) -> Destination:
        """Return where the peer is."""
        assert self.listener is not None
        values: dict[str, Any] = {"calling": "GATE", "called": "PEER", "code": "as"}
        return Destination(host="127.0.0.1", port=self.listener.port, **(values | changes))

    def associations(self) -> list[str]:
        """Return the associations in which something arrived, in order."""
        return list(dict.fromkeys(item.association for item in self.arrived))

    def store(self, association: Association, message: Message) -> None:
        """Keep an object and answer."""
        command = message.command
        assert message.payload is not None
        self.before_answer(message, association)
        self.arrived.append(
            Arrived(
                command.sop_instance,
                command.sop_class,
                message.context.transfer_syntax,
                bytes(message.payload.view()),
                association.label,
                (command.originator, command.originator_id),
                association.called,
                association.calling,
            )
        )
        status = self.statuses.get(command.sop_instance, 0)
        association.respond(message, status, comment=self.comment if status else "")


@contextmanager
def provider(
    abstract: frozenset[str] | None = None, transfer: frozenset[str] | None = None
) -> Iterator[Peer]:
    """Run a provider that takes these classes and syntaxes; None = all."""
    peer = Peer()
    router = Router({(CommandField.C_STORE_RQ, STORAGE): peer.store})

    def serve(association: Association) -> None:
        peer.proposed.append(len(association.contexts))
        router.run(association)

    lists = SopList(abstract=abstract, transfer=transfer)
    peer.listener = Listener("127.0.0.1", 0, lambda: Terms(Policy(lists), serve))
    peer.listener.start()
    try:
        yield peer
    finally:
        peer.listener.stop(0.5)


class Store:
    """A device with objects, and the exporter over it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "data"
        self.settings: Settings = default_settings(
            folder, mag_devices=(self.root,), durability=Durability.NONE, ae_title="GATE"
        )
        self.devices = Devices.from_settings(self.settings, SystemClock())
        self.exporter = Exporter(self.devices, self.settings)
        self.bytes: dict[str, bytes] = {}
        """Data set by SOP Instance UID, as stored."""

    def add(
        self,
        number: int,
        *,
        sop_class: str = CT,
        syntax: str = EXPLICIT_LE,
        series: str = "1.2.3.0",
    ) -> InstanceRef:
        """Store object `number` and return where it is."""
        where = ref(number, sop_class=sop_class, series=series)
        plain = image(SOPInstanceUID=where.sop_instance, SOPClassUID=sop_class).tobytes()
        data = convert(plain, EXPLICIT_LE, syntax)
        path = self.root / where.name
        path.parent.mkdir(parents=True, exist_ok=True)
        head = file_meta(sop_class, where.sop_instance, syntax, "TEST")
        path.write_bytes(head + data)
        self.bytes[where.sop_instance] = data
        return where
