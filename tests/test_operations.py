"""Delayed operations on the archive, where something else was quicker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.levels import Level
from dgate.archive.records import DebtKind, InstanceRef
from dgate.delivery.performing import Performer
from dgate.delivery.records import Debt
from dgate.operations import Operations
from dgate.rules.effects import ObjectScope, Request
from tests.archive.maintenance.ward import Ward, open_ward


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path)
    yield ward
    ward.close()


def deletion(ward: Ward, scope: ObjectScope, *, gone: list[str]) -> str:
    """Work off a deletion, while somebody else deletes objects after they were looked up."""
    performer = Performer(ward.database, ward.finder, ward.exporter, ward.settings)

    def select(wanted: ObjectScope) -> list[InstanceRef]:
        refs = performer.select(wanted)
        for sop_instance in gone:
            for _ in ward.caretaker.deleter.delete(Level.IMAGE, sop_instance, who="t", why="t"):
                pass
        return refs

    def unused(*_: object) -> None:
        raise AssertionError("a deletion needs nothing else")

    operations = Operations(
        select,
        lambda: ward.caretaker,
        ward.exporter,
        programs=unused,  # type: ignore[arg-type]
        run_script=unused,  # type: ignore[arg-type]
        run_lua=unused,  # type: ignore[arg-type]
        fetch=unused,  # type: ignore[arg-type]
        new_uid=unused,  # type: ignore[arg-type]
        temporary=unused,  # type: ignore[arg-type]
    )
    request = Request("delete", "study", scope, "ExportConverter0.0")
    ref = InstanceRef("", "", "", "", "", "REQUEST", "x")
    debt = Debt(1, DebtKind.REQUEST, "delayed delete", "", "", "", "", "", ref, "", 0)
    return operations.delete(request, debt).text


def test_filtered_deletion_of_what_vanished_meanwhile_is_done(ward: Ward) -> None:
    first, second = ward.add(1, Modality="CT"), ward.add(2, Modality="CT")
    scope = ObjectScope(patient_id="P1", modality="CT")
    assert deletion(ward, scope, gone=[first]) == "deleted 1 object(s)"
    assert ward.counts() == (0, 0, 0, 0)
    assert second


@pytest.mark.parametrize("filters", [{}, {"modality": "CT"}], ids=["all of it", "by a filter"])
def test_deletion_is_done_when_nothing_is_left_to_delete(
    ward: Ward, filters: dict[str, str]
) -> None:
    first = ward.add(1, Modality="CT")
    kept = ward.add(1, patient="P2")
    scope = ObjectScope(patient_id="P1", study=ward.ref(first).study, **filters)
    assert deletion(ward, scope, gone=[first]) == "deleted 0 object(s)"
    assert [ref.sop_instance for ref in ward.refs()] == [kept]
