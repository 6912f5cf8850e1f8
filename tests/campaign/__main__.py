"""One pair in a process of its own: `python -m tests.campaign --folder F --seed N ...`.

Prints a line of JSON after each round, and ends with 1 after a violation. SIGINT and SIGTERM end it
after the round that runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import json
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.campaign.disk import why_not_possible
from tests.campaign.rounds import Tally, run

ROUND_DEADLINE_S = 600.0
"""A round that takes longer hangs: every wait in it is shorter, and they do not add up to that."""


def _plain(tally: Tally) -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(tally)]
    return {name: getattr(tally, name) for name in names}


def _watch() -> None:
    """End with the stacks of all threads when the next round does not end."""
    faulthandler.dump_traceback_later(ROUND_DEADLINE_S, exit=True)


def main() -> int:
    """Run the pair that the command line asks for."""
    parser = argparse.ArgumentParser(prog="tests.campaign")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=0, help="0: until it is stopped")
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--plain", action="store_true", help="no faults of the disk")
    options = parser.parse_args()
    is_stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal is_stopped
        is_stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")

    def goes_on(tally: Tally) -> bool:
        enough = options.rounds and tally.rounds >= options.rounds
        return not (is_stopped or enough or time.monotonic() > end)

    reason = "it was not wanted" if options.plain else why_not_possible(options.folder)
    if reason:
        print(json.dumps({"note": f"no faults of the disk: {reason}"}), flush=True)
    story = Path(f"{options.folder}.story")
    with story.open("a") as file:

        def say(line: str) -> None:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            file.flush()

        def done(tally: Tally) -> None:
            _watch()
            print(json.dumps({"tally": _plain(tally)}), flush=True)

        _watch()
        findings = run(
            options.folder,
            options.seed,
            has_disk=not reason,
            goes_on=goes_on,
            say=say,
            done=done,
        )
        for finding in findings:
            say(f"VIOLATION {finding}")
    if findings:
        print(json.dumps({"violation": findings, "seed": options.seed}), flush=True)
        return 1
    shutil.rmtree(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
