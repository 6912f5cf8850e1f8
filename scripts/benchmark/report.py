"""Turns measurements into the table of docs/benchmarks.md."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dgate import __version__
from scripts.benchmark.contestants import Contestant
from scripts.benchmark.works import Bound, Measured, Work
from tests.acceptance.processes import find_program

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN = "<!-- written by scripts/bench: begin -->"
END = "<!-- written by scripts/bench: end -->"


@dataclass(slots=True)
class Results:
    """What was measured of one work."""

    work: Work
    rounds: dict[Contestant, list[Measured]] = field(default_factory=dict)

    def add(self, who: Contestant, measured: Measured) -> None:
        """Add one round's result."""
        self.rounds.setdefault(who, []).append(measured)

    def values(self, who: Contestant, metric: str) -> list[float]:
        """Return one metric of one contestant over all rounds."""
        return [measured[metric] for measured in self.rounds[who]]

    def median(self, who: Contestant, metric: str = "time") -> float:
        """Return its median."""
        return statistics.median(self.values(who, metric))

    def reached(self, bound: Bound) -> float:
        """Return what a bound is compared with: a ratio of medians, or a median."""
        own = self.median(bound.who, bound.metric)
        return own / self.median(bound.against, bound.metric) if bound.against else own


def describe_round(work: Work, who: Contestant, measured: Measured) -> str:
    """Return one line for the terminal."""
    values = ", ".join(f"{measured[name]:.2f} {unit}" for name, unit in work.units.items())
    return f"{work.name:14} {who.value:33} {values}"


def tables(results: Sequence[Results]) -> str:
    """Return both tables: bounds first, then every median with its spread."""
    return "\n".join([*_bounds_table(results), "", *_medians_table(results)])


def missed(results: Iterable[Results]) -> list[str]:
    """Return a sentence for every bound that was not met."""
    return [
        f"{one.work.title}: {one.reached(bound):.2f} instead of at most {bound.limit:g}"
        for one in results
        for bound in one.work.bounds
        if one.reached(bound) > bound.limit
    ]


def _bounds_table(results: Sequence[Results]) -> list[str]:
    lines = ["| work | dgate | compared with | reached | bound | |", "|---|---|---|---|---|---|"]
    for one in results:
        for bound in one.work.bounds:
            unit = one.work.units[bound.metric]
            own = f"{_round(one.median(bound.who, bound.metric))} {unit}"
            if bound.against:
                other_s = _round(one.median(bound.against, bound.metric))
                other = f"{bound.against.value}: {other_s} {unit}"
                reached, limit = f"{one.reached(bound):.2f} x", f"{bound.limit:g} x"
            else:
                other, reached, limit = "", own, f"{bound.limit:g} {unit}"
            title = one.work.title
            if bound.who is Contestant.DGATE_NONE:
                title += ", `Durability = none`"
            verdict = "met" if one.reached(bound) <= bound.limit else "**missed**"
            lines.append(f"| {title} | {own} | {other} | {reached} | {limit} | {verdict} |")
    return lines


def _medians_table(results: Sequence[Results]) -> list[str]:
    lines = ["| work | server | median | least to most | rounds |", "|---|---|---|---|---|"]
    for one in results:
        for who in one.work.contestants:
            for metric, unit in one.work.units.items():
                values = one.values(who, metric)
                spread = f"{_round(min(values))} to {_round(max(values))}"
                median = _round(statistics.median(values))
                cells = (one.work.title, who.value, f"{median} {unit}", spread, str(len(values)))
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def _round(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def machine_facts(command: Sequence[str], load_before: float) -> list[str]:
    """Return what one must know to judge numbers of this program alone, as lines of a list."""
    now = datetime.datetime.now(datetime.UTC)
    return [
        f"- date: {now:%Y-%m-%d}",
        f"- command: `{' '.join(command)}`",
        f"- machine: {_machine()}; load average before the start {load_before:.1f}",
        f"- system: {_os_name()}, Linux {platform.release()}",
        f"- dgate: {__version__} ({_commit()}), Python {platform.python_version()}",
    ]


def facts(command: Sequence[str], folder: Path, taken_s: float, load_before: float) -> str:
    """Return what one must know to judge the numbers."""
    now = datetime.datetime.now(datetime.UTC)
    lines = [
        ("date", f"{now:%Y-%m-%d}, {taken_s / 60:.0f} minutes"),
        ("command", f"`{' '.join(command)}`"),
        ("machine", f"{_machine()}; load average before the start {load_before:.1f}"),
        ("system", f"{_os_name()}, Linux {platform.release()}"),
        ("servers' folders on", _file_system(folder)),
        ("dgate", f"{__version__} ({_commit()}), Python {platform.python_version()}"),
        ("DCMTK", _first_line("storescp", "--version")),
        ("Orthanc", _first_line("Orthanc", "--version")),
    ]
    return "\n".join(f"- {name}: {text}" for name, text in lines)


def _machine() -> str:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    name = model[1] if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GB memory"


def _os_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")


def _file_system(folder: Path) -> str:
    output = subprocess.run(
        ["df", "--output=fstype", str(folder)], capture_output=True, text=True, check=True
    )
    return output.stdout.split()[-1]


def _commit() -> str:
    output = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return output.stdout.strip() or "no commit"


def _first_line(program: str, option: str) -> str:
    output = subprocess.run(
        [find_program(program), option], capture_output=True, text=True, check=False
    )
    return (output.stdout or output.stderr).splitlines()[0].strip("$ ")


def write(path: Path, text: str, begin: str = BEGIN, end_mark: str = END) -> None:
    """Replace a generated part of the page, between its marks; the rest stays."""
    page = path.read_text()
    start, end = page.index(begin) + len(begin), page.index(end_mark)
    path.write_text(f"{page[:start]}\n\n{text}\n\n{page[end:]}")
