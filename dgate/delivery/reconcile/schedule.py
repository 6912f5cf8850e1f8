"""Comparisons with other archives at the times that their node sections name.

Not for what a comparison does (`dgate.delivery.reconcile.comparison`). One thread waits for the
next time, and starts another for each node whose time has come: a node that hangs holds up no
other. A time that passes while no server runs is left out.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from dgate.clock import Clock
from dgate.config.node_settings import NodeSettings, Span
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.values import Options, in_words
from dgate.delivery.reconcile.windows import DAY, text_of
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3600.0
"""So long at most nobody looks at the clock, which may have been set."""
TROUBLE_PAUSE_S = 60.0
"""So long nothing begins after an unexpected error."""
_JOIN_S = 10.0
_WEEK = 8
"""Days in which every time of a week comes."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the last comparison with a node."""

    node: str
    ended: float
    """Seconds since the epoch."""
    text: str
    is_equal: bool


class Comparisons:
    """The results of this server's life, for `dgate status`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[str, Result] = {}
        self._asked: list[NodeSide] = []
        """The nodes that are being compared with."""

    def note(self, result: Result) -> None:
        """Keep a result in the place of the one before."""
        with self._lock:
            self._results[result.node] = result

    def report(self) -> list[Answer]:
        """Return the results for `dgate status`."""
        with self._lock:
            found = list(self._results.values())
        return [
            {"node": each.node, "ended": each.ended, "text": each.text, "equal": each.is_equal}
            for each in found
        ]

    def cut(self) -> None:
        """End all comparisons that are under way."""
        with self._lock:
            sides = list(self._asked)
        for side in sides:
            side.cut()

    def watched(
        self, node: str, answers: Iterator[Answer], clock: Clock, side: NodeSide
    ) -> Iterator[Answer]:
        """Pass the answers of a comparison on, and keep and log what comes of it."""
        with self._lock:
            self._asked.append(side)
        try:
            for answer in answers:
                if answer["kind"] == "warning":
                    log.warning("Comparison with %s: %s", node, answer["text"])
                if answer["kind"] == "summary":
                    self._conclude(node, answer, clock)
                yield answer
        except DgateError as exc:
            self.note(Result(node, clock.now(), f"failed: {exc}", False))
            raise
        finally:
            with self._lock:
                self._asked.remove(side)

    def _conclude(self, node: str, summary: Answer, clock: Clock) -> None:
        is_equal = not (summary["left"] or summary["failed"])
        text = in_words(summary)
        self.note(Result(node, clock.now(), text, is_equal))
        if is_equal:
            log.info("Comparison with %s: %s.", node, text)
        else:
            log.warning("Comparison with %s: %s. See `dgate reconcile %s`.", node, text, node)


Compare = Callable[[Options, NodeSide], Iterator[Answer]]
"""Compares the archive with a node; raises DgateError."""


class ReconcileSchedule:
    """Compares at the times that are set."""

    def __init__(
        self,
        nodes: Callable[[], Mapping[str, NodeSettings]],
        make_side: Callable[[str], NodeSide],
        compare: Compare,
        clock: Clock,
        cut_all: Callable[[], None] = lambda: None,
    ) -> None:
        """`nodes` returns the settings of every node of acrnema.map, by its title. `cut_all` ends,
        when the server stops, what commands compare."""
        self._cut_all = cut_all
        self._nodes = nodes
        self._make_side = make_side
        self._compare = compare
        self._clock = clock
        self._signal = threading.Condition()
        """Guards the rest."""
        self._stopping = False
        self._changed = False
        """Settings may be others than those that the thread has looked at."""
        self._running: dict[str, tuple[threading.Thread, NodeSide]] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to wait."""
        # From now on: what comes while the thread begins is not left out.
        args = (self._now(),)
        thread = threading.Thread(target=self._wait, args=args, name="reconcile", daemon=True)
        thread.start()
        self._thread = thread

    def apply(self, generation: object) -> None:
        """Go by changed settings; what is under way ends as it began."""
        with self._signal:
            self._changed = True
            self._signal.notify()

    def stop(self) -> None:
        """End, cutting short what is under way; safe to call twice."""
        with self._signal:
            self._stopping = True
            self._signal.notify()
            running = list(self._running.values())
        for _, side in running:
            side.cut()
        self._cut_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for thread, _ in running:
            thread.join(_JOIN_S)

    def _wait(self, seen: datetime.datetime) -> None:
        """Wait for times after `seen`; the outermost function of the thread."""
        while True:
            with self._signal:
                self._changed = False
            try:
                seen, pause = self._look(seen)
            except Exception:
                # The thread must live: without it nothing is compared until a restart.
                log.exception("Looking for comparisons that are due failed unexpectedly.")
                pause = TROUBLE_PAUSE_S
            with self._signal:
                self._signal.wait_for(lambda: self._stopping or self._changed, pause)
                if self._stopping:
                    return

    def _look(self, seen: datetime.datetime) -> tuple[datetime.datetime, float]:
        """Begin what has become due after `seen`; return what is seen now, and how long to wait."""
        nodes = {title: node for title, node in self._nodes().items() if node.reconcile}
        now = self._now()
        # A clock that was set back would have everything come again.
        seen = min(seen, now)
        for title, node in nodes.items():
            due = next_begin(node.reconcile, seen)
            if due is None or due > now:
                continue
            try:
                self._begin(title, node, now)
            except Exception:
                # The others have their times too.
                log.exception("The comparison with %s cannot begin.", title)
        following = [next_begin(node.reconcile, now) for node in nodes.values()]
        waits = [(each - now).total_seconds() for each in following if each is not None]
        return now, min([LONGEST_WAIT_S, *waits])

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.now())

    def _begin(self, title: str, node: NodeSettings, now: datetime.datetime) -> None:
        options = Options(
            title,
            text_of(now.date() - node.reconcile_days * DAY),
            send=node.reconcile_send,
            fetch=node.reconcile_fetch,
        )
        side = self._make_side(title)
        thread = threading.Thread(
            target=self._run, args=(options, side), name=f"reconcile-{title}", daemon=True
        )
        with self._signal:
            if self._stopping:
                return
            if title in self._running:
                log.warning("The last comparison with %s is still under way.", title)
                return
            # Only what runs is under way; its end waits for this lock.
            thread.start()
            self._running[title] = thread, side

    def _run(self, options: Options, side: NodeSide) -> None:
        """Compare once; the outermost function of a thread."""
        try:
            for _ in self._compare(options, side):
                if self._stopping:
                    break
        except DgateError as exc:
            if not self._stopping:
                log.error("The comparison with %s failed: %s", options.node, exc)
        except Exception:
            # The thread boundary: nothing is lost but this comparison.
            log.exception("The comparison with %s failed unexpectedly.", options.node)
        finally:
            side.close()
            with self._signal:
                self._running.pop(options.node, None)


def next_begin(spans: Iterable[Span], after: datetime.datetime) -> datetime.datetime | None:
    """Return when one of the spans begins next after a local time; None where there are none."""
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    found = [
        midnight + number * DAY + datetime.timedelta(minutes=span.begin_min)
        for number in range(_WEEK)
        for span in spans
        if (midnight + number * DAY).weekday() in span.days
    ]
    return min((each for each in found if each > after), default=None)


def reconcile_commands(compare: Callable[[Options], Iterator[Answer]]) -> dict[str, Command]:
    """Return what the control socket offers."""

    def reconcile(arguments: Answer) -> Iterator[Answer]:
        return compare(Options.of(arguments))

    return {"reconcile": reconcile}
