"""What C-MOVE and C-GET share: counting sub-operations and choosing the final status (PS3.4 C.4.2.1
and C.4.3.1; for StatusCodes = classic, spec dimse.md 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from dgate.dicom.encode import encode_data_set
from dgate.net import Association, Message, Status, StatusCategory, category
from dgate.services.identifier import FAILED_SOP_INSTANCE_UID_LIST

_LONGEST_LIST_BYTES = 0xFFFE
"""What a UI element of explicit VR can hold (PS3.5 7.1.2); about a thousand UIDs."""


class End(Enum):
    """How a retrieval came to its end."""

    COMPLETE = "complete"
    """Every object was tried."""
    CANCELLED = "cancelled"
    """By the requester."""
    NO_CONNECTION = "no connection"
    """No association to the destination could be opened, and nothing was sent."""
    BROKEN = "broken"
    """The destination was lost in the middle."""


@dataclass(slots=True)
class SubOperations:
    """The counters of one retrieval."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_instances: list[str] = field(default_factory=list)
    classic: bool = False
    """Whether counters and codes are those of the original (StatusCodes = classic)."""
    was_refused: bool = False
    """Whether the destination refused an object, or was lost over one."""

    def count(self, sop_instance: str, status: int) -> None:
        """Count one sub-operation by the C-STORE status it ended with."""
        self.remaining -= 1
        kind = category(status)
        if kind is StatusCategory.SUCCESS:
            self.completed += 1
        elif kind is StatusCategory.WARNING:
            self.warning += 1
        else:
            self.failed += 1
            self.failed_instances.append(sop_instance)

    def count_sent(self, sop_instance: str, status: int) -> None:
        """Count an object that the destination has answered."""
        self.count(sop_instance, status)
        if category(status) is StatusCategory.FAILURE:
            self.was_refused = True

    def give_up(self, sop_instances: Iterable[str]) -> None:
        """Count as failed what will not be sent any more."""
        for sop_instance in sop_instances:
            self.count(sop_instance, Status.PROCESSING_FAILURE)

    def final_status(self, end: End = End.COMPLETE) -> Status:
        """Return the status of a retrieval that ended so; counters are complete."""
        if self.classic:
            return self._classic_status(end)
        if end is End.CANCELLED:
            return Status.CANCEL
        if self.failed and not self.completed and not self.warning:
            return Status.CANNOT_PERFORM_SUBOPERATIONS
        if self.failed or self.warning:
            return Status.SUBOPERATIONS_FAILED
        return Status.SUCCESS

    def _classic_status(self, end: End) -> Status:
        if end is End.NO_CONNECTION:
            return Status.CLASSIC_NO_CONNECTION
        if end is End.BROKEN or (end is End.COMPLETE and self.was_refused):
            # The original's word for a retrieval that its destination ended.
            return Status.CANCEL
        return Status.SUCCESS

    def respond_pending(self, association: Association, message: Message) -> None:
        """Tell the requester how far the retrieval is."""
        completed, warning = self._told()
        association.respond(
            message,
            Status.PENDING,
            remaining=self.remaining,
            completed=completed,
            failed=self.failed,
            warning=warning,
        )

    def respond_final(
        self, association: Association, message: Message, status: int, comment: str = ""
    ) -> None:
        """Send the last response; the instances that failed are listed with it."""
        data = None
        if self.failed_instances and status != Status.SUCCESS and not self.classic:
            listed = "\\".join(self.failed_instances)
            if len(listed) > _LONGEST_LIST_BYTES:
                listed = listed[:_LONGEST_LIST_BYTES].rpartition("\\")[0]
            data = [
                encode_data_set(
                    {FAILED_SOP_INSTANCE_UID_LIST: listed}, message.context.transfer_syntax, ""
                )
            ]
        completed, warning = self._told()
        association.respond(
            message,
            status,
            data=data,
            comment=comment,
            # Remaining is only allowed in pending and cancelled responses (PS3.7 9.1.4.1.7).
            remaining=self.remaining if status == Status.CANCEL else None,
            completed=completed,
            failed=self.failed,
            warning=warning,
        )

    def _told(self) -> tuple[int, int]:
        """Return completed and warnings; the original counts whatever was tried as completed."""
        if self.classic:
            return self.completed + self.failed + self.warning, 0
        return self.completed, self.warning
