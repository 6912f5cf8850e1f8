"""Changes the configuration of a running gateway: reads, checks, builds, puts into effect, tells.

Part of the composition root. Everything that can fail comes before the new generation takes
effect, by the one assignment in `Gateway`; when anything does, the old one goes on and the log says
why. Any thread may reload or roll back; one does so at a time.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dgate.clock import Clock
from dgate.config.difference import Waiting, differences, held_back
from dgate.config.history import History
from dgate.config.model import Configuration
from dgate.config.problem import Problem, Severity
from dgate.config.reload import Stamps, looks_when_read, lost, read_whole, stamps_of
from dgate.config.settings import load
from dgate.config.store import settle
from dgate.errors import ConfigError, DgateError
from dgate.inspection import blocking, inspect
from dgate.ops.control import Answer, Command
from dgate.rules.hooks import Rules

log = logging.getLogger(__name__)

FILE_CHANGE = "file change"
_SWITCH_S = 0.0001
_NOTHING = "only comments or the layout of the files"

PutIntoEffect = Callable[[Configuration, Rules], None]
"""Builds a generation and lets it count; raises DgateError, and nothing has changed then."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of one reload."""

    applied: bool
    changes: list[str] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """Why it was not applied."""
    took_s: float = 0.0
    """From the first look at the files until the new set counted."""

    def as_dict(self) -> Answer:
        """Return it for the control socket."""
        return {
            "applied": self.applied,
            "changes": self.changes,
            "waiting": [waiting.line for waiting in self.waiting],
            "reasons": self.reasons,
            "took_ms": round(self.took_s * 1000, 1),
        }


