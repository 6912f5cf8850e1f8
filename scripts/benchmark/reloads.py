"""Changing the configuration of a running server, beside a stream of objects that must not notice.

Every reload finds all rules and all nodes changed, so that nothing can be taken over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dgate.ops.control import ControlClient, socket_path
from scripts.benchmark.contestants import Contestant
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.processes import Failed, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, data_set_of

if TYPE_CHECKING:
    from scripts.benchmark.works import Bench

IMPORT_RULES, EXPORT_RULES = 30, 20
NODES = 1000
RELOADS = 10
QUIET_S = 1.0
"""How long the stream runs before the first reload, to tell what the disk alone makes slow."""
MS = 1000


@dataclass(slots=True)
class _Stream:
    """One association that stores object after object until told to stop."""

    port: int
    items: Sequence[Generated]
    stopping: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    slowest_s: float = 0.0
    statuses: list[int] = field(default_factory=list)
    failure: Exception | None = None

    def run(self) -> None:
        """Store; each object may come again and again."""
        try:
            offers = [Offer(self.items[0].sop_class)]
            with RawAssociation.open(self.port, offers, timeout_s=60) as association:
                while not self.stopping.is_set():
                    self._round(association)
        except Exception as exc:
            # Reported by the thread that measures.
            self.failure = exc
        finally:
            self.began.set()

    def _round(self, association: RawAssociation) -> None:
        for item in self.items:
            if self.stopping.is_set():
                return
            content = data_set_of(item.path.read_bytes())
            start = time.perf_counter()
            reply = association.store(item.sop_class, item.sop_instance, content)
            self.slowest_s = max(self.slowest_s, time.perf_counter() - start)
            self.statuses.append(reply.status)
            self.began.set()


def reload(bench: Bench, _: Contestant) -> Mapping[str, float]:
    """Reload ten times while objects of 4 kB are stored over one association."""
    gateway = Gateway.create(
        bench.stable.new_folder(), bench.stable.ports, settings=rules(0), nodes=nodes(0)
    )
    gateway.start()
    stream = _Stream(gateway.port, bench.small.items)
    sending = threading.Thread(target=stream.run)
    sending.start()
    took: list[float] = []
    try:
        stream.began.wait(60)
        socket = socket_path(gateway.folder)
        wait_until(socket.exists, "the control socket")
        control = ControlClient(socket)
        time.sleep(QUIET_S)
        quiet_s, stream.slowest_s = stream.slowest_s, 0.0
        before = len(stream.statuses)
        for version in range(1, RELOADS + 1):
            gateway.name_nodes(nodes(version))
            gateway.configure(**rules(version))
            answer = control.call("reload")
            if not answer["applied"]:
                raise Failed(f"a reload was refused: {answer['reasons']}")
            took.append(float(answer["took_ms"]))
    finally:
        stream.stopping.set()
        sending.join()
        gateway.stop()
    if stream.failure is not None or any(stream.statuses):
        raise Failed(f"an object was refused: {stream.failure} {set(stream.statuses)}")
    return {
        "time": sorted(took)[len(took) // 2] / MS,
        "slowest": max(took) / MS,
        "store": stream.slowest_s * MS,
        "quiet": quiet_s * MS,
        "stored": len(stream.statuses) - before,
    }


def rules(version: int) -> dict[str, object]:
    """Return fifty rules that no object meets, with other texts in every version."""
    found: dict[str, object] = {"ExportConverters": EXPORT_RULES}
    for number in range(IMPORT_RULES):
        found[f"ImportConverter{number}"] = (
            f'ifequal "%m", "X{number}"; '
            f'{{ set 0010,4000 to "V{version} %i"; forward to N{number}; }}'
        )
    for number in range(EXPORT_RULES):
        found[f"ExportConverter{number}"] = (
            f'ifequal "%m", "Y{number}"; forward to N{number + version}'
        )
    return found


def nodes(version: int) -> list[Node]:
    """Return a thousand nodes, each with another port in every version."""
    return [Node(f"N{number}", 1000 + number + version) for number in range(NODES)]
