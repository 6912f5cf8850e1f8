"""Ends a quiet time early: whole studies whose objects are known need not be waited for.

A delayed operation waits until nothing more has come for a while (`archive.requests`). Whoever
knows how many objects there will be, a `CountSource`, can spare that: as soon as the index holds as
many, the operation is due. So can a `Witness`, who knows which objects there will be. Not for
asking nodes (`expected_query`) nor for what modalities say (`expected_steps`). One thread looks,
and one for each node asks, so that a node that does not answer changes nothing for the others;
intake only rings a bell. Nothing has to be kept: after a restart all that waits is looked at anew.

However much waits, looking takes little of what intake needs: only what has got objects since is
counted again at once, which its due time tells, and after a long look comes a long rest.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dgate.archive.batches import batches
from dgate.archive.database import Database
from dgate.archive.requests import LANE_PREFIX
from dgate.archive.writer import Transaction, Writer, database_time
from dgate.clock import Clock
from dgate.delivery.expected_sources import CountSource, Waiting, Witness, scope_of
from dgate.delivery.ledger import Ledger
from dgate.errors import (
    Aborted,
    ConfigError,
    DatabaseAway,
    DgateError,
    Rejected,
    TimedOut,
    Unreachable,
)
from dgate.ops.rounds import UNTIL_WOKEN, Rounds
from dgate.rules.effects import ObjectScope

log = logging.getLogger(__name__)

OPERATIONS = frozenset(("forward", "process", "merge", "submit", "submit2"))
"""What waits for things to be complete. A `delete` waits for time to pass."""
FRESH_S = 10.0
"""So long an answer counts: what is complete by an older one is asked about once more."""
GATHER_S = 0.25
"""Least time between two looks at what waits."""
LOOK_EVERY_S = 5.0
"""While something waits whose number is known: not all that arrives rings the bell, or puts off
what waits. So often all of it is counted."""
REST = 10.0
"""After a look at least so many times as long as it took there is none..."""
LONGEST_REST_S = 60.0
"""...but for no longer."""
FIRST_SILENCE_S, LONGEST_SILENCE_S = 30.0, 3600.0
"""A source that fails is left alone for so long; twice as long each time."""
READ_AGAIN_S = 60.0
"""So long a request is known by its number; a correction may have given it other IDs since."""
_MOST_KNOWN = 10_000
_MOST_FAILED = 100
_AT_ONCE = 200
# By the index alone; nothing but requests waits in these lanes.
_WAITING = "SELECT id, due FROM dgate_debts WHERE state = 'queued' AND destination = ? AND due > ?"
_REQUESTS = (
    "SELECT id, source, context, rule, sop_instance, created FROM dgate_debts "
    "WHERE kind = 'request' AND id IN ({})"
)
_OF_THE_NODE = (Unreachable, Rejected, TimedOut, Aborted, ConfigError)
"""What goes wrong whatever is asked about; other errors concern one question."""
_DUE = (
    "UPDATE dgate_debts SET due = ? "
    "WHERE id = ? AND state = 'queued' AND kind = 'request' AND due > ?"
)


class Bell:
    """Tells that something has arrived. Any thread may ring it; costs next to nothing."""

    def __init__(self) -> None:
        self.is_heard = False
        """Whether anybody listens."""
        self.rung = threading.Event()
        """Set when it has rung; the listener's rounds clear it."""

    def ring(self) -> None:
        """Say that debts were committed."""
        if self.is_heard and not self.rung.is_set():
            self.rung.set()


@dataclass(slots=True)
class _Answered:
    """What a source said of one scope."""

    count: int | None
    at: float
    """By the monotonic clock."""
    request: int
    """For which it was asked."""


