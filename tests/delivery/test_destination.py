"""From the text of a forward to an address."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings, default_settings
from dgate.delivery import destination
from dgate.delivery.destination import Destination, resolve
from dgate.errors import ConfigError, Unreachable

MAP = b"""
ARCHIVE  pacs.site.org 11112 j2
ROOM1    10.1.1.1      dicom as
BROKEN   10.1.1.1      99999 as
EMPTY*   *             104   as
V*       *             1234  un
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return default_settings(tmp_path, ae_title="GATE")


@pytest.fixture
def nodes() -> NodeMap:
    return NodeMap.parse(MAP, "acrnema.map")[0]


def test_known_node_gives_address_and_code(nodes: NodeMap, settings: Settings) -> None:
    assert resolve("ARCHIVE", nodes, settings) == Destination(
        "pacs.site.org", 11112, "GATE", "ARCHIVE", "j2"
    )


def test_wildcard_line_is_called_by_the_title_asked_for(nodes: NodeMap, settings: Settings) -> None:
    assert resolve("V10.0.0.1", nodes, settings) == Destination(
        "10.0.0.1", 1234, "GATE", "V10.0.0.1", "un"
    )


def test_org_and_dest_replace_the_titles(nodes: NodeMap, settings: Settings) -> None:
    found = resolve("ARCHIVE", nodes, settings, "ROUTER", "OTHER")

    assert (found.calling, found.called) == ("ROUTER", "OTHER")


def test_port_may_be_a_service_name(nodes: NodeMap, settings: Settings) -> None:
    smtp = NodeMap.parse(b"MAIL host smtp", "acrnema.map")[0]

    assert resolve("MAIL", smtp, settings).port == 25


@pytest.mark.parametrize("target", ["BROKEN", "EMPTY", "10.0.0.1:0", "10.0.0.1:nonsense-service"])
def test_unusable_address_is_an_error(target: str, nodes: NodeMap, settings: Settings) -> None:
    with pytest.raises(ConfigError):
        resolve(target, nodes, settings)


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("10.0.0.1", "10.0.0.1", 5678),
        ("10.0.0.1:104", "10.0.0.1", 104),
        ("pacs.example.org", "pacs.example.org", 5678),
        ("pacs.example.org:11112", "pacs.example.org", 11112),
        ("pacs:11112", "pacs", 11112),
        ("localhost", "localhost", 5678),
        ("[::1]:104", "::1", 104),
        ("[fe80::1]", "fe80::1", 5678),
        ("2001:db8::7", "2001:db8::7", 5678),
    ],
)
def test_unknown_title_is_read_as_an_address(
    target: str, host: str, port: int, nodes: NodeMap, settings: Settings
) -> None:
    found = resolve(target, nodes, settings)

    assert (found.host, found.port, found.code) == (host, port, "un")
    assert found.called == target[:16]


def test_label_that_no_name_service_takes_is_an_error(nodes: NodeMap, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="neither a node"):
        resolve("x" * 70, nodes, settings)


@pytest.mark.parametrize("target", ["UNKNOWN_AE", "A B", "-", ""])
def test_title_that_is_no_host_is_an_error_with_advice(
    target: str, nodes: NodeMap, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    with pytest.raises(ConfigError, match=r"acrnema\.map"):
        resolve(target, nodes, settings)


def test_title_that_is_a_host_name_is_used(
    nodes: NodeMap, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, None)

    assert resolve("pacs", nodes, settings) == Destination("pacs", 5678, "GATE", "pacs", "un")


def test_silent_name_service_is_a_passing_trouble(
    nodes: NodeMap, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, socket.gaierror(socket.EAI_AGAIN, "Temporary failure"))

    with pytest.raises(Unreachable, match="name service"):
        resolve("PACS", nodes, settings)


def test_destination_names_itself_for_messages() -> None:
    assert str(Destination("h", 104, "A", "B", "as")) == "B at h:104"


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Stand in for the name service, which no test can rely on."""

    def look_up(*_: Any, **__: Any) -> list[Any]:
        if error is not None:
            raise error
        return []

    monkeypatch.setattr(destination.socket, "getaddrinfo", look_up)
