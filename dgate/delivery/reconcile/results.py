"""What came of the last comparison with each node, kept in a file across restarts.

The file lies in the server's own folder, beside what else it remembers, and is written whole: a
crash leaves the results of before or of after. Thread-safe.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dgate.clock import Clock
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.values import Options, in_words, is_equal
from dgate.disk import sync_folder
from dgate.errors import DgateError
from dgate.ops.control import Answer

log = logging.getLogger(__name__)

MOST_NODES = 1000
"""Nodes whose results are kept; the oldest ones go."""
_LATEST = 4102444800.0
"""The year 2100; a time beyond it is none."""
MOST_PARTS = 20
"""Parts that were not compared, told with a result."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a comparison."""

    node: str
    ended: float
    """Seconds since the epoch."""
    text: str
    equal: bool
    """Nothing is left to be done, and all was compared that there is any sign of."""
    began: float = 0.0
    since: str = ""
    until: str = ""
    """The study dates that were compared; empty = from the first, to the last."""
    uncompared: tuple[str, ...] = ()
    """What was not compared, and why."""
    residual: tuple[str, ...] = ()
    """What cannot be asked for, and of which the node has shown nothing."""


def results_file(base_folder: Path) -> Path:
    """Return where the results of a server are kept."""
    return base_folder / "dgate" / "reconciled.json"


class Comparisons:
    """The results, and the comparisons that are under way."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` is the file that keeps results; it is read at once, and need not be there. None
        keeps nothing."""
        self._path = path
        self._lock = threading.Lock()
        """Guards the results and the file."""
        self._results = {} if path is None else _read(path)
        self._asked: list[NodeSide] = []
        """The nodes that are being compared with."""

    def note(self, result: Result) -> None:
        """Keep a result in the place of the one before.

        One that the disk does not take is known until the server ends, which the log says.
        """
        with self._lock:
            self._results.pop(result.node, None)
            self._results[result.node] = result
            while len(self._results) > MOST_NODES:
                del self._results[next(iter(self._results))]
            if self._path is None:
                return
            try:
                _write(self._path, list(self._results.values()))
            except OSError as exc:
                log.warning(
                    "The result of a comparison could not be written down and is forgotten at the "
                    "next start: %s: %s",
                    self._path,
                    exc.strerror or exc,
                )

    def report(self, is_known: Callable[[str], bool] = lambda node: True) -> list[Answer]:
        """Return the results for `dgate status`.

        `is_known` tells whether acrnema.map still has a node; results of others are left out.
        """
        with self._lock:
            found = list(self._results.values())
        return [asdict(each) for each in found if is_known(each.node)]

    def cut(self) -> None:
        """End all comparisons that are under way."""
        with self._lock:
            sides = list(self._asked)
        for side in sides:
            side.cut()

    def watched(
        self, options: Options, answers: Iterator[Answer], clock: Clock, side: NodeSide
    ) -> Iterator[Answer]:
        """Pass the answers of a comparison on, and keep and log what comes of it.

        A single study says nothing about the node, and leaves the last result as it is.
        """
        node, began = options.node, clock.now()
        parts: list[str] = []
        rests: list[str] = []

        def end(text: str, *, equal: bool) -> Result:
            result = Result(
                node,
                clock.now(),
                text,
                equal,
                began,
                options.since,
                options.until,
                tuple(parts),
                tuple(rests),
            )
            # What failed before anybody was asked says nothing about the node.
            if not options.study and side.was_asked:
                self.note(result)
            return result

        with self._lock:
            self._asked.append(side)
        try:
            for answer in answers:
                if answer["kind"] == "warning":
                    log.warning("Comparison with %s: %s", node, answer["text"])
                elif answer["kind"] == "uncompared":
                    log.warning("Comparison with %s: not compared: %s", node, answer["text"])
                    if len(parts) < MOST_PARTS:
                        parts.append(answer["text"])
                elif answer["kind"] == "residual":
                    log.info("Comparison with %s: cannot be asked for: %s", node, answer["text"])
                    if len(rests) < MOST_PARTS:
                        rests.append(answer["text"])
                elif answer["kind"] == "summary":
                    _log(end(in_words(answer), equal=is_equal(answer)))
                yield answer
        except DgateError as exc:
            end(f"failed: {exc}", equal=False)
            raise
        finally:
            with self._lock:
                self._asked.remove(side)


def _log(result: Result) -> None:
    if result.equal:
        log.info("Comparison with %s: %s.", result.node, result.text)
    else:
        log.warning(
            "Comparison with %s: %s. See `dgate reconcile %s`.",
            result.node,
            result.text,
            result.node,
        )


def _read(path: Path) -> dict[str, Result]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        log.warning("The results of comparisons cannot be read: %s: %s", path, exc.strerror or exc)
        return {}
    try:
        found = [_result(each) for each in json.loads(text)]
    except (ValueError, TypeError, RecursionError) as exc:
        log.warning("The results of comparisons in %s are damaged and left out: %s", path, exc)
        return {}
    return {each.node: each for each in found[-MOST_NODES:]}


def _result(values: object) -> Result:
    if not isinstance(values, dict):
        raise TypeError("a result is no object")
    known = {each.name for each in fields(Result)}
    texts_of = {name: values.get(name, ()) for name in ("uncompared", "residual")}
    for name, parts in texts_of.items():
        if not isinstance(parts, list | tuple):
            raise TypeError(f"{name} is no list")
    result = Result(
        **{
            **{name: value for name, value in values.items() if name in known},
            **{name: tuple(str(part) for part in parts) for name, parts in texts_of.items()},
        }
    )
    texts = result.node, result.text, result.since, result.until
    if not all(isinstance(text, str) for text in texts) or not isinstance(result.equal, bool):
        raise TypeError("a value is of another kind than it should be")
    for time in (result.ended, result.began):
        if isinstance(time, bool) or not isinstance(time, int | float):
            raise TypeError("a time is no number")
        if not (math.isfinite(time) and 0 <= time < _LATEST):
            raise ValueError("a time is out of bounds")
    return result


def _write(path: Path, results: list[Result]) -> None:
    fresh = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with fresh.open("w", encoding="utf-8") as file:
        json.dump([asdict(each) for each in results], file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
