"""Feed generated rule lines to the parser for as long as one likes.

`python -m scripts.fuzz_rules --seed 7 --lines 1000000` prints the first line that does harm, or
that takes longer than `--most-ms` of CPU time, and exits with 1. With `--whole-way` each line also
runs as a converter of every kind over objects that are odd. Tests run a short form.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from dgate.rules.compile import Library
from tests.rules import fuzzing, wholepath
from tests.rules.test_fuzz import DIALECTS, RUN_EVERY, attempt

_FRESH_LIBRARY = 10_000
"""A library keeps what it has compiled: after so many lines another one is taken."""


def main() -> int:
    """Return 0 when every line passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--most-ms", type=float, default=2000.0)
    parser.add_argument(
        "--whole-way", action="store_true", help="Run every line (100 times slower)."
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"seed {options.seed}, {options.lines} lines")
    library = Library({}, [])
    folder = tempfile.TemporaryDirectory()
    site, subjects = wholepath.Site(Path(folder.name)), wholepath.objects()
    slowest = 0.0
    for number, text in enumerate(fuzzing.lines(options.seed, options.lines)):
        if number % _FRESH_LIBRARY == 0:
            library = Library({}, [])
        started = time.process_time()
        try:
            attempt(text, DIALECTS[number % 4], library, run=number % RUN_EVERY == 0)
            if options.whole_way:
                subject = subjects[number % len(subjects)]
                wholepath.run_everywhere(text, site, subject, lenient=number % 2 == 0)
        except Exception as exc:
            print(f"line {number}: {exc!r}\n{text!r}")
            return 1
        took = 1000 * (time.process_time() - started)
        if took > options.most_ms:
            print(f"line {number} took {took:.0f} ms\n{text[:2000]!r}")
            return 1
        slowest = max(slowest, took)
    print(f"all passed; the slowest took {slowest:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
