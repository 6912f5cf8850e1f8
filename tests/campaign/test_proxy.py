"""The link that can be broken: what gets through, and what not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.acceptance.processes import wait_until
from tests.campaign.proxy import Proxy


class Echo:
    """Sends back what it gets."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(65536):
                    self.received += len(piece)
                    connection.sendall(piece)
            except OSError:
                return

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Return a running echo."""
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Proxy]:
    """Return a link to the echo."""
    link = Proxy(echo.port)
    yield link
    link.close()


def connect(link: Proxy) -> socket.socket:
    """Connect through the link."""
    return socket.create_connection(("127.0.0.1", link.port), 60)


def is_broken(connection: socket.socket) -> bool:
    """Tell whether the connection has ended, after waiting for it."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_get_through_both_ways(link: Proxy) -> None:
    with connect(link) as connection:
        connection.sendall(b"x" * 300_000)
        connection.shutdown(socket.SHUT_WR)
        assert sum(map(len, iter(lambda: connection.recv(65536), b""))) == 300_000


def test_cut_breaks_what_is_open_and_nothing_else(link: Proxy) -> None:
    with connect(link) as connection:
        connection.sendall(b"1")
        assert connection.recv(1) == b"1"
        link.cut()
        assert is_broken(connection)
    assert link.cuts == 1
    with connect(link) as connection:
        connection.sendall(b"2")
        assert connection.recv(1) == b"2"


def test_cut_after_so_many_bytes(link: Proxy, echo: Echo) -> None:
    link.cut_after(3)
    assert not link.is_whole()
    with connect(link) as connection:
        connection.sendall(b"1")
        assert connection.recv(1) == b"1"
        connection.sendall(b"23")
        # An answer may still have come back.
        while not is_broken(connection):
            pass
    assert link.is_whole()


def test_held_bytes_come_later(link: Proxy, echo: Echo) -> None:
    link.hold()
    with connect(link) as connection:
        connection.sendall(b"1")
        assert echo.received == 0
        link.resume()
        assert connection.recv(1) == b"1"


def test_held_answers_let_requests_through(link: Proxy, echo: Echo) -> None:
    with connect(link) as connection:
        link.hold(answers_only=True)
        connection.sendall(b"1")
        wait_until(lambda: echo.received == 1, "the request")
        link.resume()
        assert connection.recv(1) == b"1"


def test_link_that_is_away_breaks_whoever_comes(link: Proxy) -> None:
    link.take_down()
    with connect(link) as connection:
        assert is_broken(connection)
    link.resume()
    with connect(link) as connection:
        connection.sendall(b"1")
        assert connection.recv(1) == b"1"
