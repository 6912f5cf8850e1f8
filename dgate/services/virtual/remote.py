"""One virtual server: where it is, and how questions to it and its answers are changed.

Immutable; any thread may use a `Remote`, a `Session` belongs to the thread that opened it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from dgate.config.model import VirtualServer
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.config.virtual import FIX_KODAK, NON_VIRTUAL
from dgate.delivery.destination import resolve
from dgate.delivery.inquiry import PATIENT_ID, Inquiry, find_proposals
from dgate.delivery.opening import open_association
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import IMPLEMENTATION_CLASS
from dgate.errors import Aborted
from dgate.net import Association, ContextProposal, Timeouts
from dgate.rules.events import Event, EventHook, EventHooks
from dgate.rules.hooks import capture
from dgate.services.question import Question, forbid_virtual_servers

CONNECT_S = 5.0
SET_UP_S = 10.0
"""So long an association may take to be set up."""
ANSWER_S = 30.0
"""A virtual server that says nothing for so long is left out; TCPIPTimeOut may be shorter."""
_KODAK_DIGITS = 8


class Session:
    """An association to a virtual server that another thread may cut."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._association: Association | None = None
        self._is_cut = False

    def use(self, association: Association) -> None:
        """Take the association that has just been opened; raises Aborted after `cut`."""
        with self._lock:
            if not self._is_cut:
                self._association = association
                return
        association.abort("nobody waits for it any more")
        raise Aborted("nobody waits for it any more", where=association.called)

    def cut(self) -> None:
        """End the association, or the one that will be opened. For other threads."""
        with self._lock:
            self._is_cut = True
            if self._association is not None:
                self._association.cut()


class Remote:
    """A virtual server."""

    def __init__(
        self, server: VirtualServer, nodes: NodeMap, settings: Settings, events: EventHooks
    ) -> None:
        self.server = server
        self._nodes = nodes
        self._settings = settings
        self._query_hook = events.hook(Event.VIRTUAL_QUERY)
        self._result_hook = events.hook(Event.VIRTUAL_RESULT)
        whole = Timeouts.of(settings.tcpip_timeout_s)
        artim_s = min(SET_UP_S, whole.response_s)
        self._patient = replace(whole, connect_s=CONNECT_S, artim_s=artim_s)
        self._brief = replace(self._patient, response_s=min(ANSWER_S, whole.response_s))

    def __str__(self) -> str:
        """Name it for the log."""
        return f"virtual server {self.server.title}"

    def connect(
        self, proposals: Sequence[ContextProposal], session: Session, *, patient: bool = False
    ) -> Association:
        """Open an association; `patient` waits as long for a response as TCPIPTimeOut says.

        Raises:
            ConfigError: acrnema.map does not name the server, or not properly.
            PeerError: it cannot be reached, or rejects.
        """
        where = resolve(self.server.title, self._nodes, self._settings)
        association = open_association(
            where, proposals, self._settings, self._patient if patient else self._brief
        )
        session.use(association)
        return association

    def inquire(self, question: Question, session: Session) -> tuple[Association, Inquiry]:
        """Open an association for queries; raises what `connect` raises."""
        association = self.connect(find_proposals(), session)
        return association, Inquiry(
            association, lambda table: self.amend(table, question, association), self.receive
        )

    def amend(self, table: ElementTable, question: Question, association: Association) -> None:
        """Make an identifier into one for this server; raises RuleError."""
        if FIX_KODAK in self.server.flags:
            patient_id = table.text(PATIENT_ID).strip()
            if len(patient_id) == _KODAK_DIGITS - 1 and patient_id.isdecimal():
                table.set_text(PATIENT_ID, f"0{patient_id}")
        if NON_VIRTUAL in self.server.flags:
            forbid_virtual_servers(table)
        # Others take a private element for a key that none of their objects matches.
        if association.peer_implementation.startswith(IMPLEMENTATION_CLASS):
            question.mark(table, self._settings.ae_title)
        self._convert(self._query_hook, table)

    def receive(self, table: ElementTable) -> None:
        """Make an answer of this server into one of ours; raises RuleError."""
        if FIX_KODAK in self.server.flags:
            patient_id = table.text(PATIENT_ID).strip()
            if len(patient_id) == _KODAK_DIGITS and patient_id.isdecimal() and patient_id[0] == "0":
                table.set_text(PATIENT_ID, patient_id[1:])
        self._convert(self._result_hook, table)

    def _convert(self, hook: EventHook | None, table: ElementTable) -> None:
        """Run a converter, which may only change the elements (spec converters.md 3)."""
        if hook is not None:
            hook(table, capture(table, self._settings.ae_title, self.server.title), None)
