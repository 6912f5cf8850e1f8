"""Which status a storage error becomes."""

from __future__ import annotations

import pytest

from dgate.errors import (
    DatabaseAway,
    DataSetMismatch,
    DgateError,
    Missing,
    NotDicom,
    OutOfSpace,
    Refused,
    RuleError,
)
from dgate.services.statuses import comment, storage_status

FAILED_CODE = 272


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OutOfSpace("full"), 0xA700),
        (DatabaseAway("away"), 0xA700),
        (DataSetMismatch("other UID"), 0xA900),
        (NotDicom("garbage"), 0xC000),
        (Refused("by a rule"), FAILED_CODE),
        (RuleError("script failed"), FAILED_CODE),
        (Missing("gone"), 0x0110),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DgateError) else f"{value:04X}",
)
def test_each_cause_has_its_status(error: DgateError, status: int) -> None:
    assert storage_status(error, failed_code=FAILED_CODE, classic=False) == status


def test_classic_codes_give_the_configured_one_for_every_cause() -> None:
    for error in (OutOfSpace("full"), NotDicom("garbage"), Refused("rule")):
        assert storage_status(error, failed_code=0xC123, classic=True) == 0xC123


def test_comment_names_the_cause_within_its_length_and_no_path() -> None:
    error = OutOfSpace("no space left " * 10, where="/secret/folder", remedy="free space")
    assert len(comment(error)) == 64
    assert "/secret" not in comment(error)