@dataclass(slots=True)
class _Asker:
    """What is asked of one node's sources."""

    waiting: OrderedDict[ObjectScope, int] = field(default_factory=OrderedDict)
    thread: threading.Thread | None = None
    source: CountSource | None = None
    """The one that is being asked."""
    failed: OrderedDict[ObjectScope, None] = field(default_factory=OrderedDict)
    """What was asked about when the node fell silent: asked about last, as it may be the cause."""
    silent_until: float = 0.0
    silence_s: float = FIRST_SILENCE_S
    is_silent: bool = False

    def next(self) -> tuple[ObjectScope, int]:
        """Take out what to ask about now: what came first of what has not failed."""
        scope = next((each for each in self.waiting if each not in self.failed), None)
        if scope is None:
            return self.waiting.popitem(last=False)
        return scope, self.waiting.pop(scope)


class ExpectedCounts:
    """Looks for delayed operations that need not wait any longer."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        ledger: Ledger,
        clock: Clock,
        bell: Bell,
        sources: Callable[[], Sequence[CountSource]],
        count: Callable[[ObjectScope], int],
        wake: Callable[[], None],
        witness: Callable[[], Witness | None] = lambda: None,
    ) -> None:
        """`sources` and `witness` return who may know, by the settings that count now; of the
        sources the first that knows is believed. `count` returns how many objects of a scope the
        index holds, `wake` is the dispatcher's."""
        self._database = database
        self._writer = writer
        self._ledger = ledger
        self._clock = clock
        self._bell = bell
        self._sources = sources
        self._count = count
        self._wake = wake
        self._witness = witness
        self._rounds = Rounds(
            "expected-counts",
            self._step,
            "Looking at what waits for its quiet time failed unexpectedly.",
            trouble_s=LOOK_EVERY_S,
            gather_s=GATHER_S,
            bell=bell.rung,
        )
        self._lock = threading.Lock()
        """Guards what the askers share with the thread that looks."""
        self._known: OrderedDict[tuple[str, ObjectScope], _Answered] = OrderedDict()
        self._askers: dict[str, _Asker] = {}
        self._parsed: dict[int, Waiting | None] = {}
        """What is known of the requests that wait, by number; None where it cannot be counted."""
        self._parsed_at = -math.inf
        self._uncounted: set[int] = set()
        """Requests whose objects could not be counted, as was said already."""
        self._lacking: dict[int, tuple[float, int]] = {}
        """Due time and expected number of requests when they were counted and objects lacked."""
        self._counted_at = -math.inf
        """When all of them were counted."""
        self._waiting_sql = database.sql(_WAITING)
        self._due_sql = database.sql(_DUE)

    # the part of the gateway

    def start(self) -> None:
        """Begin to look."""
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """Go by changed settings."""
        self._rounds.wake()

    def stop(self) -> None:
        """End and join all threads; safe to call twice."""
        self._rounds.stop()
        with self._lock:
            threads = [asker.thread for asker in self._askers.values() if asker.thread is not None]
            for asker in self._askers.values():
                asker.waiting.clear()
                if asker.source is not None:
                    asker.source.cut()
        for thread in threads:
            thread.join(10.0)

    # the thread that looks

    def _step(self) -> float:
        begun = self._clock.monotonic()
        try:
            pause = self._look()
        except DgateError as exc:
            log.warning("What waits for its quiet time cannot be looked at: %s", exc)
            return LOOK_EVERY_S
        self._rounds.rest(min(REST * (self._clock.monotonic() - begun), LONGEST_REST_S))
        return UNTIL_WOKEN if pause is None else pause

    def _look(self) -> float | None:
        """Look once; return after how long at most to look again, None = when the bell rings."""
        sources, witness = self._sources(), self._witness()
        self._bell.is_heard = bool(sources) or witness is not None
        if not self._bell.is_heard:
            self._parsed.clear()
            self._lacking.clear()
            return None
        waiting = self._read()
        ready: list[int] = []
        questions: list[Waiting] = []
        pause: float | None = None
        now = self._clock.monotonic()
        former, self._lacking = self._lacking, {}
        if now - self._counted_at >= LOOK_EVERY_S:
            former, self._counted_at = {}, now
        for each, due in waiting:
            if witness is not None and witness.concerns(each.source, each.scope):
                is_complete = self._is_witnessed(each, witness)
                if is_complete:
                    ready.append(each.id)
                elif is_complete is not None:
                    pause = self._sooner(pause, LOOK_EVERY_S)
                continue
            if not any(source.concerns(each.source, each.scope) for source in sources):
                continue
            answered = self._answer(each.source, each.scope)
            if answered is None or (answered.count is None and answered.request != each.id):
                questions.append(each)
                continue
            if answered.count is None:
                continue
            pause = self._sooner(pause, LOOK_EVERY_S)
            known = (due, answered.count)
            if former.get(each.id) == known or not self._is_complete(each, answered.count):
                self._lacking[each.id] = known
                continue
            if now - answered.at <= FRESH_S:
                ready.append(each.id)
            else:
                # It may have become more meanwhile.
                questions.append(each)
        pause = self._sooner(pause, self._ask(questions, now))
        if ready:
            self._make_due(ready)
        return pause

    def _is_complete(self, waiting: Waiting, expected: int) -> bool:
        """Tell whether as many objects are there; of what cannot be counted, never."""
        try:
            return self._count(waiting.scope) >= expected
        except DatabaseAway:
            raise
        except DgateError as exc:
            self._note_uncounted(waiting, exc)
            return False

    def _is_witnessed(self, waiting: Waiting, witness: Witness) -> bool | None:
        """Tell what the witness knows; nothing where that cannot be found out."""
        try:
            return witness.is_complete(waiting)
        except DatabaseAway:
            raise
        except DgateError as exc:
            self._note_uncounted(waiting, exc)
            return None

    def _note_uncounted(self, waiting: Waiting, error: DgateError) -> None:
        """Say it once of each request."""
        if waiting.id not in self._uncounted:
            log.warning("The objects of request %d cannot be counted: %s", waiting.id, error)
        self._uncounted.add(waiting.id)

    @staticmethod
    def _sooner(pause: float | None, other: float | None) -> float | None:
        return other if pause is None else pause if other is None else min(pause, other)

    def _read(self) -> list[tuple[Waiting, float]]:
        """Return the requests that wait and say what they are about by IDs alone, and when each is
        due: an object for which it is asked for once more puts it off."""
        lanes = [lane.destination for lane in self._ledger.lanes()]
        now = self._ledger.now()
        numbers: dict[int, float] = {}
        for lane in lanes:
            if lane.startswith(LANE_PREFIX) and lane[len(LANE_PREFIX) :] in OPERATIONS:
                rows = self._database.rows(self._waiting_sql, (lane, now))
                numbers.update((int(row[0]), float(row[1])) for row in rows)
        if self._clock.monotonic() - self._parsed_at >= READ_AGAIN_S:
            self._parsed, self._parsed_at = {}, self._clock.monotonic()
        seen = {number: self._parsed[number] for number in numbers if number in self._parsed}
        new = [number for number in numbers if number not in seen]
        for batch in batches(new, _AT_ONCE):
            seen |= self._requests(batch)
        self._parsed = seen
        self._uncounted.intersection_update(seen)
        return [
            (each, due) for number, due in numbers.items() if (each := seen.get(number)) is not None
        ]

    def _requests(self, numbers: Sequence[int]) -> dict[int, Waiting | None]:
        """Read what requests are about."""
        marks = ", ".join("?" * len(numbers))
        found: dict[int, Waiting | None] = dict.fromkeys(numbers)
        sql = self._database.sql(_REQUESTS.format(marks))
        for row in self._database.rows(sql, tuple(numbers)):
            number, source = int(str(row[0])), str(row[1] or "").strip()
            scope = scope_of(str(row[2]), str(row[3]))
            if scope is not None and source:
                found[number] = Waiting(number, source, scope, str(row[4]), float(row[5]))
        return found

    def _answer(self, source: str, scope: ObjectScope) -> _Answered | None:
        with self._lock:
            return self._known.get((source, scope))

    def _make_due(self, numbers: Sequence[int]) -> None:
        def work(transaction: Transaction) -> None:
            now = database_time(self._database, self._clock, transaction)
            transaction.executemany(self._due_sql, [(now, number, now) for number in numbers])

        self._writer.transact(work)
        self._wake()

    # asking

    def _ask(self, questions: Sequence[Waiting], now: float) -> float | None:
        """Have scopes asked about, unless their nodes are silent; return when to look again."""
        pause: float | None = None
        with self._lock:
            asked: dict[str, _Asker] = {}
            for wanted in questions:
                asker = self._askers.setdefault(wanted.source, _Asker())
                if asker.silent_until > now:
                    pause = self._sooner(pause, asker.silent_until - now)
                    continue
                asker.waiting[wanted.scope] = wanted.id
                asked[wanted.source] = asker
            # After all are there: which is asked about first is to be chosen.
            unasked = [node for node, asker in asked.items() if not self._begin(node, asker)]
        for node in unasked:
            self._fall_silent(node, asked[node], "the system has no thread to ask it")
            pause = self._sooner(pause, FIRST_SILENCE_S)
        return pause

    def _begin(self, node: str, asker: _Asker) -> bool:
        """Have a thread ask a node; False when the system has none. Called with the lock."""
        if asker.thread is None:
            thread = threading.Thread(
                target=self._ask_all, args=(node, asker), name=f"expect-{node}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return False
            # Only what runs, or nobody would ever ask again.
            asker.thread = thread
        return True

    def _ask_all(self, node: str, asker: _Asker) -> None:
        """Ask all that waits to be asked; the outermost function of a thread."""
        sources: Sequence[CountSource] = ()
        try:
            sources = self._sources()
            while True:
                with self._lock:
                    if not asker.waiting or self._rounds.is_stopping():
                        asker.thread = None
                        return
                    scope, request = asker.next()
                if not self._ask_one(node, asker, sources, scope, request):
                    return
        except Exception:
            # Nothing is lost: what waits is done when its quiet time is over.
            log.exception("Asking %s how many objects there are failed unexpectedly.", node)
            self._fall_silent(node, asker, "an unexpected error")
        finally:
            for source in sources:
                source.close()
            self._rounds.wake()

    def _ask_one(
        self,
        node: str,
        asker: _Asker,
        sources: Sequence[CountSource],
        scope: ObjectScope,
        request: int,
    ) -> bool:
        """Ask about one scope; False when the node does not answer.

        A question that the node answers with an error is not put again in this quiet time.
        """
        count = None
        try:
            for source in sources:
                if count is None and source.concerns(node, scope):
                    with self._lock:
                        asker.source = source
                    count = source.expected(node, scope)
        except _OF_THE_NODE as exc:
            with self._lock:
                asker.failed[scope] = None
                while len(asker.failed) > _MOST_FAILED:
                    asker.failed.popitem(last=False)
            self._fall_silent(node, asker, str(exc))
            return False
        except DgateError as exc:
            log.info("%s does not say how many objects request %d is for: %s", node, request, exc)
            count = None
        finally:
            with self._lock:
                asker.source = None
        with self._lock:
            if asker.is_silent:
                log.info("%s says again how many objects there are.", node)
            asker.is_silent, asker.silence_s = False, FIRST_SILENCE_S
            asker.failed.pop(scope, None)
            self._known[node, scope] = _Answered(count, self._clock.monotonic(), request)
            self._known.move_to_end((node, scope))
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        self._rounds.wake()
        return True

    def _fall_silent(self, node: str, asker: _Asker, reason: str) -> None:
        with self._lock:
            asker.waiting.clear()
            asker.thread = None
            is_new, asker.is_silent = not asker.is_silent, True
            asker.silent_until = self._clock.monotonic() + asker.silence_s
            asker.silence_s = min(2 * asker.silence_s, LONGEST_SILENCE_S)
        if is_new and not self._rounds.is_stopping():
            log.warning(
                "%s does not say how many objects there are (ExpectCounts): %s. What waits for "
                "quiet waits as long as the rule says.",
                node,
                reason,
            )
