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

START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 20.0
TOOL_DEADLINE_S = 180.0

_POLL_S = 0.01


class Failed(AssertionError):
    """A program did not do what the harness asked of it."""


def wait_until(condition: Callable[[], object], what: str, *, deadline_s: float = 30.0) -> None:
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


@dataclass(slots=True)
class Ports:
    """Hands out ports below the range that the system uses for outgoing connections."""

    _next: int = field(default_factory=lambda: 20_000 + os.getpid() * 97 % 12_000)

    def take(self) -> int:
        """Return a port that nobody listens on."""
        for _ in range(12_000):
            port = self._next
            self._next = 20_000 + (self._next + 1 - 20_000) % 12_000
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind(("", port))
                    return port
        raise Failed("no free port")


@dataclass(slots=True)
class Process:
    """A child process with its output in a file."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    child: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it; output is appended to the log file."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
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
        """Return what it printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


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
