"""How the debts of one destination are paid."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.records import DebtKind
from dgate.delivery.associations import MOST_SENDERS
from dgate.delivery.failures import DOUBTFUL_TRIES, Fate
from dgate.delivery.outcomes import SUSPECTED_MOST_S
from dgate.delivery.sender import SendResult
from dgate.delivery.worker import BATCH, Lane, Worker
from dgate.errors import (
    Aborted,
    CannotTranscode,
    DatabaseAway,
    Missing,
    NoContext,
    NotExecutable,
    Rejected,
    RuleError,
    Unreachable,
)
from dgate.rules.effects import Forward
from tests.delivery.kit import MR, Books, draft, ref
from tests.delivery.twins import OK, Workshop, await_exchange


@pytest.fixture
def shop(books: Books, tmp_path: Path) -> Workshop:
    return Workshop(books, tmp_path)


def owe(shop: Workshop, count: int, **changes: Any) -> None:
    for number in range(1, count + 1):
        shop.books.owe(draft(), to=ref(number, **changes))


def test_every_debt_is_delivered_over_one_association_and_marked(shop: Workshop) -> None:
    owe(shop, 3)

    shop.work()

    assert shop.steps() == ["open", "send", "send", "send", "release"]
    assert shop.books.states() == ["done"] * 3


def test_more_debts_than_a_batch_are_delivered_in_one_go(shop: Workshop) -> None:
    owe(shop, BATCH + 2)

    shop.work()

    assert len(shop.sent()) == BATCH + 2
    assert shop.steps().count("open") == 1


def test_association_is_prepared_for_the_whole_batch(shop: Workshop) -> None:
    shop.books.owe(draft(), to=ref(1))
    shop.books.owe(draft(compression="j2"), to=ref(2, sop_class=MR))
    shop.books.owe(draft(), to=ref(3))

    shop.work()

    assert [entry for entry in shop.journal if entry[0] == "prepare"] == [
        ("prepare", "j2", "1.2.3.2"),
        ("prepare", "", "1.2.3.3"),
    ]
    assert [entry[2] for entry in shop.journal if entry[0] == "send"] == ["", "j2", ""]


def test_next_object_is_announced_so_that_it_can_be_read_ahead(shop: Workshop) -> None:
    shop.books.owe(draft(), to=ref(1))
    shop.books.owe(draft(), to=ref(2))
    shop.books.owe(draft(script="nop"), to=ref(3))

    shop.work()

    assert [entry[3] for entry in shop.journal if entry[0] == "send"] == ["1.2.3.2", "", ""]


def test_warning_counts_as_delivered_and_is_kept(shop: Workshop) -> None:
    owe(shop, 1)
    shop.script = lambda _: SendResult(0xB000, "patient name changed")

    shop.work()

    [row] = shop.books.rows("state, last_status, last_error")
    assert row == ("done", 0xB000, "B000 (coerced): patient name changed")


def test_org_and_dest_get_their_own_associations(shop: Workshop) -> None:
    shop.books.owe(draft(), to=ref(1))
    shop.books.owe(draft(calling="ROUTER", called="ELSEWHERE"), to=ref(2))
    shop.books.owe(draft(), to=ref(3))

    shop.work()

    assert [entry for entry in shop.journal if entry[0] == "open"] == [
        ("open", "GATE", "SINK"),
        ("open", "ROUTER", "ELSEWHERE"),
    ]
    assert shop.sent() == ["1.2.3.1", "1.2.3.3", "1.2.3.2"]


@pytest.mark.parametrize(
    ("level", "changes"),
    [
        ("PATIENT", {"patient_id": "P2"}),
        ("STUDY", {"study": "9.9"}),
        ("SERIES", {"series": "9.9.9"}),
        ("SOPCLASS", {"sop_class": MR}),
    ],
)
def test_association_ends_when_the_uid_of_its_level_changes(
    books: Books, tmp_path: Path, level: str, changes: dict[str, str]
) -> None:
    shop = Workshop(books, tmp_path, forward_association_level=level)
    owe(shop, 2)
    shop.books.owe(draft(), to=ref(3, **changes))

    shop.work()

    assert shop.steps() == ["open", "send", "send", "release", "open", "send", "release"]


@pytest.mark.parametrize(("level", "associations"), [("IMAGE", 3), ("GLOBAL", 1), ("study", 1)])
def test_association_level_image_and_global(
    books: Books, tmp_path: Path, level: str, associations: int
) -> None:
    shop = Workshop(books, tmp_path, forward_association_level=level)
    owe(shop, 2)
    shop.books.owe(draft(), to=ref(3, study="9.9"))

    shop.work()

    assert shop.steps().count("open") == associations


def test_mixed_studies_are_sorted_so_that_each_needs_one_association(
    books: Books, tmp_path: Path
) -> None:
    shop = Workshop(books, tmp_path, forward_association_level="STUDY")
    for number in range(6):
        shop.books.owe(draft(), to=ref(number, study=f"9.{number % 2}"))

    shop.work()

    assert shop.steps().count("open") == 2


def test_connection_is_dropped_without_release_where_configured(
    books: Books, tmp_path: Path
) -> None:
    shop = Workshop(books, tmp_path, forward_association_release=False)
    owe(shop, 1)

    shop.work()

    assert shop.steps() == ["open", "send", "drop"]


def test_unreachable_destination_pauses_and_its_debts_wait_with_the_reason(shop: Workshop) -> None:
    owe(shop, 3)
    shop.refuses_connection = Unreachable("no connection: refused")

    lane = shop.work()

    assert lane.failures == 1
    assert 4.0 <= lane.paused_until - shop.books.clock.time <= 6.0
    rows = shop.books.rows("state, attempts, repeats, last_error, due")
    assert [row[:4] for row in rows] == [("queued", 1, 0, "no connection: refused")] * 3
    assert all(row[4] <= lane.paused_until for row in rows)


def test_pause_grows_with_every_failure_and_ends_with_success(shop: Workshop) -> None:
    owe(shop, 2)
    shop.refuses_connection = Rejected("rejected", result=2, source=1, reason=1)
    lane = shop.work()
    shop.books.clock.time = lane.paused_until

    shop.work(lane=lane)

    assert lane.failures == 2
    assert 8.0 <= lane.paused_until - shop.books.clock.time <= 12.0
    shop.refuses_connection = None
    shop.books.clock.time = lane.paused_until
    shop.work(lane=lane)
    assert lane.failures == 0
    assert shop.books.states() == ["done", "done"]


def test_pause_of_rejected_titles_grows_and_ends_with_success(shop: Workshop) -> None:
    owe(shop, 2)
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=7)
    lane, clock = shop.work(), shop.books.clock
    for least, most in ((4.0, 6.0), (8.0, 12.0)):
        rows = shop.books.rows("state, last_error, due")
        assert [row[:2] for row in rows] == [("queued", "rejected")] * 2
        assert all(least <= row[2] - clock.time <= most for row in rows)
        clock.time = max(row[2] for row in rows)
        shop.work(lane=lane)

    assert lane.failures == 0
    assert shop.books.rows("attempts") == [(3,), (3,)]
    shop.refuses_connection = None
    clock.time += 60.0
    shop.work(lane=lane)
    assert shop.books.states() == ["done", "done"]
    assert lane.rejected.times(("GATE", "SINK")) == 0


def test_rejection_without_a_reason_is_the_titles_where_others_were_served(
    shop: Workshop,
) -> None:
    shop.books.owe(draft(calling="B"), to=ref(1))
    lane = shop.work()
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=1)
    shop.books.owe(draft(calling="A"), to=ref(2))

    shop.work(lane=lane)

    assert lane.failures == 0
    assert not lane.site.breaker.is_open
    assert shop.books.rows("state, attempts") == [("done", 1), ("queued", 1)]

    # Now the others as well: it is the destination.
    shop.books.owe(draft(calling="B"), to=ref(3))
    shop.senders.clear()
    shop.work(lane=lane)
    assert lane.failures == 1
    assert lane.site.breaker.is_open


def test_what_was_served_long_ago_says_nothing_of_a_peer_that_rejects_all(shop: Workshop) -> None:
    shop.books.owe(draft(calling="B"), to=ref(1))
    lane, clock = shop.work(), shop.books.clock
    shop.senders.clear()
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=1)
    shop.books.owe(draft(calling="A"), to=ref(2))
    begun = clock.time
    failures = []
    for _ in range(12):
        shop.work(lane=lane)
        failures.append(lane.failures)
        clock.time = max(row[0] for row in shop.books.rows("due"))

    # The destination is down, so that groups and fallbacks act.
    assert failures == [0, 0, *range(1, 11)]
    assert lane.site.breaker.is_open
    assert lane.site.breaker.down_since is not None
    assert lane.site.breaker.down_since - begun < 60.0


def test_failure_of_the_destination_makes_what_was_served_before_it_worthless(
    shop: Workshop,
) -> None:
    shop.books.owe(draft(calling="B"), to=ref(1))
    lane, clock = shop.work(), shop.books.clock
    shop.books.owe(draft(calling="A"), to=ref(2))
    for error in (
        Unreachable("no connection"),
        Rejected("rejected", result=1, source=1, reason=1),
    ):
        shop.refuses_connection = error
        shop.work(lane=lane)
        clock.time += 60.0

    assert lane.failures == 2


def test_same_titles_are_one_pair_however_they_are_written(shop: Workshop) -> None:
    shop.books.owe(draft(), to=ref(1))
    lane = shop.work()
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=1)
    shop.books.owe(draft(called="SINK"), to=ref(2))
    shop.books.owe(draft(calling="GATE"), to=ref(3))

    shop.work(lane=lane)

    assert lane.failures == 1
    assert shop.books.rows("attempts") == [(1,), (1,), (1,)]


def test_ledger_takes_the_longest_pause_of_suspected_titles_for_one(
    books: Books, tmp_path: Path
) -> None:
    shop = Workshop(books, tmp_path, retry_delay_s=86400.0)
    books.ledger.longest_pause_s = 86400.0
    owe(shop, 3)
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=1)

    lane = shop.work()

    [due] = books.ledger.lanes()
    assert due.due > lane.paused_until
    assert all(row[0] == pytest.approx(due.due) for row in books.rows("due"))


def test_other_titles_go_first_after_a_rejection_without_a_reason(shop: Workshop) -> None:
    for number in range(3):
        shop.books.owe(draft(calling="A", priority=0), to=ref(number))
    shop.books.owe(draft(calling="B"), to=ref(9))
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=1)
    lane, clock = shop.work(), shop.books.clock
    assert lane.failures == 1
    # It failed for what goes under the same titles.
    assert [row[0] for row in shop.books.rows("attempts")] == [1, 1, 1, 0]

    shop.refuses_connection = None
    clock.time = lane.paused_until
    # More of them has come meanwhile.
    shop.books.owe(draft(calling="A", priority=0), to=ref(4))
    shop.work(lane=lane)

    assert shop.sent() == ["1.2.3.9"]
    assert lane.failures == 0
    clock.time += 10.0
    shop.work(lane=lane)
    assert shop.books.states() == ["done"] * 5


def test_rejection_for_good_counts_for_the_limit_of_tries(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path, maximum_export_retries=1)
    owe(shop, 2)
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=1)

    lane = shop.work()

    assert shop.books.states() == ["stuck", "stuck"]
    assert lane.failures == 1


def test_rejected_titles_are_stuck_after_so_many_tries(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path, maximum_export_retries=1)
    owe(shop, 2)
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=3)

    lane = shop.work()

    assert shop.books.states() == ["stuck", "stuck"]
    assert lane.failures == 0


def test_delivery_that_comes_in_the_pause_of_its_titles_waits_uncounted(shop: Workshop) -> None:
    owe(shop, 1)
    shop.refuses_connection = Rejected("rejected", result=1, source=1, reason=3)
    lane = shop.work()
    shop.refuses_connection = None
    shop.books.owe(draft(), to=ref(7))
    shop.books.owe(draft(calling="OTHER"), to=ref(8))

    shop.work(lane=lane)

    rows = shop.books.rows("state, attempts, last_error")
    assert rows == [("queued", 1, "rejected"), ("queued", 0, "rejected"), ("done", 1, "")]
    [(first,), (second,), _] = shop.books.rows("due")
    assert second == pytest.approx(first)


@pytest.mark.parametrize(
    ("result", "source", "reason", "attempts"), [(2, 3, 2, 0), (2, 1, 1, 0), (1, 1, 1, 1)]
)
def test_rejection_beside_a_worker_that_is_served_leaves_its_reason(
    shop: Workshop, result: int, source: int, reason: int, attempts: int
) -> None:
    owe(shop, 1)
    lane = Lane("SINK")
    breaker = lane.site.breaker
    breaker.succeed(breaker.begin(), slot=1)
    shop.refuses_connection = Rejected("rejected", result=result, source=source, reason=reason)

    shop.work(lane=lane)

    rows = shop.books.rows("state, attempts, last_error")
    assert rows == [("queued", attempts, "rejected")]
    assert lane.failures == 0
    assert not breaker.is_open
    # Only load that passes lets the worker stay away altogether.
    assert (lane.paused_alone_until > 0) is (attempts == 0)


def test_broken_association_is_a_doubtful_outcome_for_the_object_in_hand_only(
    shop: Workshop,
) -> None:
    owe(shop, 3)
    shop.script = lambda which: OK if which.sop_instance == "1.2.3.1" else Aborted("lost")

    lane = shop.work()

    assert lane.failures == 1
    assert shop.books.rows("state, attempts, repeats, last_error") == [
        ("done", 1, 0, ""),
        ("queued", 1, 1, "lost"),
        ("queued", 0, 0, None),
    ]


def poisoned(which: Any) -> Any:
    """Answer everything but object 1, at which the peer hangs up."""
    return Aborted("lost") if which.sop_instance == "1.2.3.1" else OK


def test_object_that_breaks_the_association_again_waits_alone(shop: Workshop) -> None:
    owe(shop, 1)
    shop.script = poisoned
    lane = shop.work()
    shop.books.clock.time = lane.paused_until + SUSPECTED_MOST_S
    shop.books.owe(draft(), to=ref(2))

    shop.work(lane=lane)

    assert not lane.site.breaker.is_open
    assert shop.sent() == ["1.2.3.1", "1.2.3.1", "1.2.3.2"]
    [waiting, _] = shop.books.rows("state, attempts, repeats, due")
    assert waiting[:3] == ("queued", 2, 2)
    assert waiting[3] > shop.books.clock.time


def test_peer_that_breaks_every_association_is_not_hammered(shop: Workshop) -> None:
    owe(shop, 3)
    shop.script = lambda _: Aborted("lost")
    lane = Lane("SINK")
    for _ in range(6):
        before = len(shop.sent())
        shop.books.clock.time = max(shop.books.clock.time, lane.paused_until) + 1000.0
        shop.work(lane=lane)
        assert len(shop.sent()) == before + 1
        assert lane.paused_until > shop.books.clock.time


def test_debts_that_were_not_tried_are_not_charged_with_an_earlier_refusal(shop: Workshop) -> None:
    owe(shop, 3)
    answers = iter([NoContext("the peer refused SOP class"), SendResult(0xA700)])
    shop.script = lambda _: next(answers)

    shop.work()

    assert shop.books.rows("state, attempts") == [("stuck", 1), ("queued", 1), ("queued", 0)]


def test_destination_without_resources_pauses(shop: Workshop) -> None:
    owe(shop, 2)
    shop.script = lambda _: SendResult(0xA700, "disk full")

    lane = shop.work()

    assert shop.sent() == ["1.2.3.1"]
    assert lane.failures == 1
    assert shop.books.rows("state, attempts, last_status, last_error") == [
        ("queued", 1, 0xA700, "A700 (out of resources): disk full"),
        ("queued", 0, None, None),
    ]


def test_worker_that_starts_as_another_one_fails_sends_nothing(shop: Workshop) -> None:
    owe(shop, 1)
    lane, clock = Lane("SINK"), shop.books.clock
    breaker = lane.site.breaker
    breaker.fail(breaker.begin(), clock.time, 60.0, "refused", counts=True)

    shop.work(lane=lane)

    assert shop.sent() == []
    assert shop.books.rows("state, attempts") == [("queued", 0)]
    clock.time = lane.paused_until
    shop.work(lane=lane)
    assert shop.books.states() == ["done"]
    assert not breaker.is_open


def test_processing_failure_delays_only_its_object(shop: Workshop) -> None:
    owe(shop, 2)
    shop.script = lambda which: SendResult(0x0110) if which.sop_instance == "1.2.3.1" else OK

    lane = shop.work()

    assert lane.failures == 0
    assert shop.books.states() == ["queued", "done"]
    assert shop.books.rows("due")[0][0] > shop.books.clock.time


def test_fail_hold_off_pauses_the_destination_after_any_failure(
    books: Books, tmp_path: Path
) -> None:
    shop = Workshop(books, tmp_path, fail_hold_off_s=60.0)
    owe(shop, 2)
    shop.script = lambda _: SendResult(0x0110)

    lane = shop.work()

    assert shop.sent() == ["1.2.3.1"]
    assert lane.paused_until == books.clock.time + 60.0


@pytest.mark.parametrize(
    "error",
    [
        NoContext("the peer refused SOP class"),
        CannotTranscode("no encoder"),
        Missing("the file is gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_object_that_cannot_be_sent_is_stuck_and_the_others_go_on(
    shop: Workshop, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    owe(shop, 2)
    shop.script = lambda which: error if which.sop_instance == "1.2.3.1" else OK

    lane = shop.work()

    assert shop.books.states() == ["stuck", "done"]
    assert shop.books.rows("last_error")[0] == (str(error),)
    assert lane.paused_until == 0.0
    assert "dgate queue list" in caplog.text


def test_refusal_that_may_pass_is_tried_a_few_times_then_stuck(shop: Workshop) -> None:
    owe(shop, 1)
    shop.script = lambda _: SendResult(0xC000)

    for _ in range(DOUBTFUL_TRIES + 2):
        shop.work()
        shop.books.clock.time += 1000.0

    assert len(shop.sent()) == DOUBTFUL_TRIES
    assert shop.books.rows("state, attempts, last_status") == [("stuck", DOUBTFUL_TRIES, 0xC000)]


def test_debt_is_stuck_after_the_configured_number_of_tries(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path, maximum_export_retries=2)
    owe(shop, 3)
    shop.refuses_connection = Unreachable("refused")
    lane = shop.work()
    assert books.states() == ["queued"] * 3
    books.clock.time = lane.paused_until

    shop.work(lane=lane)

    assert books.states() == ["stuck"] * 3


def test_unknown_destination_is_stuck_with_advice(shop: Workshop) -> None:
    shop.books.owe(draft("NO_SUCH_AE"))

    shop.work("NO_SUCH_AE")

    [(state, reason)] = shop.books.rows("state, last_error")
    assert state == "stuck"
    assert "add a line for NO_SUCH_AE to acrnema.map" in reason


def test_script_is_given_to_the_sender_and_a_failing_one_is_stuck(shop: Workshop) -> None:
    shop.books.owe(draft(script="set 0010,0010 to X"), to=ref(1))
    shop.books.owe(draft(script="nonsense"), to=ref(2))
    shop.books.owe(draft(), to=ref(3))

    def rewrite(debt: Any) -> Any:
        if debt.script == "nonsense":
            raise RuleError("unknown statement", where="script")
        return lambda table: None

    shop.rewrites = rewrite
    shop.work()

    assert shop.books.rows("state, last_error") == [
        ("done", ""),
        ("stuck", "script: unknown statement"),
        ("done", ""),
    ]


def test_export_debt_becomes_the_deliveries_that_its_rule_asks_for(shop: Workshop) -> None:
    shop.books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT), to=ref(1))
    forward = Forward("SINK", "ExportConverter0.1", "ORG", "DEST", "j2", "nop")
    shop.expansions = lambda debt: [forward, Forward("OTHER", "ExportConverter0.2")]

    shop.work("ExportConverter0")

    columns = "kind, state, destination, rule, calling, called, compression, script"
    assert shop.books.rows(columns) == [
        ("deliver", "queued", "SINK", "ExportConverter0.1", "ORG", "DEST", "j2", "nop"),
        ("deliver", "queued", "OTHER", "ExportConverter0.2", "", "", "", ""),
    ]
    assert shop.woken == 1


def test_delivery_that_a_rule_asks_for_is_entered_under_the_name_of_the_node(
    shop: Workshop,
) -> None:
    shop.books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT), to=ref(1))
    shop.expansions = lambda debt: [Forward("sink", "ExportConverter0.1")]

    shop.work("ExportConverter0")

    assert shop.books.rows("destination, called") == [("SINK", "sink")]


@pytest.mark.parametrize("error", [NotExecutable("process with x"), Missing("gone")])
def test_export_debt_that_cannot_be_expanded_is_stuck(shop: Workshop, error: Exception) -> None:
    shop.books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT))

    def fail(debt: Any) -> list[Forward]:
        raise error

    shop.expansions = fail
    shop.work("ExportConverter0")

    assert shop.books.rows("kind, state, last_error") == [("export", "stuck", str(error))]


def test_unforeseen_error_of_a_rule_is_logged_and_stuck(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.books.owe(draft("ExportConverter0", kind=DebtKind.EXPORT))
    shop.expansions = lambda debt: 1 // 0  # type: ignore[return-value]

    shop.work("ExportConverter0")

    assert shop.books.states() == ["stuck"]
    assert "ZeroDivisionError" in caplog.text


def test_object_marked_in_memory_is_not_sent_again_when_the_ledger_was_away(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    owe(shop, 2)
    real, failures = shop.books.ledger.exchange, iter([None, DatabaseAway("locked"), None, None])

    def flaky(*arguments: Any, **options: Any) -> Any:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return real(*arguments, **options)

    monkeypatch.setattr(shop.books.ledger, "exchange", flaky)
    shop.tools = _with_policy(shop, first_s=0.001)
    shop.work()

    assert shop.sent() == ["1.2.3.1", "1.2.3.2"]
    assert shop.books.states() == ["done", "done"]


def test_delivering_pauses_when_marks_cannot_be_committed(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    owe(shop, 3)
    real, failures = shop.books.ledger.exchange, iter([None, DatabaseAway("locked")])
    seen: list[int] = []

    def flaky(*arguments: Any, **options: Any) -> Any:
        failure = next(failures, None)
        seen.append(len(shop.sent()))
        if failure is not None:
            raise failure
        return real(*arguments, **options)

    def slow(which: Any) -> SendResult:
        shop.books.clock.time += 1.0
        # The commit that began beside this delivery has failed before it ends.
        await_exchange("SINK")
        return OK

    shop.script = slow
    monkeypatch.setattr(shop.books.ledger, "exchange", flaky)
    shop.work()

    assert (seen[0], seen[2]) == (0, 2)
    assert shop.sent() == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert shop.books.rows("state, attempts, repeats") == [("done", 1, 0)] * 3


def test_outcome_that_cannot_be_written_at_the_end_is_reported(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owe(shop, 2)
    lane = Lane("SINK")
    worker = Worker(lane, lambda: shop.tools, lambda *_: True, shop.wake)
    path = shop.books.archive.database.path
    assert path is not None

    def last(which: Any) -> SendResult:
        worker.stop_soon()
        path.rename(path.with_suffix(".away"))
        return OK

    shop.script = last
    worker.run()

    assert shop.sent() == ["1.2.3.1"]
    assert "could not be written" in caplog.text
    path.with_suffix(".away").rename(path)


def test_many_titles_to_one_destination_share_a_few_associations(shop: Workshop) -> None:
    for number in range(MOST_SENDERS + 1):
        shop.books.owe(draft(called=f"TITLE{number}"), to=ref(number))

    shop.work()

    assert len(shop.sent()) == MOST_SENDERS + 1
    assert shop.steps().count("open") == MOST_SENDERS + 1


def test_marks_are_committed_while_a_long_batch_goes_on(shop: Workshop) -> None:
    owe(shop, 3)
    seen: list[list[str]] = []

    def slow(which: Any) -> SendResult:
        await_exchange("SINK")
        seen.append(list(shop.books.states()))
        shop.books.clock.time += 1.0
        return OK

    shop.script = slow
    shop.work()

    assert seen == [["leased"] * 3, ["done", "leased", "leased"], ["done", "done", "leased"]]


def test_objects_that_stream_in_are_gathered_into_batches(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.delivery.worker.GATHER_S", 0.001)
    shop.books.owe(draft(), to=ref(1))

    def follow(which: Any) -> SendResult:
        number = int(which.sop_instance.rpartition(".")[2])
        if number < 4:
            shop.books.owe(draft(), to=ref(number + 1))
        return OK

    shop.script = follow
    shop.work()

    assert shop.sent() == ["1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4"]
    assert shop.books.states() == ["done"] * 4


def test_worker_that_dies_leaves_its_claims_to_the_next_one(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owe(shop, 2)
    monkeypatch.setattr("dgate.delivery.outcomes.fate_of_status", lambda *status: 1 // 0)
    lane = shop.work()
    assert shop.books.states() == ["leased", "leased"]
    assert lane.paused_until > shop.books.clock.time
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()

    shop.work(lane=Lane("SINK"))

    assert shop.books.rows("state, repeats") == [("done", 1), ("done", 1)]


def test_object_that_arrived_is_not_sent_again_by_the_next_worker_of_a_dead_ones_lane(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    owe(shop, 2)
    statuses = iter([Fate.DONE])
    monkeypatch.setattr("dgate.delivery.outcomes.fate_of_status", lambda *status: next(statuses))
    lane = shop.work()
    assert shop.sent() == ["1.2.3.1", "1.2.3.2"]
    monkeypatch.undo()
    shop.books.clock.time = lane.paused_until

    shop.work(lane=lane)

    assert shop.sent() == ["1.2.3.1", "1.2.3.2", "1.2.3.2"]
    assert shop.books.rows("state, repeats") == [("done", 0), ("done", 1)]


def _with_policy(shop: Workshop, **changes: Any) -> Any:
    policy = dataclasses.replace(shop.tools.policy, **changes)
    return dataclasses.replace(shop.tools, policy=policy)
