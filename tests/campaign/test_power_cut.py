"""The campaign's instruments at work: with syncs nothing is lost by a power cut, without them the
checks find what is missing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.campaign.checks import Arrivals, Stored, check_database, check_found, check_objects
from tests.campaign.disk import Disk, why_not_possible
from tests.campaign.truth import Item, Stream, Truth
from tests.campaign.volatile import Ordering
from tests.generate import Kind, Plan, data_set_of, write_files

OBJECTS = 30


@pytest.mark.parametrize("ordering", Ordering)
@pytest.mark.parametrize("durability", ["full", "none"])
def test_cut_behind_the_last_answer(
    farm: Farm, tmp_path: Path, durability: str, ordering: Ordering
) -> None:
    reason = why_not_possible(tmp_path)
    if reason:
        pytest.skip(f"no disk can be mounted: {reason}")
    truth = Truth()
    made = write_files(tmp_path / "in", Plan(OBJECTS))
    items = [
        Item(Stream.KEEP, one.sop_class, one.sop_instance, one.study, data_set_of(content))
        for one in made
        for content in [one.path.read_bytes()]
    ]
    truth.begin(items, 1)
    with Disk(tmp_path / "disk", tmp_path / "disk.log", 7, ordering) as disk:
        gateway = farm.gateway(
            settings={
                "Durability": durability,
                "SQLServer": disk.folder / "dgate.db3",
                "MAGDevice0": disk.folder / "data",
            }
        )
        with RawAssociation.open(gateway.port, [Offer(Kind.SMALL.sop_class)]) as association:
            for item in items:
                truth.attempt(item)
                status = association.store(item.sop_class, item.sop_instance, item.data).status
                truth.answered(item, status, set())
        assert truth.acknowledgements == OBJECTS
        disk.cut_now()
        os.killpg(gateway.process.pid, signal.SIGKILL)
        disk.restore()
        gateway.process.end(signal.SIGKILL)

        gateway.start()
        (tmp_path / "none").mkdir()
        nobody = Arrivals(tmp_path / "journal", tmp_path / "none")
        stored = Stored.of(gateway.database, gateway.device())
        findings = check_objects(truth.facts, stored, nobody)
        # No rule forwards anything here.
        lost = [finding for finding in findings if "not delivered" not in finding]
        if durability == "full":
            assert lost == []
            assert check_found(gateway.port, truth.facts, stored) == []
            assert check_database(gateway.database) == []
        else:
            assert lost != []
        gateway.stop()