class Reloader:
    """Keeps a gateway's configuration up to date with its files."""

    def __init__(
        self,
        configuration: Configuration,
        rules: Rules,
        put_into_effect: PutIntoEffect,
        clock: Clock,
    ) -> None:
        """`configuration` is what the gateway was started with, `rules` those made of it."""
        self._path = configuration.settings.ini_path
        self._put_into_effect = put_into_effect
        self._clock = clock
        self._history = History(configuration.settings.base_folder)
        self._usual_switch_s = sys.getswitchinterval()
        self._turn = threading.Lock()
        """Held by the thread that changes the configuration or its files."""
        self._read = configuration
        """The set that counts, as it was read."""
        self._running = configuration
        """The same with what waits for a restart as it was."""
        self._waiting: list[Waiting] = []
        self._refused: list[str] = []
        self._places = rules.script_places
        self._warned: set[tuple[str, str]] = set()
        self._seen = looks_when_read(configuration) | stamps_of(self._places)

    def seen(self) -> Stamps:
        """Return the files that count, with what they looked like when they were last read."""
        return self._seen

    def note_start(self) -> None:
        """Enter the set of the start into the history."""
        with self._turn:
            self._record("start", [])

    def check_files(self) -> None:
        """Reload if the files are other than when they were last read."""
        with self._turn, self._gently():
            if stamps_of(self._seen) != self._seen:
                self._reload(FILE_CHANGE)

    def reload(self, why: str) -> Reloaded:
        """Read the files and put them into effect, or keep the old set and say why."""
        with self._turn, self._gently():
            return self._reload(why)

    def rollback(self, number: int, why: str) -> Reloaded:
        """Write the files of an earlier set back and put them into effect.

        A set that cannot be put into effect is taken back. Raises ConfigError, and no file has
        changed then: there is no such set, it has errors today, or a file cannot be written.
        """
        with self._turn, self._gently():
            check_set(self._history, self._path, number)
            written = self._history.write_back(number)
            reloaded = self._reload(why, may_lose=True)
            if not reloaded.applied:
                self._history.take_back(written)
                self._seen = stamps_of(self._seen)
            return reloaded

    def state(self) -> Answer:
        """Return what `dgate status` shows of the configuration."""
        sets = self._history.sets()
        return {
            "set": sets[0].number if sets else None,
            "waiting_for_restart": [waiting.name for waiting in self._waiting],
            "refused": self._refused,
        }

    def commands(self) -> dict[str, Command]:
        """Return what the control socket offers."""

        def reload(arguments: Answer) -> Answer:
            return self.reload(_by("dgate config reload", arguments)).as_dict()

        def rollback(arguments: Answer) -> Answer:
            number = arguments.get("number")
            if not isinstance(number, int):
                raise DgateError("the number of a set is needed")
            return self.rollback(number, _by(f"rollback to {number}", arguments)).as_dict()

        return {"reload": reload, "rollback": rollback}

    @contextmanager
    def _gently(self) -> Iterator[None]:
        """Let association threads take the interpreter sooner than usual while this one computes.

        One that stores an object gives the interpreter up some thirty times, for each disk or
        network call, and would wait five milliseconds each time to have it back.
        """
        sys.setswitchinterval(_SWITCH_S)
        try:
            yield
        finally:
            sys.setswitchinterval(self._usual_switch_s)

    # With the turn.

    def _reload(self, why: str, *, may_lose: bool = False) -> Reloaded:
        started = time.perf_counter()
        places, seen_before = self._places, self._seen
        try:
            # Half of what a killed command was about to write must not be taken for a set.
            settle(self._path.parent)
            wanted, stamps = read_whole(self._path, self._read)
            self._seen = stamps | stamps_of(places)
            rules = Rules.build(wanted.settings)
            self._seen = stamps | stamps_of(places | rules.script_places)
            problems = inspect(wanted, rules)
            if not may_lose:
                problems = [*problems, *lost(self._read, wanted)]
            errors = [str(problem) for problem in blocking(problems, rules)]
            if errors:
                return self._refuse(why, errors)
            merged, waiting = held_back(self._running, wanted)
            self._put_into_effect(merged, rules)
        except DgateError as exc:
            self._seen = stamps_of(self._seen)
            return self._refuse(why, [str(exc)])
        except Exception as exc:
            # Whatever it was, it came before the new set took effect: the old one goes on.
            log.exception("The changed configuration could not be used.")
            return self._refuse(why, [f"unexpected error: {exc}"])
        took_s = time.perf_counter() - started
        changes = differences(self._read, wanted)
        is_other = wanted.contents != self._read.contents
        if is_other and not changes:
            changes = [_NOTHING]
        changes += [
            f"{place.name}: the script was read again"
            for place in sorted(rules.script_places)
            if seen_before.get(place) != self._seen.get(place)
        ]
        self._tell(why, problems, changes, waiting, took_s)
        self._read, self._running = wanted, merged
        self._waiting, self._refused, self._places = waiting, [], rules.script_places
        if is_other:
            self._record(why, changes)
        return Reloaded(True, changes, waiting, [], took_s)

    def _refuse(self, why: str, reasons: list[str]) -> Reloaded:
        self._refused = reasons
        for reason in reasons:
            log.error("%s", reason)
        log.error(
            "The configuration was not changed (%s): the files have %d error(s), and the server "
            "goes on with the set that it has.",
            why,
            len(reasons),
        )
        return Reloaded(False, reasons=reasons)

    def _tell(
        self,
        why: str,
        problems: Iterable[Problem],
        changes: list[str],
        waiting: list[Waiting],
        took_s: float,
    ) -> None:
        warnings = [problem for problem in problems if problem.severity is not Severity.INFO]
        for problem in warnings:
            if (problem.path, problem.message) not in self._warned:
                is_error = problem.severity is Severity.ERROR
                log.log(logging.ERROR if is_error else logging.WARNING, "%s", problem)
        self._warned = {(problem.path, problem.message) for problem in warnings}
        for line in changes:
            log.info("Changed: %s", line)
        for held in waiting:
            log.warning("%s.", held.line)
        log.info(
            "The configuration was changed (%s) in %.0f ms: %d change(s).",
            why,
            took_s * 1000,
            len(changes),
        )

    def _record(self, why: str, changes: list[str]) -> None:
        try:
            self._history.record(self._read, why, changes, self._clock.now())
        except ConfigError as exc:
            # The set counts all the same; only the way back to it is missing.
            log.warning("%s", exc)


def check_set(history: History, ini_path: Path, number: int) -> None:
    """Raise ConfigError unless the files of an earlier set could be put into effect now."""
    files = history.files(number)
    wanted = load(ini_path, files)
    rules = Rules.build(wanted.settings)
    errors = [str(problem) for problem in blocking(inspect(wanted, rules), rules)]
    if errors:
        raise ConfigError(
            f"set {number} has errors today, so no file was changed: {'; '.join(errors)}",
            where=str(history.folder),
            remedy="choose another set, or mend what it needs",
        )


def _by(what: str, arguments: Answer) -> str:
    """Name who asked for it, as far as the command knew."""
    who = str(arguments.get("who") or "")[:64]
    return f"{what} by {who}" if who else what
