"""Our side of a comparison, on every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.maintenance.holdings import Holdings
from dgate.archive.records import DebtDraft, DebtKind, InstanceRef
from dgate.archive.requests import request_draft
from dgate.archive.schema import prepare
from dgate.delivery.reconcile.archive import ArchiveSide
from dgate.delivery.reconcile.gaps import Gaps
from dgate.rules.effects import ObjectScope, Request
from tests.archive.maintenance.ward import Ward, open_ward
from tests.servers import DatabaseServer

pytestmark = pytest.mark.integration


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ward]:
    changes = {}
    if request.param != "sqlite":
        server: DatabaseServer = request.getfixturevalue(request.param)
        changes = server.settings()
    ward = open_ward(tmp_path, **changes)
    yield ward
    ward.close()


@pytest.fixture
def here(ward: Ward) -> ArchiveSide:
    schema = prepare(ward.database, ward.configuration.layout, ward.settings)
    holdings = Holdings(ward.database, schema, ward.configuration.layout, ward.index)
    return ArchiveSide(ward.database, schema, holdings)


def test_studies_by_date_and_what_is_in_them(ward: Ward, here: ArchiveSide) -> None:
    assert here.earliest() == ""
    ward.add(1, study=1, StudyDate="20260105", AccessionNumber="A1")
    ward.add(2, study=1, StudyDate="20260105", AccessionNumber="A1")
    ward.add(3, study=1, SeriesInstanceUID="1.2.77", StudyDate="20260105", AccessionNumber="A1")
    ward.add(1, study=2, StudyDate="19991231")
    ward.add(1, study=3, StudyDate="")

    assert here.earliest() == "19991231"
    assert [each.uid for each in here.between("20260101", "20260106")] == ["1.2.801.1"]
    assert [each.uid for each in here.between("", "20000101")] == ["1.2.801.2"]
    assert [each.uid for each in here.between("20260106", "")] == []
    assert sorted(each.uid for each in here.undated()) == ["1.2.801.3"]
    study = here.study("1.2.801.1")
    assert study is not None
    assert (study.patient_id, study.accession, study.date) == ("P1", "A1", "20260105")
    assert dict(here.series(study)) == {"1.2.801.1.1": 2, "1.2.77": 1}
    assert here.total(study) == 3
    assert [ref.sop_instance for ref in here.objects(study, "1.2.77")] == ["1.2.801.1.1.3"]
    assert here.study("1.2.801.9") is None
    assert here.known(["1.2.801.1.1.3", "1.2.3"]) == {"1.2.801.1.1.3"}


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        (ObjectScope(patient_id="P1"), 3),
        (ObjectScope(patient_id="P1", study="1.2.801.1"), 2),
        (ObjectScope(patient_id="P1", study="1.2.801.1", series="1.2.77"), 1),
        (ObjectScope(series="1.2.77"), 1),
        (ObjectScope(study="1.2.3"), 0),
        (ObjectScope(patient_id="P9"), 0),
    ],
)
def test_numbers_of_objects(ward: Ward, here: ArchiveSide, scope: ObjectScope, count: int) -> None:
    ward.add(1)
    ward.add(2, SeriesInstanceUID="1.2.77")
    ward.add(1, study=2)
    ward.add(1, patient="P2")
    assert here.number_of(scope) == count


def test_deliveries_are_owed_once(ward: Ward) -> None:
    uids = [ward.add(number) for number in range(1, 4)]
    refs = [ward.ref(uid) for uid in uids]
    assert owed(ward, "PACS", refs[:2]) == (2, 0, 0)
    assert owed(ward, "PACS", refs) == (1, 2, 0)
    assert owed(ward, "OTHER", refs) == (3, 0, 0)
    rows = ward.rows("SELECT destination, priority, state FROM dgate_debts")
    assert sorted(rows) == [("OTHER", 2, "queued")] * 3 + [("PACS", 2, "queued")] * 3


def owed(ward: Ward, node: str, refs: Sequence[InstanceRef], **parts: Any) -> tuple[int, int, int]:
    """Owe a node objects; return how many now, how many already, and how many are stuck."""
    gaps = Gaps(ward.database, ward.writer, ward.index, ward.clock, lambda: None, **parts)
    delayed = gaps.delayed(node, refs[0])
    looked = gaps.sort(node, refs, delayed, gaps.now())
    found = gaps.owe(node, refs, delayed, gaps.now())
    assert found == looked
    return len(found.missing), len(found.waiting), len(found.stuck)


def leads(kind: str, destination: str, node: str) -> bool:
    """As the settings say: the first converter forwards to a node of the group SHARED."""
    return destination in ("ExportConverter0", "SHARED", node)


def enter(ward: Ward, ref: InstanceRef, *drafts: DebtDraft) -> None:
    """Enter debts."""
    ward.writer.transact(lambda tx: ward.index.add_debts(tx, ref, drafts, 1.0))


def test_what_is_owed_in_another_form_is_waited_for(ward: Ward) -> None:
    uids = [ward.add(number) for number in range(1, 5)]
    refs = [ward.ref(uid) for uid in uids]
    drafts = [
        DebtDraft(DebtKind.DELIVER, "pacs", "r", ref=refs[0]),
        DebtDraft(DebtKind.EXPORT, "ExportConverter0", "r", ref=refs[1]),
    ]
    enter(ward, refs[0], *drafts)

    assert owed(ward, "PACS", refs) == (2, 2, 0)


def test_only_rules_and_groups_that_lead_to_the_node_count(ward: Ward) -> None:
    refs = [ward.ref(ward.add(number)) for number in range(1, 4)]
    drafts = [
        DebtDraft(DebtKind.EXPORT, "ExportConverter0", "r", ref=refs[0]),
        DebtDraft(DebtKind.EXPORT, "ExportConverter1", "r", ref=refs[1]),
        DebtDraft(DebtKind.DELIVER, "SHARED", "r", ref=refs[2]),
    ]
    enter(ward, refs[0], *drafts)

    assert owed(ward, "PACS", refs, leads=leads) == (1, 2, 0)


def test_rule_that_is_stuck_is_not_sent_around(ward: Ward) -> None:
    """Tried again, it would send the object a second time."""
    refs = [ward.ref(ward.add(1))]
    enter(ward, refs[0], DebtDraft(DebtKind.EXPORT, "ExportConverter0", "r", ref=refs[0]))
    ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = 'stuck'"))
    assert owed(ward, "PACS", refs, leads=leads) == (0, 0, 1)
    # What is on its way as well is.
    ward.owe(refs[0].sop_instance, "PACS")
    assert owed(ward, "PACS", refs, leads=leads) == (0, 1, 0)


@pytest.mark.parametrize(
    ("changes", "waiting"),
    [
        ({}, 2),
        ({"peer": "pacs"}, 2),
        ({"level": "patient", "scope": ObjectScope(patient_id="P1")}, 2),
        ({"peer": "OTHER"}, 0),
        ({"operation": "prefetch"}, 0),
        ({"scope": ObjectScope("P1", "1.2.801.2")}, 0),
        ({"split": "1/2"}, 0),
        ({"scope": ObjectScope("P1", "1.2.801.1", modality="MR")}, 0),
    ],
)
def test_what_a_delayed_operation_will_send_is_waited_for(
    ward: Ward, changes: dict[str, Any], waiting: int
) -> None:
    refs = [ward.ref(ward.add(number)) for number in (1, 2)]
    scope = ObjectScope("P1", "1.2.801.1")
    request = Request("forward", "study", scope, "r", 3600.0, peer="PACS")
    enter(ward, refs[0], request_draft(replace(request, **changes), 0.0))

    assert owed(ward, "PACS", refs) == (2 - waiting, waiting, 0)
    if waiting:
        ward.writer.transact(lambda tx: tx.execute("UPDATE dgate_debts SET state = 'held'"))
        assert owed(ward, "PACS", refs) == (0, 0, 2)
