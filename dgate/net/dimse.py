"""DIMSE command sets, their statuses, and a fast codec for them (PS3.7 9.3 and annexes C to E).

Not for data sets (`dgate.dicom`) nor for fragments on the wire (`dgate.net.association`). Pure
functions, any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from struct import Struct, error

RESPONSE_BIT = 0x8000
NO_DATA_SET = 0x0101
WITH_DATA_SET = 0x0000
PRIORITY_MEDIUM = 0
LONGEST_LIST = 4 << 20
"""Bytes of an N-ACTION, N-EVENT-REPORT, N-CREATE or N-SET data set that are kept: twenty thousand
references with the longest UIDs."""

_ELEMENT = Struct("<HHI")
_US = Struct("<H")
_TAG = Struct("<HH")
_GROUP_LENGTH = Struct("<HHII")
_STORE_START = Struct("<HHIIHHI")
_STORE_RESPONSE = Struct("<HHIHHHIHHHIHHHIHHHI")
_STORE_RSP = 0x8001
_MESSAGE_ID = 0x0110
_MOVE_DESTINATION = 0x0600
_DATA_SET_TYPE = 0x0800
_MAX_COMMENT = 64
_CONTROL_GROUP = 0x9999


class CommandError(ValueError):
    """A command set cannot be decoded; the association layer answers it with A-ABORT."""


class CommandField(IntEnum):
    """Command Field (0000,0100) of the requests; a response is the same value with bit 15 set."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


class Status(IntEnum):
    """Every DIMSE status that dgate sends or knows by name (PS3.7 annex C; PS3.4 B, C and K).

    Values that mean different things per service have an alias for each.
    """

    SUCCESS = 0x0000
    PENDING = 0xFF00
    PENDING_KEYS_UNSUPPORTED = 0xFF01
    CANCEL = 0xFE00

    OUT_OF_RESOURCES = 0xA700
    CANNOT_COUNT_MATCHES = 0xA701
    CANNOT_PERFORM_SUBOPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    DATA_SET_MISMATCH = 0xA900
    IDENTIFIER_MISMATCH = 0xA900

    COERCED = 0xB000
    SUBOPERATIONS_FAILED = 0xB000
    """C-MOVE and C-GET: complete with one or more failures or warnings."""
    ELEMENTS_DISCARDED = 0xB006
    DATA_SET_WARNING = 0xB007

    CANNOT_UNDERSTAND = 0xC000
    UNABLE_TO_PROCESS = 0xC001
    """C-FIND failed; classic C-MOVE: no destination given."""
    CLASSIC_EMPTY_DESTINATION = 0xC002
    CLASSIC_UNKNOWN_DESTINATION = 0xC003
    CLASSIC_NO_MATCHES = 0xC004
    CLASSIC_NO_CONNECTION = 0xC005
    BLOCKED_QUERY = 0xC011
    """A query converter refused the C-FIND."""
    BLOCKED_RETRIEVE = 0xC013
    """A retrieve converter refused the C-MOVE or C-GET."""

    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    NO_SUCH_ARGUMENT = 0x0114
    INVALID_ARGUMENT_VALUE = 0x0115
    ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
    INVALID_SOP_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    CLASS_INSTANCE_CONFLICT = 0x0119
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORIZED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213


