"""Whether ports are found to be free: real sockets, and a real control socket of a server."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.cli import port_check
from dgate.cli.port_check import port_problems
from dgate.ops.control import ControlServer, socket_path
from dgate.ops.lock import FolderLock
from tests.acceptance.processes import Ports
from tests.config.kit import configured

pytestmark = pytest.mark.integration


@pytest.fixture
def taken() -> Iterator[int]:
    """Listen on a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_free_port_is_no_problem_and_stays_free(tmp_path: Path) -> None:
    ports = Ports()
    port = ports.take()

    assert port_problems(configured(tmp_path, f"TCPPort = {port}")) == []
    with socket.create_server(("", port)):
        pass
    ports.close()


def test_port_of_another_process_is_an_error(tmp_path: Path, taken: int) -> None:
    (problem,) = port_problems(configured(tmp_path, f"TCPPort = {taken}"))

    assert problem.severity.value == "error"
    assert (problem.line, problem.column) == (2, 11)
    assert f"TCPPort = {taken}: another process listens" in problem.message


def test_port_of_the_own_server_is_no_problem(tmp_path: Path, taken: int) -> None:
    path = socket_path(tmp_path)
    lock = FolderLock(tmp_path)
    server = ControlServer(path, {"status": lambda arguments: {"port": taken}})
    lock.acquire(path)
    server.start()
    try:
        assert port_problems(configured(tmp_path, f"TCPPort = {taken}")) == []
        other = configured(tmp_path, f"TCPPort = {taken}")
    finally:
        server.stop()
        lock.release()
    # The lock file of a server that is gone convinces nobody.
    assert len(port_problems(other)) == 1


def test_port_that_the_own_server_does_not_have_is_an_error(tmp_path: Path, taken: int) -> None:
    path = socket_path(tmp_path)
    lock = FolderLock(tmp_path)
    server = ControlServer(path, {"status": lambda arguments: {"port": 104}})
    lock.acquire(path)
    server.start()
    try:
        assert len(port_problems(configured(tmp_path, f"TCPPort = {taken}"))) == 1
    finally:
        server.stop()
        lock.release()


@pytest.mark.parametrize(
    ("failure", "severity", "text"),
    [
        (errno.EACCES, "warning", "may not listen on so low a port"),
        (errno.EADDRNOTAVAIL, "error", "EADDRNOTAVAIL"),
    ],
)
def test_port_that_may_not_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int, severity: str, text: str
) -> None:
    def refuse(port: int) -> None:
        # Tests may run as root, who may use every port.
        raise OSError(failure, "refused")

    monkeypatch.setattr(port_check, "_try_to_bind", refuse)
    (problem,) = port_problems(configured(tmp_path, "TCPPort = 104"))

    assert problem.severity.value == severity
    assert text in problem.message
