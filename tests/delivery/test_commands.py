"""The queue commands: what a desk does here and through a control socket is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dgate.delivery.commands import QueueAccess, RemoteDesk, queue_commands
from dgate.delivery.records import Order, Selection, State
from dgate.errors import DgateError
from dgate.ops.control import ControlClient, ControlServer
from tests.delivery.kit import Books, draft, open_books

pytestmark = pytest.mark.integration


@dataclass
class Counter:
    """A desk with three debts, reached directly or through a socket."""

    books: Books
    access: QueueAccess
    woken: list[str | None] = field(default_factory=list)
    client: ControlClient | None = None


@pytest.fixture(params=["here", "socket"])
def counter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counter]:
    books = open_books(tmp_path)
    books.owe(draft("SINK"), draft("SINK"), draft("OTHER"))
    if request.param == "here":
        yield Counter(books, books.desk)
    else:
        made = Counter(books, books.desk)
        server = ControlServer(
            tmp_path / "s.sock", queue_commands(books.desk, lambda name: made.woken.append(name))
        )
        server.start()
        made.client = ControlClient(tmp_path / "s.sock")
        made.access = RemoteDesk(made.client)
        yield made
        server.stop()
    books.archive.close()


def test_debts_are_listed_page_by_page(counter: Counter) -> None:
    whole = counter.access.entries(Selection())

    assert [entry.destination for entry in whole] == ["SINK", "SINK", "OTHER"]
    assert counter.access.entries(Selection(), limit=1, offset=1) == whole[1:2]
    assert counter.access.entries(Selection(destination="OTHER")) == whole[2:]
    assert counter.access.entries(Selection(states=(State.DONE,))) == []


def test_one_debt_is_shown_and_an_unknown_one_is_the_callers_error(counter: Counter) -> None:
    [first, *_] = counter.access.entries(Selection())

    assert counter.access.show(first.id) == first
    with pytest.raises(DgateError, match="4711"):
        counter.access.show(4711)


def test_counts_name_each_destination(counter: Counter) -> None:
    found = {(count.destination, count.state): count.count for count in counter.access.counts()}
    assert found == {("SINK", State.QUEUED): 2, ("OTHER", State.QUEUED): 1}
    counter.access.cancel(Selection(destination="OTHER"))
    assert [count.destination for count in counter.access.counts()] == ["SINK"]
    assert len(counter.access.counts(closed=True)) == 2


def test_debts_are_held_released_cancelled_and_sent_elsewhere(counter: Counter) -> None:
    access = counter.access
    ids = [entry.id for entry in access.entries(Selection())]

    assert access.hold(Selection(destination="SINK")).count == 2
    assert counter.books.states() == ["held", "held", "queued"]
    assert access.release(Selection(ids=(ids[0],))).count == 1
    assert access.retry(Selection(ids=(ids[0],))).count == 1
    assert access.cancel(Selection(ids=(ids[1],))).count == 1
    assert access.reroute(Selection(ids=(ids[2],)), "SINK", called="sink").count == 1
    assert access.show(ids[2]).called == "sink"

    assert counter.books.states() == ["queued", "cancelled", "queued"]
    assert {entry.destination for entry in access.entries(Selection())} == {"SINK"}


def test_what_could_not_be_changed_is_told_with_its_reason(counter: Counter) -> None:
    changed = counter.access.cancel(Selection(ids=(4711,)))

    assert changed.count == 0
    assert [number for number, reason in changed.skipped if reason] == [4711]


def test_dispatcher_hears_only_of_what_it_may_try_now(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    books.owe(draft("SINK"))
    woken: list[str | None] = []
    commands = queue_commands(books.desk, woken.append)
    whole = {"selection": Selection().as_dict()}
    sink = {"selection": Selection(destination="SINK").as_dict()}

    commands["queue.hold"](sink)
    commands["queue.list"]({**whole, "limit": 1, "offset": 0})
    assert woken == []
    commands["queue.release"](sink)
    commands["queue.retry"](whole)
    commands["queue.reroute"]({**sink, "destination": "OTHER"})
    commands["queue.cancel"](whole)

    assert woken == ["SINK", None, "OTHER"]
    books.archive.close()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("queue.list", {}),
        ("queue.list", {"selection": {}, "limit": "many", "offset": 0}),
        ("queue.show", {"id": None}),
        ("queue.hold", {"selection": {"ids": ["x"]}}),
        ("queue.hold", {"selection": {"states": ["no such state"]}}),
        ("queue.hold", {"selection": None}),
        ("queue.hold", {"selection": {}, "order": {"when": 1}}),
        ("queue.hold", {"selection": {}, "order": {"who": 1}}),
        ("queue.hold", {"selection": {"study": 1}}),
        ("queue.hold", {"selection": {"since": "x"}}),
        ("ledger.find", {"selection": {"nothing": 1}}),
        ("ledger.find", {"selection": {}, "limit": "x"}),
        ("ledger.lives", {}),
        ("queue.reroute", {"selection": {}}),
    ],
)
def test_arguments_of_the_wrong_kind_are_the_callers_error(
    tmp_path: Path, name: str, arguments: dict[str, object]
) -> None:
    books = open_books(tmp_path)
    with pytest.raises(DgateError, match="cannot be understood"):
        queue_commands(books.desk, lambda _: None)[name](arguments)
    books.archive.close()


def test_the_ledger_is_searched_here_and_through_the_socket(counter: Counter) -> None:
    counter.access.reroute(Selection(destination="OTHER"), "SINK", Order("anna", "moved"))

    lives = list(counter.access.find(Selection(destination="SINK"), 2, newest_first=True))

    assert [life.entry.id for life in lives] == [3, 2]
    [decision] = lives[0].decisions
    assert (decision.who, decision.why, decision.destination) == ("anna", "moved", "OTHER")
    assert counter.access.lives("3") == lives[:1]
    assert list(counter.access.find(Selection(accession="A1"))) == []
    with pytest.raises(DgateError, match=r"1\.9\.9"):
        counter.access.lives("1.9.9")


def test_a_long_search_comes_through_the_socket_whole(counter: Counter) -> None:
    counter.books.owe(*[draft()] * 450)

    assert len(list(counter.access.find(Selection()))) == 453


def test_reasons_go_through_the_socket(counter: Counter) -> None:
    counter.access.cancel(Selection(ids=(1,)), Order("anna", "sent by hand"))

    assert counter.access.show(1).why == "sent by hand"
