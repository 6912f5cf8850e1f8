"""The name of a gateway in a shared database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dgate.archive.gatewayid import gateway_id, id_path
from dgate.errors import ConfigError


def test_name_is_made_once_and_kept(tmp_path: Path) -> None:
    first = gateway_id(tmp_path)

    assert len(first.home) == 32
    assert gateway_id(tmp_path) == first
    assert first.home in id_path(tmp_path).read_text()


def test_gateways_whose_folders_are_named_alike_differ(tmp_path: Path) -> None:
    folder = tmp_path / "srv"
    folder.mkdir()
    first = gateway_id(folder)
    folder.rename(tmp_path / "the other machine")
    folder.mkdir()

    assert gateway_id(folder).home != first.home


def test_folder_that_was_moved_stays_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    first = gateway_id(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")

    assert gateway_id(tmp_path / "two") == first


def test_copy_of_the_folder_is_in_another_place(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    first = gateway_id(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")

    copied = gateway_id(tmp_path / "two")

    assert copied.home == first.home
    assert copied.place != first.place


def test_another_boot_of_the_machine_is_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gateway_id(tmp_path)
    (tmp_path / "boot_id").write_text("another boot\n")
    monkeypatch.setattr("dgate.archive.gatewayid._BOOT_ID", tmp_path / "boot_id")

    assert gateway_id(tmp_path).home == first.home
    assert gateway_id(tmp_path).place != first.place


def test_without_a_name_of_the_boot_no_two_starts_are_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.archive.gatewayid._BOOT_ID", tmp_path / "missing")

    assert gateway_id(tmp_path).place != gateway_id(tmp_path).place


def test_what_a_crash_left_does_not_count(tmp_path: Path) -> None:
    path = id_path(tmp_path)
    path.parent.mkdir()
    path.with_name("gateway.id.new").write_text("0123")

    assert len(gateway_id(tmp_path).home) == 32
    assert [each.name for each in path.parent.iterdir()] == ["gateway.id"]


@pytest.mark.parametrize("content", ["", "short\n", "x" * 32, "\0" * 32, "é" * 32])
def test_damaged_name_is_an_error_with_its_remedy(tmp_path: Path, content: str) -> None:
    path = id_path(tmp_path)
    path.parent.mkdir()
    path.write_text(content)

    with pytest.raises(ConfigError, match="damaged") as raised:
        gateway_id(tmp_path)
    assert raised.value.where == str(path)
    assert "remove the file" in raised.value.remedy


def test_name_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dgate").write_text("a file where the folder belongs")

    with pytest.raises(ConfigError, match="cannot be kept"):
        gateway_id(tmp_path)
