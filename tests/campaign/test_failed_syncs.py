"""A disk that fails in a sync and then loses its power: what was acknowledged after it is there.

On Linux a program goes on seeing what a failed sync did not write. SQLite, opened anew, takes such
a transaction in its log for committed; what is written behind it must not depend on it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.campaign.checks import Arrivals, Stored, check_database, check_objects
from tests.campaign.disk import Disk, why_not_possible
from tests.campaign.truth import Item, Stream, Truth
from tests.campaign.volatile import Ordering
from tests.generate import Kind, Plan, data_set_of, write_files


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a mounted disk."""
    reason = why_not_possible(tmp_path)
    if reason:
        pytest.skip(f"no disk can be mounted: {reason}")
    with Disk(tmp_path / "disk", tmp_path / "disk.log", 3, Ordering.JOURNAL) as disk:
        yield disk


class Bench:
    """A gateway on the disk, and objects for it."""

    def __init__(self, farm: Farm, disk: Disk, folder: Path) -> None:
        self.disk = disk
        self.gateway: Gateway = farm.gateway(
            settings={
                "SQLServer": disk.folder / "dgate.db3",
                "MAGDevice0": disk.folder / "data",
            }
        )
        self.truth = Truth()
        self.items = [
            Item(
                Stream.KEEP,
                one.sop_class,
                one.sop_instance,
                one.study,
                data_set_of(one.path.read_bytes()),
            )
            for one in write_files(folder / "in", Plan(12))
        ]
        self.truth.begin(self.items, 1)
        (folder / "none").mkdir()
        self._nobody = Arrivals(folder / "journal", folder / "none")

    def send(self, items: list[Item]) -> list[int]:
        """Send objects and return the statuses."""
        statuses = []
        with RawAssociation.open(self.gateway.port, [Offer(Kind.SMALL.sop_class)]) as association:
            for item in items:
                self.truth.attempt(item)
                status = association.store(item.sop_class, item.sop_instance, item.data).status
                self.truth.answered(item, status, set())
                statuses.append(status)
        return statuses

    def lose_power(self) -> None:
        """Cut the power and start again."""
        self.disk.cut_now()
        os.killpg(self.gateway.process.pid, signal.SIGKILL)
        self.disk.restore()
        self.gateway.process.end(signal.SIGKILL)
        self.gateway.start()

    def findings(self) -> list[str]:
        """Return what is wrong; nothing is forwarded here."""
        stored = Stored.of(self.gateway.database, self.gateway.device())
        found = check_objects(self.truth.facts, stored, self._nobody)
        found += check_database(self.gateway.database)
        return [finding for finding in found if "not delivered" not in finding]


def test_objects_behind_a_failed_commit_survive_a_power_cut(
    farm: Farm, disk: Disk, tmp_path: Path
) -> None:
    bench = Bench(farm, disk, tmp_path)
    assert bench.send(bench.items[:3]) == [0, 0, 0]
    disk.fail(["sync"], 1.0, ending="-wal")
    assert bench.send(bench.items[3:4]) == [0xA700]
    disk.heal()
    bench.gateway.kill()
    bench.gateway.start()

    assert bench.send(bench.items[4:]) == [0] * 8
    bench.lose_power()

    assert bench.findings() == []
    bench.gateway.stop()


def test_refused_object_leaves_no_row_without_a_file(
    farm: Farm, disk: Disk, tmp_path: Path
) -> None:
    bench = Bench(farm, disk, tmp_path)
    assert bench.send(bench.items[:3]) == [0, 0, 0]
    log = bench.gateway.database.with_name("dgate.db3-wal")
    assert log.exists()
    disk.fail(["sync"], 1.0, ending="-wal")
    assert bench.send(bench.items[3:4]) == [0xA700]
    disk.heal()
    bench.gateway.kill()
    bench.gateway.start()

    stored = Stored.of(bench.gateway.database, bench.gateway.device())
    assert [name for name, path in stored.names.items() if not path.exists()] == []
    assert bench.findings() == []
    bench.gateway.stop()
