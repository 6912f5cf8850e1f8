"""Programs of the operating system, started without a shell (rulings.md 11).

How a statement's text becomes arguments: `dgate.rules.statements.commands`. Any thread may run one
and waits for it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dgate.errors import RuleError

log = logging.getLogger(__name__)

LONGEST_OUTPUT = 16 << 10
"""Bytes of a program's output that are logged."""
_READ_BYTES = 1 << 16
_REMEDY = "set AllowSystemCommands = 1 if rules may start programs"


class SystemPrograms:
    """Runs programs, where the configuration allows it."""

    def __init__(self, *, allowed: bool, timeout_s: float, folder: Path) -> None:
        """Programs run in `folder`, and are killed after `timeout_s`, with what they started."""
        self._allowed = allowed
        self._timeout_s = timeout_s
        self._folder = folder

    def run(self, arguments: Sequence[str]) -> int:
        """Run a program, wait for it, log what it says, and return its exit status.

        Its standard input is empty. A negative status is the signal that ended it.

        Raises:
            RuleError: `AllowSystemCommands` is not 1, the program cannot be started, or it was
                killed because it did not end in time.
        """
        if not self._allowed:
            raise RuleError("programs are switched off", remedy=_REMEDY)
        if not arguments or not arguments[0]:
            raise RuleError("the name of the program is empty")
        name = Path(arguments[0]).name
        try:
            child = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise RuleError(
                f"the program {arguments[0][:200]!r} cannot be started: {reason}",
                remedy="check its name, its folder and its permissions",
            ) from exc
        try:
            output = self._wait(child, name)
        finally:
            if child.stdout is not None:
                child.stdout.close()
        _report(name, child.returncode, output)
        return child.returncode

    def _wait(self, child: subprocess.Popen[bytes], name: str) -> bytes:
        """Return the beginning of the output of a program that has ended.

        What it started and left behind may keep its output open; nobody waits for that.
        """
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        os.set_blocking(pipe, False)
        deadline = time.monotonic() + self._timeout_s
        output = bytearray()
        ended = os.pidfd_open(child.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(ended, selectors.EVENT_READ)
                selector.register(pipe, selectors.EVENT_READ)
                listening = True
                while child.poll() is None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise self._killed(name)
                    selector.select(left)
                    if listening and not _take(pipe, output):
                        selector.unregister(pipe)
                        listening = False
            while len(output) < LONGEST_OUTPUT and _take(pipe, output, wanted=True):
                pass
        finally:
            os.close(ended)
            _kill(child)
        return bytes(output)

    def _killed(self, name: str) -> RuleError:
        return RuleError(
            f"the program {name[:200]!r} was killed: it did not end within "
            f"{self._timeout_s:g} seconds",
            remedy="have it do its work in the background, or raise SystemTimeout",
        )


def _take(pipe: int, output: bytearray, *, wanted: bool = False) -> bool:
    """Read once and keep what there is room for; False at the end of the output, or, where more
    is `wanted`, when there is nothing now.
    """
    try:
        chunk = os.read(pipe, _READ_BYTES)
    except BlockingIOError:
        return not wanted
    output += chunk[: LONGEST_OUTPUT - len(output)]
    return bool(chunk)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with all that it started in its session."""
    if child.poll() is not None:
        return
    with suppress(ProcessLookupError):
        # It may have ended just now.
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _report(name: str, status: int, output: bytes) -> None:
    level = logging.WARNING if status else logging.INFO
    text = output.decode("utf-8", "backslashreplace").strip()
    said = f", and said: {text}" if text else ""
    log.log(level, "The program %s ended with status %d%s", name, status, said)
