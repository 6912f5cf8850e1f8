"""Further rows of the table in docs/delivery.md with a peer on a real socket; each row has a test.

Not for those of `test_failure_table` and `test_named_errors`, nor for those that need a server with
rules, or one that ends: `tests.acceptance.test_failed_deliveries`, `tests.acceptance.test_loops`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import InstanceRef
from dgate.delivery.failures import DOUBTFUL_TRIES, Fate, fate_of_status
from dgate.delivery.records import Entry
from dgate.dicom.part10 import file_meta
from dgate.dicom.uids import EXPLICIT_LE
from tests.acceptance import test_failed_deliveries, test_loops
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery import test_failure_table, test_named_errors
from tests.delivery.failure_rows import documented, played, plays, statuses
from tests.delivery.gate_kit import Gate
from tests.delivery.peer_kit import Store
from tests.delivery.scripted_scp import scripted_scp
from tests.delivery.test_failure_table import CT, LONG_S, everything, gate, node, reject_calling

MPEG_2 = "1.2.840.10008.1.2.4.100"
"""A transfer syntax that nothing here can decode."""
OPEN_S = 600.0
"""So long an association stays open that nothing is sent on: longer than a test."""

FATES = {
    "done": Fate.DONE,
    "the destination pauses, then is tried again, for ever": Fate.WAIT,
    "this object is tried again later, for ever": Fate.AGAIN,
    "tried five times, then stuck": Fate.DOUBTFUL,
    "stuck": Fate.STUCK,
}
"""How the last column of the table begins, by what it means in the program."""
MODULES = (
    sys.modules[__name__],
    test_failure_table,
    test_named_errors,
    test_failed_deliveries,
    test_loops,
)
"""Where the tests of the rows are."""


# Associations.


@plays("rejected-for-good")
def test_rejection_for_good_is_for_the_titles_while_others_are_served(tmp_path: Path) -> None:
    rejected: list[str] = []
    with (
        scripted_scp(welcome=reject_calling("A", 1, rejected)) as peer,
        Gate(
            tmp_path,
            {"SINK": peer.port},
            node(retry_first_s=LONG_S, retry_max_s=LONG_S),
            forward_association_close_delay_s=OPEN_S,
        ) as made,
    ):
        made.start()
        made.owe(made.store.add(1), calling="B")
        made.await_states(done=1)
        made.owe(made.store.add(2), calling="A")
        wait_until(lambda: made.entry(1).attempts == 1, "the rejection")
        made.owe(made.store.add(3), calling="B")
        made.await_states(done=2, queued=1)

        assert "reject" in made.entry(1).last_error
        assert made.site().state == "closed"
        assert rejected == ["A"]


@plays("rejected-for-good")
def test_rejections_for_good_in_a_row_are_the_destinations(tmp_path: Path) -> None:
    rejected: list[str] = []

    def welcome(guest: scp.Guest, wanted: Any) -> bool:
        if wanted.calling != "B":
            rejected.append(wanted.calling)
            return scp.reject(1, 1, 1)(guest, wanted)
        return scp.accept(guest, wanted)

    with (
        scripted_scp(welcome=welcome) as peer,
        Gate(
            tmp_path,
            {"SINK": peer.port},
            node(retry_first_s=LONG_S, retry_max_s=LONG_S),
            forward_association_close_delay_s=OPEN_S,
        ) as made,
    ):
        made.start()
        made.owe(made.store.add(1), calling="B")
        made.await_states(done=1)
        for number, title in ((2, "A"), (3, "C")):
            made.owe(made.store.add(number), calling=title)
            wait_until(lambda n=number: made.entry(n - 1).attempts == 1, "the rejection")
            assert made.site().state == "closed"

        # That it served B once says no more that it serves anybody.
        made.owe(made.store.add(4), calling="D")
        wait_until(lambda: made.site().state == "open", "the pause")

        wait_until(lambda: made.entry(3).attempts == 1, "the mark")
        assert rejected == ["A", "C", "D"]


@plays("load")
@pytest.mark.parametrize(
    "answer",
    [scp.reject(2, 3, 1), scp.reject(2, 3, 2), scp.reject(1, 3, 2), scp.reject(2, 1, 1)],
    ids=["congestion", "limit", "limit for good", "passing without reason"],
)
def test_worker_that_is_one_too_many_pauses_alone(tmp_path: Path, answer: scp.Welcome) -> None:
    calls: list[str] = []
    go_on = threading.Event()

    def welcome(guest: scp.Guest, wanted: Any) -> bool:
        with guest.peer.guard:
            calls.append("")
            is_first = len(calls) == 1
        return (scp.accept if is_first else answer)(guest, wanted)

    def reply(guest: scp.Guest, command: Any) -> None:
        # The first object shows that the peer serves; the worker is kept busy with the second.
        if command.sop_instance != "1.2.3.1":
            go_on.wait(scp.PATIENCE_S)
        guest.answer(command)

    with (
        scripted_scp(welcome=welcome, reply=reply) as peer,
        Gate(
            tmp_path,
            {"SINK": peer.port},
            node(associations=2, retry_first_s=LONG_S, retry_max_s=LONG_S),
            forward_association_close_delay_s=OPEN_S,
        ) as made,
        contextlib.ExitStack() as at_end,
    ):
        at_end.callback(go_on.set)
        made.start()
        made.owe(made.store.add(1))
        made.await_states(done=1)
        # More than one worker claims at once.
        made.owe(*[made.store.add(number) for number in range(2, 22)])
        wait_until(lambda: told(made), "the reason")
        wait_until(lambda: made.site().workers == 1, "the end of the other worker")

        [entry] = told(made)
        assert "reject" in entry.last_error
        assert (entry.state, entry.attempts) == ("queued", 0)
        assert (made.site().state, made.site().failures) == ("closed", 0)
        assert len(calls) == 2
        go_on.set()
        made.await_states(done=21)

        # The one that is served has done all of it, and nobody has called again meanwhile.
        assert Counter(peer.arrived) == Counter(f"1.2.3.{number}" for number in range(1, 22))
        assert len(calls) == 2


def told(made: Gate) -> list[Entry]:
    """Return the debts with a reason."""
    return [entry for entry in made.entries() if entry.last_error]


# Objects.


def as_video(store: Store, number: int) -> InstanceRef:
    """Store an object that says it is MPEG-2."""
    where = store.add(number)
    head = file_meta(where.sop_class, where.sop_instance, MPEG_2, "TEST")
    (store.root / where.name).write_bytes(head + store.bytes[where.sop_instance])
    return where


@plays("no-syntax")
def test_object_that_the_peer_takes_in_no_possible_syntax_is_stuck_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    # Result 4: transfer syntaxes not supported (PS3.8 table 9-18).
    welcome = scp.accept_only(lambda sop_class, syntax: 0 if syntax == EXPLICIT_LE else 4)
    with scripted_scp(welcome=welcome) as peer, Gate(tmp_path, {"SINK": peer.port}) as made:
        made.owe(as_video(made.store, 1), made.store.add(2))
        made.start()
        made.await_states(stuck=1, done=1)

        assert f"the peer takes {CT}, but not from MPEG2" in made.entry(0).last_error
        assert peer.arrived == ["1.2.3.2"]
        found = [(one.node, one.sop_class, one.syntax, one.result) for one in made.refusals.all()]
        assert ("SINK", CT, MPEG_2, 4) in found
        peer.welcome = scp.accept
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


@plays("no-syntax")
def test_peer_that_takes_a_class_in_no_syntax_at_all(tmp_path: Path) -> None:
    welcome = scp.accept_only(lambda sop_class, syntax: 4)
    with scripted_scp(welcome=welcome) as peer, gate(tmp_path, peer) as made:
        made.await_states(stuck=2)

        assert not peer.arrived
        assert {entry.attempts for entry in made.entries()} == {1}
        assert {one.result for one in made.refusals.all()} == {4}
        assert made.site().state == "closed"


@plays("file-unreadable")
def test_file_that_cannot_be_read_is_tried_a_few_times_then_stuck(tmp_path: Path) -> None:
    with (
        scripted_scp() as peer,
        Gate(tmp_path, {"SINK": peer.port}, node(retry_first_s=0.01, retry_max_s=0.01)) as made,
    ):
        broken, sound = made.store.add(1), made.store.add(2)
        path = made.store.root / broken.name
        content = path.read_bytes()
        path.unlink()
        # A plain file whose first bytes nobody can read, not even root: nothing is mapped there.
        path.symlink_to("/proc/self/mem")
        made.owe(broken, sound)
        made.start()
        made.await_states(stuck=1, done=1)

        first = made.entry(0)
        assert first.attempts == DOUBTFUL_TRIES
        assert "cannot be read: Input/output error" in first.last_error
        assert peer.arrived == ["1.2.3.2"]
        path.unlink()
        path.write_bytes(content)
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


@plays("file-not-dicom")
def test_file_that_is_something_else_is_stuck(tmp_path: Path) -> None:
    with scripted_scp() as peer, Gate(tmp_path, {"SINK": peer.port}) as made:
        changed = made.store.add(1)
        (made.store.root / changed.name).write_bytes(b"<html>" + bytes(500))
        made.owe(changed, made.store.add(2))
        made.start()
        made.await_states(stuck=1, done=1)

        assert "not DICOM" in made.entry(0).last_error
        assert made.entry(0).attempts == 1
        assert peer.arrived == ["1.2.3.2"]


# The table itself.


def test_each_row_has_a_test_with_a_peer_that_answers_so() -> None:
    causes = [cause for each in documented() for cause in each.causes]

    assert all(each.causes for each in documented())
    assert len(causes) == len(set(causes))
    assert set(causes) == played(*MODULES)


def test_table_says_of_each_status_what_the_program_does() -> None:
    said = {}
    for each in documented():
        fates = [fate for words, fate in FATES.items() if each.follows.startswith(words)]
        for status in statuses(each.happened):
            assert status not in said, each.happened
            [said[status]] = fates

    assert len(said) > 0x2000
    other = [each for each in documented() if "any other status" in each.happened]
    assert [each.follows for each in other] == ["tried five times, then stuck"]
    wrong = {
        f"{status:04X}"
        for status in range(0x10000)
        if fate_of_status(status) is not said.get(status, Fate.DOUBTFUL)
    }
    assert wrong == set()
