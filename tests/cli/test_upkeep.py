"""The maintenance commands as a person sees them; what they do is tested where it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.cli.main import cli
from dgate.cli.upkeep import amount
from dgate.errors import DgateError
from tests.cli.site_kit import Site


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (2_500_000, "2.5 MB"),
        (9 * 10**15, "9000.0 TB"),
    ],
)
def test_amounts_are_for_people(size: int, text: str) -> None:
    assert amount(size) == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clean", "--yes", "--dry-run"], "either --yes or --dry-run"),
        (["clean", "--free", "0"], "not in the range"),
        (["clean", "--free", "much"], "not a valid integer"),
        (["delete", "modality", "X"], "'modality' is not one of"),
        (["delete", "patient"], "Missing argument 'KEY'"),
        (["move-device", "MAG0"], "Missing argument 'TO'"),
        (["move-device", "MAG0", "MAG1", "--study", "1", "--series", "2"], "Give one of"),
        (["move-device", "MAG0", "MAG1", "--study", "1", "--rename-only"], "Give one of"),
        (["split", "study", "1.2"], "Missing option '--series'"),
        (["merge", "patient", "A"], "Missing argument 'INTO'"),
    ],
)
def test_wrong_use_is_exit_code_2(tmp_path: Path, words: list[str], message: str) -> None:
    site = Site(tmp_path)

    result = CliRunner().invoke(cli, [*words, "-c", str(site.folder)])

    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["delete", "patient", "X"], "there is no patient 'X'"),
        (["delete", "study", "1.2.*"], "is not a UID"),
        (["clean"], "how much is to be free"),
        (["clean", "--free", "5", "--device", "MAG3"], "no storage device MAG3"),
        (["move-device", "MAG0", "MAG1"], "no storage device 'MAG1'"),
        (["merge", "patient", "A1", "A1"], "both patients are the same"),
        (["merge", "study", "1.2", "1.2.3"], "no objects of study"),
        (["correct", "patient", "A1", "--id", "B1"], "no objects of patient"),
        (["correct", "patient", "A1", "--birth-date", "today"], "no date"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy(
    tmp_path: Path, words: list[str], message: str
) -> None:
    site = Site(tmp_path)

    result = CliRunner().invoke(cli, [*words, "-c", str(site.folder)])

    assert isinstance(result.exception, DgateError)
    assert message in str(result.exception)


def test_without_an_index_there_is_nothing_to_maintain(tmp_path: Path) -> None:
    site = Site(tmp_path)
    ini = site.folder / "dicom.ini"
    lines = [line for line in ini.read_text().splitlines() if not line.startswith("SQL")]
    ini.write_text("\n".join(lines) + "\n")

    result = CliRunner().invoke(cli, ["delete", "patient", "X", "-c", str(site.folder)])

    assert isinstance(result.exception, DgateError)
    assert "no index is kept" in str(result.exception)


def test_while_another_command_is_at_work_nothing_is_begun(tmp_path: Path) -> None:
    site = Site(tmp_path)

    with site.locked():
        result = CliRunner().invoke(cli, ["delete", "patient", "X", "-c", str(site.folder)])

    assert isinstance(result.exception, DgateError)
    assert "is at work there" in str(result.exception)
