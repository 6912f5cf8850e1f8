"""`dgate serve` up to the moment when it would serve; the running server: tests/acceptance."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dgate.cli.serve import serve_command
from dgate.config.store import NOTE
from dgate.errors import ConfigError, DgateError
from dgate.ops.lock import LOCK_NAME, FolderLock
from tests.cli.site_kit import INI, Site
from tests.config.kit import interrupt

BROKEN = INI.replace("MyACRNema = GATE", "MyACRNema = " + "X" * 17).encode()
"""A set that a server does not start with, so that a test gets its turn again."""


def serve(folder: Path) -> Result:
    return CliRunner().invoke(serve_command, ["-c", str(folder)])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_folder_without_configuration_is_an_error_that_leaves_no_trace(tmp_path: Path) -> None:
    result = serve(tmp_path)

    assert isinstance(result.exception, ConfigError)
    assert "dgate init" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_errors_in_the_files_stop_the_start_and_give_the_folder_back(site: Site) -> None:
    (site.folder / "dicom.ini").write_bytes(BROKEN)

    result = serve(site.folder)

    assert isinstance(result.exception, ConfigError)
    assert "error(s) in the configuration, the server does not start" in str(result.exception)
    lock = FolderLock(site.folder)
    assert lock.acquire() is None
    lock.release()


@pytest.mark.parametrize("by", ["folder", "file"])
def test_interrupted_change_is_finished_before_the_files_are_read(site: Site, by: str) -> None:
    interrupt(site.folder, {"acrnema.map": b"NEW 127.0.0.1 104 as\n", "dicom.ini": BROKEN})
    assert (site.folder / "dicom.ini").read_text() == INI

    result = serve(site.folder if by == "folder" else site.folder / "dicom.ini")

    assert isinstance(result.exception, ConfigError)
    assert "error(s) in the configuration" in str(result.exception)
    assert (site.folder / "dicom.ini").read_bytes() == BROKEN
    assert not (site.folder / NOTE).exists()


def test_files_of_a_folder_that_another_server_has_are_left_alone(site: Site) -> None:
    interrupt(site.folder, {"acrnema.map": b"NEW 127.0.0.1 104 as\n", "dicom.ini": BROKEN})
    before = {path.name: path.read_bytes() for path in site.folder.iterdir() if path.is_file()}

    with site.locked(site.folder / "dgate.sock"):
        result = serve(site.folder)
        after = {path.name: path.read_bytes() for path in site.folder.iterdir() if path.is_file()}

    assert isinstance(result.exception, DgateError)
    assert "is working on this folder already" in str(result.exception)
    assert {name: data for name, data in after.items() if name != LOCK_NAME} == before
