"""All virtual servers of a configuration: asking them, all at once, and finding out who has what.

Every request gets threads of its own, one for each server that is asked; a server that is down,
slow or at odds with the standard costs its answers, which the log says, and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dgate.archive.levels import Level
from dgate.archive.query import Page, QueryKey
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.delivery.inquiry import Answer, Inquiry, Listed, list_objects
from dgate.errors import DgateError
from dgate.rules.events import EventHooks, NoEvents
from dgate.services.identifier import INSTANCE_AVAILABILITY, RETRIEVE_AE_TITLE, UNIQUE_KEYS
from dgate.services.question import Question
from dgate.services.virtual.channel import Channel
from dgate.services.virtual.listcache import ListCache
from dgate.services.virtual.merging import COMBINED, Match, merged
from dgate.services.virtual.remote import Remote, Session

log = logging.getLogger(__name__)

TICK_S = 0.25
"""So often a request that waits for virtual servers looks whether its caller still wants it."""
_WAITING_ANSWERS = 1000
MOST_COMBINED = 100_000
"""Answers of one server that are kept for counting together; what comes after is cut off."""
_OURS = frozenset({RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY})

LocalFind = Callable[[Level, Sequence[QueryKey], Page], Iterator[Match]]


@dataclass(frozen=True, slots=True)
class Located:
    """An object of virtual servers, and those that have it in the order to be tried."""

    listed: Listed
    holders: tuple[Remote, ...]


class VirtualServers:
    """The virtual servers of one configuration. Any thread may use it."""

    def __init__(
        self,
        settings: Settings,
        nodes: NodeMap,
        events: EventHooks | None = None,
    ) -> None:
        self.own_title = settings.ae_title
        self._remotes = [
            Remote(server, nodes, settings, events or NoEvents())
            for server in settings.virtual_servers
        ]
        root = settings.mag_devices[0] if settings.mag_devices else settings.base_folder
        self._cache = ListCache(root / "dgate" / "querycache")

    def asked_for(self, question: Question) -> list[Remote]:
        """Return the servers to ask on behalf of a question."""
        return [each for each in self._remotes if question.may_reach(each.server, self.own_title)]

    def find(
        self,
        question: Question,
        level: Level,
        keys: Sequence[QueryKey],
        page: Page,
        local: LocalFind,
    ) -> Iterator[Match | None]:
        """Yield the answers of this archive and of the virtual servers, each entity once.

        None means that nothing has come for a moment. Closing the iterator ends all questions.
        Raises what `local` raises.
        """
        remotes = self.asked_for(question)
        if not remotes:
            yield from local(level, keys, page)
            return
        unique_key = UNIQUE_KEYS[level]
        wanted = frozenset(key.tag for key in keys)
        local_keys = list(keys) if unique_key in wanted else [*keys, QueryKey(unique_key)]
        values: dict[int, str | None] = {
            key.tag: key.value for key in local_keys if key.tag not in _OURS
        }
        is_combined = not wanted.isdisjoint(COMBINED)
        asking = _Asking(remotes, question, level, values, MOST_COMBINED if is_combined else None)
        try:
            everything = merged(
                lambda: local(level, local_keys, Page(page.sort)),
                asking.answers(),
                unique_key,
                wanted,
            )
            yield from _page(everything, page)
        finally:
            asking.stop()

    def locate(
        self,
        question: Question,
        keys: Mapping[int, str],
        go_on: Callable[[], bool],
    ) -> list[Located]:
        """Return the objects that a retrieve request means at the virtual servers.

        `go_on` is asked now and then whether the caller still waits; it may raise.
        """
        remotes = self.asked_for(question)
        asked = {tag: value for tag, value in keys.items() if tag not in _OURS}
        found: dict[int, list[Listed]] = {}
        channel: Channel[tuple[int, list[Listed]]] = Channel(len(remotes))
        workers = [
            _Worker(remote, question, self._lister(remote, asked, channel), channel)
            for remote in remotes
        ]
        try:
            for worker in workers:
                worker.start()
            while not channel.is_finished and go_on():
                item = channel.take(TICK_S)
                if item is not None:
                    found[item[0]] = item[1]
        finally:
            channel.close()
            for worker in workers:
                worker.cut()
        return _located(remotes, found)

    def _lister(
        self,
        remote: Remote,
        keys: Mapping[int, str],
        channel: Channel[tuple[int, list[Listed]]],
    ) -> Callable[[Inquiry], None]:
        def run(inquiry: Inquiry) -> None:
            recall = self._cache.of(remote.server, inquiry)
            listed = list_objects(
                inquiry, keys, of_study=recall.of_study, of_series=recall.of_series
            )
            channel.put((remote.server.number, listed))

        return run


class _Worker(threading.Thread):
    """Asks one server; what goes wrong is logged, as the others' answers are good without it."""

    def __init__(
        self,
        remote: Remote,
        question: Question,
        run: Callable[[Inquiry], None],
        channel: Channel[tuple[int, Answer]] | Channel[tuple[int, list[Listed]]],
    ) -> None:
        super().__init__(name=f"ask-{remote.server.title}", daemon=True)
        self._remote = remote
        self._question = question
        self._ask = run
        self._channel = channel
        self._session = Session()
        self._is_cut = False

    def run(self) -> None:
        """Ask, and say when done."""
        try:
            association, inquiry = self._remote.inquire(self._question, self._session)
            with association:
                self._ask(inquiry)
        except DgateError as exc:
            if not self._is_cut:
                log.warning(
                    "The %s did not answer %s: %s", self._remote, self._question.calling, exc
                )
        except Exception:
            # The thread boundary: the request goes on with the answers of the others.
            log.exception("Asking the %s failed by an error of dgate itself", self._remote)
        finally:
            self._channel.finish()

    def cut(self) -> None:
        """End it if it still asks; a connection being opened is dropped when it is there."""
        self._is_cut = True
        if self.is_alive():
            self._session.cut()


