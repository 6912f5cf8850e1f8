"""`CommitBeforeDelete`: what a node has taken and not committed to stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.archive.maintenance.clean import Victim
from dgate.archive.maintenance.delete import StillOwed
from dgate.config.layout import PATIENT_ID
from dgate.config.node_settings import NodeSettings, NodeTable
from tests.archive.maintenance.ward import Disk, Ward, open_ward

HOUR = 3600.0
SAFE = NodeTable({"safe": NodeSettings(commit=True, commit_before_delete=True)})


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path, disk=Disk({"mag0": 100_000}), peers=SAFE)
    yield ward
    ward.close()


def deliver(
    ward: Ward,
    uid: str,
    destination: str,
    state: str = "done",
    *,
    committed: bool = False,
    origin: str = "",
) -> None:
    """Have an object delivered."""
    ward.owe(uid, destination)
    sql = f"UPDATE dgate_debts SET state = '{state}', committed = {1 if committed else 'NULL'} "
    if origin:
        sql += f", origin = '{origin}' "
    sql += f"WHERE state = 'queued' AND destination = '{destination}'"
    ward.writer.transact(lambda transaction: transaction.execute(sql))


def clean(ward: Ward) -> list[Victim]:
    """Clean until somebody has gone."""
    ward.clock.seconds += 2 * HOUR
    cleaner = ward.caretaker.cleaner
    return list(cleaner.make_room(cleaner.free("MAG0") + 1, who="t", why="t", device="MAG0"))


def delete(ward: Ward, *, even_owed: bool = False) -> None:
    """Delete the patient."""
    for _ in ward.caretaker.deleter.delete(
        Level.PATIENT, "P1", who="tester", why="test", even_owed=even_owed
    ):
        pass


def test_what_was_delivered_without_commitment_stays(ward: Ward) -> None:
    uid, _ = ward.add(1), ward.add(2)
    deliver(ward, uid, "SAFE")

    assert [victim.spared for victim in clean(ward)] == [
        "1 objects are not committed to (CommitBeforeDelete)"
    ]
    with pytest.raises(StillOwed, match="1 objects of this patient"):
        delete(ward)
    assert len(ward.refs()) == 2
    delete(ward, even_owed=True)
    assert ward.refs() == []


@pytest.mark.parametrize("state", ["committing", "queued", "stuck"])
def test_what_is_owed_stays_as_well(ward: Ward, state: str) -> None:
    deliver(ward, ward.add(1), "SAFE", state)

    assert [victim.spared for victim in clean(ward)] == ["1 deliveries are still open"]
    with pytest.raises(StillOwed, match="still open"):
        delete(ward)


def test_what_is_committed_to_may_go(ward: Ward) -> None:
    uid = ward.add(1)
    deliver(ward, uid, "SAFE")
    deliver(ward, uid, "SAFE", committed=True)

    delete(ward)

    assert ward.refs() == []


def test_commitment_to_older_content_does_not_cover_what_came_later(ward: Ward) -> None:
    uid = ward.add(1)
    deliver(ward, uid, "SAFE", committed=True)
    deliver(ward, uid, "SAFE")

    with pytest.raises(StillOwed, match="1 objects of this patient"):
        delete(ward)


def test_what_another_node_has_taken_in_its_place_stays(ward: Ward) -> None:
    uid = ward.add(1)
    deliver(ward, uid, "OTHER", origin="SAFE")

    with pytest.raises(StillOwed, match="1 objects of this patient"):
        delete(ward)
    deliver(ward, uid, "SAFE", committed=True)
    delete(ward)

    assert ward.refs() == []


@pytest.mark.parametrize("new_uids", [False, True], ids=["UIDs stay", "new UIDs"])
def test_what_was_delivered_stays_under_corrected_ids(ward: Ward, new_uids: bool) -> None:
    uid, into = ward.add(1), ward.ref(ward.add(2, study=2)).study
    deliver(ward, uid, "SAFE")
    planner = ward.caretaker.planner
    plans = [planner.merge_study(ward.ref(uid).study, into, new_uids=new_uids)]
    plans.append(planner.correct(Level.PATIENT, "P1", {PATIENT_ID: "P9"}, new_uids=new_uids))
    for plan in plans[: 1 if new_uids else 2]:
        for correction in plan.corrections:
            for _ in ward.caretaker.corrector.correct(correction, who="tester", why="test"):
                pass

    patient = ward.refs()[0].patient_id
    assert new_uids == (uid not in {ref.sop_instance for ref in ward.refs()})
    with pytest.raises(StillOwed, match="1 objects of this patient"):
        for _ in ward.caretaker.deleter.delete(Level.PATIENT, patient, who="t", why="t"):
            pass


def test_what_was_never_meant_for_the_node_may_go(ward: Ward) -> None:
    ward.add(1)
    deliver(ward, ward.add(2), "OTHER")
    deliver(ward, ward.add(3), "SAFE", "cancelled")

    assert [victim.spared for victim in clean(ward)] == [""]
    assert ward.refs() == []


def test_objects_that_are_gone_keep_nobody(ward: Ward) -> None:
    first = ward.add(1)
    deliver(ward, first, "SAFE")
    delete(ward, even_owed=True)
    ward.add(2)

    delete(ward)

    assert ward.refs() == []


def test_without_the_setting_nothing_of_it_matters(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, peers=NodeTable({"safe": NodeSettings(commit=True)}))
    deliver(ward, ward.add(1), "SAFE")

    delete(ward)

    assert ward.refs() == []
    ward.close()
