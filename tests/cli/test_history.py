"""`dgate config history`, `rollback` and `reload` without a server; with one: tests/acceptance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dgate.cli.config import config_group
from dgate.config.history import History
from dgate.config.settings import load
from dgate.config.template import default_file
from dgate.errors import ConfigError, DgateError
from tests.cli.site_kit import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(tmp_path)
    (tmp_path / "dicom.sql").write_bytes(default_file("dicom.sql"))
    return found


def run(site: Site, *words: str) -> Result:
    return CliRunner().invoke(config_group, [*words, "-c", str(site.folder)])


def apply(site: Site, why: str, *changes: str) -> None:
    History(site.folder).record(load(site.folder), why, changes, 1_700_000_000.0)


def test_history_is_empty_before_a_server_ran(site: Site) -> None:
    assert "No server has applied" in run(site, "history").stdout


def test_history_shows_number_time_reason_and_the_first_changes(site: Site) -> None:
    apply(site, "start")
    (site.folder / "acrnema.map").write_text("NEW 127.0.0.1 104 as\n")
    apply(site, "SIGHUP", "one", "two", "three", "four")

    lines = run(site, "history").stdout.splitlines()

    assert lines[0].split()[0] == "2"
    assert "2023-11-1" in lines[0]
    assert lines[0].endswith("SIGHUP")
    assert [line.strip() for line in lines[1:5]] == [
        "one",
        "two",
        "three",
        "and 1 more (--changes)",
    ]
    assert lines[5].endswith("start")
    assert "four" in run(site, "history", "--changes").stdout
    found = json.loads(run(site, "history", "--json").stdout)
    assert [one["number"] for one in found] == [2, 1]
    assert found[0]["changes"] == ["one", "two", "three", "four"]


def test_rollback_refuses_a_set_with_errors_and_changes_nothing(site: Site) -> None:
    good = (site.folder / "dicom.ini").read_text()
    (site.folder / "dicom.ini").write_text(good + "TCPPort = maybe\n")
    apply(site, "start")
    (site.folder / "dicom.ini").write_text(good)

    result = run(site, "rollback", "1")

    assert isinstance(result.exception, ConfigError)
    assert "has errors today" in str(result.exception)
    assert (site.folder / "dicom.ini").read_text() == good


def test_rollback_brings_broken_files_back(site: Site) -> None:
    good = (site.folder / "dicom.ini").read_bytes()
    apply(site, "start")
    (site.folder / "dicom.ini").unlink()

    result = run(site, "rollback", "1")

    assert result.exit_code == 0, result.output
    assert (site.folder / "dicom.ini").read_bytes() == good


def test_rollback_waits_for_a_command_that_is_at_work(site: Site) -> None:
    apply(site, "start")
    with site.locked():
        result = run(site, "rollback", "1")

    assert isinstance(result.exception, DgateError)
    assert "at work there" in str(result.exception)


def test_reload_needs_a_server(site: Site) -> None:
    result = run(site, "reload")

    assert result.exit_code == 1
    assert "no server is running" in result.output
