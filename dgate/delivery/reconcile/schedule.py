"""Comparisons with other archives at the times that their node sections name.

Not for what a comparison does (`dgate.delivery.reconcile.comparison`). One thread waits for the
next time, and starts another for each node whose time has come: a node that hangs holds up no
other. A time that passes while no server runs is left out.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from dgate.clock import Clock
from dgate.config.node_settings import NodeSettings
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.values import Options
from dgate.delivery.reconcile.windows import DAY, text_of
from dgate.delivery.windows import next_begin
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command
from dgate.ops.rounds import Rounds

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3600.0
"""So long at most nobody looks at the clock, which may have been set."""
TROUBLE_PAUSE_S = 60.0
"""So long nothing begins after an unexpected error."""
_JOIN_S = 10.0


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
        self._seen = self._now()
        """What comes after this has not been looked at; the thread's."""
        self._lock = threading.Lock()
        """Guards `_running`."""
        self._running: dict[str, tuple[threading.Thread, NodeSide]] = {}
        self._rounds = Rounds(
            "reconcile",
            self._step,
            "Looking for comparisons that are due failed unexpectedly.",
            trouble_s=TROUBLE_PAUSE_S,
        )

    def start(self) -> None:
        """Begin to wait."""
        # From now on: what comes while the thread begins is not left out.
        self._seen = self._now()
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """Go by changed settings; what is under way ends as it began."""
        self._rounds.wake()

    def stop(self) -> None:
        """End, cutting short what is under way; safe to call twice."""
        # First, so that no comparison begins behind those that are cut.
        self._rounds.stop()
        with self._lock:
            running = list(self._running.values())
        for _, side in running:
            side.cut()
        self._cut_all()
        for thread, _ in running:
            thread.join(_JOIN_S)

    def _step(self) -> float:
        """Begin what has become due since the last step; return how long to wait for the next."""
        nodes = {title: node for title, node in self._nodes().items() if node.reconcile}
        now = self._now()
        # A clock that was set back would have everything come again.
        seen = min(self._seen, now)
        for title, node in nodes.items():
            due = next_begin(node.reconcile, seen)
            if due is None or due > now:
                continue
            try:
                self._begin(title, node, now)
            except Exception:
                # The others have their times too.
                log.exception("The comparison with %s cannot begin.", title)
        self._seen = now
        following = [next_begin(node.reconcile, now) for node in nodes.values()]
        waits = [(each - now).total_seconds() for each in following if each is not None]
        return min([LONGEST_WAIT_S, *waits])

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.now())

    def _begin(self, title: str, node: NodeSettings, now: datetime.datetime) -> None:
        options = Options(
            title,
            text_of(now.date() - node.reconcile_days * DAY),
            level=node.reconcile_level,
            send=node.reconcile_send,
            fetch=node.reconcile_fetch,
        )
        side = self._make_side(title)
        thread = threading.Thread(
            target=self._run, args=(options, side), name=f"reconcile-{title}", daemon=True
        )
        with self._lock:
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
                if self._rounds.is_stopping():
                    break
        except DgateError as exc:
            if not self._rounds.is_stopping():
                log.error("The comparison with %s failed: %s", options.node, exc)
        except Exception:
            # The thread boundary: nothing is lost but this comparison.
            log.exception("The comparison with %s failed unexpectedly.", options.node)
        finally:
            side.close()
            with self._lock:
                self._running.pop(options.node, None)


def reconcile_commands(
    compare: Callable[[Options], Iterator[Answer]], report: Callable[[], list[Answer]]
) -> dict[str, Command]:
    """Return what the control socket offers; `report` returns the last results."""

    def reconcile(arguments: Answer) -> Iterator[Answer]:
        return compare(Options.of(arguments))

    def reconciled(arguments: Answer) -> Iterator[Answer]:
        yield from report()

    return {"reconcile": reconcile, "reconciled": reconciled}
