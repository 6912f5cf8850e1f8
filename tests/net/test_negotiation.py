"""Who may connect, and with which presentation contexts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dgate.config.soplist import SopList
from dgate.dicom.uids import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLEMENTATION_CLASS,
    IMPLICIT_LE,
    JPEG_BASELINE,
    VERIFICATION,
)
from dgate.net.associate import Answer, AssociateAccept, Proposal, Role, UserInformation
from dgate.net.negotiation import (
    Acceptance,
    Policy,
    PresentationContext,
    Rejection,
    accepted_contexts,
)
from tests.net.kit import CT, EVERYTHING, STUDY_FIND, proposals, request

PRIVATE = "1.2.3.4.5.6"

SHORT_LIST = SopList(
    abstract=frozenset({VERIFICATION, CT}), transfer=frozenset({IMPLICIT_LE, EXPLICIT_LE})
)


def accepted(policy: Policy, *contexts: Proposal, **details: object) -> Acceptance:
    decision = policy.judge(request(*contexts, **details))  # type: ignore[arg-type]
    assert isinstance(decision, Acceptance)
    return decision


def results(decision: Acceptance) -> list[int]:
    return [answer.result for answer in decision.reply.answers]


@pytest.mark.parametrize(
    ("lists", "details", "expected"),
    [
        (SopList(remote_ae=frozenset({"CT1"})), {"calling": "CT2"}, (1, 1, 3)),
        (SopList(remote_ae=frozenset({"CT1"})), {"calling": "ct1"}, (1, 1, 3)),
        (SopList(remote_ae=frozenset({"CT1"})), {"calling": ""}, (1, 1, 3)),
        (SopList(local_ae=frozenset({"DGATE"})), {"called": "OTHER"}, (1, 1, 7)),
        (SopList(local_ae=frozenset({"DGATE"})), {"called": "DGATE~j2"}, (1, 1, 7)),
        (SopList(application=frozenset({"1.2.3"})), {}, (1, 1, 2)),
    ],
    ids=["caller", "caller in other case", "no caller", "called", "called with suffix", "context"],
)
def test_what_the_list_does_not_name_is_rejected(
    lists: SopList, details: dict[str, str], expected: tuple[int, int, int]
) -> None:
    decision = Policy(lists).judge(request(**details))  # type: ignore[arg-type]

    assert isinstance(decision, Rejection)
    assert (decision.result, decision.source, decision.reason) == expected


def test_titles_are_compared_up_to_their_first_blank() -> None:
    lists = SopList(remote_ae=frozenset({"CT1"}), local_ae=frozenset({"DGATE"}))

    decision = Policy(lists).judge(request(calling="CT1 ROOM 2", called="DGATE X"))

    assert isinstance(decision, Acceptance)


def test_an_unknown_protocol_version_is_rejected() -> None:
    decision = EVERYTHING.judge(replace(request(), protocol_version=2))

    assert isinstance(decision, Rejection)
    assert (decision.result, decision.source, decision.reason) == (1, 2, 2)


def test_the_first_listed_syntax_that_is_proposed_wins() -> None:
    context = Proposal(1, CT, (JPEG_BASELINE, EXPLICIT_LE, IMPLICIT_LE))

    assert accepted(Policy(SHORT_LIST), context).contexts[1].transfer_syntax == EXPLICIT_LE
    assert accepted(EVERYTHING, context).contexts[1].transfer_syntax == JPEG_BASELINE


def test_what_is_not_listed_is_refused_with_its_result() -> None:
    decision = accepted(
        Policy(SHORT_LIST),
        Proposal(1, CT, (EXPLICIT_BE,)),
        Proposal(3, STUDY_FIND, (IMPLICIT_LE,)),
        Proposal(5, STUDY_FIND, (EXPLICIT_BE,)),
        Proposal(7, CT, ()),
        Proposal(9, CT, (IMPLICIT_LE,)),
    )

    assert results(decision) == [4, 3, 3, 4, 0]
    assert list(decision.contexts) == [9]


def test_an_association_without_any_acceptable_syntax_is_not_usable() -> None:
    policy = Policy(SHORT_LIST)

    assert not accepted(policy, Proposal(1, CT, (EXPLICIT_BE,))).usable
    assert accepted(policy, Proposal(1, STUDY_FIND, (IMPLICIT_LE,))).usable


def test_an_empty_list_accepts_everything() -> None:
    decision = accepted(EVERYTHING, *proposals(VERIFICATION, STUDY_FIND, PRIVATE))

    assert results(decision) == [0, 0, 0]


def test_unknown_storage_classes_are_accepted_when_the_setting_says_so() -> None:
    contexts = proposals(PRIVATE, STUDY_FIND, CT)

    assert results(accepted(Policy(SHORT_LIST), *contexts)) == [3, 3, 0]
    policy = Policy(SHORT_LIST, accept_unknown_sop_classes=True)
    assert results(accepted(policy, *contexts)) == [0, 3, 0]


def test_an_unknown_caller_gets_verification_only_when_unknown_ones_are_not_allowed() -> None:
    policy = Policy(SHORT_LIST, allow_unknown=False, is_known={"CT1"}.__contains__)
    contexts = proposals(VERIFICATION, CT)

    assert results(accepted(policy, *contexts, calling="CT1")) == [0, 0]
    assert results(accepted(policy, *contexts, calling="STRANGER")) == [0, 1]


def test_a_peer_whose_maximum_pdu_leaves_no_room_is_rejected() -> None:
    decision = Policy(SHORT_LIST).judge(request(max_pdu=63))

    assert isinstance(decision, Rejection)
    assert (decision.result, decision.source, decision.reason) == (1, 1, 1)
    assert "maximum PDU length of 63" in decision.message


def test_the_reply_tells_our_limits_and_implementation() -> None:
    reply = accepted(Policy(SHORT_LIST, max_pdu=4242), calling="CT1", called="ME").reply

    assert (reply.calling, reply.called) == ("CT1", "ME")
    assert reply.user.max_pdu == 4242
    assert reply.user.implementation_class == IMPLEMENTATION_CLASS


def test_without_role_selection_we_serve_and_do_not_ask() -> None:
    context = accepted(EVERYTHING, *proposals(CT)).contexts[1]

    assert (context.scu_role, context.scp_role) == (False, True)


def test_the_scp_role_is_granted_for_storage_only() -> None:
    both = Role(True, True)

    decision = accepted(EVERYTHING, *proposals(CT, STUDY_FIND), roles={CT: both, STUDY_FIND: both})

    assert decision.reply.user.roles == {CT: both, STUDY_FIND: Role(scu=True, scp=False)}
    assert (decision.contexts[1].scu_role, decision.contexts[1].scp_role) == (True, True)
    assert (decision.contexts[3].scu_role, decision.contexts[3].scp_role) == (False, True)


def test_a_role_is_not_granted_beyond_what_was_proposed() -> None:
    decision = accepted(EVERYTHING, *proposals(CT), roles={CT: Role(scu=False, scp=True)})

    assert decision.reply.user.roles == {CT: Role(scu=False, scp=True)}
    assert (decision.contexts[1].scu_role, decision.contexts[1].scp_role) == (True, False)


def test_a_context_that_leaves_no_role_is_refused() -> None:
    decision = accepted(
        EVERYTHING, *proposals(STUDY_FIND), roles={STUDY_FIND: Role(scu=False, scp=True)}
    )

    assert results(decision) == [1]
    assert decision.contexts == {}


def test_roles_of_refused_contexts_are_not_answered() -> None:
    decision = accepted(
        Policy(SHORT_LIST), *proposals(VERIFICATION, PRIVATE), roles={PRIVATE: Role(True, True)}
    )

    assert decision.reply.user.roles == {}


def answered(*answers: Answer, roles: dict[str, Role] | None = None) -> AssociateAccept:
    return AssociateAccept("A", "B", answers, UserInformation(roles=roles or {}))


def test_the_requestor_knows_what_was_accepted_and_why_the_rest_was_not() -> None:
    proposed = proposals(VERIFICATION, CT, STUDY_FIND, PRIVATE)
    reply = answered(
        Answer(1, 0, IMPLICIT_LE),
        Answer(3, 4, ""),
        Answer(5, 0, JPEG_BASELINE),
        Answer(99, 0, IMPLICIT_LE),
    )

    contexts, refused = accepted_contexts(proposed, {}, reply)

    assert contexts == {
        1: PresentationContext(1, VERIFICATION, IMPLICIT_LE, scu_role=True, scp_role=False)
    }
    assert refused == {3: 4, 5: 4, 7: 1}


@pytest.mark.parametrize(
    ("proposed", "granted", "expected"),
    [
        (Role(True, True), Role(True, True), (True, True)),
        (Role(True, True), Role(False, True), (False, True)),
        (Role(True, True), None, (True, False)),
        # Who was proposed as provider only is no user, whatever the peer makes of it.
        (Role(False, True), Role(False, True), (False, True)),
        (Role(False, True), Role(False, False), (False, False)),
        (Role(False, True), Role(True, False), (False, False)),
        (Role(False, True), None, (True, False)),
        (None, Role(True, True), (True, False)),
    ],
    ids=[
        "both",
        "scp only",
        "not answered",
        "scp proposed and granted",
        "scp proposed and refused",
        "scp proposed, scu granted",
        "scp proposed, not answered",
        "not proposed",
    ],
)
def test_the_requestor_has_the_roles_that_it_proposed_and_was_granted(
    proposed: Role | None, granted: Role | None, expected: tuple[bool, bool]
) -> None:
    asked = {} if proposed is None else {CT: proposed}
    reply = answered(Answer(1, 0, IMPLICIT_LE), roles={} if granted is None else {CT: granted})

    contexts, _ = accepted_contexts(proposals(CT), asked, reply)

    assert (contexts[1].scu_role, contexts[1].scp_role) == expected
