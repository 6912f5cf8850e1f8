"""The maintenance commands of the control socket: what they are given and what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.archive.maintenance.commands import maintenance_commands
from dgate.errors import DgateError
from tests.archive.maintenance.ward import Disk, Ward, open_ward


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = open_ward(tmp_path, disk=Disk({"mag0": 100_000, "mag1": 100_000}))
    for number in (1, 2):
        ward.add(number)
    ward.clock.seconds += 7200
    yield ward
    ward.close()


def run(ward: Ward, name: str, **arguments: Any) -> list[dict[str, Any]]:
    command = maintenance_commands(lambda: ward.caretaker)[f"maintenance.{name}"]
    return list(command(arguments))


CORRECTION = {"operation": "correct-patient", "key": "P1", "id": "P9"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("delete", {"level": "patient", "key": "P1"}),
        ("clean", {"free_mb": 1000}),
        ("move-device", {"source": "MAG0", "target": "MAG1"}),
        ("correct", CORRECTION),
    ],
)
def test_without_apply_nothing_changes(ward: Ward, name: str, arguments: dict[str, Any]) -> None:
    before = ward.refs()

    *_, last = run(ward, name, **arguments)

    assert "report" in last
    assert ward.refs() == before
    assert ward.recorded() == []


@pytest.mark.parametrize(
    ("name", "arguments", "done"),
    [
        ("delete", {"level": "patient", "key": "P1"}, 2),
        ("move-device", {"source": "MAG0", "target": "MAG1"}, 2),
        ("correct", CORRECTION, 2),
    ],
)
def test_with_apply_progress_reaches_the_total_and_who_did_it_is_kept(
    ward: Ward, name: str, arguments: dict[str, Any], done: int
) -> None:
    answers = run(ward, name, **arguments, apply=True, who="ann")

    assert [answer["total"] for answer in answers if "total" in answer] == [done]
    assert [answer["done"] for answer in answers if "done" in answer][-1] == done
    assert {record["who"] for record in ward.recorded()} == {"ann"}


def test_clean_without_a_number_takes_the_threshold(tmp_path: Path) -> None:
    ward = open_ward(tmp_path, mag_device_threshold_mb=7)

    [report] = run(ward, "clean")

    assert report["report"]["wanted"] == (7 + 1005) << 20
    ward.close()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("delete", {}, "no level"),
        ("delete", {"level": "patient"}, "key is missing"),
        ("delete", {"level": ["x"], "key": "P1"}, "no level"),
        ("delete", {"level": "patient", "key": {"a": 1}}, "key is missing"),
        ("clean", {}, "how much is to be free"),
        ("clean", {"free_mb": "many"}, "not a number of megabytes"),
        ("clean", {"free_mb": -1}, "not a number of megabytes"),
        ("clean", {"free_mb": 5, "device": "MAG7"}, "no storage device MAG7"),
        ("move-device", {"source": "MAG0"}, "target is missing"),
        ("move-device", {"source": "MAG0", "target": "MAG1", "level": "study"}, "key is missing"),
        ("correct", {"key": "P1"}, "no correction"),
        ("correct", {"operation": "split-study", "key": "1.2"}, "series is missing"),
        ("correct", {"operation": "split-study", "key": "1.2", "series": [{}]}, "not a UID"),
        ("correct", {"operation": "merge-study", "key": "1.2"}, "into is missing"),
        ("correct", {"operation": "correct-patient", "key": "P1", "sex": 5}, "no sex"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_in_words(
    ward: Ward, name: str, arguments: dict[str, Any], words: str
) -> None:
    before = ward.refs()

    with pytest.raises(DgateError, match=words):
        run(ward, name, **arguments, apply=True)

    assert ward.refs() == before


def test_a_caller_that_leaves_ends_the_work_between_two_steps(tmp_path: Path) -> None:
    ward = open_ward(tmp_path)
    for number in range(1, 130):
        ward.add(number)
    command = maintenance_commands(lambda: ward.caretaker)["maintenance.move-device"]
    answers = command({"source": "MAG0", "target": "MAG1", "apply": True})
    assert not isinstance(answers, dict)
    assert "total" in next(answers)
    next(answers)
    answers.close()  # type: ignore[attr-defined]

    devices = [ref.device for ref in ward.refs()]
    assert 0 < devices.count("MAG1") < 129
    assert len(ward.below("mag0")) == devices.count("MAG0")
    assert len(ward.below("mag1")) == devices.count("MAG1")
    ward.close()
