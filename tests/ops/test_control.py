"""The control socket between the running server and commands."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgate.errors import DgateError
from dgate.ops.control import LONGEST_PATH, ControlClient, ControlServer, socket_path
from tests.acceptance.processes import wait_until

pytestmark = pytest.mark.integration

Start = Callable[..., ControlClient]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[ControlServer] = []

    def begin(*, alive_every_s: float = 60.0, **commands: Any) -> ControlClient:
        path = tmp_path / "dgate.sock"
        server = ControlServer(path, commands, alive_every_s=alive_every_s)
        server.start()
        servers.append(server)
        return ControlClient(path)

    yield begin
    for server in servers:
        server.stop()


def test_command_receives_its_arguments_and_answers_once(start: Start) -> None:
    client = start(double=lambda arguments: {"result": arguments["value"] * 2})

    assert client.call("double", {"value": 21}) == {"result": 42}


def test_answers_of_long_work_arrive_one_by_one(start: Start) -> None:
    may_go_on = threading.Event()

    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"done": 1}
        assert may_go_on.wait(60)
        yield {"done": 2}

    answers = start(work=work).stream("work")

    assert next(answers) == {"done": 1}
    may_go_on.set()
    assert list(answers) == [{"done": 2}]


def test_error_of_a_command_reaches_the_caller_in_its_own_words(start: Start) -> None:
    def fail(arguments: dict[str, Any]) -> dict[str, Any]:
        raise DgateError("there is no debt 7", where="ledger", remedy="see dgate queue list")

    with pytest.raises(DgateError) as caught:
        start(fail=fail).call("fail")

    assert str(caught.value) == "ledger: there is no debt 7 (see dgate queue list)"


def test_error_in_the_middle_of_long_work_ends_the_answers(start: Start) -> None:
    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"done": 1}
        raise DgateError("the disk is full")

    answers = start(work=work).stream("work")

    assert next(answers) == {"done": 1}
    with pytest.raises(DgateError, match="disk is full"):
        next(answers)


def test_unexpected_failure_is_logged_and_told_without_details(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(arguments: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("secret")

    with pytest.raises(DgateError, match="failed unexpectedly") as caught:
        start(fail=fail).call("fail")

    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


def test_unknown_command_is_refused_by_name(start: Start) -> None:
    with pytest.raises(DgateError, match="'shutdown'"):
        start().call("shutdown")


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b"\xff\n", b'{"command": 1}\n'])
def test_garbage_is_refused_and_the_server_lives_on(
    start: Start, tmp_path: Path, line: bytes
) -> None:
    client = start(hello=lambda arguments: {"hello": "you"})

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(os.fspath(tmp_path / "dgate.sock"))
        connection.sendall(line)
        answer = connection.makefile("rb").readline()

    assert "cannot be read" in json.loads(answer)["error"]["what"]
    assert client.call("hello") == {"hello": "you"}


def test_caller_that_leaves_ends_the_work(start: Start) -> None:
    ended = threading.Event()

    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield {"filler": "x" * 10000}
        finally:
            ended.set()

    answers = start(work=work).stream("work")
    next(answers)
    answers.close()  # type: ignore[attr-defined]

    assert ended.wait(60)


def test_only_the_owner_may_connect(start: Start, tmp_path: Path) -> None:
    start()

    assert stat.S_IMODE((tmp_path / "dgate.sock").stat().st_mode) == 0o600


def test_socket_file_of_a_dead_server_is_replaced(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "dgate.sock"))

    assert start(hello=lambda arguments: {"hello": "you"}).call("hello") == {"hello": "you"}


def test_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "dgate.sock").write_text("precious")
    server = ControlServer(tmp_path / "dgate.sock", {})

    with pytest.raises(DgateError, match="control socket"):
        server.start()
    server.stop()

    assert (tmp_path / "dgate.sock").read_text() == "precious"


def test_stop_removes_the_socket_and_drops_waiting_callers(tmp_path: Path) -> None:
    started = threading.Event()

    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        started.set()
        while True:
            yield {"filler": "x" * 10000}

    server = ControlServer(tmp_path / "dgate.sock", {"work": work})
    server.start()
    answers = ControlClient(tmp_path / "dgate.sock").stream("work")
    next(answers)
    assert started.wait(60)
    server.stop()
    server.stop()

    assert not (tmp_path / "dgate.sock").exists()
    with pytest.raises(DgateError, match="does not answer"):
        for _ in answers:
            pass
    # A caller's thread is no longer known to the server a moment before its end.
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("control")],
        "the end of the threads",
    )


def test_client_without_a_server_says_so(tmp_path: Path) -> None:
    with pytest.raises(DgateError, match="does not answer"):
        ControlClient(tmp_path / "dgate.sock").call("hello")


def test_socket_lives_in_the_base_folder_when_its_path_fits(tmp_path: Path) -> None:
    assert socket_path(tmp_path) == tmp_path / "dgate.sock"


def test_long_base_folder_gets_a_short_private_socket_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    base = tmp_path / ("x" * 100) / ("y" * 100)
    path = socket_path(base)
    server = ControlServer(path, {"hello": lambda arguments: {"hello": "you"}})
    server.start()
    answer = ControlClient(path).call("hello")
    server.stop()

    assert answer == {"hello": "you"}
    assert len(os.fsencode(path)) <= LONGEST_PATH
    assert socket_path(base) == path
    assert socket_path(base / "other") != path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_socket_folder_that_is_open_to_others_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path(tmp_path / ("x" * 200))
    path.parent.mkdir()
    path.parent.chmod(0o777)
    server = ControlServer(path, {})

    with pytest.raises(DgateError, match="open to others"):
        server.start()
    server.stop()


def test_caller_hears_that_a_silent_command_is_at_work(start: Start, tmp_path: Path) -> None:
    """As while the tables of a large index are cleared: else it would give up."""
    may_go_on = threading.Event()

    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        assert may_go_on.wait(60)
        yield {"done": 1}

    start(alive_every_s=0.02, work=work)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(tmp_path / "dgate.sock"))
        connection.sendall(b'{"command": "work"}\n')
        with connection.makefile("rb") as lines:
            heard = [json.loads(next(lines)) for _ in range(3)]
            may_go_on.set()
            rest = [json.loads(line) for line in lines]

    assert heard == [{"alive": True}] * 3
    assert [line for line in rest if "alive" not in line] == [
        {"answer": {"done": 1}},
        {"end": True},
    ]


def test_client_takes_signs_of_life_for_no_answers(start: Start) -> None:
    may_go_on = threading.Event()
    threading.Timer(0.3, may_go_on.set).start()

    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"done": 1}
        assert may_go_on.wait(60)
        yield {"done": 2}

    assert list(start(alive_every_s=0.02, work=work).stream("work")) == [{"done": 1}, {"done": 2}]


def test_caller_that_does_not_read_hinders_nobody(start: Start, tmp_path: Path) -> None:
    """Its buffer is full of signs of life."""
    may_end = threading.Event()

    def work(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        assert may_end.wait(60)
        yield {"done": 1}

    client = start(alive_every_s=0.001, work=work, hello=lambda arguments: {"hello": "you"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(str(tmp_path / "dgate.sock"))
        connection.sendall(b'{"command": "work"}\n')

        assert [client.call("hello") for _ in range(200)] == [{"hello": "you"}] * 200
        may_end.set()
