"""Who may connect, and with which presentation contexts (spec dgatesop-lst.md 2, PS3.7 D.3).

Decisions only: bytes are `dgate.net.associate`, sockets `dgate.net.listener`. Immutable values,
safe between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dgate.config.soplist import SopList
from dgate.dicom.uids import STORAGE_COMMITMENT, VERIFICATION
from dgate.net import associate
from dgate.net.associate import Answer, AssociateAccept, AssociateRequest, Proposal, Role
from dgate.net.pdu import DEFAULT_MAX_PDU, max_pdu_fault
from dgate.net.sop_classes import is_storage

_PROTOCOL_VERSION_1 = 1


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """An accepted presentation context, with the roles of *this* side."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scu_role: bool
    """This side may send requests on it (an acceptor only after role selection: C-STORE of a C-GET,
    N-EVENT-REPORT the other way round)."""
    scp_role: bool
    """This side may be sent requests on it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ and what the log says about it."""

    result: int
    source: int
    reason: int
    message: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An A-ASSOCIATE-AC and what it makes possible."""

    reply: AssociateAccept
    contexts: dict[int, PresentationContext]
    usable: bool
    """False: no transfer syntax was acceptable; the reply is sent and the connection closed."""


TOO_MANY = Rejection(2, 3, 1, "too many associations are open (MaxAssociations)")


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that decides about an incoming association."""

    lists: SopList
    max_pdu: int = DEFAULT_MAX_PDU
    allow_unknown: bool = True
    is_known: Callable[[str], bool] = bool
    """Whether acrnema.map names a calling AE (`NodeMap.names`); asked unless `allow_unknown`."""
    accept_unknown_sop_classes: bool = False

    def judge(self, request: AssociateRequest) -> Acceptance | Rejection:
        """Decide about one A-ASSOCIATE-RQ."""
        rejection = self._reject(request)
        if rejection is not None:
            return rejection
        only_verification = not self.allow_unknown and not self.is_known(request.calling)
        answers: list[Answer] = []
        contexts: dict[int, PresentationContext] = {}
        granted: dict[str, Role] = {}
        for proposal in request.proposals:
            answer = self._answer(proposal, only_verification)
            role = _grant(proposal.abstract_syntax, request.user.roles)
            if answer.result == associate.ACCEPTED and role is not None:
                granted[proposal.abstract_syntax] = role
                if not role.scu and not role.scp:
                    answer = replace(answer, result=associate.USER_REJECTION)
            answers.append(answer)
            if answer.result == associate.ACCEPTED:
                contexts[proposal.id] = PresentationContext(
                    proposal.id,
                    proposal.abstract_syntax,
                    answer.transfer_syntax,
                    scu_role=role is not None and role.scp,
                    scp_role=role is None or role.scu,
                )
        reply = AssociateAccept(
            request.called,
            request.calling,
            tuple(answers),
            associate.UserInformation(max_pdu=self.max_pdu, roles=granted),
        )
        refused_syntax = associate.TRANSFER_SYNTAXES_NOT_SUPPORTED
        usable = any(answer.result != refused_syntax for answer in answers)
        return Acceptance(reply, contexts, usable)

    def _reject(self, request: AssociateRequest) -> Rejection | None:
        lists = self.lists
        if not request.protocol_version & _PROTOCOL_VERSION_1:
            return Rejection(1, 2, 2, f"protocol version {request.protocol_version:04X} is unknown")
        fault = max_pdu_fault(request.user.max_pdu)
        if fault:
            return Rejection(1, 1, 1, fault)
        if lists.remote_ae is not None and _first_word(request.calling) not in lists.remote_ae:
            return Rejection(1, 1, 3, f"calling AE {request.calling!r} is no RemoteAE of the list")
        if lists.local_ae is not None and _first_word(request.called) not in lists.local_ae:
            return Rejection(1, 1, 7, f"called AE {request.called!r} is no LocalAE of the list")
        name = request.application_context
        if lists.application is not None and name not in lists.application:
            return Rejection(1, 1, 2, f"application context {name!r} is not listed")
        return None

    def _answer(self, proposal: Proposal, only_verification: bool) -> Answer:
        syntax = self._transfer_syntax(proposal.transfer_syntaxes)
        result = associate.ACCEPTED
        if not syntax:
            result = associate.TRANSFER_SYNTAXES_NOT_SUPPORTED
            # A refused context carries a syntax that nobody looks at (PS3.8 9.3.3.2).
            syntax = proposal.transfer_syntaxes[0] if proposal.transfer_syntaxes else ""
        if not self._accepts_class(proposal.abstract_syntax):
            result = associate.ABSTRACT_SYNTAX_NOT_SUPPORTED
        elif only_verification and proposal.abstract_syntax != VERIFICATION:
            result = associate.USER_REJECTION
        return Answer(proposal.id, result, syntax)

    def _transfer_syntax(self, proposed: Sequence[str]) -> str:
        listed = self.lists.transfer
        return next((uid for uid in proposed if listed is None or uid in listed), "")

    def _accepts_class(self, abstract_syntax: str) -> bool:
        listed = self.lists.abstract
        if listed is None or abstract_syntax in listed:
            return bool(abstract_syntax)
        return self.accept_unknown_sop_classes and is_storage(abstract_syntax)


def accepted_contexts(
    proposals: Sequence[Proposal], proposed_roles: Mapping[str, Role], accept: AssociateAccept
) -> tuple[dict[int, PresentationContext], dict[int, int]]:
    """Return, for the requestor, what was accepted, and the result of each context that was not.

    Contexts that the peer does not mention, or accepts with a syntax that was not proposed, count
    as refused.
    """
    proposed = {proposal.id: proposal for proposal in proposals}
    refused = {proposal.id: associate.USER_REJECTION for proposal in proposals}
    contexts: dict[int, PresentationContext] = {}
    for answer in accept.answers:
        proposal = proposed.get(answer.id)
        if proposal is None:
            continue
        refused[answer.id] = answer.result or associate.TRANSFER_SYNTAXES_NOT_SUPPORTED
        if answer.result == 0 and answer.transfer_syntax in proposal.transfer_syntaxes:
            del refused[answer.id]
            asked = proposed_roles.get(proposal.abstract_syntax)
            role = accept.user.roles.get(proposal.abstract_syntax) if asked is not None else None
            contexts[answer.id] = PresentationContext(
                answer.id,
                proposal.abstract_syntax,
                answer.transfer_syntax,
                scu_role=role is None or (role.scu and asked is not None and asked.scu),
                scp_role=role is not None and role.scp and asked is not None and asked.scp,
            )
    return contexts, refused


def _grant(abstract_syntax: str, proposed: Mapping[str, Role]) -> Role | None:
    """Return what the requestor may be for a class; None if it proposed no role (PS3.7 D.3.3.4)."""
    asked = proposed.get(abstract_syntax)
    if asked is None:
        return None
    # We send nothing but C-STORE and ask for nothing else that is answered on an association of the
    # peer's, so a requestor can be SCP of storage classes and of storage commitment only.
    may_be_scp = is_storage(abstract_syntax) or abstract_syntax == STORAGE_COMMITMENT
    return Role(scu=asked.scu, scp=asked.scp and may_be_scp)


def _first_word(title: str) -> str:
    return title.split(maxsplit=1)[0] if title.split() else ""
