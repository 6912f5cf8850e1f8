"""The long form of the campaign: pairs side by side for hours, stopped and resumed at will.

Run by `scripts/campaign`. What was done so far is in `state.json` of its folder; a run on the same
folder goes on from there. The result is a row of `docs/reliability.md`, written every few minutes
and at the end, one for each folder and version of dgate. What a violation leaves is kept beside.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dgate import __version__

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- written by scripts/campaign: begin -->"
END = "<!-- written by scripts/campaign: end -->"
_REPORT_S = 300.0
_NUMBERS = (
    "rounds",
    "sent",
    "acknowledged",
    "refused",
    "delivered",
    "duplicates",
    "repeats",
    "by_hand",
    "set_aside",
    "refused_but_kept",
)


@dataclass(slots=True)
class State:
    """What one campaign did so far, over all its sessions."""

    begun: str
    version: str
    seed: int
    source: str = ""
    """The SHA-256 of what was tried."""
    next_pair: int = 0
    seconds: float = 0.0
    numbers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, seed: int | None) -> State:
        """Read it, or begin a new one; in a folder of another version of dgate likewise, with other
        pairs."""
        source, version = _source(), _version()
        begun = time.strftime("%Y-%m-%d %H:%M")
        if not path.exists():
            seed = secrets.randbelow(1_000_000) if seed is None else seed
            return cls(begun, version, seed, source)
        stored = json.loads(path.read_text())
        for name in ("numbers", "faults"):
            stored[name] = Counter(stored[name])
        state = cls(**stored)
        if state.source == source:
            return state
        if state.begun == begun:
            # Rows are told apart by it.
            begun = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(begun, version, state.seed, source, next_pair=state.next_pair)

    def save(self, path: Path) -> None:
        """Write it such that a crash leaves the old or the new one."""
        text = json.dumps({name: getattr(self, name) for name in self.__slots__}, indent=1)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)

    def add(self, before: dict[str, Any], tally: dict[str, Any]) -> None:
        """Add what a pair did since it told the last time."""
        for name in _NUMBERS:
            self.numbers[name] += tally[name] - before.get(name, 0)
        self.faults.update(Counter(tally["faults"]) - Counter(before.get("faults", {})))


def _version() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    commit = found.stdout.strip()
    return f"{__version__} ({commit})" if commit else __version__


def _source() -> str:
    """Return what tells two states of dgate's source apart, committed or not."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "dgate").rglob("*")):
        if path.suffix in (".py", ".lua", ".sql"):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


_STOP = {"interrupted": True}


