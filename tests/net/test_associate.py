"""A-ASSOCIATE PDUs, compared with another implementation."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import (
    ImplementationClassUIDSubItem,
    MaximumLengthSubItem,
    SCP_SCU_RoleSelectionSubItem,
)
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.presentation import build_context, build_role

from dgate.dicom.uids import EXPLICIT_LE, IMPLEMENTATION_CLASS, IMPLICIT_LE, VERIFICATION
from dgate.net.associate import (
    Answer,
    AssociateAccept,
    AssociateError,
    AssociateRequest,
    Proposal,
    Role,
    UserInformation,
    decode_accept,
    decode_request,
    encode_accept,
    encode_request,
)
from tests.net.kit import CT, MR, proposals, request

HEADER = 6

TITLE = st.text("ABCxyz019_-.~^", min_size=1, max_size=16)
UID = st.text("0123456789.", min_size=1, max_size=64)
ROLES = st.dictionaries(UID, st.builds(Role, st.booleans(), st.booleans()), max_size=3)
USER = st.builds(
    UserInformation,
    max_pdu=st.integers(0, 0xFFFFFFFF),
    implementation_class=UID,
    implementation_version=TITLE,
    roles=ROLES,
)
IDS = st.sets(st.integers(0, 127).map(lambda number: 2 * number + 1), min_size=1, max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> AssociateRequest:
    contexts = tuple(
        Proposal(number, draw(UID), tuple(draw(st.lists(UID, min_size=1, max_size=3))))
        for number in sorted(draw(IDS))
    )
    return AssociateRequest(draw(TITLE), draw(TITLE), contexts, draw(USER))


@st.composite
def accepts(draw: st.DrawFn) -> AssociateAccept:
    answers = tuple(
        Answer(number, draw(st.integers(0, 4)), draw(UID)) for number in sorted(draw(IDS))
    )
    return AssociateAccept(draw(TITLE), draw(TITLE), answers, draw(USER))


@given(requests())
def test_a_request_comes_back_as_it_was_encoded(wanted: AssociateRequest) -> None:
    assert decode_request(encode_request(wanted)[HEADER:]) == wanted


@given(accepts())
def test_an_accept_comes_back_as_it_was_encoded(reply: AssociateAccept) -> None:
    assert decode_accept(encode_accept(reply)[HEADER:]) == reply


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_an_associate_error(body: bytes) -> None:
    with pytest.raises(AssociateError):
        decode_request(body)


@given(requests(), st.data())
def test_a_request_with_one_wrong_byte_never_breaks_the_reader(
    wanted: AssociateRequest, data: st.DataObject
) -> None:
    body = bytearray(encode_request(wanted)[HEADER:])
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] = data.draw(st.integers(0, 255))

    with contextlib.suppress(AssociateError):
        decode_request(bytes(body))


@given(requests(), st.data())
def test_a_truncated_request_is_refused_or_shorter(
    wanted: AssociateRequest, data: st.DataObject
) -> None:
    body = encode_request(wanted)[HEADER:]
    cut = data.draw(st.integers(0, len(body) - 1))

    with contextlib.suppress(AssociateError):
        assert decode_request(body[:cut]) != wanted


def test_a_request_is_read_by_another_implementation() -> None:
    wanted = request(*proposals(VERIFICATION, CT), max_pdu=32768, roles={CT: Role(True, True)})

    theirs = A_ASSOCIATE_RQ()
    theirs.decode(encode_request(wanted))

    assert theirs.called_ae_title == "DGATE"
    assert theirs.calling_ae_title == "RAW"
    assert [context.context_id for context in theirs.presentation_context] == [1, 3]
    assert theirs.presentation_context[1].abstract_syntax == CT
    assert theirs.presentation_context[1].transfer_syntax == [EXPLICIT_LE, IMPLICIT_LE]
    items = {type(item): item for item in theirs.user_information.user_data}
    assert items[MaximumLengthSubItem].maximum_length_received == 32768
    assert items[ImplementationClassUIDSubItem].implementation_class_uid == IMPLEMENTATION_CLASS
    role = items[SCP_SCU_RoleSelectionSubItem]
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == (CT, 1, 1)


def test_an_accept_is_read_by_another_implementation() -> None:
    reply = AssociateAccept(
        "DGATE",
        "RAW",
        (Answer(1, 0, EXPLICIT_LE), Answer(3, 3, IMPLICIT_LE)),
        UserInformation(max_pdu=65536),
    )

    theirs = A_ASSOCIATE_AC()
    theirs.decode(encode_accept(reply))

    contexts = theirs.presentation_context
    assert [(item.context_id, item.result) for item in contexts] == [(1, 0), (3, 3)]
    assert contexts[0].transfer_syntax == EXPLICIT_LE


def test_a_request_of_another_implementation_is_read() -> None:
    context = build_context(CT, [EXPLICIT_LE, IMPLICIT_LE])
    context.context_id = 5
    length = MaximumLengthNotification()
    length.maximum_length_received = 4096
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "THEM"
    primitive.called_ae_title = "US"
    primitive.presentation_context_definition_list = [context]
    primitive.user_information = [length, build_role(CT, scp_role=True)]
    theirs = A_ASSOCIATE_RQ()
    theirs.from_primitive(primitive)

    ours = decode_request(theirs.encode()[HEADER:])

    assert (ours.calling, ours.called, ours.user.max_pdu) == ("THEM", "US", 4096)
    assert ours.proposals == (Proposal(5, CT, (EXPLICIT_LE, IMPLICIT_LE)),)
    assert ours.user.roles == {CT: Role(scu=False, scp=True)}


def test_items_of_unknown_type_are_skipped() -> None:
    body = encode_request(request())[HEADER:] + struct.pack(">BxH3s", 0x99, 3, b"abc")

    assert decode_request(body) == request()


def test_titles_padded_with_nul_or_blanks_are_trimmed() -> None:
    wanted = request(calling="A", called="B C")

    body = encode_request(wanted, padding=b"\0")[HEADER:]

    assert body[4:20] == b"B C".ljust(16, b"\0")
    assert decode_request(body) == wanted


def tampered(position: int, value: bytes) -> bytes:
    body = bytearray(encode_request(request())[HEADER:])
    body[position : position + len(value)] = value
    return bytes(body)


APPLICATION_ITEM = 68
FIRST_CONTEXT_ITEM = APPLICATION_ITEM + 4 + 21


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(67),
        bytes(68),
        tampered(APPLICATION_ITEM + 2, b"\xff\xff"),
        tampered(FIRST_CONTEXT_ITEM + 4, b"\2"),
        tampered(FIRST_CONTEXT_ITEM + 2, b"\0\2"),
        encode_request(request(*proposals(CT), *proposals(CT)))[HEADER:],
        encode_request(request())[HEADER:-1],
    ],
    ids=[
        "empty",
        "ends in the fixed part",
        "no contexts",
        "an item longer than the PDU",
        "an even context id",
        "a context that ends in its header",
        "a context id used twice",
        "cut by a byte",
    ],
)
def test_a_malformed_request_is_refused(body: bytes) -> None:
    with pytest.raises(AssociateError):
        decode_request(body)


def test_a_role_whose_lengths_disagree_is_refused() -> None:
    body = encode_request(request(roles={MR: Role(True, True)}))[HEADER:]
    length = struct.pack(">H", len(MR))

    with pytest.raises(AssociateError, match="role"):
        decode_request(body.replace(length + MR.encode(), b"\0\1" + MR.encode()))


def test_an_accept_without_user_information_is_refused() -> None:
    body = encode_accept(AssociateAccept("A", "B", (), UserInformation()))[HEADER:]

    with pytest.raises(AssociateError, match="user information"):
        decode_accept(body[:APPLICATION_ITEM])
