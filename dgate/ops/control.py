"""The control socket: JSON lines between the running server and commands on the same machine.

Access is decided by the file permissions of an AF_UNIX socket, so there is no login and nothing
reachable from a network. Not for what the commands do: they are given as a mapping. The server
owns one accepting thread and one short-lived thread per caller; `ControlServer.stop` joins them
all.

One connection carries one request, `{"command": NAME, "arguments": {...}}`, and its answers: any
number of `{"answer": {...}}`, then `{"end": true}` or `{"error": {"what": ..., "where": ...,
"remedy": ...}}`. While a command works and says nothing, `{"alive": true}` comes now and then, so
that a caller can tell long work from a server that has gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import selectors
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dgate.errors import DgateError

log = logging.getLogger(__name__)

Answer = dict[str, Any]
Command = Callable[[Answer], Iterator[Answer] | Answer]

SOCKET_NAME = "dgate.sock"
LONGEST_PATH = 107
"""Bytes of a socket path that every Unix accepts (Linux: 108 with the final NUL)."""
LONGEST_REQUEST = 1 << 22
MOST_CALLERS = 16
REQUEST_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
ALIVE_EVERY_S = 10.0
"""A caller hears something so often; it gives up after six times as long."""
_ALIVE = b'{"alive": true}\n'


def socket_path(base_folder: Path) -> Path:
    """Return where the control socket of a base folder belongs.

    Normally inside the folder itself; when that path is too long for a socket, a short one in a
    private folder under the run or temporary directory, always the same for the same base folder.
    """
    wanted = base_folder.resolve() / SOCKET_NAME
    if len(os.fsencode(wanted)) <= LONGEST_PATH:
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted.parent)).hexdigest()[:16]
    run = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    name = f"{digest}.sock"
    short = Path(run) / f"dgate-{os.getuid()}" / name
    if len(os.fsencode(short)) > LONGEST_PATH:
        short = Path("/tmp") / f"dgate-{os.getuid()}" / name
    return short


class ControlServer:
    """Answers the commands of one running server.

    Owned by the thread that calls `start` and `stop`. A command runs in its caller's own thread
    and may be running twice at once; it returns one answer, or an iterator of answers for long
    work. A caller that goes away closes the iterator.
    """

    def __init__(
        self,
        path: Path,
        commands: Mapping[str, Command],
        *,
        alive_every_s: float = ALIVE_EVERY_S,
    ) -> None:
        self.path = path
        self._commands = commands
        self._alive_every_s = alive_every_s
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._callers_lock = threading.Lock()
        self._callers: dict[threading.Thread, _Caller] = {}

    def start(self) -> None:
        """Listen.

        The caller holds the lock of the base folder, so a socket file found here is a dead one's.
        """
        self._prepare_folder()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(self.path))
            # Nobody can connect before listen(), so the mode is never wider than this for anyone.
            self.path.chmod(0o600)
            listener.listen(MOST_CALLERS)
        except OSError as exc:
            listener.close()
            raise DgateError(
                f"cannot open the control socket: {exc.strerror or exc}",
                where=str(self.path),
                remedy="the folder must be writable for the server",
            ) from exc
        listener.setblocking(False)
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, name="control", daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close the socket, drop callers still listening, join all threads; safe to call twice."""
        if self._accepting is not None:
            self._wake_writer.send(b"x")
            self._accepting.join()
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self.path.unlink(missing_ok=True)
        with self._callers_lock:
            callers = dict(self._callers)
        for caller in callers.values():
            with contextlib.suppress(OSError):  # The caller may have gone already.
                caller.connection.shutdown(socket.SHUT_RDWR)
        for thread in callers:
            # A command that neither ends nor answers must not keep the server from stopping.
            thread.join(STOP_TIMEOUT_S)
        self._wake_reader.close()
        self._wake_writer.close()

    def _prepare_folder(self) -> None:
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.name == f"dgate-{os.getuid()}":
            found = folder.lstat()
            # A folder that somebody else made under the public temporary directory must not be
            # trusted.
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if not ours or found.st_mode & 0o077:
                raise DgateError(
                    "the control socket's folder belongs to somebody else or is open to others",
                    where=str(folder),
                    remedy="remove it",
                )
        if self.path.is_socket():
            self.path.unlink()

    def _accept(self) -> None:
        assert self._listener is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            while True:
                pause_s = self._alive_every_s if self._callers else None
                ready = {key.fileobj for key, _ in selector.select(pause_s)}
                if self._wake_reader in ready:
                    return
                with self._callers_lock:
                    callers = list(self._callers.values())
                for caller in callers:
                    caller.keep_alive(self._alive_every_s)
                if not ready:
                    continue
                with contextlib.suppress(OSError):  # A caller that left before it was accepted.
                    connection, _ = self._listener.accept()
                    self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_TIMEOUT_S)
        caller = _Caller(connection)
        thread = threading.Thread(
            target=self._serve, args=(caller,), name="control-caller", daemon=True
        )
        with self._callers_lock:
            if len(self._callers) >= MOST_CALLERS:
                connection.close()
                return
            self._callers[thread] = caller
        thread.start()

    def _serve(self, caller: _Caller) -> None:
        connection = caller.connection
        try:
            with connection, connection.makefile("rb") as stream:
                line = stream.readline(LONGEST_REQUEST)
                connection.settimeout(WRITE_TIMEOUT_S)
                with caller.answering():
                    for message in self._answers(line):
                        caller.send(json.dumps(message, default=str).encode() + b"\n")
        except OSError as exc:
            log.debug("A caller of the control socket left before its answer was complete: %s", exc)
        finally:
            with self._callers_lock:
                self._callers.pop(threading.current_thread(), None)

    def _answers(self, line: bytes) -> Iterator[Answer]:
        """Yield every message for one request line; errors become the last message."""
        try:
            name, arguments = _parse_request(line)
            command = self._commands.get(name)
            if command is None:
                raise DgateError(f"the server does not know the command {name!r}")
            result = command(arguments)
            if isinstance(result, dict):
                yield {"answer": result}
            else:
                yield from _wrapped(result)
            yield {"end": True}
        except DgateError as exc:
            yield {"error": {"what": exc.what, "where": exc.where, "remedy": exc.remedy}}
        except Exception:
            # The request's thread ends here; the server and its objects are not touched by a
            # failing command.
            log.exception("A command of the control socket failed unexpectedly.")
            yield {"error": {"what": "the server failed unexpectedly; its log has the details"}}


