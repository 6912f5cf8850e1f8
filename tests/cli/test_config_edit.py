"""`dgate config set`, `export` and `import` on a folder as `dgate init` writes it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dgate.cli.config import config_group
from dgate.config.settings import load
from dgate.config.template import new_set
from dgate.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in new_set().items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def run(folder: Path, *arguments: str, text: str | None = None) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(config_group, [command, "-c", str(folder), *rest], input=text)


def ini(folder: Path) -> str:
    return (folder / "dicom.ini").read_text()


def backups(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".bak." in path.name)


def test_setting_is_changed_and_the_file_kept(folder: Path) -> None:
    before = ini(folder)
    result = run(folder, "set", "tcpport", "11112")

    assert result.exit_code == 0
    assert ini(folder) == before.replace("TCPPort = 5678", "TCPPort = 11112")
    assert (folder / "dicom.ini.bak.1").read_text() == before
    assert "TCPPort was set in" in result.output
    assert "when the server is started again" in result.output
    assert load(folder).settings.tcp_port == 11112


def test_setting_that_is_set_so_already_is_not_written(folder: Path) -> None:
    result = run(folder, "set", "TCPPort", "5678")

    assert (result.exit_code, backups(folder)) == (0, [])
    assert "nothing was written" in result.output


def test_setting_is_removed(folder: Path) -> None:
    assert run(folder, "set", "--unset", "TCPPort").exit_code == 0

    assert "TCPPort" not in ini(folder)
    assert run(folder, "set", "--unset", "TCPPort").exit_code == 1


def test_script_is_added_in_a_section_that_is_made_for_it(folder: Path) -> None:
    assert run(folder, "set", "tidy", "nop; stop", "--section", "scripts").exit_code == 0

    assert ini(folder).endswith("\n\n[scripts]\ntidy = nop; stop\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["TCPPrt", "1"], "did you mean TCPPort?"),
        (["startupp", "x", "--section", "lua"], "did you mean startup?"),
        (["TCPPort", "70000"], "TCPPort = 70000 is not a port"),
        (["TCPPort", "104x"], "TCPPort = 104x is read as 104"),
        (["Durability", "ful"], "did you mean full?"),
        (["ImportConverter0", "nop; nosuch"], "unknown statement nosuch"),
        (["ImportConverter0", "forward to DGAT"], "did you mean DGATE?"),
        (["ACRNemaMap", "nowhere.map"], "nowhere.map cannot be read"),
        (["MAGDevice0", "dicom.sql"], "is not a folder"),
        (["bad", "newuidz", "--section", "scripts"], "unknown statement newuidz"),
    ],
)
def test_what_check_complains_about_is_not_written(
    folder: Path, arguments: list[str], message: str
) -> None:
    before = ini(folder)
    result = run(folder, "set", *arguments)

    assert result.exit_code == 1
    assert message in result.output + str(result.exception)
    assert (ini(folder), backups(folder)) == (before, [])


def test_warning_can_be_overruled_and_an_error_cannot(folder: Path) -> None:
    assert run(folder, "set", "TCPPort", "104x", "--force").exit_code == 0
    assert run(folder, "set", "TCPPort", "70000", "--force").exit_code == 1

    assert "TCPPort = 104x\n" in ini(folder)


def test_mistakes_that_were_there_before_do_not_hinder(folder: Path) -> None:
    with (folder / "dicom.ini").open("a") as file:
        file.write("UserLog2 = x\nImportConverter0 = nosuch\nStatusCodes = clasic\n")

    assert run(folder, "set", "MaxAssociations", "5").exit_code == 0
    assert run(folder, "set", "StatusCodes", "classic").exit_code == 0


@pytest.mark.parametrize("arguments", [["TCPPort"], ["TCPPort", "1", "--unset"]])
def test_value_and_removal_exclude_each_other(folder: Path, arguments: list[str]) -> None:
    assert run(folder, "set", *arguments).exit_code == 2


def test_export_goes_into_a_file_for_its_owner_only(folder: Path) -> None:
    run(folder, "set", "Password", "geheim")
    target = folder / "site.toml"
    result = run(folder, "export", "--toml", "-o", str(target))

    assert (result.exit_code, result.output) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert 'Password = "geheim"' in target.read_text()
    assert run(folder, "export", "--toml").output == target.read_text()


def test_import_of_what_was_exported_changes_nothing(folder: Path) -> None:
    text = run(folder, "export", "--toml").output
    result = run(folder, "import", "--toml", "-", text=text)

    assert result.exit_code == 0
    assert "nothing was written" in result.output
    assert backups(folder) == []


def test_import_of_other_values_keeps_comments(folder: Path) -> None:
    before = ini(folder)
    text = run(folder, "export", "--toml").output.replace("TCPPort = 5678", "TCPPort = 11112")
    result = run(folder, "import", "--toml", "-", text=text)

    assert result.exit_code == 0, result.output
    assert ini(folder) == before.replace("TCPPort = 5678", "TCPPort = 11112")
    assert backups(folder) == ["dicom.ini.bak.1"]


def test_import_of_other_keys_and_nodes_writes_both_files(folder: Path) -> None:
    text = run(folder, "export", "--toml").output
    text = text.replace("TCPPort = 5678", 'TCPPort = 5678\nPACSName = "X"')
    text = text.replace(
        "node = [",
        'node = [\n    { ae_title = "B", host = "h", port = "104", compression = "as" },',
    )
    result = run(folder, "import", "--toml", "-", text=text)

    assert result.exit_code == 0, result.output
    assert backups(folder) == ["acrnema.map.bak.1", "dicom.ini.bak.1"]
    configuration = load(folder)
    assert [node.ae_title for node in configuration.nodes] == ["B", "DGATE"]
    assert run(folder, "export", "--toml").output == text


def test_import_that_fails_at_the_second_file_leaves_the_first_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = run(folder, "export", "--toml").output
    text = text.replace("TCPPort = 5678", 'TCPPort = 5678\nPACSName = "X"')
    text = text.replace('compression = "as"', 'compression = "un"')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real, renamed = Path.replace, []

    def replace(self: Path, target: Path | str) -> Path:
        if self.name.startswith(".") and ".new." in self.name:
            renamed.append(Path(target).name)
            if len(renamed) == 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    result = run(folder, "import", "--toml", "-", text=text)
    monkeypatch.undo()

    assert len(renamed) == 2
    assert isinstance(result.exception, ConfigError)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_import_of_a_mistake_writes_neither_file(folder: Path) -> None:
    text = run(folder, "export", "--toml").output
    text = text.replace("TCPPort = 5678", "TCPPort = 70000").replace('"5678"', '"104"')
    result = run(folder, "import", "--toml", "-", text=text)

    assert result.exit_code == 1
    assert "TCPPort = 70000 is not a port" in result.output
    assert backups(folder) == []


@pytest.mark.parametrize("text", ["", "format = 1\n[[part]]\nx = 1", "\x00"])
def test_import_of_something_else_is_refused(folder: Path, text: str) -> None:
    result = run(folder, "import", "--toml", "-", text=text)

    assert result.exit_code == 1
    assert backups(folder) == []


def test_import_of_a_file_that_is_not_there_is_refused(folder: Path) -> None:
    result = run(folder, "import", "--toml", str(folder / "nowhere.toml"))

    assert result.exit_code == 1
    assert "No such file" in str(result.exception)
