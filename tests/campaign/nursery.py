"""Starts servers quickly: a process that has loaded dgate's modules and forks for each start.

To load them takes an interpreter a second or so of a processor, and a campaign starts a server some
thousand times. What a fork runs is `dgate serve` as `python -m dgate` runs it, in a process of its
own. Run as a program (`python -m tests.campaign.nursery`) it takes orders as lines of JSON; the
other half of this module gives them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import queue
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tests.acceptance.processes import START_DEADLINE_S, Failed, Process

_LOADED = (
    "dgate.cli.serve",
    "dgate.gateway",
    "dgate.archive.query",
    "dgate.services.storage",
    "dgate.delivery.sender",
)


class Born:
    """A server that was forked, with as much of `subprocess.Popen` as `Process` uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        """Note that it has ended."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("dgate serve", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """The process that forks servers; any thread may ask it."""

    def __init__(self, log: Path) -> None:
        self._lock = threading.Lock()
        self._answers = queue.SimpleQueue[dict[str, Any]]()
        self._born: dict[int, Born] = {}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.campaign.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._read, daemon=True).start()

    def start(self, arguments: Sequence[str], log: Path) -> Born:
        """Start `dgate ARGUMENTS...` with its output in the log file."""
        assert self._process.stdin is not None
        with self._lock:
            order = {"arguments": list(arguments), "log": str(log)}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            try:
                answer = self._answers.get(timeout=START_DEADLINE_S)
            except queue.Empty:
                raise Failed("the nursery does not answer") from None
            return answer["born"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "born" in answer:
                # Before anybody can be told of its end, by the same thread.
                born = self._born[answer["born"]] = Born(answer["born"])
                self._answers.put({"born": born})
            else:
                self._born.pop(answer["ended"]).end(answer["code"])

    def close(self) -> None:
        """End it; servers that it has started must have ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(START_DEADLINE_S)


@dataclass(slots=True)
class ForkedProcess(Process):
    """A server whose first launch is a fresh interpreter, and the others are forks."""

    nursery: Nursery | None = None
    forked: bool = False

    def launch(self) -> None:
        """Start it; output is appended to the log file."""
        if not self.forked or self.nursery is None:
            self.forked = True
            # Not super(): a class with slots is made anew, and super() means the one before.
            Process.launch(self)
            return
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        arguments = list(self.command[list(self.command).index("dgate") + 1 :])
        self.child = self.nursery.start(arguments, self.log)  # type: ignore[assignment]


def main() -> None:
    """Fork as standard input asks for it, until that ends."""
    for name in _LOADED:
        importlib.import_module(name)
    for room in ("archive", "config", "delivery", "dicom", "net", "ops", "rules", "services"):
        package = importlib.import_module(f"dgate.{room}")
        for module in pkgutil.iter_modules(package.__path__):
            # What needs an extra that is not installed would not be loaded by a server either.
            with contextlib.suppress(ImportError):
                importlib.import_module(f"dgate.{room}.{module.name}")
    gc.freeze()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    commands = sys.stdin.buffer.raw  # type: ignore[attr-defined]
    held = b""
    while True:
        ready, _, _ = select.select([commands, reader], [], [])
        if reader in ready:
            os.read(reader, 4096)
            _tell_of_ended()
        if commands in ready:
            piece = commands.read(65536)
            if not piece:
                return
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _become_server(order["arguments"], order["log"])
                _tell({"born": pid})


def _tell(answer: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _tell_of_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _become_server(arguments: list[str], log: str) -> NoReturn:
    code = 70
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.closerange(3, 64)
        sys.argv = ["dgate", *arguments]
        importlib.import_module("dgate.cli.main").main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
