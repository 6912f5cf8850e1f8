"""A peer of pynetdicom's that stores objects and commits to them as a test says, and one that asks
for commitment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, Association, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_role

from tests.acceptance.harness import Node
from tests.reactor import steadied

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"
VERIFICATION = "1.2.840.10008.1.1"
SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
STORAGE = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2")

Reasons = Callable[[str], int | None]
"""Says why an object, by its SOP Instance UID, is not committed to; None where it is."""


def report_of(asked: Dataset, reasons: Reasons) -> tuple[int, Dataset]:
    """Return event type and information for a request."""
    committed, failed = [], []
    for item in asked.ReferencedSOPSequence:
        reason = reasons(item.ReferencedSOPInstanceUID)
        entry = Dataset()
        entry.ReferencedSOPClassUID = item.ReferencedSOPClassUID
        entry.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
        if reason is None:
            committed.append(entry)
        else:
            entry.FailureReason = reason
            failed.append(entry)
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    if committed:
        report.ReferencedSOPSequence = committed
    if failed:
        report.FailedSOPSequence = failed
    return (2 if failed else 1), report


@dataclass
class Committer:
    """Stores objects, takes N-ACTION requests, and reports when `report` is called, or at once."""

    title: str
    home_port: int
    """Where the gateway listens."""
    home: str = "DGATE"
    way: str = "apart"
    """`same` association, `apart` on a new one, or `never`."""
    offers: bool = True
    """False: the SOP class is refused."""
    action_status: int = 0
    reasons: Reasons = lambda instance: None
    roles: bool = True
    """Whether it proposes to be SCP when it opens an association."""
    stored: list[str] = field(default_factory=list)
    asked: list[Dataset] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """What the gateway answered to the reports."""
    port: int = 0

    def __post_init__(self) -> None:
        self._server: Any = None
        self._threads: list[threading.Thread] = []

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node(self.title, self.port)

    def start(self) -> Committer:
        """Listen, on the same port as before."""
        entity = AE(ae_title=self.title)
        entity.maximum_associations = 50
        for sop_class in (VERIFICATION, *STORAGE):
            entity.add_supported_context(sop_class, SYNTAXES)
        if self.offers:
            entity.add_supported_context(PUSH_MODEL, SYNTAXES)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action)]
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers
        )
        self.port = self._server.server_address[1]
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        for thread in self._threads:
            thread.join(60)

    @property
    def instances(self) -> list[list[str]]:
        """Return the SOP Instance UIDs of each request."""
        return [
            [item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence]
            for asked in self.asked
        ]

    def report(self, asked: Dataset) -> int:
        """Report on an association of its own; returns the gateway's answer."""
        event, information = report_of(asked, self.reasons)
        return self.send(event, information)

    def send(self, event: int, information: Dataset, instance: str = PUSH_INSTANCE) -> int:
        """Send any report; returns the gateway's answer, -1 without association."""
        entity = AE(ae_title=self.title)
        entity.add_requested_context(PUSH_MODEL, SYNTAXES)
        roles: list[SCP_SCU_RoleSelectionNegotiation] = []
        if self.roles:
            roles = [build_role(PUSH_MODEL, scu_role=False, scp_role=True)]
        association = entity.associate(
            "127.0.0.1", self.home_port, ae_title=self.home, ext_neg=roles
        )
        if not association.is_established:
            return -1
        status, _ = association.send_n_event_report(information, event, PUSH_MODEL, instance)
        association.release()
        answer = int(status.Status) if "Status" in status else -1
        self.answers.append(answer)
        return answer

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def _action(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(asked)
        self.callers.append(event.assoc.requestor.ae_title)
        if self.action_status:
            return self.action_status, None
        if self.way == "apart":
            self._in_thread(lambda: self.report(asked))
        elif self.way == "same":
            self._in_thread(lambda: self._report_on(event.assoc, asked))
        return 0, None

    def _report_on(self, association: Association, asked: Dataset) -> None:
        event, information = report_of(asked, self.reasons)
        status, _ = association.send_n_event_report(information, event, PUSH_MODEL, PUSH_INSTANCE)
        self.answers.append(int(status.Status) if "Status" in status else -1)

    def _in_thread(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()


@dataclass
class Asker:
    """Asks for commitment and hears reports, on the association of the request or on its port."""

    title: str
    gateway_port: int
    answer: int = 0
    """The status with which it answers a report."""
    reports: list[tuple[int, Dataset]] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    """Who opened the associations on which reports came, empty for its own."""
    port: int = 0

    def __post_init__(self) -> None:
        self._server: Any = None

    @property
    def node(self) -> Node:
        """Return its line for acrnema.map."""
        return Node(self.title, self.port)

    def listen(self) -> Asker:
        """Take reports on a port."""
        entity = AE(ae_title=self.title)
        entity.add_supported_context(PUSH_MODEL, SYNTAXES, scu_role=False, scp_role=True)
        self._server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._heard)],
        )
        self.port = self._server.server_address[1]
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def open(self, called: str = "DGATE") -> Association:
        """Open an association to the gateway."""
        entity = AE(ae_title=self.title)
        entity.add_requested_context(PUSH_MODEL, SYNTAXES)
        entity.add_requested_context(VERIFICATION, SYNTAXES)
        return steadied(
            entity.associate(
                "127.0.0.1",
                self.gateway_port,
                ae_title=called,
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._heard)],
            )
        )

    def ask(self, association: Association, information: Dataset | None, **changes: Any) -> int:
        """Send an N-ACTION; returns the status of the answer."""
        values = {"action": 1, "sop_class": PUSH_MODEL, "instance": PUSH_INSTANCE} | changes
        status, _ = association.send_n_action(
            information, values["action"], values["sop_class"], values["instance"]
        )
        return int(status.Status)

    def heard(self) -> list[tuple[str, dict[str, int | None]]]:
        """Return the Transaction UID of each report, and the reason for each object."""
        found = []
        for _, report in list(self.reports):
            objects: dict[str, int | None] = {}
            for item in report.get("ReferencedSOPSequence") or []:
                objects[str(item.ReferencedSOPInstanceUID)] = None
            for item in report.get("FailedSOPSequence") or []:
                objects[str(item.ReferencedSOPInstanceUID)] = int(item.FailureReason)
            found.append((str(report.TransactionUID), objects))
        return found

    def _heard(self, event: evt.Event) -> tuple[int, None]:
        self.callers.append(event.assoc.requestor.ae_title)
        self.reports.append((event.request.EventTypeID, event.event_information))
        return self.answer, None


def request_for(
    objects: Iterable[tuple[str, str]], uid: str = "1.2.826.0.1.3680043.8.498.77.1"
) -> Dataset:
    """Return the information of a request for SOP class and instance UIDs."""
    asked = Dataset()
    if uid:
        asked.TransactionUID = uid
    items = []
    for sop_class, sop_instance in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = sop_instance
        items.append(item)
    asked.ReferencedSOPSequence = items
    return asked