class PairProcess:
    """One pair in a process of its own."""

    def __init__(self, folder: Path, seed: int, events: queue.SimpleQueue[Any]) -> None:
        self.folder = folder
        self.seed = seed
        self.before: dict[str, Any] = {}
        command = [sys.executable, "-m", "tests.campaign", "--folder", str(folder)]
        self._process = subprocess.Popen(
            [*command, "--seed", str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # An interrupt at the terminal reaches us only, who pass it on once.
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def _read(self, events: queue.SimpleQueue[Any]) -> None:
        assert self._process.stdout is not None
        strange = []
        for line in self._process.stdout:
            try:
                events.put((self, json.loads(line)))
            except ValueError:
                strange.append(line)
        code = self._process.wait()
        events.put((self, {"ended": code, "output": "".join(strange)[-4000:]}))

    def stop(self) -> None:
        """Have it end after the round that runs."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)


class Campaign:
    """Keeps so many pairs running until there is enough."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._folder: Path = options.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / "state.json"
        self._state = State.load(self._path, options.seed)
        self._events = queue.SimpleQueue[Any]()
        self._running = set[PairProcess]()
        self._is_stopping = False
        self._rounds_before = self._state.numbers["rounds"]
        self._seconds_before = self._state.seconds

    def run(self) -> int:
        """Run it; returns 1 after a violation."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self._events.put((None, _STOP)))
        state = self._state
        print(f"campaign {state.begun} in {self._folder}, seed {state.seed}", flush=True)
        begun, reported = time.monotonic(), 0.0
        found = len(state.violations)
        for _ in range(self._options.parallel):
            self._start()
        while self._running:
            pair, event = self._next_event()
            state.seconds = self._seconds_before + time.monotonic() - begun
            if pair is not None:
                self._take(pair, event)
            if event.get("interrupted") or self._is_enough(time.monotonic() - begun):
                self._stop()
            if time.monotonic() - reported > _REPORT_S:
                reported = time.monotonic()
                self._report()
        self._report()
        return int(len(state.violations) > found)

    def _next_event(self) -> tuple[PairProcess | None, dict[str, Any]]:
        try:
            return self._events.get(timeout=_REPORT_S)
        except queue.Empty:
            # A round has deadlines for all that it waits for, so one of them is near.
            return None, {"waiting": True}

    def _is_enough(self, seconds: float) -> bool:
        rounds = self._state.numbers["rounds"] - self._rounds_before
        options = self._options
        return bool(
            (options.rounds and rounds >= options.rounds)
            or (options.minutes and seconds >= options.minutes * 60)
        )

    def _start(self) -> None:
        number = self._state.next_pair
        self._state.next_pair += 1
        # Far apart, so that no two pairs of neighbouring campaigns are the same.
        seed = self._state.seed * 10_000 + number
        self._running.add(PairProcess(self._folder / f"pair{number}", seed, self._events))

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            print("stopping after the rounds that run", flush=True)
            for pair in self._running:
                pair.stop()

    def _take(self, pair: PairProcess, event: dict[str, Any]) -> None:
        state = self._state
        if "tally" in event:
            state.add(pair.before, event["tally"])
            pair.before = event["tally"]
            if state.numbers["rounds"] % 50 == 0:
                print(self._progress(), flush=True)
        elif "violation" in event:
            said = "; ".join(event["violation"][:3])
            state.violations.append(f"seed {pair.seed}: {said}")
            print(f"VIOLATION, seed {pair.seed}:", *event["violation"], sep="\n  ", flush=True)
        elif "note" in event:
            print(event["note"], flush=True)
        elif "ended" in event:
            self._running.discard(pair)
            if event["ended"] not in (0, 1) or event["output"]:
                state.violations.append(f"seed {pair.seed}: the pair ended: {event}")
                print(f"a pair ended with {event}", flush=True)
            if event["ended"] and not self._is_stopping:
                self._start()
        state.save(self._path)

    def _progress(self) -> str:
        numbers = self._state.numbers
        return (
            f"{time.strftime('%H:%M:%S')} {numbers['rounds']} rounds, {numbers['acknowledged']} "
            f"objects acknowledged, {len(self._state.violations)} violations"
        )

    def _report(self) -> None:
        print(self._progress(), flush=True)
        self._state.save(self._path)
        if self._options.page and self._state.numbers["rounds"]:
            write_row(self._options.page, self._state)


def row_of(state: State) -> str:
    """Return the row of the table for a campaign."""
    numbers = state.numbers
    faults = ", ".join(f"{kind} {count:,}" for kind, count in sorted(state.faults.items()))
    cells = [
        state.begun,
        state.version,
        f"{state.seconds / 3600:.1f}",
        *(f"{numbers[name]:,}" for name in ("rounds", "sent", "acknowledged", "delivered")),
        *(f"{numbers[name]:,}" for name in ("duplicates", "refused_but_kept", "by_hand")),
        str(len(state.violations)),
        faults,
    ]
    return "| " + " | ".join(cells) + " |"


def write_row(page: Path, state: State) -> None:
    """Put the campaign's row into the page, in place of its earlier one."""
    text = page.read_text()
    head, rest = text.split(BEGIN)
    table, tail = rest.split(END)
    kept = [
        line
        for line in table.strip("\n").splitlines()
        if not re.match(rf"\| {re.escape(state.begun)} \|", line)
    ]
    lines = "\n".join([*kept, row_of(state)])
    page.write_text(f"{head}{BEGIN}\n{lines}\n{END}{tail}")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="scripts/campaign",
        description="Breaks a gateway, its disk, its network and its destinations at random, and "
        "checks after each round that nothing acknowledged was lost. Ctrl-C ends it after the "
        "rounds that run; on the same folder it goes on. The result goes into docs/reliability.md.",
    )
    place = Path(tempfile.gettempdir()) / "dgate-campaign"
    parser.add_argument("--folder", type=Path, default=place, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=0, help="stop after so many more rounds")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so much time")
    parser.add_argument("--parallel", type=int, default=2, help="pairs side by side (default 2)")
    parser.add_argument("--seed", type=int, help="for a new folder; by default a random one")
    parser.add_argument(
        "--page", type=Path, default=PAGE, help="where the result goes (default: %(default)s)"
    )
    return Campaign(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
