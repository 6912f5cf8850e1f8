"""Fetching what a retrieval needs from virtual servers, so that it can be passed on.

One thread per retrieval asks server after server, up to 64 objects of a series in one request or,
by VirtualServerPerSeries, whole series. What arrives goes through `archive.ingest` without
converters, or, with CacheVirtualData = 0, is only held until it has been passed on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dgate.archive.ingest import Ingest
from dgate.archive.levels import Level
from dgate.archive.passing import Passing
from dgate.archive.records import Arrival, InstanceRef
from dgate.config.settings import Engine, Settings, SopList
from dgate.delivery.inquiry import SERIES, SOP_INSTANCE, STUDY, Listed
from dgate.delivery.offers import listed_classes
from dgate.dicom.payload import Payload
from dgate.errors import (
    ConfigError,
    DgateError,
    NoContext,
    Rejected,
    RuleError,
    StoreError,
    Unreachable,
)
from dgate.net import Association, Command, Message, PresentationContext, Status
from dgate.services.question import Question
from dgate.services.statuses import storage_status
from dgate.services.virtual.channel import Channel
from dgate.services.virtual.fetches import Fetches
from dgate.services.virtual.remote import CONNECT_S, Remote, Session
from dgate.services.virtual.servers import Located, VirtualServers
from dgate.services.virtual.source import Source

log = logging.getLogger(__name__)

BATCH = 64
"""Objects in one request (spec dimse.md 7)."""
HELD_BATCH = 16
"""The same where each of them is held in memory until it has been passed on."""
_JOIN_S = CONNECT_S + 1.0
"""Only while it opens a connection, the thread does not end at once."""
_MOST_FAILURES = 2
"""So many requests that fail one after another end the work with a server."""
_FINAL = (Unreachable, Rejected, NoContext, ConfigError, RuleError)
"""What a further request to the same server would meet again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An object that no virtual server gave."""

    sop_instance: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Batch:
    """Objects of one series that are asked for together."""

    level: Level
    study: str
    series: str
    objects: tuple[Located, ...]

    def keys(self) -> dict[int, str]:
        """Return the unique keys that name them."""
        keys = {STUDY: self.study, SERIES: self.series}
        if self.level is Level.IMAGE:
            keys[SOP_INSTANCE] = "\\".join(each.listed.sop_instance for each in self.objects)
        return {tag: value for tag, value in keys.items() if value}


@dataclass(frozen=True, slots=True)
class Receiver:
    """What every fetch of a configuration works with."""

    settings: Settings
    fetches: Fetches
    ingest: Ingest
    passing: Passing
    sop_list: SopList
    find: Callable[[str], InstanceRef | None]
    """Finds an object of this archive by its SOP Instance UID."""

    @property
    def keeps(self) -> bool:
        """Whether what is fetched becomes part of the archive."""
        return self.settings.cache_virtual_data and self.settings.engine is not Engine.NONE


class Fetch:
    """The objects of one retrieval that have to come from virtual servers.

    `start`, `take`, `done` and `close` belong to the retrieval's thread; `takes` and `receive` are
    called by the threads of the associations over which objects arrive.
    """

    def __init__(self, receiver: Receiver, question: Question, objects: Sequence[Located]) -> None:
        self.count = len(objects)
        self._receiver = receiver
        self._question = question
        self._objects = list(objects)
        self._overlap = receiver.settings.overlap_virtual_get
        self._channel: Channel[InstanceRef | Lost] = Channel(1, self._overlap or None)
        self._lock = threading.Lock()
        # What has not arrived yet, and why what arrived could not be taken.
        self._missing = {each.listed.sop_instance: each for each in objects}
        self._reasons: dict[str, str] = {}
        self._taken: set[str] = set()
        self._titles = {each.server.title for item in objects for each in item.holders}
        self._session = Session()
        self._is_closed = False
        self._asks_series = False
        self._thread = threading.Thread(target=self._run, name="virtual-fetch", daemon=True)

    def start(self) -> None:
        """Begin to fetch."""
        self._receiver.fetches.begin(self)
        self._thread.start()

    def take(self, timeout_s: float) -> InstanceRef | Lost | None:
        """Return the next object that is here or lost, None when there is none in time."""
        item = self._channel.take(timeout_s)
        if item is not None:
            self._taken.add(item.sop_instance)
        return item

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come."""
        return self._channel.is_finished

    def done(self, ref: InstanceRef) -> None:
        """Let an object go that has been passed on, or never will be."""
        self._receiver.passing.let_go(ref)

    def close(self) -> list[str]:
        """Stop fetching; return the instances that nobody has taken."""
        self._is_closed = True
        for item in self._channel.close():
            if isinstance(item, InstanceRef):
                self.done(item)
        self._receiver.fetches.end(self, given_up=bool(self._missing))
        if self._thread.is_alive():
            self._session.cut()
            self._thread.join(_JOIN_S)
        wanted = [each.listed.sop_instance for each in self._objects]
        return [sop_instance for sop_instance in wanted if sop_instance not in self._taken]

    # what arrives

    def awaits(self, command: Command) -> bool:
        """Tell whether an arriving object was asked for.

        Only what names our C-MOVE as its origin: the same object may come at the same time because
        its server forwards it, and then it has to be stored as any other.
        """
        return self._is_for_us(command) and command.sop_instance in self._missing

    def expects_more(self, calling: str, command: Command) -> bool:
        """Tell whether an arriving object may be another one of a series that was asked for."""
        return self._asks_series and calling in self._titles and self._is_for_us(command)

    def asked_for(self, series: str) -> bool:
        """Tell whether the objects asked for are of this series."""
        return bool(series) and any(each.listed.series == series for each in self._objects)

    def _is_for_us(self, command: Command) -> bool:
        return command.originator.strip() == self._receiver.settings.ae_title

    def receive(self, message: Message, calling: str, called: str) -> int:
        """Take one object in and hand it over; return the C-STORE status.

        A crash leaves what `Ingest.store` says. What came meanwhile is not needed a second time.
        """
        command = message.command
        with self._lock:
            located = self._missing.pop(command.sop_instance, None)
        if located is None:
            return Status.SUCCESS
        try:
            ref = self._take_in(message, located.listed, calling, called)
        except StoreError as exc:
            log.warning("Object %s from %s was not taken: %s", command.sop_instance, calling, exc)
            with self._lock:
                self._missing[command.sop_instance] = located
                self._reasons[command.sop_instance] = exc.what
            settings = self._receiver.settings
            return storage_status(
                exc,
                failed_code=settings.storage_failed_error_code,
                classic=settings.classic_status_codes,
            )
        except BaseException:
            # It must not be forgotten, whatever happened.
            with self._lock:
                self._missing[command.sop_instance] = located
            raise
        if not self._channel.put(ref):
            self.done(ref)
            return Status.OUT_OF_RESOURCES
        return Status.SUCCESS

    def _take_in(self, message: Message, listed: Listed, calling: str, called: str) -> InstanceRef:
        command, syntax = message.command, message.context.transfer_syntax
        payload = message.payload or Payload()
        if not self._receiver.keeps:
            ref = self._receiver.passing.hold(
                payload, syntax, command.sop_class, command.sop_instance
            )
            # It is held now, and nobody else may close it.
            message.payload = None
            return ref
        arrival = Arrival(
            payload,
            syntax,
            calling,
            called,
            command.sop_class,
            command.sop_instance,
            skip_rules=True,
        )
        receipt = self._receiver.ingest.store(arrival)
        return InstanceRef(
            command.sop_class,
            receipt.sop_instance,
            listed.patient_id,
            listed.study,
            listed.series,
            receipt.device,
            receipt.name,
        )

    # asking for it

    def _run(self) -> None:
        """Ask for everything, server after server; the thread's outermost function."""
        try:
            waiting = self._objects
            while waiting and not self._is_closed:
                waiting = self._round(waiting)
        except Exception:
            # The thread boundary: what has not come is reported as lost below.
            log.exception("Fetching from virtual servers failed by an error of dgate itself")
        finally:
            self._report_lost()
            if not self._is_closed:
                self._receiver.fetches.end(self)
            self._channel.finish()

    def _report_lost(self) -> None:
        """Hand over the names of what did not come; when closed, `close` has named it."""
        if self._is_closed:
            return
        with self._lock:
            lost, self._missing = list(self._missing), {}
        for instance in lost:
            self._channel.put(self._otherwise(instance))

    def _otherwise(self, instance: str) -> InstanceRef | Lost:
        """Return an object that did not come as a fetched one: it may have come all the same, from
        a server that does not name the C-MOVE that it works for.
        """
        try:
            found = self._receiver.find(instance)
        except StoreError as exc:
            return Lost(instance, exc.what)
        return found or Lost(instance, self._reasons.get(instance, "no virtual server sent it"))

    def _round(self, objects: Sequence[Located]) -> list[Located]:
        """Ask the first holder of each object for it; return what others have to be asked for."""
        for remote in dict.fromkeys(each.holders[0] for each in objects):
            mine = [each for each in objects if each.holders[0] is remote]
            self._ask(remote, mine)
        again = []
        with self._lock:
            for located in self._missing.values():
                if len(located.holders) > 1:
                    again.append(replace(located, holders=located.holders[1:]))
        for located in again:
            with self._lock:
                if located.listed.sop_instance in self._missing:
                    self._missing[located.listed.sop_instance] = located
        return again

    def _ask(self, remote: Remote, objects: Sequence[Located]) -> None:
        source = Source(
            remote,
            self._question,
            self._receiver.settings.ae_title,
            self._classes(objects),
            lambda message, title: self.receive(message, title, self._receiver.settings.ae_title),
            self._payload,
            self._session,
        )
        size = BATCH if self._receiver.keeps else HELD_BATCH
        failures = 0
        try:
            for batch in _batches(objects, size, remote.server.per_series):
                if self._is_closed or failures == _MOST_FAILURES:
                    return
                try:
                    self._asks_series = batch.level is Level.SERIES
                    source.pull(batch.level, batch.keys(), partial(self._has_all, batch))
                    failures = 0
                except DgateError as exc:
                    failures = _MOST_FAILURES if isinstance(exc, _FINAL) else failures + 1
                    self._note(remote, batch.objects if failures < _MOST_FAILURES else objects, exc)
                if not self._overlap and not self._channel.wait_until_empty():
                    return
        finally:
            self._asks_series = False
            source.close()

    def _classes(self, objects: Sequence[Located]) -> list[str]:
        """Return the SOP classes to expect: those listed, or all where the server does not say."""
        listed = list(dict.fromkeys(each.listed.sop_class for each in objects))
        return listed if all(listed) else listed_classes(self._receiver.sop_list)

    def _has_all(self, batch: _Batch) -> bool:
        with self._lock:
            return not any(each.listed.sop_instance in self._missing for each in batch.objects)

    def _note(self, remote: Remote, objects: Sequence[Located], exc: DgateError) -> None:
        """Log why objects did not come, and keep it for those that no other server gives."""
        if self._is_closed:
            return
        log.warning("Objects could not be fetched from the %s: %s", remote, exc)
        with self._lock:
            for each in objects:
                if each.listed.sop_instance in self._missing:
                    self._reasons.setdefault(each.listed.sop_instance, exc.what)

    def _payload(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        return self._receiver.ingest.payload(
            context.transfer_syntax, command.sop_class, command.sop_instance, association.called
        )


def _batches(objects: Sequence[Located], size: int, per_series: int) -> Iterator[_Batch]:
    """Yield what to ask for in one request each: objects of one series, or the series itself."""
    series: dict[tuple[str, str], list[Located]] = {}
    for each in objects:
        series.setdefault((each.listed.study, each.listed.series), []).append(each)
    for (study, uid), members in series.items():
        if uid and 0 < per_series < len(members):
            yield _Batch(Level.SERIES, study, uid, tuple(members))
            continue
        for start in range(0, len(members), size):
            yield _Batch(Level.IMAGE, study, uid, tuple(members[start : start + size]))


class VirtualRetrieval:
    """What a retrieve service needs of the virtual servers. Any thread may use it."""

    def __init__(self, servers: VirtualServers, receiver: Receiver) -> None:
        self._servers = servers
        self._receiver = receiver

    def missing(
        self,
        question: Question,
        keys: Mapping[int, str],
        here: Iterable[str],
        go_on: Callable[[], bool],
        choose: Callable[[list[Located]], list[Located]],
    ) -> Fetch | None:
        """Return the fetch, not yet begun, of what is asked for and not `here`; None = nothing.

        `here` are SOP Instance UIDs; for `go_on` see `VirtualServers.locate`. `choose` takes of
        what is elsewhere those that are wanted.
        """
        if not self._servers.asked_for(question):
            return None
        known = frozenset(here)
        located = self._servers.locate(question, keys, go_on)
        wanted = choose([each for each in located if each.listed.sop_instance not in known])
        return Fetch(self._receiver, question, wanted) if wanted else None
