"""How a command finds its node."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.cli.peer import find_peer
from dgate.errors import ConfigError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("target", "host", "port"),
    [("PACS@10.0.0.1:104", "10.0.0.1", 104), ("PACS@[::1]:11112", "::1", 11112)],
    ids=["IPv4", "IPv6"],
)
def test_title_and_address_need_no_configuration(target: str, host: str, port: int) -> None:
    found = find_peer(target, None, None, None).destination
    assert (found.called, found.host, found.port, found.calling) == ("PACS", host, port, "DGATE")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("target", ["PACS@host", "@host:104", "PACS@host:x", "PACS@host:70000"])
def test_half_an_address_is_refused_with_an_example(target: str) -> None:
    with pytest.raises(ConfigError, match=r"for example"):
        find_peer(target, None, None, None)


@pytest.mark.usefixtures("nowhere")
def test_a_bare_title_without_configuration_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="-c PATH"):
        find_peer("PACS", None, None, None)


def test_a_title_is_looked_up_in_the_node_map(tmp_path: Path) -> None:
    (tmp_path / "dicom.ini").write_text("[sscscp]\nMyACRNema = SITE\nSQLite = 1\n")
    (tmp_path / "acrnema.map").write_text("PACS 10.0.0.9 4006 j2\n")
    found = find_peer("PACS", tmp_path, None, None).destination
    assert (found.host, found.port, found.calling, found.code) == ("10.0.0.9", 4006, "SITE", "j2")
