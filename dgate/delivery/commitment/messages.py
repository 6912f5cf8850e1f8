"""Storage commitment: what is said about it, as values and as data sets (PS3.4 annex J).

Not for who asks (`dgate.delivery.commitment.asking`), who is asked
(`dgate.delivery.commitment.requests`), nor what is written down of it. Pure functions.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dgate.archive.commitmenttable import COMMITMENT_DEVICE
from dgate.archive.records import InstanceRef
from dgate.delivery.failures import Fate, fate_of_status
from dgate.dicom.element import encode_delimiter, encode_header
from dgate.dicom.encode import Content, encode_data_set
from dgate.dicom.scan import ITEM, encoding_of
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    is_uid,
    transfer_syntax,
)
from dgate.errors import DgateError, NotDicom, StoreError
from dgate.net import Message, Status, StatusCategory, category

SYNTAXES = (EXPLICIT_LE, IMPLICIT_LE)
"""Transfer syntaxes that are proposed."""
REQUEST_COMMITMENT = 1
"""The one action type (PS3.4 table J.3-1)."""
ALL_COMMITTED = 1
FAILURES_EXIST = 2
"""The event types (PS3.4 table J.3-2)."""
MOST_REFERENCES = 100_000
"""Objects on one list of a node's; each is looked for in the index and on disk."""
MOST_REPORTED = 20_000
"""Objects on one list of a report to us, which is held in memory."""
MOST_BYTES = 24 << 20
"""Bytes of a request: so many references with the longest UIDs, and what else may stand there."""

DUPLICATE_TRANSACTION = 0x0131
"""Failure Reason: the Transaction UID is that of another request (PS3.3 C.14.1.1)."""

ASKING_LANE = "commitment by "
"""Begins the destination of debts that ask a node; the node's name follows."""
REPORT_LANE = "commitment for "
"""Begins the destination of debts that report to a peer; its AE title follows."""

_TRANSACTION_UID = 0x00081195
_REFERENCED_SEQUENCE = 0x00081199
_FAILED_SEQUENCE = 0x00081198
_FAILURE_REASON = 0x00081197
_REFERENCED_CLASS = 0x00081150
_REFERENCED_INSTANCE = 0x00081155
_RETRIEVE_AE = 0x00080054
_ELEMENT_BYTES = 8
"""Tag, VR and length of a UID or a number, in any transfer syntax."""
_ITEM_BYTES = 8

_REASONS = {
    Status.PROCESSING_FAILURE: "it failed to look after the object",
    Status.NO_SUCH_SOP_INSTANCE: "it does not have the object",
    Status.RESOURCE_LIMITATION: "it has not the resources to keep it",
    Status.SOP_CLASS_NOT_SUPPORTED: "it does not commit to the storage of this SOP class",
    Status.CLASS_INSTANCE_CONFLICT: "it has this instance with another SOP class",
    DUPLICATE_TRANSACTION: "the Transaction UID is in use already",
}


class Reference(NamedTuple):
    """An object as it is named in a request."""

    sop_class: str
    sop_instance: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a data set of an N-ACTION says."""

    uid: str
    """Transaction UID."""
    references: Iterable[Reference]
    """Of what came, read anew each time; raises Fault then."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a data set of an N-EVENT-REPORT says."""

    uid: str
    committed: tuple[Reference, ...]
    failed: Mapping[Reference, int]
    """With the Failure Reason (0008,1197) of each."""

    @property
    def event_type(self) -> int:
        """The event type that fits."""
        return FAILURES_EXIST if self.failed else ALL_COMMITTED


