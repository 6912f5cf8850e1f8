"""Senders of one round: modalities that go on after a break, or give the object up.

Each runs in a thread. One is DCMTK's storescu, the others our own client, which can also hang up in
the middle of an object, or behind it, and leave an association to itself.
"""

from __future__ import annotations

import contextlib
import random
import re
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.peers import store_answers
from tests.acceptance.processes import WAIT_DEADLINE_S, Failed, find_program, peer_environment
from tests.acceptance.rawdicom import (
    ABORT,
    ASSOCIATE_RJ,
    RELEASE_RQ,
    Closed,
    Offer,
    RawAssociation,
)
from tests.campaign.truth import Item, Stream, Truth
from tests.generate import Kind, Plan, data_set_of, write_files

_MOST_TRIES = 40
_ANSWER_DEADLINE_S = 180.0
"""Long enough for a busy machine: to be silent for longer is a finding."""

ABORTED, REJECTED, RELEASED = "aborted", "rejected", "released by the gateway"
BROKEN, SILENT = "broken", "without an answer in time"
"""How an association can end that its sender did not want to end."""
_PDUS = {ABORT: ABORTED, ASSOCIATE_RJ: REJECTED, RELEASE_RQ: RELEASED}


class HungUp(Exception):
    """The sender itself has ended the association."""


@dataclass(slots=True)
class Line:
    """How a gateway is reached, and whether it is there."""

    port: int
    starts: int = 0
    """How often the gateway was started, counted when all its processes before have ended."""
    up: threading.Event = field(default_factory=threading.Event)
    progress: threading.Condition = field(default_factory=threading.Condition)

    def told(self) -> None:
        """Something was answered: whoever waits for a number of answers looks again."""
        with self.progress:
            self.progress.notify_all()

    def wait_up(self) -> None:
        """Wait until the gateway is there."""
        if not self.up.wait(WAIT_DEADLINE_S):
            raise Failed("the gateway does not come back")


def make_items(
    folder: Path, stream: Stream, plan: Plan, source: random.Random
) -> list[tuple[Item, Path]]:
    """Make the objects of a plan; those with large pixels get a few megabytes more."""
    made = []
    for one in write_files(folder, plan):
        content = one.path.read_bytes()
        if plan.kind is Kind.LARGE:
            content = _enlarged(content, source.randrange(1 << 20, 5 << 20) & ~1, source)
            one.path.write_bytes(content)
        data = data_set_of(content)
        item = Item(stream, one.sop_class, one.sop_instance, one.study, data)
        made.append((item, one.path))
    return made


def _enlarged(content: bytes, more: int, source: random.Random) -> bytes:
    place = content.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    (length,) = struct.unpack_from("<I", content, place)
    head = content[:place] + struct.pack("<I", length + more)
    return head + content[place + 4 :] + source.randbytes(more)


def with_other_pixels(item: Item, source: random.Random) -> Item:
    """Return the instance with other content."""
    data = item.data[:-1024] + source.randbytes(1024)
    return Item(item.stream, item.sop_class, item.sop_instance, item.study, data)