class StatusCategory(Enum):
    """What a status means for the operation (PS3.7 C.1)."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    CANCEL = "cancel"
    PENDING = "pending"


def category(status: int) -> StatusCategory:
    """Return what `status` means, also for values that `Status` does not name (PS3.7 C.1)."""
    if status == Status.SUCCESS:
        return StatusCategory.SUCCESS
    if status in (Status.PENDING, Status.PENDING_KEYS_UNSUPPORTED):
        return StatusCategory.PENDING
    if status == Status.CANCEL:
        return StatusCategory.CANCEL
    if status in (0x0001, Status.ATTRIBUTE_LIST_ERROR, Status.ATTRIBUTE_VALUE_OUT_OF_RANGE):
        return StatusCategory.WARNING
    return StatusCategory.WARNING if status >> 12 == 0xB else StatusCategory.FAILURE


def describe(status: int) -> str:
    """Return a status for people, as `A700 (out of resources)`."""
    try:
        name = Status(status).name.lower().replace("_", " ")
    except ValueError:
        name = category(status).value
    return f"{status:04X} ({name})"


@dataclass(slots=True)
class Command:
    """One command set; `None` and `""` are elements that are absent."""

    command_field: int = 0
    message_id: int = 0
    """Message ID of a request (0000,0110)."""
    message_id_responded: int | None = None
    """Message ID Being Responded To (0000,0120), in responses and C-CANCEL-RQ."""
    has_data_set: bool = False
    """Whether a data set follows (0000,0800)."""
    sop_class: str = ""
    """Affected SOP Class UID (0000,0002)."""
    sop_instance: str = ""
    """Affected SOP Instance UID (0000,1000)."""
    status: int | None = None
    priority: int | None = None
    requested_sop_class: str = ""
    requested_sop_instance: str = ""
    move_destination: str | None = None
    """`None` = absent, `""` = present but empty (spec dimse.md 5.2 tells them apart)."""
    originator: str = ""
    """Move Originator Application Entity Title (0000,1030)."""
    originator_id: int | None = None
    """Move Originator Message ID (0000,1031)."""
    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    error_comment: str = ""
    error_id: int | None = None
    offending_elements: tuple[int, ...] = ()
    attribute_identifiers: tuple[int, ...] = ()
    event_type: int | None = None
    action_type: int | None = None
    extra: bytes = b""
    """Elements of group 9999 behind the command set, as the servers of the original have them
    (spec converters.md section 11), encoded; nothing here acts on what others send in them."""

    @property
    def is_response(self) -> bool:
        """Whether this answers a request."""
        return bool(self.command_field & RESPONSE_BIT)

    @property
    def outcome(self) -> int:
        """Status (0000,0900) of a response; 0110 where it is missing, which is no success."""
        return Status.PROCESSING_FAILURE if self.status is None else self.status

    @property
    def service_class(self) -> str:
        """The SOP class that the command is about, affected or requested."""
        return self.sop_class or self.requested_sop_class


# Every element that dgate reads or writes: tag, field of Command, VR; in the order of their tags
# (PS3.7 annex E). The group length is not among them.
_ELEMENTS: tuple[tuple[int, str, str], ...] = (
    (0x0002, "sop_class", "UI"),
    (0x0003, "requested_sop_class", "UI"),
    (0x0100, "command_field", "US"),
    (0x0110, "message_id", "US"),
    (0x0120, "message_id_responded", "US"),
    (0x0600, "move_destination", "AE"),
    (0x0700, "priority", "US"),
    (_DATA_SET_TYPE, "has_data_set", "US"),
    (0x0900, "status", "US"),
    (0x0901, "offending_elements", "AT"),
    (0x0902, "error_comment", "LO"),
    (0x0903, "error_id", "US"),
    (0x1000, "sop_instance", "UI"),
    (0x1001, "requested_sop_instance", "UI"),
    (0x1002, "event_type", "US"),
    (0x1005, "attribute_identifiers", "AT"),
    (0x1008, "action_type", "US"),
    (0x1020, "remaining", "US"),
    (0x1021, "completed", "US"),
    (0x1022, "failed", "US"),
    (0x1023, "warning", "US"),
    (0x1030, "originator", "AE"),
    (0x1031, "originator_id", "US"),
)


def _read_text(raw: bytes) -> str:
    return raw.strip(b"\0 ").decode("latin-1")


def _read_tags(raw: bytes) -> tuple[int, ...]:
    return tuple(group << 16 | element for group, element in _TAG.iter_unpack(raw))


_FIELDS = {element: (name, vr) for element, name, vr in _ELEMENTS}


def decode_command(data: bytes) -> Command:
    """Decode an implicit VR little endian command set; elements dgate does not use are skipped.

    Raises CommandError for anything that is not a command set.
    """
    command = Command()
    data_set_type = None
    position = 0
    end = len(data)
    unpack_header = _ELEMENT.unpack_from
    try:
        while position < end:
            group, element, length = unpack_header(data, position)
            start = position + 8
            position = start + length
            if position > end or group not in (0, _CONTROL_GROUP):
                raise CommandError("the command set is not made of group 0000 elements")
            if group:
                command.extra += bytes(data[start - 8 : position])
                continue
            field = _FIELDS.get(element)
            if field is None:
                continue
            name, vr = field
            if vr == "US":
                (value,) = _US.unpack(data[start:position])
                if element == _DATA_SET_TYPE:
                    data_set_type = value
                    continue
            elif vr == "AT":
                value = _read_tags(data[start:position])
            else:
                value = _read_text(data[start:position])
            setattr(command, name, value)
    except error as exc:
        raise CommandError("an element of the command set has a wrong length") from exc
    if not command.command_field or data_set_type is None:
        raise CommandError("the command set lacks Command Field or Command Data Set Type")
    command.has_data_set = data_set_type != NO_DATA_SET
    return command


def encode_command(command: Command) -> bytes:
    """Encode `command` with its group length."""
    parts = []
    for element, name, vr in _ELEMENTS:
        value = getattr(command, name)
        if element == _DATA_SET_TYPE:
            value = WITH_DATA_SET if value else NO_DATA_SET
        elif element == _MESSAGE_ID and command.message_id_responded is not None:
            value = None
        if value is None or value == () or (value == "" and element != _MOVE_DESTINATION):
            continue
        raw = _write(vr, value)
        parts.append(_ELEMENT.pack(0, element, len(raw)))
        parts.append(raw)
    return _with_group_length(b"".join(parts)) + command.extra


def store_response(request: Command, status: int) -> bytes:
    """Encode the plain answer to a C-STORE-RQ: `encode_command` where speed matters most."""
    sop_class = uid_bytes(request.sop_class)
    sop_instance = uid_bytes(request.sop_instance)
    # fmt: off
    fixed = _STORE_RESPONSE.pack(
        0, 0x0100, 2, _STORE_RSP,
        0, 0x0120, 2, request.message_id,
        0, 0x0800, 2, NO_DATA_SET,
        0, 0x0900, 2, status,
        0, 0x1000, len(sop_instance),
    )
    # fmt: on
    group_length = 8 + len(sop_class) + len(fixed) + len(sop_instance)
    start = _STORE_START.pack(0, 0, 4, group_length, 0, 2, len(sop_class))
    return start + sop_class + fixed + sop_instance


def uid_bytes(uid: str) -> bytes:
    """Return a UID as it stands in a command set: padded to even length with NUL."""
    raw = uid.encode("latin-1", "replace")
    return raw + b"\0" if len(raw) & 1 else raw


def _write(vr: str, value: object) -> bytes:
    if vr == "US":
        return _US.pack(value)
    if vr == "UI":
        return uid_bytes(str(value))
    if vr == "AT":
        assert isinstance(value, tuple)
        return b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in value)
    text = str(value)
    if vr == "LO":
        # An error comment is made from any text: what LO does not allow is replaced, what is too
        # long is cut.
        text = "".join(char if " " <= char <= "~" and char != "\\" else "?" for char in text)
        text = text[:_MAX_COMMENT]
    raw = text.encode("latin-1", "replace")
    return raw + b" " if len(raw) & 1 else raw


def _with_group_length(body: bytes) -> bytes:
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body
