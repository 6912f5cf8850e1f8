"""Senders of one round: modalities that go on after a break, or give the object up.

Each runs in a thread. One is DCMTK's storescu, the others our own client, which can also hang up in
the middle of an object.
"""

from __future__ import annotations

import random
import re
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.peers import store_answers
from tests.acceptance.processes import WAIT_DEADLINE_S, Failed, find_program, peer_environment
from tests.acceptance.rawdicom import Closed, Offer, RawAssociation
from tests.campaign.truth import Item, Stream, Truth
from tests.generate import Kind, Plan, data_set_of, write_files

_MOST_TRIES = 40
_ANSWER_DEADLINE_S = 60.0


@dataclass(slots=True)
class Line:
    """How a gateway is reached, and whether it is there."""

    port: int
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
        dropped in the middle of some."""
        self._gives_up = gives_up
        self._line = line
        self._truth = truth
        self._items = items
        self._source = random.Random(seed)
        self._unanswered: dict[str, set[str]] = {}
        self.breaks = 0
        self.hung_up = 0

    def __call__(self) -> None:
        """Send all of them, each until it is answered or given up."""
        left = list(self._items)
        tries = 0
        while left and tries < _MOST_TRIES:
            self._line.wait_up()
            before = len(left)
            try:
                self._send_some(left)
            except (Closed, OSError, struct.error):
                self.breaks += 1
                tries = tries + 1 if len(left) == before else 0
                if left and self._gives_up and self._source.random() < 0.15:
                    # Some modalities go on with the next one.
                    left.pop(0)

    def _send_some(self, left: list[Item]) -> None:
        offers = [Offer(each) for each in sorted({item.sop_class for item in left})]
        calling = left[0].stream.name
        timeout = _ANSWER_DEADLINE_S
        with RawAssociation.open(
            self._line.port, offers, calling=calling, timeout_s=timeout
        ) as association:
            while left:
                item = left[0]
                if self._gives_up and self._source.random() < 0.02:
                    self._hang_up(association, item)
                status = self._send(association, item)
                left.pop(0)
                self._line.told()
                if status == 0xA700 and (not self._gives_up or self._source.random() < 0.35):
                    # Once more, but after the others.
                    left.append(item)

    def _send(self, association: RawAssociation, item: Item) -> int:
        open_ones = self._unanswered.setdefault(item.sop_instance, set())
        self._truth.attempt(item)
        open_ones.add(item.digest)
        reply = association.store(item.sop_class, item.sop_instance, item.data)
        open_ones.discard(item.digest)
        self._truth.answered(item, reply.status, open_ones)
        return reply.status

    def _hang_up(self, association: RawAssociation, item: Item) -> None:
        """Drop the connection somewhere in the object; what has come of it is no object."""
        self.hung_up += 1

        def pieces() -> Iterator[bytes]:
            yield item.data[: self._source.randrange(1, len(item.data))]
            # The last piece is held back by `send` until the next one is there.
            raise Closed("hung up on purpose")

        association.store(item.sop_class, item.sop_instance, pieces())


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
        command += ["-to", "60", "127.0.0.1", str(self._line.port), *map(str, paths)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=peer_environment(),
        ) as program:
            assert program.stdout is not None
            for answer in store_answers(program.stdout):
                yield answer.path, _status(answer.status)


def _status(words: str) -> int:
    if words == "Success":
        return 0
    found = re.search(r"0x([0-9a-fA-F]{4})", words)
    return int(found[1], 16) if found else 0xC000


def run_all(senders: Sequence[Callable[[], None]]) -> list[threading.Thread]:
    """Start each in a thread of its own."""
    threads = [threading.Thread(target=each, daemon=True) for each in senders]
    for thread in threads:
        thread.start()
    return threads
