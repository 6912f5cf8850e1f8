"""What goes wrong in a round: drawn from its random numbers before it begins, then done.

Two threads do it, one for the gateway with its disk, one for the network and the destinations, so
that faults of both kinds meet. The pauses are part of the faults; nothing is checked by time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.acceptance.harness import Gateway
from tests.acceptance.processes import Process
from tests.campaign.disk import Disk
from tests.campaign.proxy import Proxy
from tests.campaign.senders import Line
from tests.campaign.truth import Truth

OUT_OF_RESOURCES = "A700 A701 0110 0213 A800 0210"
"""What a destination answers that will take the object later."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    kind: str
    after: int
    """It begins after so many answers to the senders since the fault before it."""
    lasts_s: float
    choice: float
    """Between 0 and 1, for what the kind leaves open."""
    size: int

    @classmethod
    def draw(cls, kind: str, source: random.Random, spread: int) -> Fault:
        """Draw one of this kind."""
        return cls(
            kind,
            source.randrange(spread),
            source.uniform(0.02, 0.5),
            source.random(),
            int(2 ** source.uniform(0, 10)),
        )

    def __str__(self) -> str:
        """Return it for the record of a round."""
        return f"{self.kind}(+{self.after}, {self.lasts_s:.2f} s, {self.choice:.2f}, {self.size})"


@dataclass(slots=True)
class Scene:
    """What faults act upon."""

    gateway: Gateway
    line: Line
    truth: Truth
    disk: Disk | None
    scripted: Process
    """The destination of our own; its orders go to its standard input."""
    dcmtk: Process
    ways: list[Proxy]
    front: Proxy
    """The way of the senders to the gateway."""
    order: Callable[[str], None]
    restart_scripted: Callable[[], None]
    restart_dcmtk: Callable[[], None]
    start_gateway: Callable[[], None]
    say: Callable[[str], None]
    counts: Counter[str] = field(default_factory=Counter)
    idle: Callable[[], bool] = bool
    """The senders have ended."""


def draw_plan(source: random.Random, *, has_disk: bool) -> tuple[list[Fault], list[Fault]]:
    """Draw the faults of a round, for the gateway and for what is around it."""
    inner = ["kill", "kill", "restart"]
    if has_disk:
        inner += ["power", "power", "power", "full", "eio"]
    outer = ["sink killed", "dcmtk killed", "refused", "rejected", "cut", "cut inside", "stalled"]
    outer += ["late", "away", "sender cut", "sender cut inside", "sender stalled", "sender late"]
    # The spread such that most come while something is sent.
    first = [Fault.draw(source.choice(inner), source, 40) for _ in range(source.randint(1, 3))]
    second = [Fault.draw(source.choice(outer), source, 30) for _ in range(source.randint(1, 3))]
    return first, second


