"""What the writer's transactions look up in the ledger is found by an index, however much waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.following import Followers
from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.records import InstanceRef
from dgate.archive.requests import request_draft
from dgate.archive.schema import prepare
from dgate.archive.writer import Transaction
from dgate.delivery.performing import Performer
from dgate.rules.effects import ObjectScope, Request
from tests.archive.maintenance.ward import Ward, open_ward
from tests.archive.plan_kit import Explained


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def holdings(ward: Ward) -> Holdings:
    layout = ward.configuration.layout
    schema = prepare(ward.database, layout, ward.settings)
    return Holdings(ward.database, schema, layout, ward.index)


def explained(ward: Ward, work: Callable[[Transaction], Any]) -> None:
    """Do something in a transaction and check how it finds its rows."""
    seen: list[Explained] = []

    def job(transaction: Transaction) -> None:
        seen.append(Explained(transaction))
        work(cast(Transaction, seen[0]))

    ward.writer.transact(job)
    seen[0].check()


def ask(ward: Ward, transaction: Transaction, ref: InstanceRef, delay_s: float = 60.0) -> None:
    """Have a rule ask for the study of an object."""
    scope = ObjectScope(patient_id=ref.patient_id, study=ref.study)
    wanted = Request("forward", "study", scope, "ExportConverter0.0", peer="SINK")
    drafts = [request_draft(wanted, delay_s, ref)]
    ward.index.add_debts(transaction, ref, drafts, ward.clock.now())


@pytest.mark.parametrize("waits", [False, True])
def test_requests_of_arriving_objects(ward: Ward, waits: bool) -> None:
    ref = ward.ref(ward.add(1))
    if waits:
        ward.writer.transact(lambda tx: ask(ward, tx, ref))
    explained(ward, lambda tx: ask(ward, tx, ref))


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("state", ["queued", "held"])
@pytest.mark.parametrize("moved", [False, True], ids=["beside", "in its place"])
def test_requests_that_follow_a_correction(
    ward: Ward, equal: bool, state: str, moved: bool
) -> None:
    ref = ward.ref(ward.add(1))
    ward.writer.transact(lambda tx: ask(ward, tx, ref))
    ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = ?", (state,)))
    new = replace(ref, study="1.2.999")
    if equal:
        ward.writer.transact(lambda tx: ask(ward, tx, new))
    held = holdings(ward)
    followers = Followers(ward.database, ward.index, held)
    now = ward.clock.now()

    def work(transaction: Transaction) -> None:
        if moved:
            transaction.execute("DELETE FROM DICOMImages")
        followers.follow(transaction, [(ref, new)], now)

    explained(ward, work)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("asked", [False, True])
def test_what_is_owed_of_an_entity(ward: Ward, level: Level, asked: bool) -> None:
    ref = ward.ref(ward.add(1))
    if asked:
        ward.writer.transact(lambda tx: ask(ward, tx, ref))
    names = dict(zip(Level, ("patient_id", "study", "series", "sop_instance"), strict=True))
    key = getattr(ref, names[level])
    held = holdings(ward)

    def work(transaction: Transaction) -> None:
        assert held.owed(transaction, level, key) == int(asked)

    explained(ward, work)


def test_ending_the_debts_of_an_object(ward: Ward) -> None:
    ref = ward.ref(ward.add(1))
    ward.owe(ref.sop_instance)
    held = holdings(ward)
    explained(ward, lambda tx: held.end_debts(tx, [ref], 5.0, "gone"))
    assert ward.rows("SELECT state FROM dgate_debts") == [("cancelled",)]


def test_what_was_delivered_for_a_request(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    performer = Performer(ward.database, ward.finder, ward.exporter, ward.settings)
    with ward.database.reader() as connection:
        seen = Explained(connection)
        monkeypatch.setattr(
            ward.database, "rows", lambda sql, values=(): seen.execute(sql, values).fetchall()
        )
        assert performer._delivered("request:X") == {}
    seen.check()
