"""`scripts/bench --rules`: what rules, Lua and de-identification cost, as a table.

CPU time of the one thread that works; nothing is started beside it. Each cost is measured in
rounds one after the other, its median is what counts.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dgate.dicom.deidentify import Clean, Profile, Retain
from scripts.benchmark import report
from scripts.benchmark.rulestages import Measure, Rounds, Stages, pixel_loop_ms
from scripts.benchmark.slices import slices_per_second

BEGIN = "<!-- written by scripts/bench --rules: begin -->"
END = "<!-- written by scripts/bench --rules: end -->"
ROUNDS = 9

_SETTING = (
    'ifequal "%m", "CT"; { set InstitutionName to "Site A"; set 0018,1030 if "%V0008,103e"; }'
)
_LUA = (
    "local name, id, modality, rows, station = Data.PatientName, Data.PatientID, Data.Modality, "
    "Data.Rows, Data.StationName "
    "if modality == 'CT' then Data.InstitutionName = 'Site A' Data.PatientComments = id .. rows end"
)
_ROUTING = 'ifequal "%m", "CT"; forward to ARCHIVE org GATE'
_ELSEWHERE = {"modality": "MR", "calling": "OTHER*"}
_ELSE_TEST = 'ifequal "%m", "MR"; reject'


@dataclass(frozen=True, slots=True)
class Cost:
    """One thing that is measured."""

    title: str
    measure: Measure
    unit: str = "us an object"
    bound: float | None = None
    """At most; with `is_rate` at least. None: there is none."""
    is_rate: bool = False

    def is_met(self, median: float) -> bool:
        """Tell whether a median is within the bound."""
        assert self.bound is not None, "nobody asks where there is none"
        return median >= self.bound if self.is_rate else median <= self.bound

    def row(self, found: Rounds) -> str:
        """Return the line of the table."""
        median = statistics.median(found)
        cells = [self.title, f"{_shown(median)} {self.unit}"]
        cells.append(f"{_shown(min(found))} to {_shown(max(found))}")
        if self.bound is None:
            cells += ["", ""]
        else:
            side = "at least" if self.is_rate else "at most"
            cells.append(f"{side} {self.bound:g} {self.unit}")
            cells.append("met" if self.is_met(median) else "**missed**")
        return f"| {' | '.join(cells)} |"


def costs() -> tuple[Cost, ...]:
    """Return what is measured, with the bounds of the issue."""
    stages = Stages()
    dates = frozenset((Retain.MODIFIED_DATES,))
    words = frozenset((Clean.DESCRIPTORS,))
    slices = "slices/s"
    loop = "`Data:GetPixel(x, y)` and `Data:SetPixel(x, y, 0, v)` of a 512x512 image in Lua"
    return (
        Cost(f"scan of an object of {len(stages.data):,} bytes, for comparison", stages.scan()),
        Cost("import line of three statements: a test and two sets", stages.importing(_SETTING),
             bound=300),
        Cost("the same, with the changed object put together",
             stages.importing(_SETTING, written=True), bound=300),
        Cost("Lua hook that reads five elements and sets two", stages.importing(_LUA, lua=True),
             bound=500),
        Cost("import line whose filter does not match", stages.importing(_SETTING, **_ELSEWHERE),
             bound=50),
        Cost("ten of them", stages.importing(*[_SETTING] * 10, **_ELSEWHERE), bound=50),
        Cost("import line whose test does not match", stages.importing(_ELSE_TEST), bound=50),
        Cost("ten of them", stages.importing(*[_ELSE_TEST] * 10), bound=50),
        Cost("Lua line behind a test that does not match",
             stages.importing('ifequal "%m", "MR"; lua "destroy()"'), bound=50),
        Cost("export line whose filter does not match", stages.exporting(_ROUTING, **_ELSEWHERE),
             bound=50),
        Cost("export line: a test and a forward", stages.exporting(_ROUTING)),
        Cost("export line that is put off until delivery", stages.exporting("call nobody")),
        Cost(loop, pixel_loop_ms, "ms", bound=200),
        Cost("basic profile, 249 header elements and 529 kB, pixels copied",
             slices_per_second(Profile()), slices, bound=300, is_rate=True),
        Cost("the same with shifted dates", slices_per_second(Profile(retain=dates)), slices),
        Cost("the same with cleaned descriptors", slices_per_second(Profile(clean=words)), slices),
    )  # fmt: skip


def run(rounds: int, command: Sequence[str], page: Path | None) -> int:
    """Measure and print the table; return 1 when a bound was missed.

    Args:
        page: where to put the table as well, between the marks.
    """
    load = os.getloadavg()[0]
    rows = ["| work | median | least to most | bound | |", "|---|---|---|---|---|"]
    failures = []
    for cost in costs():
        found = cost.measure(rounds)
        rows.append(cost.row(found))
        print(rows[-1], flush=True)
        if cost.bound is not None and not cost.is_met(statistics.median(found)):
            failures.append(cost.title)
    text = "\n".join([*report.machine_facts(command, load), "", *rows])
    if page is not None:
        report.write(page, text, BEGIN, END)
        print(f"\nWritten to {page.relative_to(report.ROOT)}.")
    for title in failures:
        print(f"MISSED: {title}", file=sys.stderr)
    return 1 if failures else 0


def _shown(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
