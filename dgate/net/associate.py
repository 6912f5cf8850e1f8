"""A-ASSOCIATE-RQ and -AC as values and as bytes (PS3.8 sections 9.3.2 and 9.3.3, PS3.7 annex D).

Unknown items are skipped, as PS3.8 9.3.1 asks; a length that does not fit is a fault. Reading is
written out here because strangers write these bytes: nothing they send may be logged, guessed at or
buffered beyond its size. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from struct import Struct

from dgate.dicom.uids import IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
from dgate.net.pdu import HEADER, PduType

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
MAX_CONTEXTS = 128
ACCEPTED = 0
USER_REJECTION = 1
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

_FIXED = Struct(">HH16s16s32x")
_ITEM = Struct(">BxH")
_ROLE_LENGTH = Struct(">H")
_UINT4 = Struct(">I")

_APPLICATION = 0x10
_CONTEXT_RQ = 0x20
_CONTEXT_AC = 0x21
_ABSTRACT = 0x30
_TRANSFER = 0x40
_USER_INFORMATION = 0x50
_MAX_LENGTH = 0x51
_IMPLEMENTATION_CLASS = 0x52
_ROLE = 0x54
_IMPLEMENTATION_VERSION = 0x55


class AssociateError(ValueError):
    """The bytes are no A-ASSOCIATE-RQ or -AC."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context of an A-ASSOCIATE-RQ."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One presentation context of an A-ASSOCIATE-AC."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Role:
    """What the requestor proposes, or is granted, to be for a SOP class (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The sub-items that dgate reads and writes."""

    max_pdu: int = 0
    implementation_class: str = IMPLEMENTATION_CLASS
    implementation_version: str = IMPLEMENTATION_VERSION
    roles: Mapping[str, Role] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ."""

    called: str
    calling: str
    proposals: tuple[Proposal, ...]
    user: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """An A-ASSOCIATE-AC; the titles are those of the request, sent back (PS3.8 table 9-17)."""

    called: str
    calling: str
    answers: tuple[Answer, ...]
    user: UserInformation


def decode_request(body: bytes) -> AssociateRequest:
    """Decode the body of an A-ASSOCIATE-RQ; raises AssociateError."""
    version, called, calling = _fixed_part(body)
    application = ""
    proposals: dict[int, Proposal] = {}
    user = None
    for kind, item in _items(body, _FIXED.size):
        if kind == _APPLICATION:
            application = _uid(item)
        elif kind == _CONTEXT_RQ:
            proposal = _proposal(item)
            if proposal.id in proposals:
                raise AssociateError(f"presentation context {proposal.id} is proposed twice")
            proposals[proposal.id] = proposal
        elif kind == _USER_INFORMATION:
            user = _user_information(item)
    if not proposals:
        raise AssociateError("no presentation context is proposed")
    return AssociateRequest(
        called,
        calling,
        tuple(proposals.values()),
        user or UserInformation(implementation_class="", implementation_version=""),
        application,
        version,
    )


def decode_accept(body: bytes) -> AssociateAccept:
    """Decode the body of an A-ASSOCIATE-AC; raises AssociateError."""
    _, called, calling = _fixed_part(body)
    answers = []
    user = None
    for kind, item in _items(body, _FIXED.size):
        if kind == _CONTEXT_AC:
            answers.append(_answer(item))
        elif kind == _USER_INFORMATION:
            user = _user_information(item)
    if user is None:
        raise AssociateError("the user information is missing")
    return AssociateAccept(called, calling, tuple(answers), user)


def encode_request(request: AssociateRequest, padding: bytes = b" ") -> bytes:
    """Return the whole PDU; `padding` fills the AE titles (some old peers want NUL)."""
    contexts = b"".join(
        _item(
            _CONTEXT_RQ,
            bytes((proposal.id, 0, 0, 0))
            + _text_item(_ABSTRACT, proposal.abstract_syntax)
            + b"".join(_text_item(_TRANSFER, syntax) for syntax in proposal.transfer_syntaxes),
        )
        for proposal in request.proposals
    )
    return _pdu(PduType.ASSOCIATE_RQ, request, contexts, padding)


def encode_accept(accept: AssociateAccept) -> bytes:
    """Return the whole PDU."""
    contexts = b"".join(
        _item(
            _CONTEXT_AC,
            bytes((answer.id, 0, answer.result, 0)) + _text_item(_TRANSFER, answer.transfer_syntax),
        )
        for answer in accept.answers
    )
    return _pdu(PduType.ASSOCIATE_AC, accept, contexts, b" ")


def _pdu(
    kind: PduType, value: AssociateRequest | AssociateAccept, contexts: bytes, padding: bytes
) -> bytes:
    body = (
        _FIXED.pack(1, 0, _title(value.called, padding), _title(value.calling, padding))
        + _text_item(_APPLICATION, APPLICATION_CONTEXT)
        + contexts
        + _item(_USER_INFORMATION, _encode_user(value.user))
    )
    return HEADER.pack(kind, len(body)) + body


def _encode_user(user: UserInformation) -> bytes:
    roles = b"".join(
        _item(
            _ROLE,
            _ROLE_LENGTH.pack(len(uid)) + uid.encode("latin-1") + bytes((role.scu, role.scp)),
        )
        for uid, role in user.roles.items()
    )
    return (
        _item(_MAX_LENGTH, _UINT4.pack(user.max_pdu))
        + _text_item(_IMPLEMENTATION_CLASS, user.implementation_class)
        + roles
        + _text_item(_IMPLEMENTATION_VERSION, user.implementation_version)
    )


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def _text_item(kind: int, text: str) -> bytes:
    return _item(kind, text.encode("latin-1"))


def _title(title: str, padding: bytes) -> bytes:
    return title.encode("latin-1").ljust(16, padding)


def _fixed_part(body: bytes) -> tuple[int, str, str]:
    if len(body) < _FIXED.size:
        raise AssociateError("the PDU ends within its fixed part")
    version, _, called, calling = _FIXED.unpack_from(body)
    return version, _ae_title(called), _ae_title(calling)


def _items(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    position = start
    while position < len(data):
        if position + _ITEM.size > len(data):
            raise AssociateError("the PDU ends within an item header")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if position + length > len(data):
            raise AssociateError(f"item {kind:02X} is longer than what holds it")
        yield kind, data[position : position + length]
        position += length


def _proposal(item: bytes) -> Proposal:
    abstract = ""
    transfer = []
    for kind, value in _items(item, 4):
        if kind == _ABSTRACT:
            abstract = _uid(value)
        elif kind == _TRANSFER and value:
            transfer.append(_uid(value))
    return Proposal(_context_id(item), abstract, tuple(transfer))


def _answer(item: bytes) -> Answer:
    context_id = _context_id(item)
    syntaxes = [_uid(value) for kind, value in _items(item, 4) if kind == _TRANSFER]
    return Answer(context_id, item[2], syntaxes[0] if syntaxes else "")


def _context_id(item: bytes) -> int:
    if len(item) < 4 or not item[0] & 1:
        raise AssociateError("a presentation context has no odd id")
    return item[0]


def _user_information(item: bytes) -> UserInformation:
    max_pdu = 0
    implementation = version = ""
    roles = {}
    for kind, value in _items(item):
        if kind == _MAX_LENGTH:
            if len(value) != _UINT4.size:
                raise AssociateError("the maximum length is not a number of 4 bytes")
            (max_pdu,) = _UINT4.unpack(value)
        elif kind == _IMPLEMENTATION_CLASS:
            implementation = _uid(value)
        elif kind == _IMPLEMENTATION_VERSION:
            version = _uid(value)
        elif kind == _ROLE:
            uid, role = _role(value)
            roles[uid] = role
    return UserInformation(max_pdu, implementation, version, roles)


def _role(value: bytes) -> tuple[str, Role]:
    if len(value) < 4 or _ROLE_LENGTH.unpack_from(value)[0] + 4 != len(value):
        raise AssociateError("a role selection has a wrong length")
    return _uid(value[2:-2]), Role(bool(value[-2]), bool(value[-1]))


def _uid(raw: bytes) -> str:
    # Latin-1 cannot fail; what is no UID matches no list and no table, so nobody needs to check it
    # again.
    return raw.rstrip(b"\0 ").decode("latin-1")


def _ae_title(raw: bytes) -> str:
    return raw.replace(b"\0", b" ").decode("latin-1").strip()
