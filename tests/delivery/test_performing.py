"""Working delayed operations off: the difference only, however late, whatever was moved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.archive.records import InstanceRef, Provenance
from dgate.archive.requests import request_draft
from dgate.config.nodes import NodeMap
from dgate.delivery.desk import Desk
from dgate.delivery.ledger import Ledger
from dgate.delivery.performing import Performed, Performer
from dgate.delivery.records import Debt, Selection, Settlement, State
from dgate.errors import RuleError
from dgate.rules.effects import ObjectScope, Request
from tests.archive.maintenance.ward import Ward, open_ward

LANE = "delayed forward"
DAY_S = 86400.0


@dataclass
class Bench:
    """An archive with its ledger, and a rule that forwards whole studies."""

    ward: Ward

    def __post_init__(self) -> None:
        ward = self.ward
        self.ledger = Ledger(
            ward.database, ward.writer, ward.clock, ward.index.add_debts, lambda name: None
        )
        self.performer = Performer(
            ward.database, ward.finder, ward.exporter, ward.settings, clock=ward.clock
        )

    def add(self, number: int, *, asks: bool = True, study: int = 1) -> str:
        """Store an object whose file is as old as its row; its rule asks for the study."""
        sop_instance = self.ward.add(number, study=study)
        self.date(sop_instance)
        if asks:
            self.ask(sop_instance)
        return sop_instance

    def date(self, sop_instance: str, seconds: float | None = None) -> None:
        """Give the file of an object a time; None = now."""
        at = self.ward.clock.seconds if seconds is None else seconds
        os.utime(self.ward.path(sop_instance), (at, at))

    def ask(self, sop_instance: str) -> None:
        """Ask for the study of an object, as the transaction that stores it does."""
        ward, ref = self.ward, self.ward.ref(sop_instance)
        scope = ObjectScope(patient_id=ref.patient_id, study=ref.study)
        request = Request("forward", "study", scope, "ExportConverter0.0", peer="SINK")
        draft = request_draft(request, 0.0, ref)
        arrival = Provenance(source="CT1", received=ward.clock.now())
        drafts = [replace(draft, provenance=arrival)]
        ward.writer.transact(lambda tx: ward.index.add_debts(tx, ref, drafts, ward.clock.now()))

    def work(self) -> list[str]:
        """Let a minute pass, work off what is asked for and deliver it; return what is new."""
        self.ward.clock.seconds += 60
        [debt] = self.claimed(LANE)
        done = self.performer.perform(debt)
        state = None if done.drafts else State.DONE
        self.settle(debt, Settlement(debt, state, error=done.text, drafts=done.drafts))
        found = []
        for delivery in self.claimed("SINK"):
            found.append(delivery.ref.sop_instance)
            self.settle(delivery, Settlement(delivery, State.DONE, 0))
        self.ward.clock.seconds += 60
        return found

    def claimed(self, lane: str) -> list[Debt]:
        """Return what is due in a lane."""
        return self.ledger.exchange([], lane, 100)

    def settle(self, debt: Debt, settled: Settlement) -> None:
        """Write down what became of a debt."""
        self.ledger.exchange([settled], debt.destination, 0)

    def forget_history(self) -> None:
        """Let so much time pass that nothing is left of the history."""
        self.ward.clock.seconds += 40 * DAY_S
        assert self.ledger.prune(30 * DAY_S)
        assert self.ward.rows("SELECT id FROM dgate_debts") == []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    ward = open_ward(tmp_path)
    yield Bench(ward)
    ward.close()


@pytest.mark.parametrize("pruned", [False, True], ids=["soon", "when the history is gone"])
def test_study_that_grows_is_sent_as_the_difference(bench: Bench, pruned: bool) -> None:
    first, second = bench.add(1), bench.add(2)
    assert sorted(bench.work()) == sorted([first, second])
    if pruned:
        bench.forget_history()
    third = bench.add(3)
    assert bench.work() == [third]
    if pruned:
        bench.forget_history()
    fourth = bench.add(4)
    assert bench.work() == [fourth]


@pytest.mark.parametrize("pruned", [False, True], ids=["soon", "when the history is gone"])
def test_replaced_object_is_sent_again(bench: Bench, pruned: bool) -> None:
    first, second = bench.add(1), bench.add(2)
    bench.work()
    if pruned:
        bench.forget_history()
    # Its file was finished just before the others were owed, and committed after that.
    bench.ask(first)
    assert bench.work() == [first]
    assert second


def test_object_that_was_replaced_without_asking_is_sent_again(bench: Bench) -> None:
    first, second = bench.add(1), bench.add(2)
    bench.work()
    access = int(bench.ward.clock.seconds) & ~31
    bench.ward.writer.transact(
        lambda tx: tx.execute(
            "UPDATE DICOMImages SET AccessTime = ? WHERE SOPInstanc = ?", (access, first)
        )
    )
    bench.date(first)
    third = bench.add(3)
    assert sorted(bench.work()) == sorted([first, third])
    assert second


def test_moved_files_and_a_rebuilt_index_are_no_news(bench: Bench) -> None:
    first, second = bench.add(1), bench.add(2)
    bench.work()
    bench.date(first)
    bench.ward.writer.transact(
        lambda tx: tx.execute(
            "UPDATE DICOMImages SET AccessTime = ? WHERE SOPInstanc = ?",
            (int(bench.ward.clock.seconds), second),
        )
    )
    third = bench.add(3)
    assert bench.work() == [third]


def test_what_is_known_of_an_object_goes_with_it(bench: Bench) -> None:
    first, second = bench.add(1), bench.add(2)
    bench.work()
    bench.forget_history()
    sent = "SELECT sop FROM dgate_sent ORDER BY sop"
    assert bench.ward.rows(sent) == [(first,), (second,)]
    for _ in bench.ward.caretaker.deleter.delete(Level.IMAGE, first, who="t", why="t"):
        pass
    assert bench.ward.rows(sent) == [(second,)]


def test_only_delayed_deliveries_that_arrived_are_kept(bench: Bench) -> None:
    first = bench.add(1, asks=False)
    bench.ward.owe(first)
    [plain] = bench.claimed("SINK")
    bench.settle(plain, Settlement(plain, State.DONE, 0))
    bench.forget_history()
    assert bench.ward.rows("SELECT sop FROM dgate_sent") == []


def test_delivery_is_entered_under_the_name_of_the_node(bench: Bench) -> None:
    ward = bench.ward
    nodes, _ = NodeMap.parse(b"Sink 10.0.0.1 104 as\n", "acrnema.map")
    bench.performer = Performer(
        ward.database, ward.finder, ward.exporter, ward.settings, clock=ward.clock, nodes=nodes
    )
    bench.add(1)
    ward.clock.seconds += 60
    [debt] = bench.claimed(LANE)

    [owed] = bench.performer.perform(debt).drafts

    assert (owed.destination, owed.called) == ("Sink", "SINK")


def test_ids_that_were_changed_behind_the_back_are_found_by_who_asked(bench: Bench) -> None:
    first = bench.add(1)
    bench.ward.clock.seconds += 60
    [debt] = bench.claimed(LANE)
    plan = bench.ward.caretaker.planner.correct(Level.PATIENT, "P1", {0x00100020: "P9"})
    for correction in plan.corrections:
        for _ in bench.ward.caretaker.corrector.correct(correction, who="t", why="t"):
            pass
    done = bench.performer.perform(debt)
    assert [_sop(draft.ref) for draft in done.drafts] == [first]


def test_what_was_deleted_waits_for_somebody(bench: Bench) -> None:
    first = bench.add(1)
    bench.ward.clock.seconds += 60
    [debt] = bench.claimed(LANE)
    steps = bench.ward.caretaker.deleter.delete(
        Level.IMAGE, first, who="t", why="t", even_owed=True
    )
    for _ in steps:
        pass
    with pytest.raises(RuleError, match="no stored object has the IDs"):
        bench.performer.perform(debt)


def _sop(ref: InstanceRef | None) -> str:
    assert ref is not None
    return ref.sop_instance


def test_requests_of_one_identity_owe_each_object_once(bench: Bench) -> None:
    """One was stuck when another object came; an operator makes both due at once."""
    first = bench.add(1)
    [stuck] = bench.claimed(LANE)
    bench.settle(stuck, Settlement(stuck, State.STUCK, error="no"))
    second = bench.add(2)
    ward = bench.ward
    desk = Desk(ward.database, ward.writer, ward.clock, lambda name: None)
    ward.clock.seconds += 60
    desk.retry(Selection())

    found = bench.work()
    ward.clock.seconds += 60
    [later] = bench.claimed(LANE)

    assert sorted(found) == [first, second]
    assert later.id != stuck.id
    assert bench.performer.perform(later) == Performed(
        text="nothing new to send: 2 object(s) were sent before"
    )


def test_nothing_new_is_said_so(bench: Bench) -> None:
    first = bench.add(1)
    bench.work()
    # The same study is asked for, by something that is no arrival of an object.
    ward, ref = bench.ward, bench.ward.ref(first)
    scope = ObjectScope(patient_id=ref.patient_id, study=ref.study)
    request = Request("forward", "study", scope, "ExportConverter0.0", peer="SINK")
    drafts = [request_draft(request, 0.0)]
    ward.writer.transact(lambda tx: ward.index.add_debts(tx, ref, drafts, ward.clock.now()))
    ward.clock.seconds += 1
    [debt] = bench.claimed(LANE)
    assert bench.performer.perform(debt) == Performed(
        text="nothing new to send: 1 object(s) were sent before"
    )
