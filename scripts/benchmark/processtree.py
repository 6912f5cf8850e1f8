"""CPU time and memory of a server with all its child processes, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end while its process is looked at; its children are then another's.
        with suppress(FileNotFoundError):
            for child in (thread / "children").read_text().split():
                yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the tree has used."""
    return sum(_cpu_ticks(one) for one in tree(pid)) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of the tree."""
    return sum(_status_bytes(one, "VmRSS") for one in tree(pid))


def peak_bytes(pid: int) -> int:
    """Return the sum of the tree's peaks of resident memory since the last reset."""
    return sum(_status_bytes(one, "VmHWM") for one in tree(pid))


def reset_peak(pid: int) -> None:
    """Make the peaks start again from what is resident now."""
    for one in tree(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def _cpu_ticks(pid: int) -> int:
    # The name in parentheses may hold blanks; the fields after it do not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0
