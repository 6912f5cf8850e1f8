"""Shifting of dates."""

from __future__ import annotations

import pytest

from dgate.dicom.deidentify.dates import shifted_date_times, shifted_dates


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        ("20260102", 1, "20260101"),
        ("20260101", 1, "20251231"),
        ("20240301", 1, "20240229"),
        ("2026.01.02", 1, "20260101"),
        ("20260102\\20260103", 2, "20251231\\20260101"),
        ("20260102-20260110", 1, "20260101-20260109"),
        ("20260102-", 1, "20260101-"),
        ("", 5, ""),
        ("20260102\\", 1, "20260101\\"),
        ("20261301", 1, None),
        ("20260230", 1, None),
        ("yesterday", 1, None),
        ("2026", 1, None),
        ("00010101", 1, None),
        ("20260102-20260103-20260104", 1, None),
        ("٢٠٢٦٠١٠٢", 1, None),
    ],
)
def test_dates(text: str, days: int, expected: str | None) -> None:
    assert shifted_dates(text, days) == expected


@pytest.mark.parametrize(
    ("text", "days", "expected"),
    [
        ("20260102101112.123456+0130", 1, "20260101101112.123456+0130"),
        ("20260102", 1, "20260101"),
        ("202601021011", 1, "202601011011"),
        ("202601", 1, "202512"),
        ("2026", 1, "2025"),
        ("2026-0500", 1, "2025-0500"),
        ("20260102\\20260103101112", 1, "20260101\\20260102101112"),
        ("", 1, ""),
        ("20260102T1011", 1, None),
        ("20260102101112.1234567", 1, None),
        ("2026010", 1, None),
    ],
)
def test_date_times(text: str, days: int, expected: str | None) -> None:
    assert shifted_date_times(text, days) == expected
