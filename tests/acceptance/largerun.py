"""Send objects of more than 4 GiB through two real servers and compare what comes back.

`python -m tests.acceptance.largerun --gib 4.02` stores an object of each kind in one server, which
forwards it to another, fetches it from both by C-GET, and prints times and the memory that the
server has taken meanwhile. Exits with 1 when something differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.largeobject import (
    GIB,
    KINDS,
    SC,
    Checksum,
    Large,
    checksum_of,
    memory_of,
)
from tests.acceptance.processes import Ports, wait_until
from tests.acceptance.rawdicom import EXPLICIT_LE, STUDY_ROOT_GET, Offer, RawAssociation

_DEADLINE_S = 3600.0
MOST_GROWTH_BYTES = 64 << 20
"""More memory than this is not constant any more."""


def main() -> int:
    """Run as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4.02, help="size of each object")
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--folder", type=Path, help="where the servers keep their files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        farm = Farm(Path(folder), Ports())
        try:
            faults = run(farm, options.kinds, int(options.gib * GIB))
        finally:
            farm.close()
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def run(farm: Farm, kinds: list[str], size: int, *, deadline_s: float = _DEADLINE_S) -> list[str]:
    """Send an object of each kind; return what was wrong."""
    second = farm.gateway("second", settings={"MyACRNema": "SECOND"})
    rules = {"ExportConverters": 1, "ExportConverter0": "forward to SECOND"}
    first = farm.gateway("first", settings=rules, nodes=[Node("SECOND", second.port)])
    faults: list[str] = []
    for number, kind in enumerate(kinds, 1):
        large = KINDS[kind](size)
        wanted = checksum_of(large.pieces())
        before = {each.folder.name: memory_of(each.process.pid) for each in (first, second)}
        began = time.monotonic()
        status = store(first, large)
        tell(kind, "stored", large.size, began)
        if status:
            faults.append(f"{kind}: status {status:04X}")
            continue
        for gateway in (first, second):
            wait_until(
                partial(has_stored, gateway, number),
                f"{kind} at {gateway.folder.name}",
                deadline_s=deadline_s,
            )
            began = time.monotonic()
            if fetch(gateway, large) != wanted:
                faults.append(f"{kind}: {gateway.folder.name} gives something else")
            tell(kind, f"fetched from {gateway.folder.name}", large.size, began)
            grown = memory_of(gateway.process.pid) - before[gateway.folder.name]
            print(f"{kind}: {gateway.folder.name} has taken {grown >> 20} MiB of memory")
            if grown > MOST_GROWTH_BYTES:
                faults.append(f"{kind}: {gateway.folder.name} took {grown >> 20} MiB of memory")
    return faults


def has_stored(gateway: Gateway, count: int) -> bool:
    """Tell whether a server has so many objects."""
    return len(gateway.stored_files()) == count


def store(gateway: Gateway, large: Large) -> int:
    """Send an object; return the status."""
    offers = [Offer(SC, (large.syntax,))]
    with RawAssociation.open(gateway.port, offers, timeout_s=_DEADLINE_S) as association:
        return association.store(SC, large.sop_instance, large.pieces()).status


def fetch(gateway: Gateway, large: Large) -> Checksum:
    """Fetch an object by C-GET; return the checksum of what came."""
    found = Checksum()
    offers = [Offer(SC, (large.syntax,), scp_role=True), Offer(STUDY_ROOT_GET, (EXPLICIT_LE,))]
    with RawAssociation.open(gateway.port, offers, timeout_s=_DEADLINE_S) as association:
        association.on_data = found.add
        association.get(
            {
                0x00080018: large.sop_instance,
                0x00080052: "IMAGE",
                0x0020000D: "2.25.10",
                0x0020000E: "2.25.11",
            }
        )
    return found


def tell(kind: str, what: str, size: int, began: float) -> None:
    """Print how long something took."""
    took = time.monotonic() - began
    print(
        f"{kind}: {size:,} bytes {what} in {took:.1f} s, {size / took / 1e6:.0f} MB/s", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
