"""`dgate steps` as an operator and a script see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dgate.archive.database import Database
from dgate.archive.schema import prepare
from dgate.archive.steps import PerformedSeries, Step, StepChange, Steps, StepState
from dgate.archive.writer import Writer
from dgate.cli.steps import steps_group
from tests.archive.intake_kit import FixedClock
from tests.cli.site_kit import Site

STUDY = "1.2.3.1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three steps of two studies; the texts of one are those of somebody hostile."""
    site = Site(tmp_path)
    settings = site.configuration.settings
    database = Database(settings)
    database.open()
    writer, clock = Writer(database, settings.durability), FixedClock()
    steps = Steps(database, prepare(database, site.configuration.layout, settings), writer, clock)
    for number, study, station, begun in (
        (1, STUDY, "CT1", "20260314101500"),
        (2, STUDY, "", "20260314"),
        (3, "1.2.3.2", "\x1b[31mX", "no\x07 date"),
    ):
        clock.seconds += 1
        uid = f"1.2.77.{number}"
        step = Step(uid, StepState.IN_PROGRESS, (study,), "PEER", station=station, begun=begun)
        steps.create(step, 100)
    clock.seconds += 1
    series = (PerformedSeries("1.2.3.1.1", ("1.2.3.1.1.1", "1.2.3.1.1.2")),)
    ended = "20260314103000"
    steps.change("1.2.77.1", StepChange(StepState.DISCONTINUED, ended=ended, series=series))
    writer.close()
    database.close()
    return site


def run(site: Site, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        steps_group, ["list", "-c", str(site.folder), *arguments], catch_exceptions=False
    )


def test_steps_are_listed_with_what_is_known(site: Site) -> None:
    lines = run(site).output.splitlines()

    assert [line.split() for line in lines] == [
        ["Study", "Station", "Status", "Begun", "Ended", "Named", "Stored"],
        [STUDY, "CT1", "discontinued", *["2026-03-14", "10:15", "2026-03-14", "10:30", "2", "0"]],
        ["1.2.3.2", "?[31mX", *["in", "progress", "no?", "date", "0", "0"]],
        [STUDY, "PEER", *["in", "progress", "2026-03-14", "0", "0"]],
    ]


def test_scripts_get_everything(site: Site) -> None:
    [told] = map(json.loads, run(site, "--json", "--state", "discontinued").output.splitlines())

    assert (told["uid"], told["studies"], told["peer"]) == ("1.2.77.1", [STUDY], "PEER")
    assert (told["named"], told["stored"], told["ended"]) == (2, 0, "20260314103000")


def test_a_part_is_listed(site: Site) -> None:
    [ended] = run(site, "--json", "--study", STUDY, "--state", "discontinued").output.splitlines()
    assert json.loads(ended)["lacking"] == ["1.2.3.1.1.1", "1.2.3.1.1.2"]
    listed = run(site, "--json", "--study", STUDY, "--state", "in-progress").output.splitlines()
    assert [json.loads(line)["uid"] for line in listed] == ["1.2.77.2"]
    assert len(run(site, "--json", "--limit", "2").output.splitlines()) == 2
    assert run(site, "--study", "1.2.9").output == "No steps are known.\n"
    assert run(site, "--limit", "0").exit_code == 2
