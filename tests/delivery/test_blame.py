"""An object that a destination never takes holds up no other; one that is full still pauses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgate.config.node_settings import NodeSettings, Priority
from dgate.delivery.blame import MOST_SUSPECTS, PROPOSES_LITTLE_S, Blame
from dgate.delivery.sender import SendResult
from dgate.errors import OutOfSpace
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.gate_kit import Gate
from tests.delivery.kit import CT, MR, Books, draft, ref
from tests.delivery.scripted_scp import scripted_scp
from tests.delivery.twins import OK, Workshop

HUGE = "1.2.3.1"
"""What the peer never takes."""
PRIORITIES = (Priority.STAT, Priority.NORMAL, Priority.BULK)


def too_large(status: int) -> scp.Reply:
    """Refuse one object, and take all others."""

    def reply(guest: scp.Guest, command: Any) -> None:
        guest.answer(command, status if command.sop_instance == HUGE else 0)

    return reply


@pytest.mark.parametrize("status", [0xA700, 0xA8FF, 0x0213])
@pytest.mark.parametrize("urgency", [Priority.STAT, Priority.NORMAL])
def test_object_that_the_peer_has_no_room_for_holds_up_nothing(
    tmp_path: Path, status: int, urgency: Priority
) -> None:
    with (
        scripted_scp(reply=too_large(status)) as peer,
        Gate(tmp_path, {"SINK": peer.port}) as made,
    ):
        made.owe(made.store.add(1), priority=urgency)
        for number, priority in enumerate(PRIORITIES, 2):
            made.owe(made.store.add(number), priority=priority)
        made.start()

        made.await_states(queued=1, done=3)
        wait_until(lambda: made.entry(0).attempts >= 3, "further tries of the one")
        wait_until(lambda: made.site().state == "closed", "the end of the pause")
        made.owe(made.store.add(9), priority=Priority.BULK)
        made.await_states(queued=1, done=4)
        assert made.entry(0).last_status == status


def abort_at_mr(guest: scp.Guest, wanted: Any) -> bool:
    """Abort where MR is proposed."""
    if MR in [proposal.abstract_syntax for proposal in wanted.proposals]:
        return scp.abort_at_once(guest, wanted)
    return scp.accept(guest, wanted)


@pytest.mark.parametrize("urgency", [Priority.STAT, Priority.NORMAL, Priority.BULK])
def test_sop_class_at_which_the_peer_aborts_holds_up_no_other(
    tmp_path: Path, urgency: Priority
) -> None:
    with scripted_scp(welcome=abort_at_mr) as peer, Gate(tmp_path, {"SINK": peer.port}) as made:
        made.owe(made.store.add(2, sop_class=CT))
        made.owe(made.store.add(1, sop_class=MR), priority=urgency)
        made.owe(made.store.add(3, sop_class=CT))
        made.start()

        made.await_states(queued=1, done=2)
        wait_until(lambda: made.entry(1).attempts >= 3, "further tries of the one")
        made.owe(made.store.add(4, sop_class=CT))
        made.await_states(queued=1, done=3)
        peer.welcome = scp.accept
        made.await_states(done=4)


@pytest.mark.parametrize("meaning", ["fail", "retry"])
def test_abort_that_the_node_names_is_held_against_that_sop_class_only(
    tmp_path: Path, meaning: str
) -> None:
    nodes = {"SINK": NodeSettings(errors=(("aborted", meaning),))}
    with (
        scripted_scp(welcome=abort_at_mr) as peer,
        Gate(tmp_path, {"SINK": peer.port}, nodes, retry_first_s=600.0, retry_max_s=600.0) as made,
    ):
        for number in range(1, 5):
            made.owe(made.store.add(number, sop_class=CT))
        made.owe(made.store.add(9, sop_class=MR))
        made.start()

        made.await_states(**{"done": 4, "stuck" if meaning == "fail" else "queued": 1})


@pytest.fixture
def shop(books: Books, tmp_path: Path) -> Workshop:
    return Workshop(books, tmp_path)


def owe(shop: Workshop, number: int, priority: Priority = Priority.NORMAL) -> None:
    shop.books.owe(draft(priority=priority), to=ref(number))


@pytest.mark.parametrize(
    "failure",
    [SendResult(0xA700), OutOfSpace("no room to convert it")],
    ids=["no room there", "no room here"],
)
def test_once_others_were_taken_the_destination_does_not_pause_for_it_again(
    shop: Workshop, failure: Any
) -> None:
    for number, priority in enumerate(PRIORITIES, 1):
        owe(shop, number, priority)
    shop.script = lambda which: failure if which.sop_instance == HUGE else OK
    clock = shop.books.clock

    lane = shop.work()

    assert shop.sent() == [HUGE]
    # The others are first at the end of the pause.
    assert shop.books.rows("due")[0][0] > lane.paused_until
    clock.time = lane.paused_until
    shop.work(lane=lane)
    assert shop.sent() == [HUGE, "1.2.3.2", "1.2.3.3"]
    for tries in range(2, 12):
        [(due,)] = shop.books.rows("due")[:1]
        clock.time = due
        owe(shop, 100 + tries)
        before = len(shop.sent())
        shop.work(lane=lane)
        assert shop.sent()[before:] == [HUGE, f"1.2.3.{100 + tries}"]
        assert not lane.site.breaker.is_open
        assert shop.books.rows("state, attempts")[0] == ("queued", tries)
    # Its own pause has grown.
    assert shop.books.rows("due")[0][0] - clock.time > 400.0


def test_destination_that_takes_nothing_pauses_longer_each_time(shop: Workshop) -> None:
    for number in range(1, 6):
        owe(shop, number)
    shop.script = lambda _: SendResult(0xA700)
    lane = shop.work()
    for failures in range(1, 9):
        assert lane.failures == failures
        pause = lane.paused_until - shop.books.clock.time
        assert 0.8 * min(5.0 * 2 ** (failures - 1), 600.0) <= pause <= 600.0 + 1e-6
        assert len(shop.sent()) == failures
        shop.books.clock.time = lane.paused_until
        shop.work(lane=lane)


def test_destination_that_is_full_by_now_pauses_longer_each_time_for_what_was_alone(
    shop: Workshop,
) -> None:
    owe(shop, 1, Priority.STAT)
    owe(shop, 2)
    shop.script = lambda which: SendResult(0xA700) if which.sop_instance == HUGE else OK
    clock = shop.books.clock
    lane = shop.work()
    clock.time = lane.paused_until
    shop.work(lane=lane)
    assert shop.sent() == [HUGE, "1.2.3.2"]
    shop.script = lambda _: SendResult(0xA700)
    for number in range(3, 9):
        owe(shop, number)

    for failures in range(1, 6):
        # Late enough for the one that is alone, and it is the first.
        clock.time = max(row[0] for row in shop.books.rows("due") if row[0] is not None) + 1.0
        before = len(shop.sent())
        shop.work(lane=lane)
        assert shop.sent()[before] == HUGE
        assert len(shop.sent()) == before + 2
        assert lane.failures == failures


def test_single_object_that_waits_for_room_is_tried_for_ever(shop: Workshop) -> None:
    owe(shop, 1)
    shop.script = lambda _: SendResult(0xA700)
    lane = shop.work()
    for tries in range(2, 6):
        [(due,)] = shop.books.rows("due")
        assert due > lane.paused_until
        shop.books.clock.time = due
        shop.work(lane=lane)
        assert len(shop.sent()) == tries
        assert lane.failures == tries
    shop.script = lambda _: OK
    shop.books.clock.time = shop.books.rows("due")[0][0]
    shop.work(lane=lane)
    assert shop.books.states() == ["done"]


def test_hold_off_after_one_object_lets_others_go_first(books: Books, tmp_path: Path) -> None:
    shop = Workshop(books, tmp_path, fail_hold_off_s=60.0, retry_delay_s=60.0)
    owe(shop, 1, Priority.STAT)
    owe(shop, 2)
    shop.script = lambda which: SendResult(0x0110) if which.sop_instance == HUGE else OK

    lane = shop.work()
    books.clock.time = lane.paused_until
    shop.work(lane=lane)

    assert shop.sent() == [HUGE, "1.2.3.2"]
    assert shop.books.states() == ["queued", "done"]


def test_object_is_alone_only_after_others_were_dealt_with() -> None:
    blame = Blame()

    assert not blame.is_alone(1)
    assert not blame.is_alone(2)
    blame.answered(2)

    assert blame.is_alone(1)
    assert not blame.is_alone(2)
    assert not blame.is_alone(3)


def test_only_so_many_objects_are_remembered() -> None:
    blame = Blame()
    for number in range(MOST_SUSPECTS + 10):
        blame.is_alone(number)

    blame.answered(-1)

    assert blame.is_alone(MOST_SUSPECTS + 5)
    assert len(blame._suspects) <= MOST_SUSPECTS


def test_after_an_abort_little_is_proposed_for_a_while() -> None:
    blame = Blame()
    assert not blame.proposes_little(5.0)

    blame.propose_little(5.0)
    assert blame.proposes_little(5.0 + PROPOSES_LITTLE_S / 2)
    assert not blame.proposes_little(5.0 + PROPOSES_LITTLE_S)

    blame.propose_all()
    assert not blame.proposes_little(6.0)
