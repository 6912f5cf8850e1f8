"""Child processes, free ports and waiting for a condition: what the harness is built from.

Nothing here waits by sleeping for a guessed time: a program is ready when it answers, a result is
there when its condition holds, and each wait has a deadline that fails with the program's own log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_DEADLINE_S = 120.0
STOP_DEADLINE_S = 120.0
TOOL_DEADLINE_S = 300.0
WAIT_DEADLINE_S = 120.0
"""Only a failing test takes as long as any of these, on a machine with much else to do, too."""

_POLL_S = 0.01


class Failed(AssertionError):
    """A program did not do what the harness asked of it."""


def wait_until(
    condition: Callable[[], object], what: str, *, deadline_s: float = WAIT_DEADLINE_S
) -> None:
    """Return as soon as the condition holds; raise Failed when it does not in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"waited {deadline_s:g} s in vain: {what}")
        time.sleep(_POLL_S)


def find_program(name: str) -> str:
    """Return the path of a program that must be installed; Debian keeps Orthanc in /usr/sbin."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise Failed(f"{name} is not installed; scripts/test installs what the tests need")
    return found


def peer_environment() -> dict[str, str]:
    """Return the environment of DCMTK and Orthanc, which are slow without TCP_NODELAY."""
    return {**os.environ, "TCP_NODELAY": "1", "LC_ALL": "C.UTF-8"}


def files_below(folder: Path) -> list[Path]:
    """Return what is no folder below a folder, in order, while others may change it."""
    # Path.rglob fails when a folder goes while it is being read.
    return sorted(Path(at) / name for at, _, names in os.walk(folder) for name in names)


@dataclass(slots=True)
class Ports:
    """Hands out ports, and keeps each from everybody else until it is closed.

    A port is kept by a socket that is bound and does not listen: connections to it are refused,
    the system uses it for no outgoing connection, another `Ports` (of a test run beside this one)
    cannot bind it, and a server, which binds with SO_REUSEADDR, can.
    """

    _next: int = field(default_factory=lambda: 20_000 + os.getpid() * 97 % 12_000)
    _kept: list[socket.socket] = field(default_factory=list)

    def take(self) -> int:
        """Return a port that nobody has."""
        for _ in range(12_000):
            port = self._next
            self._next = 20_000 + (self._next + 1 - 20_000) % 12_000
            keeper = socket.socket()
            try:
                keeper.bind(("", port))
            except OSError:
                keeper.close()
                continue
            # Only now: the others' sockets that merely keep a port would not have hindered it.
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.append(keeper)
            return port
        raise Failed("no free port")

    def close(self) -> None:
        """Give the ports back."""
        while self._kept:
            self._kept.pop().close()


@dataclass(slots=True)
class Process:
    """A child process with its output in a file."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    child: subprocess.Popen[bytes] | None = None
    _begin: int = 0
    """Where the output of this launch begins in the file."""

    def launch(self) -> None:
        """Start it; output is appended to the log file."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.environment),
                start_new_session=True,
            )

    def wait_ready(self, is_ready: Callable[[], bool], deadline_s: float) -> None:
        """Wait until it answers; raise Failed with its output when it ends or takes too long."""
        end = time.monotonic() + deadline_s
        while not is_ready():
            if self.running.poll() is not None:
                raise Failed(
                    f"{self.command[0]} ended with {self.running.returncode}:\n{self.text()}"
                )
            if time.monotonic() > end:
                raise Failed(f"{self.command[0]} did not get ready:\n{self.text()}")
            time.sleep(_POLL_S)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """Return the child, which must have been started."""
        if self.child is None:
            raise Failed(f"{self.command[0]} was not started")
        return self.child

    @property
    def pid(self) -> int:
        """Return the process ID."""
        return self.running.pid

    def end(self, signal_number: int = signal.SIGTERM) -> int:
        """Signal it, wait, and return its exit code; kills and fails when it does not stop."""
        child = self.running
        if child.poll() is None:
            child.send_signal(signal_number)
        try:
            return child.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.command[0]} did not stop:\n{self.text()}") from None
        finally:
            # Its own children too, such as those that storescp forks; the group is ours alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def text(self) -> str:
        """Return what it printed so far, in all its launches."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def has_said(self, words: str) -> bool:
        """Tell whether it has printed these words since it was launched last."""
        with self.log.open("rb") as output:
            output.seek(self._begin)
            return words.encode() in output.read()

    def open_files(self) -> set[Path]:
        """Return what it and its children have open at the moment."""
        processes = [str(self.pid)]
        for process in processes:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{process}/task/{process}/children").read_text()
                processes += children.split()
        found = set[Path]()
        for process in processes:
            # It may end, or close a file, while it is looked at.
            with contextlib.suppress(OSError):
                for entry in os.scandir(f"/proc/{process}/fd"):
                    with contextlib.suppress(OSError):
                        found.add(Path(os.readlink(entry.path)))  # noqa: PTH115 (a name, no path)
        return found


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    check: bool,
    deadline_s: float = TOOL_DEADLINE_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with both its outputs in one text."""
    result = subprocess.run(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=deadline_s,
        check=False,
    )
    if check and result.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}")
    return result
