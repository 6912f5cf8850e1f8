"""What is kept free of a disk, as it is written in dicom.ini."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.reserve import Reserve
from dgate.config.settings import load
from tests.config.kit import write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500", Reserve(500)),
        (" 0 ", Reserve(0)),
        ("5%", Reserve(percent=5.0)),
        ("0.5 %", Reserve(percent=0.5)),
        ("90%", Reserve(percent=90.0)),
        ("91%", None),
        ("-1", None),
        ("5 MB", None),
        ("1e3", None),
        ("%", None),
        ("", None),
        ("9999999999", None),
    ],
)
def test_reserve_is_a_number_or_a_share(text: str, expected: Reserve | None) -> None:
    assert Reserve.parse(text) == expected


@pytest.mark.parametrize(
    ("reserve", "total", "unit", "expected"),
    [
        (Reserve(10), 1000, 1, 10),
        (Reserve(10), 1000, 1 << 20, 10 << 20),
        (Reserve(percent=2.5), 1000, 1, 25),
        (Reserve(percent=2.5), 0, 1, 0),
        (Reserve(), 1000, 1, 0),
    ],
)
def test_reserve_of_a_disk(reserve: Reserve, total: int, unit: int, expected: int) -> None:
    assert reserve.of(total, unit) == expected


def test_settings_have_the_reserves(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "DiskReserve = 5%\nInodeReserve = 20")).settings

    assert settings.disk_reserve == Reserve(percent=5.0)
    assert settings.inode_reserve == Reserve(20)


def test_without_a_reserve_the_threshold_counts(tmp_path: Path) -> None:
    settings = load(write(tmp_path, "")).settings

    assert settings.disk_reserve is None
    assert settings.inode_reserve == Reserve(1000)


@pytest.mark.parametrize("name", ["DiskReserve", "InodeReserve"])
def test_reserve_that_is_none_is_an_error_with_its_line(tmp_path: Path, name: str) -> None:
    problems = load(write(tmp_path, f"{name} = much")).problems

    [problem] = [each for each in problems if name in each.message]
    assert problem.severity.name == "ERROR"
    assert problem.line
    assert "such as 5%" in problem.advice
