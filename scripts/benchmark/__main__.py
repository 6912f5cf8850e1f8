"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.benchmark import report, rulecosts
from scripts.benchmark.contestants import Stable
from scripts.benchmark.loads import CT, SMALL, Huge, Load, write_queries
from scripts.benchmark.report import ROOT, Results
from scripts.benchmark.works import WORKS, Bench, Work
from tests.acceptance.processes import Ports

PAGE = ROOT / "docs" / "benchmarks.md"
BUSY = 0.5
EPILOG = "Works: " + ", ".join(work.name for work in WORKS)


def main() -> int:
    """Measure, print the tables, and return 1 when a bound was missed."""
    options = parse(sys.argv[1:])
    if options.rules:
        page = PAGE if options.write else None
        return rulecosts.run(options.rounds, ["scripts/bench", *sys.argv[1:]], page)
    works = [work for work in WORKS if not options.only or work.name in options.only]
    folder = Path(tempfile.mkdtemp(prefix="dgate-bench-", dir=options.folder))
    begin = time.monotonic()
    load_before = os.getloadavg()[0]
    if load_before > BUSY:
        print(
            f"The machine is busy (load {load_before:.1f}): expect a wide spread.", file=sys.stderr
        )
    try:
        results = measure(works, options.rounds, folder)
        taken_s = time.monotonic() - begin
        facts = report.facts(["scripts/bench", *sys.argv[1:]], folder, taken_s, load_before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = f"{facts}\n\n{report.tables(results)}"
    print(f"\n{text}")
    if options.write:
        report.write(PAGE, text)
        print(f"\nWritten to {PAGE.relative_to(ROOT)}.")
    failures = report.missed(results)
    for sentence in failures:
        print(f"MISSED: {sentence}", file=sys.stderr)
    return 1 if failures else 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure dgate beside DCMTK's storescp and Orthanc, in interleaved rounds, "
        "each on fresh and empty servers.",
        epilog=EPILOG,
    )
    parser.add_argument("--rounds", type=int, help="how often each is measured (5; --rules: 9)")
    parser.add_argument(
        "--rules",
        action="store_true",
        help="measure what rules, Lua and de-identification cost, without any server",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[work.name for work in WORKS],
        help="measure this work only; may be repeated",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the servers keep their data (the system's temporary folder)",
    )
    parser.add_argument(
        "--write", action="store_true", help="write the tables to docs/benchmarks.md"
    )
    options = parser.parse_args(words)
    if options.rules and options.only:
        parser.error("--rules and --only exclude each other")
    if options.rounds is None:
        options.rounds = rulecosts.ROUNDS if options.rules else 5
    if options.write and options.only:
        parser.error("--write needs all works: it replaces the whole table")
    return options


def measure(works: Sequence[Work], rounds: int, folder: Path) -> list[Results]:
    """Run every work round by round, so that a change of the machine's mood meets everybody."""
    print("Making the data ...", flush=True)
    small, ct = Load.make(folder / "small", SMALL), Load.make(folder / "ct", CT)
    queries = write_queries(folder / "queries", small.items, 200)
    bench = Bench(Stable(folder, Ports()), small, ct, queries, Huge())
    results = [Results(work) for work in works]
    for number in range(rounds):
        for one in results:
            if number >= one.work.most_rounds:
                continue
            contestants = one.work.contestants
            # Each round begins with another one: none always runs on a warm or a tired disk.
            turn = number % len(contestants)
            for who in contestants[turn:] + contestants[:turn]:
                measured = one.work.run(bench, who)
                one.add(who, measured)
                line = report.describe_round(one.work, who, measured)
                print(f"round {number + 1}/{rounds}  {line}", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
