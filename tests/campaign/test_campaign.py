"""The short form of the campaign: two pairs of gateway and destinations, 26 rounds each.

Nothing here is bounded by time: a round ends when all is delivered, and a slow machine only makes
it longer. The seeds are printed; `python -m tests.campaign --folder F --seed N` runs one again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SEEDS = (20261122, 20261123)
ROUNDS = 26
NEEDED = ("kill", "restart", "sink killed", "dcmtk killed", "refused", "sender hung up behind")
NEEDED_OF_DISK = ("power", "full", "eio", "requests failed by the disk")


def test_nothing_acknowledged_is_lost_in_fifty_rounds_of_faults(tmp_path: Path) -> None:
    print(f"seeds {SEEDS}")
    pairs = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.campaign", "--folder", str(tmp_path / str(seed))),
                *("--seed", str(seed), "--rounds", str(ROUNDS)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in SEEDS
    ]
    faults = Counter[str]()
    notes = set[str]()
    rounds = acknowledged = duplicates = 0
    for seed, pair in zip(SEEDS, pairs, strict=True):
        output, _ = pair.communicate()
        story = (tmp_path / f"{seed}.story").read_text()
        assert pair.returncode == 0, f"seed {seed}:\n{output[-8000:]}\n{story[-4000:]}"
        tallies = [json.loads(line) for line in output.splitlines()]
        notes |= {each["note"] for each in tallies if "note" in each}
        last = next(each["tally"] for each in reversed(tallies) if "tally" in each)
        rounds += last["rounds"]
        acknowledged += last["acknowledged"]
        duplicates += last["duplicates"]
        faults.update(last["faults"])
    print(f"{rounds} rounds, {acknowledged} acknowledged, {duplicates} duplicates, {dict(faults)}")
    assert rounds >= 50
    # The harm was really done.
    assert acknowledged > 500
    assert [kind for kind in NEEDED if not faults[kind]] == []
    assert sum(faults[kind] for kind in ("cut", "cut inside", "stalled", "late", "away")) > 0
    assert sum(faults[f"sender {kind}"] for kind in ("cut", "cut inside", "stalled", "late")) > 0
    if notes:
        # Nothing was lost, but the half of it was not tried, and that is no pass.
        pytest.xfail("; ".join(notes))
    assert [kind for kind in NEEDED_OF_DISK if not faults[kind]] == []
