"""Storage commitment service class: N-ACTION of peers, and N-EVENT-REPORT in both directions
(PS3.4 annex J).

A peer that asks is answered as soon as its request is durable. The report goes out on the same
association when the peer stays silent there, else on one that the dispatcher opens
(`dgate.delivery.commitment.reporting`). Not for what is looked at and written down. Association
threads run the handlers; the service holds no state, a `Companion` belongs to its association.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dgate.delivery.commitment.asking import EventReports
from dgate.delivery.commitment.examining import Answers
from dgate.delivery.commitment.messages import MOST_BYTES, Fault, fate_of_answer, read_request
from dgate.delivery.commitment.requests import OF_NODE, OF_STRANGER, Requests
from dgate.delivery.failures import Fate
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.uids import STORAGE_COMMITMENT_INSTANCE, transfer_syntax
from dgate.errors import DatabaseAway, OutOfSpace, StoreError
from dgate.net import Association, Message, Status
from dgate.net.dimse import describe
from dgate.net.scu import event_report
from dgate.services.statuses import comment

log = logging.getLogger(__name__)


class CommitmentService:
    """Answers requests for storage commitment, and reports about ours."""

    def __init__(
        self,
        requests: Requests,
        answers: Answers,
        reports: EventReports,
        is_node: Callable[[str], bool],
        admit: Callable[[], None],
        temp_dir: Path | None = None,
    ) -> None:
        """`is_node` tells of an AE title whether it is that of a node; `admit` raises OutOfSpace
        where the disk of the database has to keep what is free; `temp_dir` is for requests that are
        too long for memory, None = the system's."""
        self._is_node = is_node
        self._admit = admit
        self._requests = requests
        self._answers = answers
        self._temp_dir = temp_dir
        self._reports = reports

    def payload(self) -> Payload:
        """Return where the data set of an N-ACTION goes: a long one to a file without a name."""
        payload: Payload

        def spill() -> SpillFile:
            if self._temp_dir is not None:
                self._temp_dir.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix="dgate-", dir=self._temp_dir)
            path = Path(name)
            path.unlink()
            # So that a longer one, which is refused by its length, does not take much of the disk.
            return SpillFile(descriptor, path, 0, has_room=lambda _: payload.size <= MOST_BYTES)

        payload = Payload(spill)
        return payload

    def action(self, association: Association, message: Message) -> None:
        """Answer an N-ACTION when it is durable that a report is owed."""
        where = {"assoc": association.label}
        peer = association.calling
        try:
            self._admit()
            request = read_request(message)
            limits = OF_NODE if self._is_node(peer) else OF_STRANGER
            token = self._requests.enter(request, peer, association.called, limits, self._is_node)
        except Fault as exc:
            log.warning(
                "A request of %s for storage commitment was answered %s: %s",
                peer,
                describe(exc.status),
                exc.what,
                extra=where,
            )
            association.respond(message, exc.status, comment=exc.what)
            return
        except StoreError as exc:
            log.error("A request of %s cannot be written down: %s", peer, exc, extra=where)
            passing = isinstance(exc, OutOfSpace | DatabaseAway)
            status = Status.RESOURCE_LIMITATION if passing else Status.PROCESSING_FAILURE
            association.respond(message, status, comment=comment(exc))
            return
        companion = association.companion
        if not isinstance(companion, _Reporting):
            companion = _Reporting(self._requests, self._answers, peer)
            association.companion = companion
        companion.add(message.context.id, token)
        association.respond(message)

    def event(self, association: Association, message: Message) -> None:
        """Answer an N-EVENT-REPORT on an association that the peer opened."""
        self._reports.answer(association, message, apart=True)


class _Reporting:
    """Reports on the association that the peer has asked on (`dgate.net.association.Companion`)."""

    def __init__(self, requests: Requests, answers: Answers, peer: str) -> None:
        self._requests = requests
        self._answers = answers
        self._peer = peer
        self._waiting: deque[tuple[int, str]] = deque()
        """Context and token of what is to be reported."""
        self._sent: dict[int, tuple[str, str]] = {}
        """Token and summary of what was reported and has not been answered, by message ID."""
        self._left: list[str] = []
        """Tokens of what another association is for."""

    def add(self, context_id: int, token: str) -> None:
        """Owe a report."""
        if all(token != waiting for _, waiting in self._waiting):
            self._waiting.append((context_id, token))

    def is_waiting(self) -> bool:
        """Tell whether a report is owed that may go out now: one operation at a time, since no
        other number was negotiated (PS3.7 D.3.3.3)."""
        return bool(self._waiting) and not self._sent

    def quiet(self, association: Association) -> None:
        """Send the first report that is owed, unless the peer speaks up while it is worked out."""
        context_id, token = self._waiting.popleft()
        try:
            waiting = self._requests.load(token)
            if waiting is None:
                return
            syntax = association.contexts[context_id].transfer_syntax
            if transfer_syntax(syntax).deflated:
                self._left.append(token)
                return
            if not self._answers.prepare(token, waiting, lambda: association.is_quiet(0.0)):
                self._waiting.appendleft((context_id, token))
                return
            answer = self._answers.answer(token, waiting)
            if answer is None:
                return
        except StoreError as exc:
            log.error("What %s is to be told cannot be found out now: %s", self._peer, exc)
            self._left.append(token)
            return
        command = event_report(
            association, context_id, STORAGE_COMMITMENT_INSTANCE, answer.event_type
        )
        self._sent[command.message_id] = (token, str(answer))
        try:
            association.send(context_id, command, answer.pieces(association.called, syntax))
        except StoreError as exc:
            # Also when nothing has gone out yet: the peer would wait for it. What was sent goes to
            # another association then.
            log.warning("The report to %s was broken off: %s", self._peer, exc)
            association.abort("a report could not be made")

    def answered(self, message: Message) -> bool:
        """Close what the peer has taken."""
        command = message.command
        found = self._sent.pop(command.message_id_responded or 0, None)
        if found is None:
            return False
        token, text = found
        status = command.outcome
        if fate_of_answer(status) is not Fate.DONE:
            log.warning("%s answered the report %s.", self._peer, describe(status))
            self._left.append(token)
        elif self._written(lambda: self._requests.close(token, status, text)):
            log.info("%s was told: %s.", self._peer, text)
        return True

    def ended(self) -> None:
        """Leave what was not taken to another association."""
        tokens = [token for _, token in self._waiting]
        tokens += [token for token, _ in self._sent.values()]
        for token in (*tokens, *self._left):
            self._written(partial(self._requests.hasten, token))

    def _written(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except StoreError as exc:
            # The debt stands as it was, and is paid when it is due.
            log.error("The report to %s cannot be written down: %s", self._peer, exc)
            return False
        return True
