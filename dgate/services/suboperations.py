"""What C-MOVE and C-GET share: counting sub-operations and choosing the final status (PS3.4 C.4.2.1
and C.4.3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dgate.dicom.encode import encode_data_set
from dgate.net import Association, Message, Status, StatusCategory, category
from dgate.services.identifier import FAILED_SOP_INSTANCE_UID_LIST

_LONGEST_LIST_BYTES = 0xFFFE
"""What a UI element of explicit VR can hold (PS3.5 7.1.2); about a thousand UIDs."""


@dataclass(slots=True)
class SubOperations:
    """The counters of one retrieval."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_instances: list[str] = field(default_factory=list)

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

    def final_status(self) -> Status:
        """Return the status of a retrieval that ran to its end."""
        if self.failed and not self.completed and not self.warning:
            return Status.CANNOT_PERFORM_SUBOPERATIONS
        if self.failed or self.warning:
            return Status.SUBOPERATIONS_FAILED
        return Status.SUCCESS

    def respond_pending(self, association: Association, message: Message) -> None:
        """Tell the requester how far the retrieval is."""
        association.respond(
            message,
            Status.PENDING,
            remaining=self.remaining,
            completed=self.completed,
            failed=self.failed,
            warning=self.warning,
        )

    def respond_final(
        self, association: Association, message: Message, status: int, comment: str = ""
    ) -> None:
        """Send the last response; the instances that failed are listed with it."""
        data = None
        if self.failed_instances and status != Status.SUCCESS:
            listed = "\\".join(self.failed_instances)
            if len(listed) > _LONGEST_LIST_BYTES:
                listed = listed[:_LONGEST_LIST_BYTES].rpartition("\\")[0]
            data = [
                encode_data_set(
                    {FAILED_SOP_INSTANCE_UID_LIST: listed}, message.context.transfer_syntax, ""
                )
            ]
        association.respond(
            message,
            status,
            data=data,
            comment=comment,
            # Remaining is only allowed in pending and cancelled responses (PS3.7 9.1.4.1.7).
            remaining=self.remaining if status == Status.CANCEL else None,
            completed=self.completed,
            failed=self.failed,
            warning=self.warning,
        )
