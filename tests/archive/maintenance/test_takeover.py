"""The progress of a survey: of a million rows it takes a minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.archive.maintenance import takeover
from dgate.archive.maintenance.takeover import survey
from dgate.cli import progress
from dgate.cli.takeover import takeover_command
from tests.archive.maintenance.ward import open_ward


def test_each_step_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "_PAGE_ROWS", 2)
    ward = open_ward(tmp_path)
    objects = [ward.add(number) for number in range(1, 6)]
    ward.path(objects[0]).unlink()
    ward.close()
    told: list[tuple[str, int, int | None]] = []

    report = survey(
        ward.configuration,
        in_use=False,
        progress=lambda what, done, total: told.append((what, done, total)),
    )

    assert [done for what, done, _ in told if what == "texts of image rows"] == [2, 4, 5]
    index = [(done, total) for what, done, total in told if what == "file names in the index"]
    assert index == [(2, 5), (4, 5), (5, 5)]
    assert ("files of MAG0", 4, 5) in told
    assert ("rows without file of MAG0", 0, None) in told
    assert report.devices[0].without_file == 1


def test_the_command_shows_it_apart_from_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    ward = open_ward(tmp_path)
    ward.add(1)
    ward.close()

    result = CliRunner().invoke(takeover_command, [str(tmp_path), "--json"])

    assert "takeover: files of MAG0: 1" in result.stderr
    assert "takeover:" not in result.stdout