class Mischief:
    """Does the faults of one list, one after the other; called as a thread."""

    def __init__(self, scene: Scene, faults: list[Fault]) -> None:
        self._scene = scene
        self._faults = faults
        self.failure: BaseException | None = None
        self._actions: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "restart": self._restart,
            "power": self._power,
            "full": self._full,
            "eio": self._eio,
            "sink killed": self._sink_killed,
            "dcmtk killed": self._dcmtk_killed,
            "refused": self._refused,
            "rejected": self._rejected,
            "cut": self._cut,
            "cut inside": self._cut_inside,
            "stalled": self._stalled,
            "late": self._late,
            "away": self._away,
            "sender cut": lambda fault: self._cut(fault, scene.front),
            "sender cut inside": lambda fault: self._cut_inside(fault, scene.front),
            "sender stalled": lambda fault: self._stalled(fault, scene.front),
            "sender late": lambda fault: self._late(fault, scene.front),
        }

    def __call__(self) -> None:
        """Do them; what fails is kept in `failure`."""
        try:
            for fault in self._faults:
                self._await_answers(fault.after)
                self._scene.say(f"fault {fault}")
                self._actions[fault.kind](fault)
                self._scene.counts[fault.kind] += 1
        except BaseException as exc:
            self.failure = exc

    def _await_answers(self, count: int) -> None:
        scene = self._scene
        goal = scene.truth.answers + count
        with scene.line.progress:
            # Not for ever: a destination or a disk may be such that nothing is answered.
            scene.line.progress.wait_for(
                lambda: scene.truth.answers >= goal or scene.idle(), timeout=1.0
            )

    def _pause(self, fault: Fault) -> None:
        time.sleep(fault.lasts_s)

    # The gateway and its disk.

    def _kill(self, fault: Fault) -> None:
        scene = self._scene
        scene.line.up.clear()
        scene.gateway.kill()
        if fault.choice < 0.3:
            # And once more while it starts.
            scene.gateway.process.launch()
            self._pause(fault)
            scene.gateway.kill()
            scene.counts["kill at start"] += 1
        scene.start_gateway()

    def _restart(self, fault: Fault) -> None:
        scene = self._scene
        scene.line.up.clear()
        code = scene.gateway.stop()
        if code not in (0, -signal.SIGTERM):
            scene.say(f"the gateway ended with {code}")
        scene.start_gateway()

    def _power(self, fault: Fault) -> None:
        disk = self._disk()
        if fault.choice < 0.6:
            disk.cut_at("sync", 1 + fault.size % 120)
        else:
            disk.cut_at("operation", 1 + fault.size)
        if not disk.was_cut(3 * fault.lasts_s):
            disk.cut_now()
        self._come_back(disk)
        if fault.choice % 0.1 < 0.03:
            # And again while it starts, in what recovery does, perhaps.
            disk.cut_at("sync", 1 + fault.size % 5)
            self._scene.gateway.process.launch()
            if not disk.was_cut(fault.lasts_s):
                disk.cut_now()
            self._come_back(disk)
            self._scene.counts["power at start"] += 1
        self._scene.start_gateway()

    def _come_back(self, disk: Disk) -> None:
        scene = self._scene
        scene.line.up.clear()
        process = scene.gateway.process
        # Not waited for: it may hang in a request that is answered no more.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        scene.say(f"power cut: {disk.restore()}")
        process.end(signal.SIGKILL)

    def _full(self, fault: Fault) -> None:
        disk = self._disk()
        disk.fill(fault.size * 512, honest=fault.choice < 0.3)
        self._end_trouble(disk, fault)

    def _eio(self, fault: Fault) -> None:
        disk = self._disk()
        kinds = [
            kind
            for place, kind in enumerate(("write", "sync", "name", "read"))
            if fault.size >> place & 1
        ]
        disk.fail(kinds or ["sync"], 0.02 + 0.5 * fault.choice**3)
        self._end_trouble(disk, fault)

    def _end_trouble(self, disk: Disk, fault: Fault) -> None:
        """Let it last, and at times kill the server in the midst of it."""
        scene = self._scene
        self._pause(fault)
        if fault.choice * 10 % 1 < 0.25:
            scene.line.up.clear()
            scene.gateway.kill()
            scene.counts["kill in trouble"] += 1
            scene.counts["requests failed by the disk"] += disk.heal()
            scene.start_gateway()
        else:
            scene.counts["requests failed by the disk"] += disk.heal()

    def _disk(self) -> Disk:
        assert self._scene.disk is not None
        return self._scene.disk

    # What is around it.

    def _sink_killed(self, fault: Fault) -> None:
        self._scene.scripted.end(signal.SIGKILL)
        self._pause(fault)
        self._scene.restart_scripted()

    def _dcmtk_killed(self, fault: Fault) -> None:
        self._scene.dcmtk.end(signal.SIGKILL)
        self._pause(fault)
        self._scene.restart_dcmtk()

    def _refused(self, fault: Fault) -> None:
        statuses = OUT_OF_RESOURCES.split()
        random.Random(fault.size).shuffle(statuses)
        self._scene.order(" ".join(["refuse", *statuses]))
        self._pause(fault)
        self._scene.order("take")

    def _rejected(self, fault: Fault) -> None:
        self._scene.order("reject")
        self._way(fault).cut()
        self._pause(fault)
        self._scene.order("take")

    def _way(self, fault: Fault) -> Proxy:
        return self._scene.ways[int(fault.choice * len(self._scene.ways))]

    def _cut(self, fault: Fault, way: Proxy | None = None) -> None:
        (way or self._way(fault)).cut()

    def _cut_inside(self, fault: Fault, way: Proxy | None = None) -> None:
        way = way or self._way(fault)
        way.cut_after(fault.size * 40)
        self._pause(fault)
        way.resume()

    def _stalled(self, fault: Fault, way: Proxy | None = None) -> None:
        way = way or self._way(fault)
        way.hold()
        self._pause(fault)
        if fault.size % 2:
            way.cut()
        way.resume()

    def _late(self, fault: Fault, way: Proxy | None = None) -> None:
        way = way or self._way(fault)
        way.hold(answers_only=True)
        self._pause(fault)
        if fault.size % 2:
            way.cut()
        way.resume()

    def _away(self, fault: Fault) -> None:
        way = self._way(fault)
        way.take_down()
        self._pause(fault)
        way.resume()