class _Caller:
    """A connection that is written by the thread of its command, and by the accepting thread while
    that one is silent."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        """Held by whoever writes."""
        self._is_waiting = False
        self._heard = 0.0

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Let `keep_alive` write meanwhile."""
        self._heard = time.monotonic()
        self._is_waiting = True
        try:
            yield
        finally:
            with self._lock:
                self._is_waiting = False

    def send(self, line: bytes) -> None:
        """Send a line; raises OSError when the caller has left."""
        with self._lock:
            self.connection.sendall(line)
            self._heard = time.monotonic()

    def keep_alive(self, every_s: float) -> None:
        """Send a sign of life if the last line was long ago; never waits and never raises."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            # Half: two looks may lie a little less than the whole apart.
            if self._is_waiting and now - self._heard >= every_s / 2:
                self._heard = now
                # Past the time-out of the socket object, which would wait: a full buffer means that
                # the caller has enough to read.
                os.write(self.connection.fileno(), _ALIVE)
        except OSError as exc:
            log.debug("A caller of the control socket was given no sign of life: %s", exc)
        finally:
            self._lock.release()


class ControlClient:
    """Asks the running server.

    Each call is a connection of its own, so any thread may use one client.
    """

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def is_served(self) -> bool:
        """Tell whether a server listens; a busy one does."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout_s)
                connection.connect(os.fspath(self._path))
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False
        return True

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        """Run a command to its end and return its last answer (empty when it gave none).

        Raises DgateError with the server's own words when the command fails, or when there is no
        server.
        """
        last: Answer = {}
        for answer in self.stream(name, arguments):
            last = answer
        return last

    def stream(self, name: str, arguments: Mapping[str, Any] | None = None) -> Iterator[Answer]:
        """Run a command and yield its answers as they come.

        Closing the iterator drops the connection.
        """
        request = json.dumps({"command": name, "arguments": dict(arguments or {})}, default=str)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout_s)
                connection.connect(os.fspath(self._path))
                connection.sendall(request.encode() + b"\n")
                with connection.makefile("rb") as stream:
                    yield from _read_answers(stream)
        except OSError as exc:
            raise DgateError(
                f"the running server does not answer: {exc.strerror or exc}",
                where=str(self._path),
                remedy="look into the server's log, or restart it",
            ) from exc


def _read_answers(lines: Iterable[bytes]) -> Iterator[Answer]:
    for line in lines:
        message = json.loads(line)
        if "answer" in message:
            yield message["answer"]
        elif "alive" in message:
            continue
        elif "error" in message:
            error = message["error"]
            raise DgateError(
                error["what"], where=error.get("where", ""), remedy=error.get("remedy", "")
            )
        else:
            return
    raise ConnectionError("the connection ended before the answer was complete")


def _parse_request(line: bytes) -> tuple[str, Answer]:
    try:
        request = json.loads(line)
        name, arguments = request["command"], request.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DgateError("the request cannot be read") from exc
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise DgateError("the request cannot be read")
    return name, arguments


def _wrapped(answers: Iterator[Answer]) -> Iterator[Answer]:
    try:
        for answer in answers:
            yield {"answer": answer}
    finally:
        # A caller that left must end the command's own work, not leave it suspended.
        if isinstance(answers, Generator):
            answers.close()
