"""The composition root: starts, stops, and two of them side by side."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dgate.config.settings import load
from dgate.config.template import new_set
from dgate.errors import DgateError
from dgate.gateway import Gateway
from dgate.net import ContextProposal, connect, echo
from tests.acceptance.processes import Ports

pytestmark = pytest.mark.integration

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LE = "1.2.840.10008.1.2"


PORTS = Ports()
"""Kept for these tests until their process ends."""


def site(folder: Path) -> Path:
    folder.mkdir()
    for name, content in new_set("SITE", PORTS.take()).items():
        (folder / name).write_bytes(content)
    return folder


@contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(load(folder))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def answers(gateway: Gateway) -> bool:
    proposal = ContextProposal(VERIFICATION, (IMPLICIT_LE,))
    with connect("127.0.0.1", gateway.port, "TEST", "SITE", [proposal]) as association:
        return echo(association).status == 0


def test_two_gateways_serve_side_by_side_in_one_process(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(running(site(tmp_path / "one")))
        second = stack.enter_context(running(site(tmp_path / "two")))
        assert answers(first)
        assert answers(second)


def test_a_second_gateway_on_a_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    folder = site(tmp_path / "one")
    with running(folder) as first:
        with pytest.raises(DgateError, match="working on this folder"):
            Gateway(load(folder)).start()
        assert answers(first)


def test_a_start_that_fails_leaves_the_folder_free(tmp_path: Path) -> None:
    folder = site(tmp_path / "one")
    port = load(folder).settings.tcp_port
    with socket.create_server(("", port)), pytest.raises(DgateError, match=str(port)):
        Gateway(load(folder)).start()
    with running(folder) as gateway:
        assert answers(gateway)


def test_a_device_full_of_files_beside_an_empty_index_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = site(tmp_path / "one")
    device = load(folder).settings.mag_devices[0]
    (device / "SMITH").mkdir(parents=True)
    with caplog.at_level(logging.WARNING), running(folder):
        pass
    assert "SMITH" in caplog.text
    assert "index is empty" in caplog.text


def test_a_fresh_folder_is_not_suspected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), running(site(tmp_path / "one")):
        pass
    assert "index is empty" not in caplog.text