class Fault(DgateError):
    """What a peer sent cannot be taken; `status` is what it is answered (PS3.7 10.1)."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


def new_transaction_uid() -> str:
    """Return a Transaction UID that nobody can guess, as a report is believed by it (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def debt_ref(name: str = "") -> InstanceRef:
    """Return what stands in the place of an object in the debts that ask or report."""
    return InstanceRef(STORAGE_COMMITMENT, "", "", "", "", COMMITMENT_DEVICE, name)


def in_words(reason: int) -> str:
    """Return what a Failure Reason means."""
    words = _REASONS.get(reason)
    return f"{reason:04X} ({words})" if words else f"{reason:04X}"


def fate_of_answer(status: int) -> Fate:
    """Return what the answer to an N-ACTION or N-EVENT-REPORT means for the debt.

    That of a C-STORE by the same status, but for failures that mean there that the peer has the
    object: here nothing was asked for, or told.
    """
    if category(status) in (StatusCategory.SUCCESS, StatusCategory.WARNING):
        return Fate.DONE
    fate = fate_of_status(status)
    return Fate.DOUBTFUL if fate is Fate.DONE else fate


class Finding(NamedTuple):
    """What was found out about an object that is to be committed to."""

    reference: Reference
    reason: int | None
    """Failure Reason; None = committed."""

    @property
    def size(self) -> int:
        """Bytes of its item in a report."""
        uids = sum(_ELEMENT_BYTES + len(uid) + len(uid) % 2 for uid in self.reference)
        return _ITEM_BYTES + uids + (0 if self.reason is None else _ELEMENT_BYTES + 2)


class Sizes(NamedTuple):
    """How long the two sequences of a report are, in bytes."""

    committed: int
    failed: int


def report_pieces(
    uid: str,
    findings: Callable[[], Iterable[Sequence[Finding]]],
    sizes: Sizes,
    retrieve_ae: str,
    syntax: str,
) -> Iterator[bytes]:
    """Yield what `report_data` returns, for a report of any length: part by part of `findings`,
    which are asked for once for each sequence.

    Raises:
        StoreError: the findings are not those that the sizes were counted of, as when the request
            was closed meanwhile; the report must not end then.
    """
    values: dict[int, Content] = {_TRANSACTION_UID: uid}
    if retrieve_ae and sizes.committed:
        values[_RETRIEVE_AE] = retrieve_ae
    yield encode_data_set(values, syntax, "")
    encoding = encoding_of(transfer_syntax(syntax))
    for tag, size in ((_FAILED_SEQUENCE, sizes.failed), (_REFERENCED_SEQUENCE, sizes.committed)):
        if not size:
            continue
        yield encode_header(tag, "SQ", size, encoding)
        left = size
        for part in findings():
            items: list[bytes] = []
            for reference, reason in part:
                if (reason is not None) is (tag == _FAILED_SEQUENCE):
                    item = encode_data_set(_item(reference, reason), syntax, "")
                    items += (encode_delimiter(ITEM, len(item), encoding), item)
            data = b"".join(items)
            left -= len(data)
            if left < 0:
                break
            yield data
        if left:
            raise StoreError("what was found out has changed while it was reported")


def request_data(request: Request, syntax: str) -> bytes:
    """Return the action information of a request."""
    values: dict[int, Content] = {
        _TRANSACTION_UID: request.uid,
        _REFERENCED_SEQUENCE: _items(request.references),
    }
    return encode_data_set(values, syntax, "")


def report_data(report: Report, retrieve_ae: str, syntax: str) -> bytes:
    """Return the event information of a report; `retrieve_ae` is who has the objects."""
    values: dict[int, Content] = {_TRANSACTION_UID: report.uid}
    if retrieve_ae and report.committed:
        values[_RETRIEVE_AE] = retrieve_ae
    if report.committed:
        values[_REFERENCED_SEQUENCE] = _items(report.committed)
    if report.failed:
        values[_FAILED_SEQUENCE] = [_item(*each) for each in report.failed.items()]
    return encode_data_set(values, syntax, "")


def read_request(message: Message) -> Request:
    """Return what an N-ACTION asks for, as long as its payload is there; raises Fault."""
    command = message.command
    _check_names(command.requested_sop_class, command.requested_sop_instance)
    if command.action_type != REQUEST_COMMITMENT:
        raise Fault(Status.NO_SUCH_ACTION, f"there is no action {command.action_type}")
    table = _table(message)
    return Request(_transaction_uid(table), _Listed(table))


def read_report(message: Message) -> Report:
    """Return what an N-EVENT-REPORT says; raises Fault."""
    command = message.command
    _check_names(command.sop_class, command.sop_instance)
    if command.event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise Fault(Status.NO_SUCH_EVENT_TYPE, f"there is no event {command.event_type}")
    table = _table(message)
    failed = {}
    for item in _sequence(table, _FAILED_SEQUENCE, MOST_REPORTED):
        failed[_reference(item)] = _reason(item)
    committed = tuple(
        reference
        for reference in dict.fromkeys(_references(table, _REFERENCED_SEQUENCE, MOST_REPORTED))
        # What stands on both lists is not safe.
        if reference not in failed
    )
    return Report(_transaction_uid(table), committed, failed)


class _Listed:
    """The references of a request, as they are read."""

    def __init__(self, table: ElementTable) -> None:
        self._table = table

    def __iter__(self) -> Iterator[Reference]:
        return iter(_references(self._table, _REFERENCED_SEQUENCE, MOST_REFERENCES))


def _items(references: Iterable[Reference]) -> list[dict[int, Content]]:
    return [_item(each, None) for each in references]


def _item(reference: Reference, reason: int | None) -> dict[int, Content]:
    item: dict[int, Content] = {
        _REFERENCED_CLASS: reference.sop_class,
        _REFERENCED_INSTANCE: reference.sop_instance,
    }
    if reason is not None:
        item[_FAILURE_REASON] = str(reason)
    return item


def _check_names(sop_class: str, sop_instance: str) -> None:
    if sop_class not in ("", STORAGE_COMMITMENT):
        raise Fault(Status.NO_SUCH_SOP_CLASS, "this context is for storage commitment")
    if sop_instance != STORAGE_COMMITMENT_INSTANCE:
        raise Fault(
            Status.NO_SUCH_SOP_INSTANCE, f"the one instance is {STORAGE_COMMITMENT_INSTANCE}"
        )


def _table(message: Message) -> ElementTable:
    payload = message.payload
    if payload is None:
        raise Fault(Status.INVALID_ARGUMENT_VALUE, "there is no data set")
    if payload.overflowed or payload.size > MOST_BYTES:
        raise Fault(Status.RESOURCE_LIMITATION, "the data set is too long")
    if payload.error is not None:
        what = f"the data set cannot be held: {payload.error.strerror}"
        raise Fault(Status.RESOURCE_LIMITATION, what)
    try:
        return ElementTable(payload.view(), message.context.transfer_syntax)
    except NotDicom as exc:
        raise Fault(Status.INVALID_ARGUMENT_VALUE, exc.what) from exc


def _transaction_uid(table: ElementTable) -> str:
    uid = table.text(_TRANSACTION_UID)
    if not uid or not is_uid(uid):
        raise Fault(Status.INVALID_ARGUMENT_VALUE, "there is no Transaction UID")
    return uid


def _reason(item: ElementTable) -> int:
    """Return the Failure Reason; what cannot be one counts as 0110."""
    text = item.text(_FAILURE_REASON)
    # It has the VR that the peer gave it, so that it may be a text of any length.
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 0xFFFF:
        return int(text)
    return int(Status.PROCESSING_FAILURE)


def _sequence(table: ElementTable, tag: int, most: int) -> Iterator[ElementTable]:
    """Yield the items as they are read: anybody may send a list of any length."""
    try:
        for number, item in enumerate(table.each_item(tag)):
            if number == most:
                raise Fault(Status.RESOURCE_LIMITATION, f"more than {most} objects at once")
            yield item
    except NotDicom as exc:
        raise Fault(Status.INVALID_ARGUMENT_VALUE, exc.what) from exc


def _references(table: ElementTable, tag: int, most: int) -> Iterable[Reference]:
    return map(_reference, _sequence(table, tag, most))


def _reference(item: ElementTable) -> Reference:
    found = Reference(item.text(_REFERENCED_CLASS), item.text(_REFERENCED_INSTANCE))
    if not all(map(is_uid, found)):
        raise Fault(Status.INVALID_ARGUMENT_VALUE, "a reference lacks its UIDs")
    return found