class Sender:
    """Sends objects one after the other over associations of our own client."""

    def __init__(
        self,
        line: Line,
        truth: Truth,
        items: Sequence[Item],
        seed: int,
        *,
        gives_up: bool = True,
    ) -> None:
        """`gives_up`: some objects are left alone after a break or a refusal, and connections are
        dropped in the middle of some, or before the answer."""
        self._gives_up = gives_up
        self._line = line
        self._truth = truth
        self._items = items
        self._source = random.Random(seed)
        self._unanswered: dict[str, dict[str, int]] = {}
        """Contents without an answer by SOP instance, with the start of the gateway that they
        were sent to."""
        self._left_open: list[RawAssociation] = []
        self.breaks = 0
        self.hung_up = 0
        self.hung_up_behind = 0

    def __call__(self) -> None:
        """Send all of them, each until it is answered or given up."""
        try:
            self._send_all(list(self._items))
        finally:
            for association in self._left_open:
                association.connection.close()

    def _send_all(self, left: list[Item]) -> None:
        tries = 0
        while left and tries < _MOST_TRIES:
            self._line.wait_up()
            before = len(left)
            try:
                self._send_some(left)
            except (Closed, HungUp, OSError, struct.error) as exc:
                self.breaks += 1
                if not isinstance(exc, HungUp):
                    self._truth.broke(_how(exc))
                tries = tries + 1 if len(left) == before else 0
                if left and self._gives_up and self._source.random() < 0.15:
                    # Some modalities go on with the next one.
                    left.pop(0)

    def _send_some(self, left: list[Item]) -> None:
        offers = [Offer(each) for each in sorted({item.sop_class for item in left})]
        calling = left[0].stream.name
        timeout = _ANSWER_DEADLINE_S
        association = RawAssociation.open(
            self._line.port, offers, calling=calling, timeout_s=timeout
        )
        with contextlib.ExitStack() as stack:
            stack.push(association.__exit__)
            while left:
                item = left[0]
                if self._gives_up and self._source.random() < 0.02:
                    self._hang_up(association, item)
                if self._gives_up and self._source.random() < 0.02:
                    if self._source.random() < 0.5:
                        # It stays open, and the server may be at it while the object comes again.
                        stack.pop_all()
                        self._left_open.append(association)
                    self._hang_up_behind(association, item)
                status = self._send(association, item)
                left.pop(0)
                self._line.told()
                if status == 0xA700 and (not self._gives_up or self._source.random() < 0.35):
                    # Once more, but after the others.
                    left.append(item)

    def _attempt(self, item: Item) -> dict[str, int]:
        """Note that it is sent now; returns what has no answer yet of this instance."""
        now = self._line.starts
        kept = self._unanswered.get(item.sop_instance, {})
        # What a server had not committed when it ended can come no more.
        open_ones = {digest: start for digest, start in kept.items() if start == now}
        self._unanswered[item.sop_instance] = open_ones
        self._truth.attempt(item)
        open_ones[item.digest] = now
        return open_ones

    def _send(self, association: RawAssociation, item: Item) -> int:
        open_ones = self._attempt(item)
        reply = association.store(item.sop_class, item.sop_instance, item.data)
        del open_ones[item.digest]
        self._truth.answered(item, reply.status, set(open_ones))
        return reply.status

    def _hang_up(self, association: RawAssociation, item: Item) -> None:
        """Drop the connection somewhere in the object; what has come of it is no object."""
        self.hung_up += 1

        def pieces() -> Iterator[bytes]:
            yield item.data[: self._source.randrange(1, len(item.data))]
            # The last piece is held back by `send` until the next one is there.
            raise HungUp

        association.store(item.sop_class, item.sop_instance, pieces())

    def _hang_up_behind(self, association: RawAssociation, item: Item) -> None:
        """Send all of the object, and do not wait for the answer."""
        self.hung_up_behind += 1
        self._attempt(item)
        command: dict[int, bytes | int | str] = {
            0x0002: item.sop_class,
            0x0100: 0x0001,
            0x0110: association.next_id(),
            0x0700: 0,
            0x1000: item.sop_instance,
        }
        association.send(association.context_for(item.sop_class), command, item.data)
        raise HungUp


def _how(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return SILENT
    found = re.match(r"PDU type (\d+) ", str(exc)) if isinstance(exc, Closed) else None
    if found:
        return _PDUS.get(int(found[1]), str(exc))
    # For instance no context was accepted, which no break explains.
    ended = str(exc) == "the peer closed the connection"
    return str(exc) if isinstance(exc, Closed) and not ended else BROKEN


class Storescu:
    """Sends files with DCMTK's storescu, which ends with the first broken connection."""

    def __init__(
        self, line: Line, truth: Truth, items: Sequence[tuple[Item, Path]], calling: str
    ) -> None:
        self._line = line
        self._truth = truth
        self._items = {path: item for item, path in items}
        self._calling = calling

    def __call__(self) -> None:
        """Send what is left until all was answered or a try brings nothing."""
        left = dict(self._items)
        for _ in range(4):
            if not left:
                return
            self._line.wait_up()
            for item in left.values():
                self._truth.attempt(item)
            for path, status in self._run(list(left)):
                item = left.pop(path)
                self._truth.answered(item, status, set())
                self._line.told()

    def _run(self, paths: list[Path]) -> Iterator[tuple[Path, int]]:
        command = [find_program("storescu"), "-v", "-nh", "-aet", self._calling]
        for option in ("-to", "-ta", "-td"):
            command += [option, str(int(_ANSWER_DEADLINE_S))]
        command += ["127.0.0.1", str(self._line.port), *map(str, paths)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=peer_environment(),
        ) as program:
            assert program.stdout is not None
            for answer in store_answers(self._listen(program.stdout)):
                yield answer.path, _status(answer.status)

    def _listen(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            for pattern, how in _SAID_BY_STORESCU.items():
                if re.search(pattern, line):
                    self._truth.broke(how)
            yield line


# Of an abort it says the same as of a connection that has ended.
_SAID_BY_STORESCU = {
    r"^[EF]: Association Rejected": REJECTED,
    r"^[EF]: .*requested release": RELEASED,
    r"^[EF]: .*No data available": SILENT,
    r"^[EF]: .*(Peer aborted|Request Failed|Connection closed)": BROKEN,
}


def _status(words: str) -> int:
    if words == "Success":
        return 0
    if words.startswith("Refused: OutOfResources"):
        return 0xA700
    found = re.search(r"0x([0-9a-fA-F]{1,4})", words)
    return int(found[1], 16) if found else 0xC000


def run_all(senders: Sequence[Callable[[], None]]) -> list[threading.Thread]:
    """Start each in a thread of its own."""
    threads = [threading.Thread(target=each, daemon=True) for each in senders]
    for thread in threads:
        thread.start()
    return threads
