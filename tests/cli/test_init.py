from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dgate.cli.init import init_command
from dgate.config.check import check
from dgate.config.settings import load
from dgate.config.template import NAMES


def init(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(init_command, arguments)
    return result.exit_code, result.output


def test_four_files_are_written_that_serve_at_once(tmp_path: Path) -> None:
    code, output = init(str(tmp_path / "new" / "site"))

    assert code == 0
    assert f"dgate serve -c {tmp_path / 'new' / 'site'}" in output
    assert sorted(path.name for path in (tmp_path / "new" / "site").iterdir()) == sorted(NAMES)
    assert check(load(tmp_path / "new" / "site")) == []


def test_title_and_port_can_be_given(tmp_path: Path) -> None:
    assert init(str(tmp_path), "--ae-title", "PACS1", "--port", "104")[0] == 0

    settings = load(tmp_path).settings
    assert (settings.ae_title, settings.tcp_port) == ("PACS1", 104)


def test_existing_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dicom.sql").write_text("mine")

    code, output = init(str(tmp_path))
    assert code == 1
    assert "dicom.sql already; nothing was written" in output
    assert [path.name for path in tmp_path.iterdir()] == ["dicom.sql"]


def test_existing_files_are_overwritten_by_force(tmp_path: Path) -> None:
    (tmp_path / "dicom.sql").write_text("mine")

    assert init(str(tmp_path), "--force")[0] == 0
    assert check(load(tmp_path)) == []


@pytest.mark.parametrize("title", ["", "TOO-LONG-BY-ONE-17", "A B", "A\\B", "A\nB"])
def test_title_that_cannot_be_used_is_refused(tmp_path: Path, title: str) -> None:
    code, output = init(str(tmp_path / "new"), "--ae-title", title)

    assert code == 2
    assert "at most 16" in output
    assert not (tmp_path / "new").exists()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    code, output = init(str(tmp_path / "file" / "new"))
    assert code == 1
    assert "cannot be written" in output
