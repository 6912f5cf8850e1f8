"""What is written down while nodes are asked to commit, on each engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery.commitment import requests as requests_module
from dgate.delivery.commitment.gathering import MOST_AT_ONCE
from dgate.delivery.commitment.ledger import Asked, Commitments
from dgate.delivery.commitment.messages import ASKING_LANE, Fault, Reference, Report, Request
from dgate.delivery.commitment.requests import (
    OF_NODE,
    OF_STRANGER,
    OWN_ASSOCIATION_S,
    Requests,
    Waiting,
)
from dgate.delivery.records import Debt, Selection, Settlement, State
from tests.archive.database_kit import ALL_ENGINES
from tests.delivery.kit import CT, Books, draft, ref

LANE = f"{ASKING_LANE}SINK"
FEW = 5
WAIT_S = 7.0


def deliver(books: Books, *numbers: int, spool: Path | None = None) -> None:
    """Have the peer accept these objects."""
    for number in numbers:
        books.owe(draft(spool=spool), to=ref(number))
    books.settle(
        *(
            Settlement(debt, State.COMMITTING, 0, pause_s=WAIT_S, sent=sent_as(debt))
            for debt in books.claim(limit=10_000)
        )
    )


def sent_as(debt: Debt) -> tuple[str, str]:
    """Return the UIDs of an object that no rule changed."""
    return debt.ref.sop_class, debt.ref.sop_instance


def ask(books: Books, commitments: Commitments) -> tuple[Debt, Asked]:
    """Claim the debt that asks, and begin."""
    books.clock.time += WAIT_S
    [debt] = books.claim(LANE)
    asked = commitments.begin(debt)
    assert asked is not None
    return debt, asked


def ask_in_vain(books: Books, commitments: Commitments, rounds: int = 5) -> list[Asked]:
    """Ask so often without hearing anything, then make the deliveries stuck."""
    asked = []
    [debt] = books.claim(LANE)
    for _ in range(rounds):
        request = commitments.begin(debt)
        assert request is not None
        commitments.accepted(request.uid)
        asked.append(request)
        wait(books, debt, 100.0)
        books.clock.time += 100.0
        [debt] = books.claim(LANE)
    commitments.give_up(debt, "no report has come")
    books.settle(Settlement(debt, State.DONE))
    return asked


def wait(books: Books, debt: Debt, seconds: float = 3600.0) -> None:
    """Let the report be awaited."""
    books.settle(Settlement(debt, State.QUEUED, None, "", seconds, counted=False))


def states(books: Books, kind: DebtKind = DebtKind.DELIVER) -> list[str]:
    """Return the states of the debts of a kind."""
    return [row[1] for row in books.rows("kind, state") if row[0] == kind.value]


def named(*numbers: int) -> tuple[Reference, ...]:
    """Return objects as they are asked for."""
    return tuple(Reference(CT, ref(number).sop_instance) for number in numbers)


def test_what_is_accepted_waits_with_one_debt_that_asks(books: Books) -> None:
    deliver(books, 1, 2)
    deliver(books, 3)

    assert states(books) == ["committing"] * 3
    assert states(books, DebtKind.COMMIT) == ["queued"]
    # What came later does not put off what waits.
    assert books.claim(LANE) == []
    books.clock.time += WAIT_S
    assert [debt.kind for debt in books.claim(LANE)] == [DebtKind.COMMIT]


def test_other_titles_are_asked_for_apart(books: Books) -> None:
    books.owe(draft(), draft(calling="OTHER"))
    books.settle(*(Settlement(debt, State.COMMITTING) for debt in books.claim()))

    found = [row for row in books.rows("kind, calling") if row[0] == "commit"]
    assert [row[1] for row in found] == ["", "OTHER"]


def test_a_good_report_closes_everything(books: Books, commitments: Commitments) -> None:
    deliver(books, 1, 2)
    debt, asked = ask(books, commitments)
    assert asked.references == named(1, 2)
    commitments.accepted(asked.uid)
    wait(books, debt)

    assert commitments.take(Report(asked.uid, named(1, 2), {}), apart=True, pause_s=1.0) == 0

    assert states(books) == ["done", "done"]
    assert states(books, DebtKind.COMMIT) == ["done"]
    rows = [row for row in books.rows("kind, committed, commitment") if row[0] == "deliver"]
    assert {row[1:] for row in rows} == {(books.clock.time, asked.uid)}
    assert commitments.reports_apart("SINK") is True
    # Once more, since our answer was lost.
    assert commitments.take(Report(asked.uid, named(1, 2), {}), apart=True, pause_s=1.0) == 0
    assert states(books) == ["done", "done"]


def test_a_report_that_comes_while_the_request_is_under_way_is_not_undone(
    books: Books, commitments: Commitments
) -> None:
    deliver(books, 1)
    debt, asked = ask(books, commitments)

    commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=1.0)
    wait(books, debt)

    assert states(books, DebtKind.COMMIT) == ["done"]


def test_an_unknown_transaction_is_known_as_such(commitments: Commitments) -> None:
    assert commitments.take(Report("1.2.3", named(1), {}), apart=True, pause_s=1.0) is None


def test_what_failed_is_owed_again_and_stuck_the_third_time(
    books: Books, commitments: Commitments
) -> None:
    deliver(books, 1, 2)
    for number in range(3):
        debt, asked = ask(books, commitments)
        wait(books, debt)
        report = Report(asked.uid, (), dict.fromkeys(asked.references, 0x0112))
        assert commitments.take(report, apart=False, pause_s=2.0) == 2
        assert states(books) == (["queued"] * 2 if number < 2 else ["stuck"] * 2)
        assert states(books, DebtKind.COMMIT) == ["done"] * (number + 1)
        assert books.claim() == []
        books.clock.time += 2.0
        if number < 2:
            books.settle(*(Settlement(each, State.COMMITTING, 0) for each in books.claim()))

    found = [row for row in books.rows("kind, last_status, last_error") if row[0] == "deliver"]
    assert {row[1] for row in found} == {0x0112}
    assert all("does not have the object" in row[2] for row in found)


def test_without_a_report_it_is_asked_again_under_another_uid(
    books: Books, commitments: Commitments
) -> None:
    deliver(books, 1)
    debt, first = ask(books, commitments)
    commitments.accepted(first.uid)
    wait(books, debt, 100.0)
    assert books.claim(LANE) == []
    # What an operator hastens has had no time to be reported.
    assert commitments.rounds(debt, 100.0) == 0
    books.clock.time += 100.0
    assert commitments.rounds(debt, 100.0) == 1

    [debt] = books.claim(LANE)
    second = commitments.begin(debt)

    assert second is not None
    assert second.uid != first.uid
    assert second.references == first.references
    # Bad news of the first is old; good news is good.
    failed = Report(first.uid, (), dict.fromkeys(first.references, 0x0112))
    assert commitments.take(failed, apart=True, pause_s=1.0) == 0
    assert states(books) == ["committing"]
    assert commitments.take(Report(first.uid, named(1), {}), apart=True, pause_s=1.0) == 0
    assert states(books) == ["done"]


def test_what_a_report_leaves_out_is_still_awaited(books: Books, commitments: Commitments) -> None:
    deliver(books, 1, 2)
    debt, asked = ask(books, commitments)
    wait(books, debt)

    commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=1.0)

    assert states(books) == ["done", "committing"]
    assert states(books, DebtKind.COMMIT) == ["queued"]


def test_a_long_list_is_asked_for_in_parts(
    books: Books, commitments: Commitments, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(books, *range(1, MOST_AT_ONCE + FEW))

    debt, asked = ask(books, commitments)
    wait(books, debt)
    [rest] = books.claim(LANE)
    others = commitments.begin(rest)

    assert others is not None
    assert (len(asked.references), len(others.references)) == (MOST_AT_ONCE, FEW - 1)


def test_a_restart_gives_the_debt_that_asks_back(books: Books, commitments: Commitments) -> None:
    deliver(books, 1)
    debt, first = ask(books, commitments)

    books.reopen().recover(starting=True)

    [again] = books.reopen().exchange([], LANE, 10)
    second = commitments.begin(again)
    assert (again.id, second is not None) == (debt.id, True)
    assert commitments.take(Report(first.uid, named(1), {}), apart=True, pause_s=1.0) == 0
    assert states(books) == ["done"]


def test_what_waits_without_a_debt_is_adopted(books: Books, commitments: Commitments) -> None:
    deliver(books, 1)
    debt, _ = ask(books, commitments)
    deliver(books, 2)
    sql = "UPDATE dgate_debts SET state = 'cancelled' WHERE kind = 'commit'"
    books.archive.writer.transact(lambda transaction: transaction.execute(sql))

    assert commitments.adopt() == 1

    [again] = books.claim(LANE)
    asked = commitments.begin(again)
    assert asked is not None
    assert asked.references == named(1, 2)
    assert again.id != debt.id
    assert commitments.adopt() == 0


def test_giving_up_is_stuck_and_doing_without_is_done(
    books: Books, commitments: Commitments
) -> None:
    deliver(books, 1)
    debt, _ = ask(books, commitments)
    assert commitments.give_up(debt, "nobody there") == 1
    assert states(books) == ["stuck"]
    books.settle(Settlement(debt, State.DONE))

    deliver(books, 2)
    debt, _ = ask(books, commitments)
    assert commitments.do_without(debt, "no more") == 1
    assert states(books) == ["stuck", "done"]


def test_doing_without_ends_what_was_never_asked_for(
    books: Books, commitments: Commitments, tmp_path: Path
) -> None:
    deliver(books, 1, spool=tmp_path / "copy.dcm")
    deliver(books, 2)
    books.clock.time += WAIT_S
    [debt] = books.claim(LANE)

    assert commitments.do_without(debt, "no more") == 2

    books.settle(Settlement(debt, State.DONE))
    assert states(books) == ["done", "done"]
    assert books.released == ["copy.dcm"]
    assert commitments.adopt() == 0


def test_doing_without_reaches_what_pauses_and_what_is_held(
    books: Books, commitments: Commitments, tmp_path: Path
) -> None:
    deliver(books, 1)
    debt, _ = ask(books, commitments)
    wait(books, debt)
    deliver(books, *range(2, MOST_AT_ONCE + FEW))
    books.desk.hold(Selection(destination=LANE))
    assert states(books, DebtKind.COMMIT) == ["held", "held"]

    assert commitments.do_without_all(lambda node: node == "SINK") == 0
    assert set(states(books)) == {"committing"}
    assert commitments.do_without_all(lambda node: False) == MOST_AT_ONCE + FEW - 1

    assert set(states(books)) == {"done"}
    assert commitments.adopt() == 0


@pytest.mark.parametrize("has_asked", [False, True])
def test_a_debt_that_gets_stuck_leaves_that_to_the_deliveries(
    books: Books, commitments: Commitments, has_asked: bool
) -> None:
    deliver(books, 1, 2)
    books.clock.time += WAIT_S
    [debt] = books.claim(LANE)
    if has_asked:
        commitments.begin(debt)

    # As after MaximumExportRetries tries.
    books.settle(Settlement(debt, State.STUCK, None, "nobody answers"))

    assert states(books) == ["stuck", "stuck"]
    assert states(books, DebtKind.COMMIT) == ["done"]
    found = books.desk.entries(Selection(states=(State.STUCK,)))
    assert {(entry.study, entry.last_error) for entry in found} == {("1.2.3", "nobody answers")}
    assert commitments.adopt() == 0


def test_one_that_is_ours_no_more_changes_nothing(books: Books) -> None:
    deliver(books, 1)
    books.clock.time += WAIT_S
    [debt] = books.claim(LANE)
    books.settle(Settlement(debt, State.QUEUED, tried=False))

    books.settle(Settlement(debt, State.STUCK, None, "nobody answers"))

    assert states(books) == ["committing"]
    assert states(books, DebtKind.COMMIT) == ["queued"]


def test_one_that_servers_ended_at_leaves_it_to_the_deliveries_as_well(
    books: Books, commitments: Commitments
) -> None:
    deliver(books, 1)
    sql = "UPDATE dgate_debts SET state = 'stuck', last_error = 'x' WHERE kind = 'commit'"
    books.archive.writer.transact(lambda transaction: transaction.execute(sql))

    assert commitments.stop_stuck() == 1

    assert states(books) == ["stuck"]
    assert states(books, DebtKind.COMMIT) == ["done"]
    assert (commitments.stop_stuck(), commitments.adopt()) == (0, 0)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_retry_of_what_was_accepted_asks_and_sends_nothing(
    books: Books, commitments: Commitments, is_held: bool
) -> None:
    deliver(books, 1, 2)
    debt, _ = ask(books, commitments)
    commitments.give_up(debt, "nobody there")
    books.settle(Settlement(debt, State.DONE))

    if is_held:
        books.desk.hold(Selection(destination="SINK"))
        books.desk.release(Selection(destination="SINK"))
    else:
        books.desk.retry(Selection(destination="SINK"))

    assert states(books) == ["committing", "committing"]
    assert states(books, DebtKind.COMMIT) == ["done", "queued"]
    assert books.claim() == []
    [again] = books.claim(LANE)
    asked = commitments.begin(again)
    assert asked is not None
    assert asked.references == named(1, 2)


def test_what_goes_elsewhere_is_sent_there(books: Books, commitments: Commitments) -> None:
    deliver(books, 1)
    debt, _ = ask(books, commitments)
    commitments.give_up(debt, "nobody there")
    books.desk.reroute(Selection(destination="SINK"), "OTHER")
    books.desk.hold(Selection(destination="OTHER"))
    books.desk.release(Selection(destination="OTHER"))

    assert states(books) == ["queued"]
    assert len(books.claim("OTHER")) == 1


def test_a_debt_that_is_held_is_not_made_again(books: Books, commitments: Commitments) -> None:
    deliver(books, 1)
    books.desk.hold(Selection(destination=LANE))

    assert commitments.adopt() == 0
    deliver(books, 2)

    assert states(books, DebtKind.COMMIT) == ["held"]
    books.desk.release(Selection(destination=LANE))
    _, asked = ask(books, commitments)
    assert asked.references == named(1, 2)


def test_a_copy_of_its_own_is_kept_until_the_commitment(
    books: Books, commitments: Commitments, tmp_path: Path
) -> None:
    deliver(books, 1, spool=tmp_path / "copy.dcm")
    debt, asked = ask(books, commitments)
    wait(books, debt)
    assert books.released == []

    commitments.take(Report(asked.uid, named(1), {}), apart=True, pause_s=1.0)

    assert books.released == ["copy.dcm"]


def test_an_object_is_named_as_it_was_sent(books: Books, commitments: Commitments) -> None:
    books.owe(draft(), to=ref(1))
    [debt] = books.claim()
    books.settle(Settlement(debt, State.COMMITTING, sent=("1.2.4", "1.2.5")))

    _, asked = ask(books, commitments)

    assert asked.references == (Reference("1.2.4", "1.2.5"),)
    commitments.take(Report(asked.uid, asked.references, {}), apart=False, pause_s=1.0)
    assert states(books) == ["done"]


# What peers ask us.


@pytest.fixture
def requests(books: Books) -> Requests:
    """Return what peers ask."""
    return Requests(books.archive.database, books.archive.writer, books.clock, lambda: None)


def test_a_request_is_owed_until_the_peer_was_told(books: Books, requests: Requests) -> None:
    request = Request("1.2.3", named(1, 2))

    token = requests.enter(request, "CT1", "GATE")

    assert requests.load(token) == Waiting("1.2.3", False, 1)
    assert requests.references(token, 0) == list(request.references)
    assert books.claim("commitment for CT1") == []
    books.clock.time += OWN_ASSOCIATION_S
    [debt] = books.claim("commitment for CT1")
    assert (debt.kind, debt.calling, debt.called) == (DebtKind.REPORT, "GATE", "CT1")
    assert debt.ref.name == token
    requests.close(token, 0, "told")
    assert states(books, DebtKind.REPORT) == ["done"]
    assert requests.load(token) is None


def test_a_request_is_hastened_when_its_association_is_over(
    books: Books, requests: Requests
) -> None:
    token = requests.enter(Request("1.2.3", named(1)), "CT1", "GATE")

    requests.hasten(token)

    assert len(books.claim("commitment for CT1")) == 1


def test_a_start_hastens_all_that_no_peer_waits_for(books: Books, requests: Requests) -> None:
    requests.enter(Request("1.2.3", named(1)), "CT1", "GATE")
    requests.enter(Request("1.2.4", named(1)), "CT1", "GATE")

    requests.hasten_all()

    assert len(books.claim("commitment for CT1")) == 2


def test_the_same_request_is_one_and_another_of_its_uid_is_a_twin(
    books: Books, requests: Requests
) -> None:
    first = requests.enter(Request("1.2.3", named(1)), "CT1", "GATE")
    again = requests.enter(Request("1.2.3", named(1)), "CT1", "GATE")
    twin = requests.enter(Request("1.2.3", named(2)), "CT1", "GATE")
    foreign = requests.enter(Request("1.2.3", named(2)), "CT2", "GATE")

    assert again == first
    assert [requests.load(token) for token in (twin, foreign)] == [
        Waiting("1.2.3", True, 1),
        Waiting("1.2.3", False, 1),
    ]
    assert requests.references(twin, 0) == requests.references(foreign, 0) == [*named(2)]
    assert len(states(books, DebtKind.REPORT)) == 3


def test_cancelled_requests_are_forgotten(books: Books, requests: Requests) -> None:
    token = requests.enter(Request("1.2.3", named(1)), "CT1", "GATE")
    other = requests.enter(Request("1.2.4", named(1)), "CT1", "GATE")
    [debt_id, _] = [row[0] for row in books.rows("id")]
    sql = f"UPDATE dgate_debts SET state = 'cancelled' WHERE id = {debt_id}"
    books.archive.writer.transact(lambda transaction: transaction.execute(sql))

    requests.forget_orphans()

    assert requests.load(token) is None
    assert requests.load(other) is not None


def test_open_requests_of_one_title_are_limited(books: Books, requests: Requests) -> None:
    for number in range(OF_STRANGER.requests):
        requests.enter(Request(f"1.2.3.{number}", named(1)), "CT1", "GATE")

    with pytest.raises(Fault) as caught:
        requests.enter(Request("1.2.4", named(1)), "CT1", "GATE")

    assert caught.value.status == 0x0213
    assert len(states(books, DebtKind.REPORT)) == OF_STRANGER.requests
    # What is there already, others, and nodes.
    token = requests.enter(Request("1.2.3.0", named(1)), "CT1", "GATE")
    requests.enter(Request("1.2.4", named(1)), "CT2", "GATE")
    requests.enter(Request("1.2.4", named(1)), "CT1", "GATE", OF_NODE)
    requests.close(token, 0, "told")


def test_strangers_share_a_limit_whatever_they_call_themselves(
    books: Books, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "MOST_OF_STRANGERS", 3)

    def is_node(title: str) -> bool:
        return title.startswith("NODE")

    def enter(uid: str, title: str) -> str:
        limits = OF_NODE if is_node(title) else OF_STRANGER
        return requests.enter(Request(uid, named(1)), title, "GATE", limits, is_node)

    for number in range(5):
        enter(f"1.2.3.{number}", "NODE1")
    tokens = [enter("1.2.3", f"CT{number}") for number in range(3)]

    with pytest.raises(Fault, match="titles unknown here") as caught:
        enter("1.2.3", "CT9")

    assert caught.value.status == 0x0213
    assert len(states(books, DebtKind.REPORT)) == 8
    # Nodes are as free as before, and who has asked already may ask the same again.
    enter("1.2.4", "NODE2")
    assert enter("1.2.3", "CT0") == tokens[0]
    requests.close(tokens[1], 0, "told")
    enter("1.2.3", "CT9")


def test_old_requests_of_strangers_are_dropped(books: Books, requests: Requests) -> None:
    old, node, working = (
        requests.enter(Request("1.2.3", named(1)), title, "GATE")
        for title in ("CT1", "NODE", "CT2")
    )
    books.clock.time += 1000.0
    young = requests.enter(Request("1.2.4", named(1)), "CT1", "GATE")
    assert len(books.claim("commitment for CT2")) == 1

    assert requests.forget_strangers(lambda title: title == "NODE", 500.0) == 1

    assert requests.load(old) is None
    assert all(requests.load(token) is not None for token in (node, working, young))
    assert states(books, DebtKind.REPORT) == ["cancelled", "queued", "leased", "queued"]


@pytest.mark.parametrize("books", ALL_ENGINES[-1:], indirect=True)
def test_all_of_it_on_mariadb(
    books: Books, commitments: Commitments, requests: Requests, tmp_path: Path
) -> None:
    deliver(books, 1, 2, spool=tmp_path / "copy.dcm")
    debt, first = ask(books, commitments)
    commitments.accepted(first.uid)
    wait(books, debt, 100.0)
    books.clock.time += 100.0
    [debt] = books.claim(LANE)
    second = commitments.begin(debt)
    assert second is not None
    assert (second.references, commitments.rounds(debt, 100.0)) == (named(1, 2), 1)
    failed = Report(second.uid, named(1), dict.fromkeys(named(2), 0x0112))
    assert commitments.take(failed, apart=True, pause_s=1.0) == 1
    assert states(books) == ["done", "queued"]
    assert commitments.reports_apart("SINK") is True
    assert commitments.adopt() == 0
    token = requests.enter(Request("1.2.3", named(1)), "CT1", "GATE")
    assert requests.enter(Request("1.2.3", named(2)), "CT1", "GATE") != token
    requests.hasten_all()
    requests.forget_orphans()
    assert len(books.claim("commitment for CT1")) == 2
    requests.close(token, 0, "told")
    assert states(books, DebtKind.REPORT) == ["done", "leased"]
    requests.enter(Request("1.2.5", named(2)), "CT2", "GATE")
    books.clock.time += 100.0
    assert requests.forget_strangers(lambda title: False, 50.0) == 1
    deliver(books, 3)
    books.clock.time += WAIT_S
    [debt] = books.claim(LANE)
    books.settle(Settlement(debt, State.STUCK, None, "nobody answers"))
    assert states(books) == ["done", "stuck", "stuck"]
    books.desk.retry(Selection(states=(State.STUCK,)))
    assert states(books) == ["done", "committing", "committing"]
    assert (commitments.stop_stuck(), commitments.adopt()) == (0, 0)
    assert commitments.do_without_all(lambda node: False) == 2
    assert states(books) == ["done"] * 3
    deliver(books, 4, 5)
    books.clock.time += WAIT_S
    asked = ask_in_vain(books, commitments, rounds=2)
    late = Report(asked[0].uid, named(4), dict.fromkeys(named(5), 0x0112))
    assert commitments.take(late, apart=True, pause_s=1.0) == 0
    assert states(books) == ["done"] * 4 + ["stuck"]
