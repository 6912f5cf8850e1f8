"""What the data sets of N-CREATE and N-SET say of a performed procedure step (PS3.4 F.7.2, PS3.3
C.4.13 to C.4.15).

Modalities leave much out, so only that is demanded which has an effect here: status, study, and the
UIDs of what is named. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dgate.archive.steps import PerformedSeries, Step, StepChange, StepState
from dgate.config.steps_check import PERFORMED_STEP
from dgate.dicom.deflate import TooLong, inflate_all
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, is_uid, transfer_syntax
from dgate.errors import DgateError, NotDicom
from dgate.net import Message, Status
from dgate.net.dimse import LONGEST_LIST

MOST_OBJECTS = 20_000
"""References to objects in one step, also to the same one; each object is looked for in the
index."""
MOST_SERIES = 5_000
"""Items of the Performed Series Sequence."""
MOST_SCHEDULED = 100
"""Items of the Scheduled Step Attributes Sequence."""

STATUS = 0x00400252
SCHEDULED = 0x00400270
STUDY = 0x0020000D
SERIES = 0x0020000E
PERFORMED_SERIES = 0x00400340
IMAGES = 0x00081140
NON_IMAGES = 0x00400220
SOP_INSTANCE = 0x00081155
_ACCESSION = 0x00080050
_PATIENT_ID = 0x00100020
_STATION = 0x00400241
_STEP_ID = 0x00400253
_MODALITY = 0x00080060
_BEGUN = (0x00400244, 0x00400245)
"""Performed Procedure Step Start Date and Time."""
_ENDED = (0x00400250, 0x00400251)
"""Performed Procedure Step End Date and Time."""


class Fault(DgateError):
    """What a modality sent cannot be taken; `status` is what it is answered (PS3.7 10.1)."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        attributes: tuple[int, ...] = (),
        error_id: int | None = None,
    ) -> None:
        super().__init__(what)
        self.status = status
        self.attributes = attributes
        """Attribute Identifier List (0000,1005): which attributes are missing."""
        self.error_id = error_id


def instance_of(sop_class: str, uid: str) -> str:
    """Return the UID of the step that a command is about; raises Fault."""
    if sop_class not in ("", PERFORMED_STEP):
        raise Fault(Status.NO_SUCH_SOP_CLASS, "this context is for performed procedure steps")
    if not is_uid(uid):
        raise Fault(Status.INVALID_SOP_INSTANCE, "the SOP Instance UID is no UID")
    return uid


def read_begun(message: Message, uid: str, peer: str) -> Step:
    """Return the step that an N-CREATE tells of; raises Fault."""
    table = _table(message)
    state = _state(table)
    if state is not StepState.IN_PROGRESS:
        # PS3.4 F.7.2.1.2: it is created when it begins.
        raise Fault(Status.INVALID_ATTRIBUTE_VALUE, "a new step has to be IN PROGRESS")
    studies: list[str] = []
    accession = ""
    for item in _items(table, SCHEDULED, _Room(MOST_SCHEDULED)):
        studies.append(_uid(item, STUDY, "Study Instance UID"))
        accession = accession or item.text(_ACCESSION)
    if not studies:
        raise _absent(table, SCHEDULED, "Scheduled Step Attributes Sequence")
    return Step(
        uid,
        state,
        tuple(dict.fromkeys(studies)),
        peer,
        station=table.text(_STATION),
        step_id=table.text(_STEP_ID),
        modality=table.text(_MODALITY),
        patient=table.text(_PATIENT_ID),
        accession=accession,
        begun=_moment(table, _BEGUN),
        ended=_moment(table, _ENDED),
        series=_series(table),
    )


def read_change(message: Message) -> StepChange:
    """Return what an N-SET changes; raises Fault.

    A sequence that is sent takes the place of the one that is known, as a whole. Attributes that an
    N-SET must not have, such as study and station, are not looked at (PS3.4 table F.7.2-1).
    """
    table = _table(message)
    return StepChange(
        state=_state(table) if STATUS in table else None,
        ended=_moment(table, _ENDED) if _ENDED[0] in table else None,
        series=_series(table) if PERFORMED_SERIES in table else None,
    )


def _table(message: Message) -> ElementTable:
    payload = message.payload
    if payload is None:
        raise Fault(Status.MISSING_ATTRIBUTE, "there is no data set", attributes=(STATUS,))
    if payload.overflowed:
        raise Fault(Status.RESOURCE_LIMITATION, "the data set is too long")
    try:
        syntax = message.context.transfer_syntax
        if not transfer_syntax(syntax).deflated:
            return ElementTable(bytes(payload.view()), syntax)
        return ElementTable(inflate_all(payload.view(), LONGEST_LIST), EXPLICIT_LE)
    except TooLong as exc:
        what = "the data set is too long when inflated"
        raise Fault(Status.RESOURCE_LIMITATION, what) from exc
    except NotDicom as exc:
        raise Fault(Status.PROCESSING_FAILURE, exc.what) from exc


def _state(table: ElementTable) -> StepState:
    text = table.text(STATUS).strip()
    if not text:
        raise _absent(table, STATUS, "Performed Procedure Step Status")
    try:
        return StepState(text)
    except ValueError as exc:
        raise Fault(
            Status.INVALID_ATTRIBUTE_VALUE, f"{text[:16]!r} is no Performed Procedure Step Status"
        ) from exc


def _absent(table: ElementTable, tag: int, name: str) -> Fault:
    """Return the fault for an attribute that is missing, or has no value."""
    if tag in table:
        return Fault(Status.MISSING_ATTRIBUTE_VALUE, f"{name} has no value")
    return Fault(Status.MISSING_ATTRIBUTE, f"{name} is missing", attributes=(tag,))


def _uid(table: ElementTable, tag: int, name: str) -> str:
    uid = table.text(tag).strip()
    if not uid:
        raise _absent(table, tag, name)
    if not is_uid(uid):
        raise Fault(Status.INVALID_ATTRIBUTE_VALUE, f"{name} is no UID")
    return uid


@dataclass(slots=True)
class _Room:
    """How many items there may be yet; several sequences may share it."""

    items: int


def _items(table: ElementTable, tag: int, room: _Room) -> Iterator[ElementTable]:
    """Yield the items as they are read: anybody may send a list of any length."""
    try:
        for item in table.each_item(tag):
            if not room.items:
                where = f"{tag >> 16:04X},{tag & 0xFFFF:04X}"
                raise Fault(Status.RESOURCE_LIMITATION, f"there are too many items in ({where})")
            room.items -= 1
            yield item
    except NotDicom as exc:
        raise Fault(Status.PROCESSING_FAILURE, exc.what) from exc


def _series(table: ElementTable) -> tuple[PerformedSeries, ...]:
    found: list[PerformedSeries] = []
    room = _Room(MOST_OBJECTS)
    for item in _items(table, PERFORMED_SERIES, _Room(MOST_SERIES)):
        objects: dict[str, None] = {}
        for tag in (IMAGES, NON_IMAGES):
            for reference in _items(item, tag, room):
                objects[_uid(reference, SOP_INSTANCE, "Referenced SOP Instance UID")] = None
        series = item.text(SERIES).strip()
        if series and not is_uid(series):
            raise Fault(Status.INVALID_ATTRIBUTE_VALUE, "Series Instance UID is no UID")
        found.append(PerformedSeries(series, tuple(objects)))
    return tuple(found)


def _moment(table: ElementTable, tags: tuple[int, int]) -> str:
    """Return date and time as digits; as much of it as there is."""
    date, time = (table.text(tag).strip() for tag in tags)
    return date + time.partition(".")[0] if date else ""
