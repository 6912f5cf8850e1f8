"""Measures `dgate reconcile`: a large archive compared with a node that lacks a few objects.

The command opens the archive itself, so that its time and its peak of memory are those of the
comparison and of nothing else. The files of the objects do not exist: nothing looks at them.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from scripts.benchmark.finds import accession, patient_id, patient_name
from scripts.benchmark.fullindex import fill_studies
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import run_dcmtk
from tests.acceptance.processes import Failed

if TYPE_CHECKING:
    from scripts.benchmark.contestants import Contestant
    from scripts.benchmark.works import Bench, Measured

STUDIES = 5000
PER_STUDY = 40
LARGE = 200_000
"""Objects of a single study of one series."""
EVERY = 5000
"""So few objects are missing: one of these."""
_PER_DAY = 5
_FIRST_DAY = datetime.date(2023, 1, 1)
COMPARE_UNITS = {"time": "s", "memory": "MB peak", "questions": "C-FIND questions", "cpu": "s CPU"}
# A process counts what the one had in memory that started it: a small one has to.
_MEASURED = """
import json, resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""


class _Run(NamedTuple):
    time_s: float
    cpu_s: float
    memory_mb: float
    answers: list[dict[str, object]]


def compare_archives(bench: Bench, _: Contestant) -> Measured:
    """Compare 5,000 studies with 200,000 objects."""
    return _compare(bench, STUDIES, PER_STUDY)


def compare_study(bench: Bench, _: Contestant) -> Measured:
    """Compare one study of 200,000 objects, and a small one."""
    return _compare(bench, 1, LARGE)


def _compare(bench: Bench, studies: int, per_study: int) -> Mapping[str, float]:
    peer = Node("PEER", bench.stable.ports.take())
    gateway = Gateway.create(bench.stable.new_folder(), bench.stable.ports, nodes=[peer])
    gateway.start()
    run_dcmtk("storescu", "127.0.0.1", str(gateway.port), bench.small.items[0].path)
    gateway.stop()
    day: Callable[[int], str] = lambda number: (  # noqa: E731
        f"{_FIRST_DAY + datetime.timedelta(days=number // _PER_DAY):%Y%m%d}"
    )
    values = {
        "PatientID": patient_id,
        "PatientNam": patient_name,
        "AccessionN": accession,
        "StudyDate": day,
        "StudyTime": lambda number: f"{8 + number % 12:02d}{number % 60:02d}00",
    }
    fill_studies(gateway.database, studies, per_study, values)
    with _archive(gateway, peer.port) as stop:
        run = _run(gateway)
        questions = stop()
    missing = (studies * per_study + 1) // EVERY
    summary = run.answers[-1]
    if summary["missing_there"] != missing or summary["uncompared"] or summary["failed"]:
        raise Failed(f"{missing} objects are missing there, and it was said: {summary}")
    return {
        "time": run.time_s,
        "memory": run.memory_mb,
        "questions": questions,
        "cpu": run.cpu_s,
    }


def _run(gateway: Gateway) -> _Run:
    command = [sys.executable, "-m", "dgate", "reconcile", "PEER", "--json"]
    begin = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command, "-c", str(gateway.folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    taken_s = time.perf_counter() - begin
    *lines, used = result.stdout.splitlines()
    status, peak_kib, cpu_s = json.loads(used)
    if status not in (0, 1):
        raise Failed(f"the comparison failed: {lines[-1:]}")
    answers = [json.loads(line) for line in lines if line.startswith("{")]
    return _Run(taken_s, cpu_s, peak_kib / 1024, answers)


@contextmanager
def _archive(gateway: Gateway, port: int) -> Iterator[Callable[[], int]]:
    """Serve the node; yields what ends it and returns how many questions it was asked."""
    module = [sys.executable, "-m", "scripts.benchmark.archivepeer"]
    command = [*module, str(port), str(gateway.database), str(EVERY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise Failed("the node did not start")

        def stop() -> int:
            process.terminate()
            assert process.stdout is not None
            return int(process.stdout.readline())

        try:
            yield stop
        finally:
            process.terminate()
