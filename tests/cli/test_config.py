from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from dgate.cli.config import config_group, value_table
from dgate.config.settings import load
from dgate.config.template import new_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in new_set().items():
        (tmp_path / name).write_bytes(data)
    with (tmp_path / "dicom.ini").open("a") as ini:
        ini.write("Password = geheim\nTCP/IPTimeOut = 30\nImportModality3 = CT\n")
    return tmp_path


def line_of(folder: Path, key: str) -> int:
    """Return the number of the line of dicom.ini that sets `key`."""
    lines = (folder / "dicom.ini").read_text().splitlines()
    return next(n for n, line in enumerate(lines, start=1) if line.startswith(f"{key} ="))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(config_group, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_settings_are_shown_with_their_origin(folder: Path) -> None:
    lines = run("show", "-c", str(folder)).splitlines()

    def origin(key: str) -> str:
        return f"(dicom.ini:{line_of(folder, key)})"

    assert f"MyACRNema = DGATE\t{origin('MyACRNema')}" in lines
    assert "MaxFieldLength = 0\t(default)" in lines
    assert f"MAGDevice0 = ./data/ → {folder}/data\t{origin('MAGDevice0')}" in lines
    assert f"ImportModality3 = CT\t{origin('ImportModality3')}" in lines
    assert not any(line.startswith("WebPort") for line in lines)


def test_number_that_counts_is_shown_beside_its_text(folder: Path) -> None:
    (folder / "dicom.ini").write_text("[sscscp]\nFixKodak = yes\nTCPPort = 5 # x\n")

    output = run("show", "-c", str(folder), "--changed")
    assert output == "TCPPort = 5 # x → 5\t(dicom.ini:3)\nFixKodak = yes → 0\t(dicom.ini:2)\n"


def test_password_is_hidden(folder: Path) -> None:
    for options in ([], ["--json"], ["--all"]):
        assert "geheim" not in run("show", "-c", str(folder), *options)
    assert "geheim" not in run("explain", "Password", "-c", str(folder))


def test_keys_without_effect_are_shown_on_request(folder: Path) -> None:
    assert "WebPort = 8080\t(default)" in run("show", "-c", str(folder), "--all")


def test_settings_are_given_as_json(folder: Path) -> None:
    rows = {row["key"]: row for row in json.loads(run("show", "-c", str(folder), "--json"))}

    assert rows["TCPPort"] == {
        "key": "TCPPort",
        "value": "5678",
        "counts": "5678",
        "line": line_of(folder, "TCPPort"),
        "alias": None,
        "effective": True,
    }


def test_table_shows_values(folder: Path) -> None:
    configuration = load(folder)
    console = Console(file=io.StringIO(), width=100)

    console.print(value_table(configuration, configuration.values[:3]))
    assert isinstance(console.file, io.StringIO)
    assert "DGATE" in console.file.getvalue()


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        ("tcpport", ["TCPPort", "port number or service name", "104", "5678 (dicom.ini:"]),
        ("TCP/IPTimeOut", ["TCPIPTimeOut", "Also read  TCP/IPTimeOut", "1 to 86400"]),
        ("Durability", ["full or index or none", "dgate's own"]),
        ("QueueSize", ["none: deliveries are kept in the database"]),
        ("StopOnJPEGWarnings", ["not yet: "]),
        ("RetryMax", ["seconds", "Example    RetryMax = 600"]),
        ("PDUSize", ["whole number (bytes)", "Differs    The default is 131072"]),
        ("MAGDeviceN", ["MAGDevice0 = ./data/"]),
        ("ImportModality3", ["ImportModality3 = CT"]),
        ("FileNameSyntax", ["ID[16]/SeriesUID_S_I_TC.dcm", "%studyuid"]),
        ("startup", ["[lua] startup", "Lua code that runs once at start"]),
    ],
)
def test_key_is_explained(folder: Path, key: str, texts: list[str]) -> None:
    output = run("explain", key, "-c", str(folder))

    for text in texts:
        assert text in output


def test_key_is_explained_without_a_configuration(tmp_path: Path) -> None:
    output = run("explain", "TCPPort", "-c", str(tmp_path))

    assert "Now" not in output
    assert "104" in output


def test_unknown_key_gets_a_suggestion(folder: Path) -> None:
    result = CliRunner().invoke(config_group, ["explain", "TCPPrt", "-c", str(folder)])

    assert result.exit_code == 1
    assert "did you mean TCPPort?" in result.output


def test_all_keys_are_listed() -> None:
    lines = run("explain").splitlines()

    assert any(line.startswith("TCPPort: ") for line in lines)
    assert any(line.startswith("ExportConverterN: ") for line in lines)
    assert not any(line.startswith("QueueSize") for line in lines)
