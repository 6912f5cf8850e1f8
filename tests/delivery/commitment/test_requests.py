"""Requests of peers in parts, and what is found out about them, on each engine."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.archive.writer import Transaction, Writer
from dgate.delivery.commitment.examining import Answer, Answers
from dgate.delivery.commitment.messages import (
    Fault,
    Finding,
    Reference,
    Request,
    read_report,
    read_request,
    request_data,
)
from dgate.delivery.commitment.requests import (
    LASTING_S,
    OF_NODE,
    OWN_ASSOCIATION_S,
    PART_REFERENCES,
    Limits,
    Requests,
    Waiting,
)
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.uids import EXPLICIT_LE, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dgate.errors import DatabaseAway, OutcomeUnknown, StoreError
from dgate.net import Command, CommandField, Message, PresentationContext
from tests.archive.database_kit import ENGINES
from tests.delivery.kit import CT, Books, open_books, open_on

PARTS = 3
MANY = PART_REFERENCES * (PARTS - 1) + 7


@pytest.fixture(params=ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """Return an empty ledger, on each engine in turn."""
    opened = open_on(request, tmp_path)
    yield opened
    opened.archive.close()


@pytest.fixture
def requests(books: Books) -> Requests:
    """Return what peers ask."""
    return requests_of(books)


def requests_of(books: Books) -> Requests:
    """Return what peers ask."""
    return Requests(books.archive.database, books.archive.writer, books.clock, lambda: None)


@dataclass
class Looks:
    """Finds fault with these instances, and counts how many objects it was shown."""

    faulty: Collection[str] = ()
    looked: int = 0
    most: int = 0
    error: Exception | None = None
    on_look: Callable[[], None] = field(default=lambda: None)

    def examine(self, references: Sequence[Reference]) -> list[Finding]:
        """Stand for the look into index and files."""
        if self.error is not None:
            raise self.error
        self.on_look()
        self.looked += len(references)
        self.most = max(self.most, len(references))
        return [Finding(each, 0x0112 if each[1] in self.faulty else None) for each in references]


def answers(requests: Requests, looks: Any) -> Answers:
    """Return what works reports out."""
    return Answers(requests, looks)


def many(count: int = MANY) -> list[Reference]:
    """Return objects as a peer names them."""
    return [Reference(CT, f"1.2.826.0.1.3680043.8.498.78.{number}") for number in range(count)]


def rows(books: Books, table: str) -> int:
    """Return how many rows a table has."""
    with books.archive.database.reader() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def report(answer: Answer) -> dict[Reference, int | None]:
    """Return what a report says of each object."""
    payload = Payload(most_bytes=1 << 24)
    for piece in answer.pieces("GATE", EXPLICIT_LE):
        payload.append(piece)
    found = read_report(message(payload, event_type=answer.event_type))
    return dict.fromkeys(found.committed) | dict(found.failed)


def message(payload: Payload, **changes: Any) -> Message:
    """Return a command with its data set."""
    values: dict[str, Any] = {
        "command_field": CommandField.N_ACTION_RQ,
        "requested_sop_instance": STORAGE_COMMITMENT_INSTANCE,
        "sop_instance": STORAGE_COMMITMENT_INSTANCE,
        "action_type": 1,
    }
    context = PresentationContext(1, STORAGE_COMMITMENT, EXPLICIT_LE, scu_role=True, scp_role=True)
    return Message(context, Command(**values | changes), payload)


def enter(requests: Requests, references: Sequence[Reference], uid: str = "1.2.3") -> str:
    """Ask for these objects."""
    return requests.enter(Request(uid, references), "CT1", "GATE", OF_NODE)


def whole_answer(worker: Answers, token: str, waiting: Waiting) -> Answer:
    """Return what a peer is told."""
    found = worker.answer(token, waiting)
    assert found is not None
    return found


def load(requests: Requests, token: str) -> Waiting:
    """Return a request that is there."""
    found = requests.load(token)
    assert found is not None
    return found


def test_a_long_request_is_divided_and_reported_whole(books: Books, requests: Requests) -> None:
    wanted = many()
    faulty = {wanted[3].sop_instance, wanted[-1].sop_instance}
    looks = Looks(faulty)
    worker = answers(requests, looks)

    token = enter(requests, wanted)

    waiting = load(requests, token)
    assert waiting == Waiting("1.2.3", False, PARTS)
    assert worker.prepare(token, waiting)
    answer = whole_answer(worker, token, waiting)
    assert answer.event_type == 2
    assert report(answer) == {
        each: 0x0112 if each.sop_instance in faulty else None for each in wanted
    }
    assert str(answer) == f"committed to {MANY - 2} object(s), not to 2"
    assert (looks.looked, looks.most) == (MANY, PART_REFERENCES)
    requests.close(token, 0, "told")
    assert rows(books, "dgate_commitment_parts") == rows(books, "dgate_commitment_requests") == 0


def test_what_was_found_out_is_not_found_out_again_until_it_is_old(
    books: Books, requests: Requests
) -> None:
    wanted = many()
    looks = Looks()
    worker = answers(requests, looks)
    token = enter(requests, wanted)
    waiting = load(requests, token)
    assert not worker.is_ready(token)

    # As on the peer's own association, and then on another one.
    assert worker.prepare(token, waiting)
    assert worker.prepare(token, waiting)

    assert worker.is_ready(token)
    assert looks.looked == MANY
    books.clock.time += LASTING_S + 1
    looks.faulty = {wanted[0].sop_instance}
    assert not worker.is_ready(token)
    assert worker.prepare(token, waiting)
    assert looks.looked == 2 * MANY
    assert report(whole_answer(worker, token, waiting))[wanted[0]] == 0x0112


def test_looking_after_objects_goes_on_where_it_was_left(requests: Requests) -> None:
    looks = Looks()
    worker = answers(requests, looks)
    token = enter(requests, many())
    waiting = load(requests, token)

    assert not worker.prepare(token, waiting, lambda: False)
    assert looks.looked == PART_REFERENCES
    looks.error = DatabaseAway("the server is down")
    with pytest.raises(DatabaseAway):
        worker.prepare(token, waiting)
    looks.error = None

    assert worker.prepare(token, waiting)
    assert looks.looked == MANY


def test_of_two_that_look_at_once_the_first_counts(requests: Requests) -> None:
    wanted = many(2)
    token = enter(requests, wanted)
    waiting = load(requests, token)
    first, second = Looks(), Looks({wanted[0].sop_instance})

    def meanwhile() -> None:
        assert answers(requests, first).prepare(token, waiting)

    second.on_look = meanwhile
    worker = answers(requests, second)

    assert worker.prepare(token, waiting)

    assert (first.looked, second.looked) == (2, 2)
    assert report(whole_answer(worker, token, waiting)) == dict.fromkeys(wanted)


def test_a_round_that_takes_long_ends(books: Books, requests: Requests) -> None:
    def pass_time() -> None:
        books.clock.time += LASTING_S - 1

    looks = Looks(on_look=pass_time)
    worker = answers(requests, looks)
    token = enter(requests, many())
    waiting = load(requests, token)

    assert worker.prepare(token, waiting)

    assert worker.is_ready(token)
    assert looks.looked == MANY
    # Another round that is broken off is gone on with, and nothing of the first counts any more.
    books.clock.time += LASTING_S + 1
    assert not worker.prepare(token, waiting, lambda: False)
    assert requests.stale(token) == list(range(1, PARTS))
    assert worker.prepare(token, waiting)
    assert worker.is_ready(token)
    assert looks.looked == 2 * MANY


def test_another_association_waits_while_this_one_is_prepared(
    books: Books, requests: Requests
) -> None:
    def pass_time() -> None:
        books.clock.time += OWN_ASSOCIATION_S - 1

    token = enter(requests, many())
    started = books.clock.time

    assert answers(requests, Looks(on_look=pass_time)).prepare(token, load(requests, token))

    assert books.clock.time > started + OWN_ASSOCIATION_S
    assert books.rows("due") == [(books.clock.time + OWN_ASSOCIATION_S,)]
    # Who is hastened, or has failed, does not wait.
    requests.hasten(token)
    assert books.rows("due") == [(books.clock.time,)]


def test_what_is_closed_while_it_is_looked_after_is_not_reported(requests: Requests) -> None:
    token = enter(requests, many())
    waiting = load(requests, token)
    looks = Looks()

    def told_elsewhere() -> None:
        if looks.looked:
            requests.close(token, 0, "told")

    looks.on_look = told_elsewhere
    worker = answers(requests, looks)

    assert worker.prepare(token, waiting)

    assert worker.answer(token, waiting) is None


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_report_of_what_is_closed_meanwhile_does_not_end(requests: Requests, taken: int) -> None:
    wanted = many()
    token = enter(requests, wanted)
    waiting = load(requests, token)
    worker = answers(requests, Looks({wanted[-1].sop_instance}))
    assert worker.prepare(token, waiting)
    pieces = whole_answer(worker, token, waiting).pieces("GATE", EXPLICIT_LE)
    for _ in range(taken):
        next(pieces)

    requests.close(token, 0, "told")

    with pytest.raises(StoreError, match="has changed"):
        list(pieces)


def test_nothing_is_reported_of_what_was_not_looked_after(requests: Requests) -> None:
    token = enter(requests, many())
    waiting = load(requests, token)
    worker = answers(requests, Looks())

    assert not worker.prepare(token, waiting, lambda: False)

    with pytest.raises(StoreError, match="not known of all"):
        worker.answer(token, waiting)


@pytest.mark.parametrize("lost", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_nothing_is_reported_when_parts_are_lost(
    books: Books, requests: Requests, lost: tuple[int, ...]
) -> None:
    token = enter(requests, many())
    waiting = load(requests, token)
    worker = answers(requests, Looks())
    assert worker.prepare(token, waiting)
    statement = books.archive.database.sql("DELETE FROM dgate_commitment_parts WHERE part = ?")

    books.archive.writer.transact(
        lambda transaction: transaction.executemany(statement, [(part,) for part in lost])
    )

    with pytest.raises(StoreError, match="not known of all"):
        worker.answer(token, load(requests, token))


@dataclass
class Unsure:
    """Writes what it is given; of one transaction nobody hears whether it was committed."""

    writer: Writer
    lost: int
    is_committed: bool

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        """Stand for the writer."""
        self.lost -= 1
        if self.lost:
            return self.writer.transact(work)
        if self.is_committed:
            self.writer.transact(work)
        raise OutcomeUnknown("the server went away in the commit")


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize("lost", range(1, PARTS + 1))
def test_a_commit_of_unknown_outcome_takes_nothing_from_a_request(
    books: Books, requests: Requests, lost: int, is_committed: bool
) -> None:
    wanted = many()
    unsure: Any = Unsure(books.archive.writer, lost, is_committed)
    hesitant = Requests(books.archive.database, unsure, books.clock, lambda: None)

    with pytest.raises(OutcomeUnknown):
        enter(hesitant, wanted)

    there = is_committed and lost == PARTS
    assert rows(books, "dgate_commitment_requests") == there
    # The peer asks again.
    token = enter(requests, wanted)
    assert rows(books, "dgate_commitment_requests") == 1
    waiting = load(requests, token)
    worker = answers(requests, Looks({wanted[0].sop_instance}))
    assert worker.prepare(token, waiting)
    told = dict.fromkeys(wanted) | {wanted[0]: 0x0112}
    assert report(whole_answer(worker, token, waiting)) == told
    books.clock.time += 2 * 86400
    requests.forget_orphans()
    assert rows(books, "dgate_commitment_parts") == PARTS


def test_a_twin_of_a_running_transaction_fails_whole(requests: Requests) -> None:
    wanted = many()
    enter(requests, wanted[:1])
    looks = Looks()
    worker = answers(requests, looks)

    token = enter(requests, wanted)

    waiting = load(requests, token)
    assert waiting.is_twin
    assert worker.prepare(token, waiting)
    assert report(whole_answer(worker, token, waiting)) == dict.fromkeys(wanted, 0x0131)
    assert looks.looked == 0


def test_a_long_request_that_comes_twice_is_one(books: Books, requests: Requests) -> None:
    first = enter(requests, many())

    assert enter(requests, many()) == first

    assert rows(books, "dgate_commitment_parts") == PARTS


def test_an_object_that_is_named_twice_is_asked_for_once(requests: Requests) -> None:
    one, other = many(2)

    token = enter(requests, [one, other, one])

    assert requests.references(token, 0) == [one, other]


def broken(count: int) -> Iterator[Reference]:
    """Yield references, and then what is none."""
    yield from many(count)
    raise Fault(0x0115, "a reference lacks its UIDs")


@pytest.mark.parametrize(
    ("references", "limits", "status"),
    [
        (lambda: [], OF_NODE, 0x0115),
        (lambda: broken(MANY), OF_NODE, 0x0115),
        (lambda: many(MANY), Limits(10, MANY - 1), 0x0213),
        (lambda: many(MANY), Limits(0, MANY), 0x0213),
    ],
    ids=["empty", "broken", "too long", "too many"],
)
def test_what_is_refused_leaves_nothing(
    books: Books,
    requests: Requests,
    references: Callable[[], Any],
    limits: Limits,
    status: int,
) -> None:
    with pytest.raises(Fault) as fault:
        requests.enter(Request("1.2.3", references()), "CT1", "GATE", limits)

    assert fault.value.status == status
    assert rows(books, "dgate_commitment_parts") == rows(books, "dgate_commitment_requests") == 0
    assert [row for row in books.rows("kind") if row[0] == DebtKind.REPORT.value] == []


def test_parts_that_a_crash_left_are_removed_when_they_are_old(
    books: Books, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = enter(requests, many(1), "1.2.4")
    monkeypatch.setattr(requests, "_drop_parts", lambda token, last: None)
    with pytest.raises(Fault):
        requests.enter(Request("1.2.3", broken(MANY)), "CT1", "GATE", OF_NODE)
    left = rows(books, "dgate_commitment_parts")
    assert left > 1

    requests.forget_orphans()
    assert rows(books, "dgate_commitment_parts") == left
    books.clock.time += 2 * 86400
    requests.forget_orphans()

    assert rows(books, "dgate_commitment_parts") == 1
    assert load(requests, kept).parts == 1


def test_a_request_that_an_earlier_version_wrote_down_is_reported(
    books: Books, requests: Requests
) -> None:
    wanted = many()
    token = enter(requests, many(1))
    sql = books.archive.database.sql
    values = (json.dumps(wanted), token)

    def age(transaction: Any) -> None:
        transaction.execute(sql("DELETE FROM dgate_commitment_parts WHERE token = ?"), (token,))
        statement = "UPDATE dgate_commitment_requests SET content = ? WHERE token = ?"
        transaction.execute(sql(statement), values)

    books.archive.writer.transact(age)
    worker = answers(requests, Looks())

    waiting = load(requests, token)

    assert waiting == Waiting("1.2.3", False, PARTS)
    assert worker.prepare(token, waiting)
    assert report(whole_answer(worker, token, waiting)) == dict.fromkeys(wanted)


def peak_bytes(folder: Path, count: int) -> int:
    """Return how much memory a request takes at most, from its payload to its report."""
    folder.mkdir()
    books = open_books(folder)
    requests = requests_of(books)
    worker = answers(requests, Looks({many(2)[1].sop_instance}))

    def spill() -> SpillFile:
        path = folder / "payload"
        return SpillFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), path, 0)

    payload = Payload(spill)
    data = memoryview(request_data(Request("1.2.3", many(count)), EXPLICIT_LE))
    for start in range(0, len(data), 1 << 16):
        payload.append(data[start : start + (1 << 16)])
    assert payload.spilled is not None
    del data
    tracemalloc.start()
    try:
        token = requests.enter(read_request(message(payload)), "CT1", "GATE", OF_NODE)
        waiting = load(requests, token)
        assert worker.prepare(token, waiting)
        total = sum(map(len, whole_answer(worker, token, waiting).pieces("GATE", EXPLICIT_LE)))
        assert total > count * 50
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        payload.close()
        books.archive.close()


def test_memory_does_not_depend_on_how_many_objects_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.dicom.payload.SPILL_BYTES", 1 << 14)
    peak_bytes(tmp_path / "first", 300)
    few = peak_bytes(tmp_path / "few", 2_000)

    lots = peak_bytes(tmp_path / "lots", 12_000)

    # As objects of Python the references alone would be two million bytes more.
    assert lots - few < 500_000
