"""Measures `dgate regen`: the index of a large folder rebuilt from nothing, without a server.

The files are made once for all rounds; between rounds only the database is removed. Wall time is
that of the command as a whole; CPU time is that of all its processes, and so holds on a busy
machine too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.acceptance.harness import Gateway
from tests.acceptance.processes import Failed, Process
from tests.generate import Kind, Plan, write_files

if TYPE_CHECKING:
    from scripts.benchmark.contestants import Contestant
    from scripts.benchmark.works import Bench

FILES = 100_000
FOLDERS = 100
RATE = 3000
"""Files per second that are to be reached."""
REGEN_UNITS = {
    "time": "s",
    "rate": "files/s",
    "cpu": "us CPU per file",
    "memory": "MB, largest process",
}


def regen(bench: Bench, _: Contestant) -> Mapping[str, float]:
    """Rebuild the index of 100,000 files of 4 kB."""
    gateway = _archive(bench)
    for path in gateway.database.parent.glob(f"{gateway.database.name}*"):
        path.unlink()
    # What the making of the files left to be written must not be counted.
    os.sync()
    command = [sys.executable, "-m", "dgate", "regen", "--json", "-c", str(gateway.folder)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        # Of this child with its own; what all children used would have those of other works in it.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    taken_s = time.perf_counter() - begin
    summary = json.loads(output.splitlines()[-1])
    if process.returncode != 0 or summary["entered"] != FILES:
        raise Failed(f"regen entered {summary['entered']} of {FILES} files:\n{output}")
    cpu_s = used.ru_utime + used.ru_stime
    return {
        "time": taken_s,
        "rate": FILES / taken_s,
        "cpu": cpu_s / FILES * 1e6,
        "memory": used.ru_maxrss / 1024,
    }


def _archive(bench: Bench) -> Gateway:
    """Return a configured folder full of files, made at the first call; nothing is started."""
    folder = bench.small.folder.parent.parent / "regen"
    if folder.exists():
        return Gateway(folder, 0, Process([], folder.parent / "regen.log", {}))
    gateway = Gateway.create(folder, bench.stable.ports)
    for number in range(FOLDERS):
        part = folder / "data" / "old" / f"{number:03d}"
        write_files(part, Plan(FILES // FOLDERS, Kind.SMALL, seed=2000 + number))
    return gateway
