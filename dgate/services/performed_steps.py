"""Modality Performed Procedure Step service class, as provider (PS3.4 F.7).

A modality says by N-CREATE that it has begun a step, and by N-SET that it has completed or
discontinued it, and which objects it has made. Each is answered when it is durable
(`dgate.archive.steps`). What follows from it is not known here. Association threads run the
handlers; the service holds no state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from dgate.archive.steps import Outcome, Step, Steps, StepState
from dgate.config.steps_check import PERFORMED_STEP
from dgate.errors import DatabaseAway, OutOfSpace, StoreError
from dgate.net import Association, Command, CommandField, Handler, Message, Status
from dgate.net.dimse import RESPONSE_BIT, describe
from dgate.services.statuses import comment
from dgate.services.step_data import Fault, instance_of, read_begun, read_change

log = logging.getLogger(__name__)

NO_LONGER_UPDATED = 0xA710
"""Error ID (0000,0903): the step may no longer be updated (PS3.4 F.7.2.2.4)."""
MOST_OF_STRANGER = 100
"""Steps that may be in progress for one AE title which is that of no node..."""
MOST_OF_NODE = 10_000
"""...and for one of a node."""

_REFUSALS = {
    Outcome.EXISTS: Status.DUPLICATE_SOP_INSTANCE,
    Outcome.TOO_MANY: Status.RESOURCE_LIMITATION,
    Outcome.CROWDED: Status.RESOURCE_LIMITATION,
    Outcome.UNKNOWN: Status.NO_SUCH_SOP_INSTANCE,
    Outcome.ENDED: Status.PROCESSING_FAILURE,
}


class PerformedStepService:
    """Keeps what modalities say of the steps that they perform."""

    def __init__(
        self,
        steps: Steps,
        is_node: Callable[[str], bool],
        new_uid: Callable[[], str],
        changed: Callable[[], None],
        admit: Callable[[], None],
    ) -> None:
        """`is_node` tells of an AE title whether it is that of a node; `changed` is called when a
        step has ended. `admit` raises OutOfSpace where the disk of the database has to keep what is
        free."""
        self._steps = steps
        self._is_node = is_node
        self._new_uid = new_uid
        self._changed = changed
        self._admit = admit

    def handlers(self) -> dict[tuple[CommandField, str], Handler]:
        """Return what answers peers."""
        return {
            (CommandField.N_CREATE_RQ, PERFORMED_STEP): self.create,
            (CommandField.N_SET_RQ, PERFORMED_STEP): self.change,
        }

    def create(self, association: Association, message: Message) -> None:
        """Answer an N-CREATE: a step has begun."""
        peer = association.calling
        uid = message.command.sop_instance
        try:
            uid = instance_of(message.command.sop_class, uid or self._new_uid())
            self._admit()
            step = read_begun(message, uid, peer)
            most = MOST_OF_NODE if self._is_node(peer) else MOST_OF_STRANGER
            self._succeed(self._steps.create(step, most))
        except Fault as exc:
            self._refuse(association, message, uid, exc)
            return
        except StoreError as exc:
            self._fail(association, message, uid, exc)
            return
        _log(association, step)
        _answer(association, message, uid)

    def change(self, association: Association, message: Message) -> None:
        """Answer an N-SET: more is known of a step, or it has ended."""
        command = message.command
        uid = command.requested_sop_instance
        try:
            uid = instance_of(command.requested_sop_class, uid)
            self._admit()
            outcome, step = self._steps.change(uid, read_change(message))
            self._succeed(outcome)
        except Fault as exc:
            self._refuse(association, message, uid, exc)
            return
        except StoreError as exc:
            self._fail(association, message, uid, exc)
            return
        assert step is not None, "it was changed"
        _log(association, step)
        _answer(association, message, uid)
        if step.state.is_final:
            self._changed()

    @staticmethod
    def _succeed(outcome: Outcome) -> None:
        """Raise Fault for anything but success."""
        if outcome is not Outcome.DONE:
            error_id = NO_LONGER_UPDATED if outcome is Outcome.ENDED else None
            raise Fault(_REFUSALS[outcome], outcome.value, error_id=error_id)

    @staticmethod
    def _refuse(association: Association, message: Message, uid: str, fault: Fault) -> None:
        log.warning(
            "What %s says of the performed procedure step %r was answered %s: %s",
            association.calling,
            uid[:64],
            describe(fault.status),
            fault.what,
            extra={"assoc": association.label},
        )
        _answer(association, message, uid, fault)

    @staticmethod
    def _fail(association: Association, message: Message, uid: str, error: StoreError) -> None:
        log.error(
            "A performed procedure step of %s cannot be written down: %s",
            association.calling,
            error,
            extra={"assoc": association.label},
        )
        passing = isinstance(error, OutOfSpace | DatabaseAway)
        status = Status.RESOURCE_LIMITATION if passing else Status.PROCESSING_FAILURE
        _answer(association, message, uid, Fault(status, comment(error)))


def _log(association: Association, step: Step) -> None:
    where = {"assoc": association.label}
    if step.state is StepState.IN_PROGRESS:
        log.info("%s has step %s in progress.", association.calling, step.uid, extra=where)
        return
    count = len(step.objects())
    log.info(
        "%s has %s step %s, which names %d object(s).",
        association.calling,
        step.state.value.lower(),
        step.uid,
        count,
        extra=where,
    )


def _answer(
    association: Association, message: Message, uid: str, fault: Fault | None = None
) -> None:
    """Answer an N-CREATE or N-SET; success without `fault` (PS3.7 10.3.5 and 10.3.3)."""
    request = message.command
    response = Command(
        command_field=request.command_field | RESPONSE_BIT,
        message_id_responded=request.message_id,
        sop_class=PERFORMED_STEP,
        sop_instance=uid,
        status=Status.SUCCESS,
    )
    if fault is not None:
        response.status = fault.status
        response.error_comment = fault.what
        response.error_id = fault.error_id
        response.attribute_identifiers = fault.attributes
    association.send(message.context.id, response)
