"""How fast a disk fills up."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.growth import DAY_S, KEPT_S, STEP_S, Growth

GB = 1 << 30


def filled(path: Path, *free_gb: float, step_s: float = DAY_S / 2) -> tuple[Growth, float]:
    """Return what was seen at equal distances, and the time of the last sample."""
    growth = Growth(path)
    for number, free in enumerate(free_gb):
        growth.note("MAG0", number * step_s, int(free * GB))
    return growth, (len(free_gb) - 1) * step_s


def test_days_left_follow_from_what_was_taken(tmp_path: Path) -> None:
    growth, now = filled(tmp_path / "growth.json", 100, 95, 90, 85, 80)

    assert growth.per_day("MAG0", now, 80 * GB) == pytest.approx(10 * GB)
    assert growth.days_left("MAG0", now, 80 * GB, 20 * GB) == pytest.approx(6)


def test_space_that_was_made_does_not_hide_what_is_taken(tmp_path: Path) -> None:
    growth, now = filled(tmp_path / "growth.json", 50, 40, 30, 90, 80)

    assert growth.per_day("MAG0", now, 80 * GB) == pytest.approx(15 * GB)


@pytest.mark.parametrize("free", [(100,), (100, 99)], ids=["one look", "an hour"])
def test_nothing_is_said_after_a_short_time(tmp_path: Path, free: tuple[int, ...]) -> None:
    growth, now = filled(tmp_path / "growth.json", *free, step_s=STEP_S)

    assert growth.days_left("MAG0", now, 99 * GB, 0) is None


def test_disk_that_does_not_fill_up_has_no_end(tmp_path: Path) -> None:
    growth, now = filled(tmp_path / "growth.json", 80, 80, 80)

    assert growth.days_left("MAG0", now, 80 * GB, 0) is None
    assert growth.days_left("MAG7", now, 80 * GB, 0) is None


def test_full_disk_has_no_day_left(tmp_path: Path) -> None:
    growth, now = filled(tmp_path / "growth.json", 80, 40, 10)

    assert growth.days_left("MAG0", now, 10 * GB, 20 * GB) == 0


def test_samples_are_kept_by_the_hour_and_for_two_weeks(tmp_path: Path) -> None:
    path = tmp_path / "growth.json"
    growth = Growth(path)
    for second in range(0, int(KEPT_S * 2), int(STEP_S / 2)):
        growth.note("MAG0", float(second), GB)
    growth.save()

    assert path.read_text().count("[") <= KEPT_S / STEP_S + 3


def test_restart_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "growth.json"
    growth, now = filled(path, 100, 95, 90)
    growth.save()

    assert Growth(path).days_left("MAG0", now, 90 * GB, 0) == pytest.approx(9)
    assert [each.name for each in tmp_path.iterdir()] == ["growth.json"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"MAG0": 7}', b'{"MAG0": [["a", "b"]]}', b"\xff\xfe"]
)
def test_damaged_file_begins_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "growth.json"
    path.write_bytes(content)

    growth = Growth(path)

    assert growth.per_day("MAG0", DAY_S, GB) is None
    growth.note("MAG0", 0.0, GB)
    growth.save()
    assert Growth(path).per_day("MAG0", DAY_S, GB) == 0


def test_clock_that_was_set_back_begins_anew(tmp_path: Path) -> None:
    growth, _ = filled(tmp_path / "growth.json", 100, 90, 80)
    growth.note("MAG0", 0.0, 70 * GB)

    assert growth.per_day("MAG0", DAY_S, 60 * GB) == pytest.approx(10 * GB)


def test_disk_that_takes_no_file_is_no_error(tmp_path: Path) -> None:
    growth, now = filled(tmp_path / "gone" / "growth.json", 100, 90)

    growth.save()

    assert growth.days_left("MAG0", now, 90 * GB, 0) is not None
