from __future__ import annotations

from pathlib import Path

import pytest

from dgate.config.check import check
from dgate.config.model import Engine
from dgate.config.settings import load
from dgate.config.template import NAMES, default_file, new_set

CONF = Path(__file__).parent.parent.parent / "conf"


@pytest.mark.parametrize("name", NAMES)
def test_packaged_file_is_the_one_in_conf(name: str) -> None:
    assert default_file(name) == (CONF / name).read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in new_set("SITE-1", 11112).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_new_set_has_no_problem(folder: Path) -> None:
    assert check(load(folder)) == []


def test_new_set_bears_title_and_port(folder: Path) -> None:
    configuration = load(folder)

    assert configuration.settings.ae_title == "SITE-1"
    assert configuration.settings.tcp_port == 11112
    node = configuration.nodes.find("SITE-1")
    assert node is not None
    assert (node.host, node.port, node.compression) == ("127.0.0.1", "11112", "as")


def test_shipped_settings_are_those_that_were_decided() -> None:
    settings = load(CONF).settings

    assert (settings.ae_title, settings.tcp_port) == ("DGATE", 5678)
    assert (settings.incoming_compression, settings.file_name_syntax) == ("as", "4")
    assert settings.engine is Engine.SQLITE
    assert settings.enable_computed_fields
    assert settings.mag_devices == (CONF / "data",)


def test_settings_that_the_shipped_file_shows_switched_off_are_known(tmp_path: Path) -> None:
    lines = [
        line.removeprefix("# ")
        for line in default_file("dicom.ini").decode().splitlines()
        if line.startswith("# ") and " = " in line and "key = value" not in line
    ]
    for name, data in new_set().items():
        (tmp_path / name).write_bytes(data)
    ini = tmp_path / "dicom.ini"
    text = ini.read_text().replace("ExportConverters = 0", "ExportConverters = 1")
    ini.write_text(text + "\n".join(lines) + "\n")
    (tmp_path / "acrnema.map").write_text("WORKSTATION1 h 104 as\n")

    assert len(lines) == 4
    assert check(load(tmp_path)) == []
