"""The settings of watched folders, and the name in log lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.settings import Severity
from tests.config.kit import about, configured


@pytest.mark.parametrize("line", ["", "WatchFolder =", "WatchFolder =   "])
def test_no_folder_is_watched_by_default(tmp_path: Path, line: str) -> None:
    assert configured(tmp_path, line).settings.watch_folder is None


@pytest.mark.parametrize("text", ["./in", "in/", ".\\in", "data/incoming"])
def test_folder_outside_the_archive_or_incoming_is_watched(tmp_path: Path, text: str) -> None:
    settings = configured(tmp_path, f"WatchFolder = {text}").settings

    assert settings.watch_folder == tmp_path / text.replace("\\", "/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("./data", "holds the images of MAG0"),
        ("data/../data/", "holds the images of MAG0"),
        ("./data/P1", "lies among the images of MAG0"),
        ("data/incoming/deeper", "lies among the images of MAG0"),
        (".", "holds dicom.ini"),
        ("..", "holds dicom.ini"),
        ("/", "holds dicom.ini"),
    ],
)
def test_folder_that_would_be_emptied_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    configuration = configured(tmp_path, f"WatchFolder = {text}")

    assert about(configuration, message).severity is Severity.ERROR
    assert configuration.settings.watch_folder is None


def test_archive_by_another_name_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "in").symlink_to(tmp_path / "data")
    configuration = configured(tmp_path, "WatchFolder = ./in")

    assert about(configuration, "holds the images of MAG0").severity is Severity.ERROR


@pytest.mark.parametrize(
    ("line", "name"),
    [("", "sscscp"), ("PACSName = CITY", "CITY"), ("PACSName =", ""), ("PACSName =  A B ", "A B")],
)
def test_name_in_log_lines_is_that_of_the_section_unless_given(
    tmp_path: Path, line: str, name: str
) -> None:
    assert configured(tmp_path, line).settings.pacs_name == name
