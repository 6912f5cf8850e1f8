"""The console that listens elsewhere."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dgate.ops import console as module
from dgate.ops.console import LONGEST_LINE_BYTES, MOST_WAITING, UdpConsole, console_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 1111)),
        (" console.example ", ("console.example", 1111)),
        ("console:2222", ("console", 2222)),
        ("[::1]:2222", ("::1", 2222)),
        ("::1", ("::1", 1111)),
        ("", None),
        ("\\\\.\\pipe\\MicroPACSStatus", None),
        ("/tmp/pipe", None),
    ],
)
def test_address_is_understood(text: str, address: tuple[str, int] | None) -> None:
    assert console_address(text) == address


@pytest.mark.parametrize("text", ["host:", "host:x", "host:0", "host:65536", "a b", "host/x"])
def test_other_text_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        console_address(text)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(60)
        yield made


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("dgate", logging.INFO, "", 0, text, (), None)


def test_each_line_is_one_datagram(listener: socket.socket) -> None:
    handler = UdpConsole("127.0.0.1", listener.getsockname()[1])
    handler.emit(record("first"))
    handler.emit(record("second\nthird"))
    handler.close()

    assert [listener.recv(2000) for _ in range(3)] == [b"first\n", b"second\n", b"third\n"]


def test_long_line_is_cut_to_a_packet(listener: socket.socket) -> None:
    handler = UdpConsole("127.0.0.1", listener.getsockname()[1])
    handler.emit(record("x" * 100_000))
    handler.close()

    assert len(listener.recv(200_000)) == LONGEST_LINE_BYTES + 1


def test_nobody_listening_is_no_trouble() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    handler = UdpConsole("127.0.0.1", port)
    for _ in range(10):
        handler.emit(record("line"))
    handler.close()


def test_slow_name_service_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(*arguments: object, **options: object) -> object:
        asked.set()
        answer.wait(120)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(module.socket, "getaddrinfo", slow)
    handler = UdpConsole("nowhere.example", 1111)
    handler.emit(record("line"))
    assert asked.wait(60)
    started = time.monotonic()
    for _ in range(2 * MOST_WAITING):
        handler.emit(record("line"))
    took = time.monotonic() - started
    answer.set()
    handler.close()

    # Not as long as the name service takes.
    assert took < 60
    assert caplog.text.count("nowhere.example is not known") == 1
