"""Objects over real associations: which contexts are opened, what is sent on them, what fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive import export
from dgate.delivery import sender as module
from dgate.delivery.sender import Sender, SendResult
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import (
    Aborted,
    CannotTranscode,
    Missing,
    NoContext,
    RuleError,
    StoreError,
    Unreachable,
)
from tests.delivery.kit import CT, MR, ref
from tests.delivery.peer_kit import PATIENT_NAME, Peer, Store, provider

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with provider() as running:
        yield running


def sender_to(peer: Peer, store: Store, **changes: Any) -> Sender:
    return Sender(peer.destination(**changes), store.exporter, store.settings)


def test_objects_arrive_byte_for_byte_over_one_association(peer: Peer, store: Store) -> None:
    refs = [store.add(number) for number in range(5)]
    sender = sender_to(peer, store)

    results = [sender.send(one) for one in refs]
    sender.close()

    assert results == [SendResult(0)] * 5
    assert {item.sop_instance: item.data for item in peer.arrived} == store.bytes
    assert len(peer.associations()) == 1
    assert not sender.is_open


def test_titles_and_the_originator_of_a_move_are_passed_on(peer: Peer, store: Store) -> None:
    sender = sender_to(peer, store, calling="ROUTER", called="ELSEWHERE")

    sender.send(store.add(1), originator=("VIEWER", 17))
    sender.close()

    [item] = peer.arrived
    assert (item.calling, item.called) == ("ROUTER", "ELSEWHERE")
    assert item.originator == ("VIEWER", 17)


def test_status_and_comment_of_the_peer_are_returned(peer: Peer, store: Store) -> None:
    peer.statuses["1.2.3.1"] = 0xA700
    peer.comment = "disk full"
    sender = sender_to(peer, store)

    assert sender.send(store.add(1)) == SendResult(0xA700, "disk full")
    assert sender.send(store.add(2)) == SendResult(0)
    sender.close()


def test_object_opened_ahead_is_the_one_that_is_sent(peer: Peer, store: Store) -> None:
    first, second, third = (store.add(number) for number in range(3))
    sender = sender_to(peer, store)

    sender.send(first, upcoming=second)
    (store.root / second.name).unlink()
    sender.send(second, upcoming=third)
    sender.send(first)
    sender.send(third)
    sender.close()

    assert [item.sop_instance[-1] for item in peer.arrived] == ["0", "1", "0", "2"]
    assert all(item.data == store.bytes[item.sop_instance] for item in peer.arrived)


def test_object_that_cannot_be_opened_ahead_fails_in_its_own_turn(peer: Peer, store: Store) -> None:
    first, gone = store.add(1), ref(2)
    sender = sender_to(peer, store)

    assert sender.send(first, upcoming=gone) == SendResult(0)
    with pytest.raises(Missing):
        sender.send(gone)
    assert sender.is_open
    assert not sender.in_doubt
    sender.close()


def test_object_opened_ahead_is_closed_when_the_peer_cannot_be_reached_again(
    peer: Peer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_CHECK_S", 0.0)
    first, second = store.add(1), store.add(2)
    sender = sender_to(peer, store)
    sender.send(first, upcoming=second)
    assert peer.listener is not None
    peer.listener.stop(0.1)

    with pytest.raises(Unreachable):
        sender.send(second)

    assert not sender.in_doubt
    sender.close()


def test_file_that_cannot_be_read_ahead_fails_in_its_own_turn(
    peer: Peer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store.add(1), store.add(2)
    sender = sender_to(peer, store)
    real = store.exporter.open

    def broken(which: Any, *arguments: Any) -> Any:
        outgoing = real(which, *arguments)
        if which is second:
            outgoing.chunks = lambda: _half(outgoing)
        return outgoing

    monkeypatch.setattr(store.exporter, "open", broken)
    assert sender.send(first, upcoming=second) == SendResult(0)
    with pytest.raises(StoreError):
        sender.send(second)
    sender.close()


def test_prepared_association_takes_all_classes_and_syntaxes(peer: Peer, store: Store) -> None:
    refs = [
        store.add(1),
        store.add(2, sop_class=MR),
        store.add(3, syntax=IMPLICIT_LE, series="1.2.3.1"),
        store.add(4, syntax=EXPLICIT_BE, series="1.2.3.2"),
    ]
    sender = sender_to(peer, store)

    sender.prepare([*refs, ref(99)])
    for one in refs:
        sender.send(one)
    sender.close()

    assert len(peer.associations()) == 1
    assert [item.syntax for item in peer.arrived] == [
        EXPLICIT_LE,
        EXPLICIT_LE,
        IMPLICIT_LE,
        EXPLICIT_BE,
    ]
    assert {item.sop_instance: item.data for item in peer.arrived} == store.bytes


def test_object_of_another_class_gets_a_further_association(peer: Peer, store: Store) -> None:
    sender = sender_to(peer, store)

    sender.send(store.add(1))
    sender.send(store.add(2, sop_class=MR))
    sender.send(store.add(3))
    sender.close()

    assert len(peer.associations()) == 2
    assert [item.sop_class for item in peer.arrived] == [CT, MR, CT]


def test_object_is_converted_when_only_another_syntax_was_accepted(store: Store) -> None:
    with provider(transfer=frozenset({IMPLICIT_LE})) as peer:
        sender = sender_to(peer, store)
        sender.send(store.add(1))
        sender.send(store.add(2), upcoming=store.add(3))
        sender.send(ref(3))
        sender.close()

    assert [item.syntax for item in peer.arrived] == [IMPLICIT_LE] * 3
    assert peer.arrived[0].table.text(PATIENT_NAME) == "SMITH^JOHN"


@pytest.mark.parametrize(
    ("code", "syntax"),
    [("un", IMPLICIT_LE), ("ul", EXPLICIT_LE), ("ub", EXPLICIT_BE), ("j2", IMPLICIT_LE)],
)
def test_code_decides_about_the_syntaxes_offered(
    peer: Peer, store: Store, code: str, syntax: str
) -> None:
    sender = sender_to(peer, store, code=code)

    sender.send(store.add(1))
    sender.close()

    assert [item.syntax for item in peer.arrived] == [syntax]


def test_code_of_one_object_overrides_the_destinations(peer: Peer, store: Store) -> None:
    sender = sender_to(peer, store)

    sender.send(store.add(1), code="un")
    sender.send(store.add(2), code="as")
    sender.close()

    assert [item.syntax for item in peer.arrived] == [IMPLICIT_LE, EXPLICIT_LE]


def test_code_that_offers_nothing_possible_is_an_error_with_advice(
    peer: Peer, store: Store
) -> None:
    sender = sender_to(peer, store, code="j2!")

    with pytest.raises(CannotTranscode, match="j2!"):
        sender.send(store.add(1))
    assert peer.proposed == []


def test_refused_class_is_remembered_until_the_association_is_closed(store: Store) -> None:
    with provider(abstract=frozenset({MR})) as peer:
        sender = sender_to(peer, store)
        accepted, refused = store.add(1, sop_class=MR), store.add(2)
        sender.prepare([accepted, refused])
        sender.send(accepted)
        for _ in range(3):
            with pytest.raises(NoContext, match="refused SOP class"):
                sender.send(refused)
        sender.send(accepted)
        assert len(peer.proposed) == 1

        sender.close()
        with pytest.raises(NoContext):
            sender.send(refused)
        sender.close()
        assert len(peer.proposed) == 2


@pytest.mark.parametrize(("delay_s", "associations"), [(3600.0, 1), (0.0, 4)])
def test_peer_is_asked_again_when_its_refusal_is_old(
    store: Store, delay_s: float, associations: int
) -> None:
    store.settings = dataclasses.replace(
        store.settings, forward_association_refresh_delay_s=delay_s
    )
    with provider(abstract=frozenset({MR})) as peer:
        sender = sender_to(peer, store)
        accepted, refused = store.add(1, sop_class=MR), store.add(2)
        sender.prepare([accepted, refused])
        sender.send(accepted)
        for _ in range(3):
            with pytest.raises(NoContext, match="refused SOP class"):
                sender.send(refused)
        sender.send(accepted)
        sender.close()

        assert len(peer.proposed) == associations


def test_class_refused_in_the_objects_syntax_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with provider(transfer=frozenset({IMPLICIT_LE})) as peer:
        sender = sender_to(peer, store, code="ub")
        sender.send(store.add(1))
        same = "dgate.delivery.proposals.can_convert"
        monkeypatch.setattr(same, lambda source, target: source == target)
        with pytest.raises(NoContext, match="but not from Explicit VR Big Endian"):
            sender.send(store.add(2, syntax=EXPLICIT_BE))
        sender.close()


def test_more_needs_than_contexts_keep_the_latest(peer: Peer, store: Store) -> None:
    sender = sender_to(peer, store)
    refs = [
        store.add(number, sop_class=f"1.2.840.10008.5.1.4.1.1.{number}") for number in range(150)
    ]

    sender.prepare(refs)
    for one in (refs[0], refs[-1], refs[1]):
        sender.send(one)
    sender.close()

    assert max(peer.proposed) <= module.MOST_CONTEXTS
    assert len(peer.proposed) == 2
    assert [item.sop_instance for item in peer.arrived] == ["1.2.3.0", "1.2.3.149", "1.2.3.1"]


def test_only_some_files_are_looked_at_beforehand(
    peer: Peer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PEEKS", 2)
    refs = [
        store.add(1),
        store.add(2),
        store.add(3, series="1.2.3.1"),
        store.add(4, series="1.2.3.2"),
        store.add(5, sop_class=MR),
    ]
    looked: list[str] = []
    real = store.exporter.peek
    monkeypatch.setattr(
        store.exporter, "peek", lambda one: looked.append(one.sop_instance) or real(one)
    )
    sender = sender_to(peer, store)

    sender.prepare(refs)
    for one in refs:
        sender.send(one)
    sender.prepare(refs)
    sender.close()

    assert looked == ["1.2.3.1", "1.2.3.3", "1.2.3.5"]
    assert len(peer.associations()) == 1


def test_rewrite_changes_what_is_sent_and_nothing_else(peer: Peer, store: Store) -> None:
    stored = store.add(1)
    sender = sender_to(peer, store)

    sender.send(stored, lambda table: table.set_text(PATIENT_NAME, "NOBODY"))
    sender.send(stored)
    sender.close()

    assert [item.table.text(PATIENT_NAME) for item in peer.arrived] == ["NOBODY", "SMITH^JOHN"]


@pytest.mark.parametrize("in_memory_bytes", [1 << 20, 100], ids=["in memory", "in a file"])
def test_rewrite_sees_each_copy_once_though_it_is_converted(
    store: Store, monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int
) -> None:
    monkeypatch.setattr(export, "CHUNK_BYTES", in_memory_bytes)
    store.settings.temp_dir.mkdir(exist_ok=True)
    seen: list[str] = []

    def rewrite(table: ElementTable) -> None:
        seen.append(table.text(PATIENT_NAME))
        table.set_text(PATIENT_NAME, f"{table.text(PATIENT_NAME)}x")

    stored = [store.add(number) for number in (1, 2)]
    with provider(transfer=frozenset({IMPLICIT_LE})) as peer:
        sender = sender_to(peer, store)
        for ref in stored:
            sender.send(ref, rewrite)
        sender.close()

        assert [item.syntax for item in peer.arrived] == [IMPLICIT_LE] * 2
        assert [item.table.text(PATIENT_NAME) for item in peer.arrived] == ["SMITH^JOHNx"] * 2
    assert seen == ["SMITH^JOHN"] * 2


def test_failing_rewrite_leaves_the_association_open(peer: Peer, store: Store) -> None:
    def fail(table: ElementTable) -> None:
        raise RuleError("no")

    stored = store.add(1)
    sender = sender_to(peer, store)
    sender.send(stored)

    with pytest.raises(RuleError):
        sender.send(stored, fail)

    assert sender.is_open
    assert not sender.in_doubt
    sender.close()


def test_unreachable_peer_leaves_no_doubt(store: Store) -> None:
    with provider() as peer:
        destination = peer.destination()
    sender = Sender(destination, store.exporter, store.settings)

    with pytest.raises(Unreachable):
        sender.send(store.add(1))

    assert not sender.in_doubt
    assert not sender.is_open


def test_peer_that_drops_the_association_leaves_doubt_and_a_new_one_is_opened(
    peer: Peer, store: Store
) -> None:
    sender = sender_to(peer, store)
    first = store.add(1)
    sender.send(first)
    peer.before_answer = lambda message, association: association.abort("test")

    with pytest.raises(Aborted):
        sender.send(first)

    assert sender.in_doubt
    assert not sender.is_open
    peer.before_answer = lambda message, association: None
    assert sender.send(first) == SendResult(0)
    sender.close()


def test_association_that_the_peer_ended_while_idle_is_replaced(
    peer: Peer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_CHECK_S", 0.0)
    sender = sender_to(peer, store)
    sender.send(store.add(1))
    assert peer.listener is not None
    port = peer.listener.port
    peer.listener.stop(0.1)
    peer.listener._wanted_port = port
    peer.listener.start()

    assert sender.send(store.add(2)) == SendResult(0)
    sender.close()

    assert len(peer.associations()) == 2


def test_association_that_was_idle_and_is_still_there_is_used_again(
    peer: Peer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_CHECK_S", 0.0)
    sender = sender_to(peer, store)

    sender.send(store.add(1))
    sender.send(store.add(2))
    sender.close()

    assert len(peer.associations()) == 1


def test_file_that_ends_too_early_ends_the_association_too(
    peer: Peer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store.add(1)
    sender = sender_to(peer, store)
    sender.send(stored)
    real = store.exporter.open

    def broken(*arguments: Any) -> Any:
        outgoing = real(*arguments)
        monkeypatch.setattr(type(outgoing), "chunks", _half)
        return outgoing

    monkeypatch.setattr(store.exporter, "open", broken)
    with pytest.raises(StoreError, match="shorter"):
        sender.send(stored)

    assert not sender.is_open
    assert len(peer.arrived) == 1


def test_cut_connection_wakes_the_sending_thread(peer: Peer, store: Store) -> None:
    sender = sender_to(peer, store)
    sender.cut()
    stored = store.add(1)
    sender.send(stored)
    peer.before_answer = lambda message, association: sender.cut()

    with pytest.raises(Aborted):
        sender.send(stored)

    sender.close()


def test_association_can_be_dropped_without_release(peer: Peer, store: Store) -> None:
    sender = sender_to(peer, store)
    sender.send(store.add(1), upcoming=store.add(2))

    sender.close(release=False)
    sender.close()

    assert not sender.is_open


def _half(outgoing: Any, max_bytes: int = 0) -> Iterator[bytes]:
    yield b"\0" * 10
    raise StoreError("the stored file is shorter than it was")