class _Asking:
    """One query on its way to several servers."""

    def __init__(
        self,
        remotes: Sequence[Remote],
        question: Question,
        level: Level,
        values: Mapping[int, str | None],
        most: int | None,
    ) -> None:
        self._channel: Channel[tuple[int, Answer]] = Channel(len(remotes), _WAITING_ANSWERS)
        self._most = most
        self._workers = [
            _Worker(remote, question, self._asker(remote, level, values), self._channel)
            for remote in remotes
        ]
        for worker in self._workers:
            worker.start()

    def _asker(
        self, remote: Remote, level: Level, values: Mapping[int, str | None]
    ) -> Callable[[Inquiry], None]:
        def run(inquiry: Inquiry) -> None:
            for count, answer in enumerate(inquiry.find(level, values)):
                if count == self._most:
                    log.warning(
                        "The %s has more than %d answers; the rest was left out.", remote, count
                    )
                    return
                if not self._channel.put((remote.server.number, answer)):
                    return

        return run

    def answers(self) -> Iterator[Answer | None]:
        """Yield the answers as they come, None after each moment without one."""
        while not self._channel.is_finished:
            item = self._channel.take(TICK_S)
            if item is not None or not self._channel.is_finished:
                yield None if item is None else item[1]

    def stop(self) -> None:
        """End what is still being asked."""
        self._channel.close()
        for worker in self._workers:
            with suppress(DgateError):
                worker.cut()


def _page(matches: Iterator[Match | None], page: Page) -> Iterator[Match | None]:
    """Yield the part that is wanted; what is None counts for nothing."""
    place = 0
    end = None if page.limit is None else page.offset + page.limit
    for match in matches:
        if end is not None and place >= end:
            return
        if match is None or place >= page.offset:
            yield match
        place += match is not None


def _located(remotes: Sequence[Remote], found: Mapping[int, list[Listed]]) -> list[Located]:
    """Return each object once, with all servers that have it."""
    objects: dict[str, Located] = {}
    for remote in remotes:
        for listed in found.get(remote.server.number, ()):
            known = objects.get(listed.sop_instance)
            if known is None:
                objects[listed.sop_instance] = Located(listed, (remote,))
            elif remote not in known.holders:
                holders = (*known.holders, remote)
                objects[listed.sop_instance] = Located(known.listed, holders)
    return list(objects.values())
