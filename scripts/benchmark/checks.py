"""How long `dgate check` takes from the shell's point of view, with a large set of files."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scripts.benchmark.contestants import Contestant
from tests.acceptance.harness import Gateway
from tests.acceptance.largeini import write_two_thousand_lines
from tests.acceptance.processes import Failed

if TYPE_CHECKING:
    from scripts.benchmark.works import Bench


def check(bench: Bench, _: Contestant) -> Mapping[str, float]:
    """Check two thousand lines, start of the interpreter included."""
    gateway = Gateway.create(bench.stable.new_folder(), bench.stable.ports)
    write_two_thousand_lines(gateway)
    # Once unmeasured: what is measured afterwards is the program, not the first reading of it.
    gateway.command("check", check=False)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    result = gateway.command("check", check=False)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        raise Failed(f"the files should be in order: {result.stdout[-500:]}")
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"time": took, "cpu": spent}
