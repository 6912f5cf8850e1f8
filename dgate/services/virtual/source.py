"""Having a virtual server send what is wanted: C-MOVE to ourselves, or C-GET where it must be.

A `Source` belongs to the thread of one retrieval.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from dgate.archive.levels import Level
from dgate.delivery.inquiry import (
    PATIENT_ROOT,
    STUDY_ROOT,
    UNCOMPRESSED,
    encode_identifier,
    model_context,
)
from dgate.delivery.offers import MOST_CONTEXTS, storage_offers
from dgate.errors import DgateError, NoContext, PeerError
from dgate.net import (
    Association,
    Command,
    ContextProposal,
    Message,
    PayloadFactory,
    Status,
    StatusCategory,
    category,
    describe,
    get,
    move,
)
from dgate.services.question import Question
from dgate.services.virtual.remote import Remote, Session

log = logging.getLogger(__name__)

_UNKNOWN_DESTINATION = (
    Status.MOVE_DESTINATION_UNKNOWN,
    Status.CLASSIC_UNKNOWN_DESTINATION,
)
_MOVE, _GET = 2, 3
_ROOTS = (STUDY_ROOT, PATIENT_ROOT)


class Source:
    """One virtual server as the giver of objects."""

    def __init__(
        self,
        remote: Remote,
        question: Question,
        own_title: str,
        sop_classes: Sequence[str],
        on_store: Callable[[Message, str], int],
        payload_factory: PayloadFactory,
        session: Session,
    ) -> None:
        """`on_store(message, called)` takes what comes by C-GET, `called` the server's title.

        `sop_classes` are those to be offered for C-GET, the likely ones first.
        """
        self.remote = remote
        self._question = question
        self._own_title = own_title
        self._offers = deque(storage_offers(sop_classes, MOST_CONTEXTS - len(_ROOTS)))
        self._on_store = on_store
        self._payload_factory = payload_factory
        self._session = session
        self._association: Association | None = None
        self._service = _MOVE

    def pull(
        self, level: Level, values: Mapping[int, str], is_complete: Callable[[], bool]
    ) -> None:
        """Have the objects sent that these unique keys name, until `is_complete`.

        On return the server has sent what it can: what has not arrived will not.

        Raises:
            PeerError: it does not offer retrieval to us, refuses, or went away.
            ConfigError, RuleError: it cannot even be asked.
        """
        if self._service == _GET:
            self._get(level, values, is_complete)
            return
        try:
            self._request(level, values)
        except _CannotMove as exc:
            self.close()
            self._service = _GET
            try:
                self._get(level, values, is_complete)
            except NoContext:
                self._service = _MOVE
                raise exc from None
            log.info("The %s was asked with C-GET, as C-MOVE did not work: %s", self.remote, exc)

    def _get(
        self, level: Level, values: Mapping[int, str], is_complete: Callable[[], bool]
    ) -> None:
        """C-GET over as many associations as it takes to offer every class; the last one stays."""
        for _ in range(len(self._offers)):
            try:
                self._request(level, values)
            except _NothingSent:
                # It may have nothing of these classes; with the others offered it may go well.
                if len(self._offers) == 1:
                    raise
            if is_complete():
                return
            self.close()
            self._offers.rotate(-1)

    def close(self) -> None:
        """Release the association; safe to call twice."""
        association, self._association = self._association, None
        if association is not None:
            with suppress(PeerError):
                association.release()

    def _request(self, level: Level, values: Mapping[int, str]) -> None:
        association = self._open()
        try:
            context = model_context(association, level, self._service)
        except NoContext as exc:
            self.close()
            if self._service == _MOVE:
                raise _CannotMove(exc.what, where=exc.where) from exc
            raise
        data = encode_identifier(
            level,
            values,
            context.transfer_syntax,
            lambda table: self.remote.amend(table, self._question, association),
        )
        final = Command()
        try:
            if self._service == _MOVE:
                responses = move(association, context.id, self._own_title, data)
            else:
                responses = get(
                    association,
                    context.id,
                    data,
                    lambda message: self._on_store(message, association.called),
                    payload_factory=self._payload_factory,
                )
            for response in responses:
                final = response
        except DgateError:
            # Whatever it was, the association cannot be relied on.
            self.close()
            raise
        self._judge(final)

    def _judge(self, final: Command) -> None:
        status = final.outcome
        if category(status) is not StatusCategory.FAILURE or final.completed or final.warning:
            return
        where = self.remote.server.title
        if self._service == _MOVE and status in _UNKNOWN_DESTINATION:
            raise _CannotMove(
                f"it does not know the move destination {self._own_title}",
                where=where,
                remedy=f"add {self._own_title} with this machine's address to its nodes",
            )
        failure = _CannotMove if self._service == _MOVE else _NothingSent
        comment = f" {final.error_comment}".rstrip()
        raise failure(f"the retrieval was answered {describe(status)}{comment}", where=where)

    def _open(self) -> Association:
        if self._association is not None and self._association.is_alive():
            return self._association
        proposals = [ContextProposal(f"{root}.{self._service}", UNCOMPRESSED) for root in _ROOTS]
        if self._service == _GET:
            proposals += self._offers[0]
        self._association = self.remote.connect(proposals, self._session, patient=True)
        return self._association


class _NothingSent(PeerError):
    """A C-GET failed as a whole."""


class _CannotMove(PeerError):
    """The server offers no C-MOVE, or has sent nothing by it."""
