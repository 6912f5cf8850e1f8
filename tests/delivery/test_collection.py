"""C-GET over several associations, against a node that has objects of many classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from dgate.delivery.collection import Collected, classes_there, collect
from dgate.delivery.inquiry import SOP_CLASS, SOP_INSTANCE, STUDY, STUDY_ROOT
from dgate.dicom.encode import encode_data_set
from dgate.dicom.payload import Payload
from dgate.errors import NoContext, Unreachable
from dgate.net import (
    Association,
    Command,
    CommandField,
    ContextProposal,
    Handler,
    Message,
    PresentationContext,
    Status,
    connect,
    store,
)
from tests.net.kit import FAST, answer_without_status, dead_port, serving

pytestmark = pytest.mark.integration

GET = f"{STUDY_ROOT}.3"
CLASSES = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(200, 400)]
"""More than the contexts of one association."""
FIRST, SECOND = CLASSES[0], CLASSES[130]
"""Offered on the first association, and on the second one only."""


@dataclass
class Node:
    """Sends its objects as far as there are contexts for them, and says how it went."""

    objects: Sequence[tuple[str, str]]
    """SOP class and SOP instance."""
    of_failure: int = Status.SUBOPERATIONS_FAILED
    """Answered when something could not be sent, but not everything."""
    counts: bool = True
    offered: list[int] = field(default_factory=list)
    """How many storage contexts each association had."""
    statuses: list[int] = field(default_factory=list)
    """What was answered to the objects."""

    def get(self, association: Association, message: Message) -> None:
        """Answer a C-GET."""
        contexts = [each for each in association.contexts.values() if each.scu_role]
        self.offered.append(len(contexts))
        by_class = {each.abstract_syntax: each for each in reversed(contexts)}
        completed = failed = 0
        for sop_class, uid in self.objects:
            context = by_class.get(sop_class)
            if context is None:
                failed += 1
                continue
            response = store(association, context.id, sop_class, uid, [b"object"])
            self.statuses.append(response.outcome)
            completed += response.outcome == Status.SUCCESS
            failed += response.outcome != Status.SUCCESS
        status: int = Status.SUCCESS
        if failed:
            status = self.of_failure if completed else Status.CANNOT_PERFORM_SUBOPERATIONS
        counted = {"completed": completed, "failed": failed} if self.counts else {}
        association.respond(message, status, **counted)


Taken = list[str]
Connect = Callable[[Sequence[ContextProposal]], Association]


@contextmanager
def connecting(handlers: dict[tuple[CommandField, str], Handler]) -> Iterator[Connect]:
    """Serve, and yield what opens associations."""
    with serving(handlers=handlers) as server:
        yield lambda proposals: connect(
            "127.0.0.1", server.port, "US", "NODE", proposals, timeouts=FAST
        )


def collected_from(
    handler: Handler,
    classes: Sequence[str] = CLASSES,
    answer: Callable[[str], int] = lambda uid: Status.SUCCESS,
) -> tuple[Collected, Taken]:
    """Collect what the node has; returns how it ended and what was handed over, in order."""
    taken: Taken = []

    def take(association: Association, message: Message) -> int:
        taken.append(message.command.sop_instance)
        return answer(message.command.sop_instance)

    with connecting({(CommandField.C_GET_RQ, GET): handler}) as opened:
        ended = collect(opened, [GET], classes, lambda syntax: b"keys", take, _payload)
    return ended, taken


def _payload(association: Association, context: PresentationContext, command: Command) -> Payload:
    return Payload()


def numbers(final: Command) -> tuple[int | None, int | None, int | None]:
    return final.status, final.completed, final.failed


def test_one_association_is_enough_where_everything_comes() -> None:
    node = Node([(FIRST, "1.1"), (FIRST, "1.2")])

    ended, taken = collected_from(node.get)

    assert ended.is_complete
    assert (ended.came, taken, node.offered) == (2, ["1.1", "1.2"], [127])


def test_what_has_no_context_comes_over_a_further_association() -> None:
    """The node fails there what had come before, which is counted as what it is."""
    node = Node([(FIRST, "1.1"), (SECOND, "1.2"), (SECOND, "1.3")])

    ended, taken = collected_from(node.get)

    assert ended.is_complete
    assert numbers(ended.final) == (Status.SUCCESS, 3, 0)
    assert (ended.came, taken) == (3, ["1.1", "1.2", "1.3"])
    assert node.offered == [127, 127]


def test_nothing_at_first_is_no_reason_to_stop() -> None:
    node = Node([(SECOND, "1.1")])

    ended, taken = collected_from(node.get)

    assert ended.is_complete
    assert (numbers(ended.final), taken) == ((Status.SUCCESS, 1, 0), ["1.1"])


def test_object_that_comes_again_is_not_taken_again() -> None:
    node = Node([(FIRST, "1.1"), (FIRST, "1.1"), ("1.2.3", "1.9")])
    both = [FIRST, *CLASSES[1:]]

    ended, taken = collected_from(node.get, both)

    assert taken == ["1.1"]
    assert set(node.statuses) == {Status.SUCCESS}
    assert not ended.is_complete


def test_objects_without_a_uid_are_all_taken() -> None:
    node = Node([(FIRST, ""), (FIRST, "")])

    _, taken = collected_from(node.get)

    assert taken == ["", ""]


def test_object_that_was_refused_may_come_again() -> None:
    answers = [Status.OUT_OF_RESOURCES, Status.SUCCESS]
    node = Node([(FIRST, "1.1"), (FIRST, "1.1")])

    ended, taken = collected_from(node.get, answer=lambda uid: answers.pop(0))

    assert (taken, ended.came) == (["1.1", "1.1"], 1)
    assert node.statuses[:2] == [Status.OUT_OF_RESOURCES, Status.SUCCESS]


def test_what_never_comes_is_counted_as_failed() -> None:
    """After the last association there are no other contexts to ask with."""
    node = Node([(FIRST, "1.1"), (SECOND, "1.2"), ("1.2.3", "1.9")])

    ended, taken = collected_from(node.get)

    assert not ended.is_complete
    assert numbers(ended.final) == (Status.SUBOPERATIONS_FAILED, 2, 1)
    assert taken == ["1.1", "1.2"]
    assert len(node.offered) == 6


def test_counts_that_a_node_leaves_out_are_not_made_up() -> None:
    node = Node([(FIRST, "1.1"), ("1.2.3", "1.9")], counts=False)

    ended, _ = collected_from(node.get)

    assert not ended.is_complete
    assert ended.final.completed is None
    assert ended.came == 1


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0x0122, 0x0110, 0xFE00])
def test_failure_that_no_other_contexts_can_mend_ends_it(status: int) -> None:
    asked: list[int] = []

    def fail(association: Association, message: Message) -> None:
        asked.append(1)
        association.respond(message, status)

    ended, _ = collected_from(fail)

    assert len(asked) == 1
    assert not ended.is_complete
    assert ended.final.status == status


@pytest.mark.parametrize("status", [0xA702, 0xB000, 0xC001])
def test_failure_of_objects_without_their_number_is_asked_about_again(status: int) -> None:
    asked: list[int] = []

    def fail(association: Association, message: Message) -> None:
        asked.append(1)
        association.respond(message, status)

    ended, _ = collected_from(fail, CLASSES[:10])

    assert len(asked) == 2
    assert ended.final.status == status


def test_end_without_a_status_is_never_complete() -> None:
    """Not on the first association, nor where what is missing seems to have come."""
    assert not collected_from(answer_without_status)[0].is_complete
    node = Node([(FIRST, "1.1"), (SECOND, "1.2")])

    def forget_later(association: Association, message: Message) -> None:
        if not node.offered:
            node.get(association, message)
        else:
            answer_without_status(association, message)

    ended, _ = collected_from(forget_later)

    assert not ended.is_complete
    assert ended.final.outcome == Status.PROCESSING_FAILURE


def test_node_without_the_service_is_no_node_without_objects() -> None:
    with (
        connecting({}) as opened,
        pytest.raises(NoContext, match="C-GET"),
    ):
        collect(
            lambda proposals: opened(proposals[1:]),
            [GET],
            CLASSES,
            lambda syntax: b"",
            lambda association, message: 0,
            _payload,
        )


def test_nothing_to_offer_is_an_error_and_no_success() -> None:
    with pytest.raises(NoContext, match="class"):
        collected_from(Node([]).get, [])


def listing(*rows: dict[int, str | None]) -> Handler:
    """Return a node that answers queries at each level with these."""

    def handle(association: Association, message: Message) -> None:
        syntax = message.context.transfer_syntax
        for row in rows:
            association.respond(message, Status.PENDING, data=[encode_data_set(row, syntax, "")])
        association.respond(message)

    return handle


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (
            listing(
                {SOP_CLASS: SECOND, SOP_INSTANCE: "1.1"},
                {SOP_CLASS: FIRST, SOP_INSTANCE: "1.2"},
                {SOP_CLASS: SECOND, SOP_INSTANCE: "1.3"},
            ),
            [SECOND, FIRST],
        ),
        (listing({SOP_CLASS: FIRST, SOP_INSTANCE: "1.1"}, {SOP_INSTANCE: "1.2"}), []),
        (answer_without_status, []),
    ],
    ids=["listed", "not of all", "no status"],
)
def test_classes_are_known_where_the_node_lists_them_all(
    handler: Handler, expected: list[str]
) -> None:
    with connecting({(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): handler}) as opened:
        keys = {STUDY: "1", 0x0020000E: "1.1"}
        assert classes_there(opened, keys) == expected


def test_node_that_is_away_is_not_taken_for_one_that_does_not_say() -> None:
    with dead_port() as port, pytest.raises(Unreachable):
        classes_there(
            lambda proposals: connect("127.0.0.1", port, "US", "NODE", proposals, timeouts=FAST),
            {STUDY: "1"},
        )
