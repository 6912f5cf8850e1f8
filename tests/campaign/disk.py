"""The disk of a gateway under test: the process that runs `fusedisk`, and the commands to it.

One thread uses it at a time, but for `was_cut`, which any may ask.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from tests.acceptance.processes import START_DEADLINE_S, Failed
from tests.campaign.fusedisk import WRITES_LATE
from tests.campaign.volatile import Ordering


class Disk:
    """A mounted file system whose power can be cut."""

    def __init__(
        self, folder: Path, log: Path, seed: int, ordering: Ordering, *, writes_late: bool = False
    ) -> None:
        """`writes_late`: what is written stays with the kernel for a while, so that a failure is
        told later than to who wrote."""
        self.folder = folder
        self.log = log
        self._answers = queue.SimpleQueue[dict[str, Any]]()
        self._cut = threading.Event()
        self._seen = 0
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.campaign.fusedisk"]
        with log.with_suffix(".errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    *command,
                    *(str(folder), str(log), str(seed), ordering.value),
                    *([WRITES_LATE] if writes_late else []),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                # It outlives an interrupt at the terminal; the end of its input ends it.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._next_answer()
        except Failed:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the disk itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unmount it."""
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("event") == "cut":
                self._cut.set()
            else:
                self._answers.put(answer)
        self._answers.put({"error": "the file system ended"})

    def _next_answer(self) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=START_DEADLINE_S)
        except queue.Empty:
            raise Failed("the file system does not answer") from None
        if "error" in answer:
            errors = self.log.with_suffix(".errors").read_text(errors="replace")
            raise Failed(f"the file system: {answer['error']}\n{errors}")
        return answer

    def _tell(self, what: str, **words: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **words}) + "\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise Failed(f"the file system has ended: {exc}") from exc
        return self._next_answer()

    def cut_at(self, at: str, count: int) -> None:
        """Cut the power around the sync ("sync"), or behind the change ("operation"), that comes
        as the one of this number from now on."""
        self._cut.clear()
        self._tell("cut", at=at, count=count)

    def was_cut(self, timeout_s: float = 0.0) -> bool:
        """Tell, after waiting so long for it, whether the power went."""
        return self._cut.wait(timeout_s)

    def cut_now(self) -> None:
        """Cut the power, if it has not gone yet."""
        self._tell("cut now")

    def restore(self) -> str:
        """Come back with what survived the cut, and tell in words what it was.

        Programs that used the disk must have been sent SIGKILL.
        """
        survived = str(self._tell("restore")["survived"])
        self._cut.clear()
        return survived

    def fill(self, room: int, *, honest: bool) -> None:
        """Let files grow by so many bytes in all; `honest`: statvfs tells of it."""
        self._tell("fault", room=room, honest=honest)

    def fail(self, kinds: Iterable[str], chance: float, *, ending: str = "") -> None:
        """Have writes, syncs, changes of names ("name") or reads fail with EIO by chance; all but
        changes of names only in files that were created under a name with this ending."""
        self._tell("fault", failing=list(kinds), chance=chance, ending=ending)

    def heal(self) -> int:
        """End all faults; returns how many requests have failed by them."""
        before, self._seen = self._seen, int(self._tell("fault")["seen"])
        return self._seen - before

    def mark(self, text: str, *, fresh: bool = False) -> dict[str, int]:
        """Write a line into the log, which is begun anew where `fresh`; returns its counters."""
        return self._tell("mark", text=text, fresh=fresh)

    def close(self) -> None:
        """Unmount it and end its process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        # Should it have been killed, the mount is still there.
        ctypes.CDLL(None).umount2(str(self.folder).encode(), 2)


def why_not_possible(folder: Path) -> str:
    """Tell why no such disk can be mounted here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    try:
        with Disk(folder / "probe", folder / "probe.log", 0, Ordering.JOURNAL):
            return ""
    except Failed as failure:
        return str(failure)
