"""Counters and final status of C-MOVE and C-GET."""

from __future__ import annotations

import pytest

from dgate.net import Status
from dgate.services.suboperations import SubOperations


def counted(*statuses: int) -> SubOperations:
    operations = SubOperations(len(statuses))
    for number, status in enumerate(statuses):
        operations.count(f"1.2.{number}", status)
    return operations


@pytest.mark.parametrize(
    ("statuses", "final"),
    [
        ([], Status.SUCCESS),
        ([0, 0], Status.SUCCESS),
        ([0, 0xB000], Status.SUBOPERATIONS_FAILED),
        ([0xB007], Status.SUBOPERATIONS_FAILED),
        ([0, 0xA700], Status.SUBOPERATIONS_FAILED),
        ([0xA700, 0x0110], Status.CANNOT_PERFORM_SUBOPERATIONS),
    ],
    ids=["none", "all-good", "one-warning", "only-warning", "some-failed", "all-failed"],
)
def test_final_status_follows_the_counters(statuses: list[int], final: Status) -> None:
    assert counted(*statuses).final_status() == final


def test_completed_excludes_failures_and_the_failed_are_listed() -> None:
    operations = counted(0, 0xC000, 0xB000, 0)
    assert (operations.remaining, operations.completed) == (0, 2)
    assert (operations.failed, operations.warning) == (1, 1)
    assert operations.failed_instances == ["1.2.1"]
