"""A gateway with its destinations, and rounds of sending, faults and checks.

A `Pair` is one gateway on one disk with three destinations; after some rounds it is checked as a
whole and begun anew (an epoch), so that the memory of the disk stays bounded.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dgate.cli.access import server_in
from dgate.errors import DgateError
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import accepts_connections
from tests.acceptance.processes import (
    START_DEADLINE_S,
    Failed,
    Ports,
    Process,
    find_program,
    peer_environment,
    wait_until,
)
from tests.acceptance.rawdicom import Closed
from tests.campaign import answers, checks
from tests.campaign.disk import Disk
from tests.campaign.faults import Mischief, Scene, draw_plan
from tests.campaign.nursery import ForkedProcess, Nursery
from tests.campaign.proxy import Proxy
from tests.campaign.senders import (
    Line,
    Sender,
    Storescu,
    make_items,
    run_all,
    with_other_pixels,
)
from tests.campaign.truth import Item, Stream, Truth
from tests.campaign.volatile import Ordering
from tests.generate import Kind, Plan

EPOCH_ROUNDS = 25
DRAIN_DEADLINE_S = 180.0

SETTINGS: dict[str, object] = {
    "RetryFirst": 0.1,
    "RetryMax": 0.5,
    "Durability": "full",
    "ImportCallingAE0": "PASS",
    "ImportConverter0": "forward to SINK1; forward to SINK2; destroy",
    "ImportCallingAE1": "REJECT",
    "ImportConverter1": "reject",
    "ExportConverters": 6,
    "ExportCallingAE0": "KEEP",
    "ExportConverter0": "forward to SINK1",
    "ExportCallingAE1": "KEEP",
    "ExportConverter1": "forward to SINK2",
    "ExportCallingAE2": "NAMED",
    "ExportConverter2": "forward to %V0008,1010",
    "ExportCallingAE3": "STUDY",
    "ExportConverter3": "forward study after 1 to SINK3",
    "ExportCallingAE4": "AGAIN",
    "ExportConverter4": "forward to SINK1",
    "ExportCallingAE5": "AGAIN",
    "ExportConverter5": "forward to SINK3",
}


class Violation(Exception):
    """The invariant does not hold."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__("\n".join(findings))
        self.findings = findings


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    rounds: int = 0
    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    delivered: int = 0
    duplicates: int = 0
    repeats: int = 0
    """Repeats that the ledger counts: an upper bound of the duplicates."""
    by_hand: int = 0
    """Debts that were stuck because the disk failed to read, and were tried again by an operator's
    command."""
    set_aside: int = 0
    refused_but_kept: int = 0
    """Objects that are stored, or were passed on, though the sender was told of a failure: the disk
    failed behind the commit."""
    faults: Counter[str] = field(default_factory=Counter)


class Pair:
    """One gateway, its disk, and its destinations."""

    def __init__(
        self, folder: Path, seed: int, say: Callable[[str], None], *, has_disk: bool
    ) -> None:
        self._folder = folder
        self._source = random.Random(seed)
        self._say = say
        self._has_disk = has_disk
        self._number = 0
        self._truth = Truth()
        self._again: list[Item] = []
        self.tally = Tally()
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._nursery = Nursery(folder.parent / f"{folder.name}.nursery.log")
        self._begin_epoch(seed)

    # An epoch.

    def _begin_epoch(self, seed: int) -> None:
        folder = self._folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "sink2").mkdir(parents=True)
        self._ports = Ports()
        self._truth = Truth()
        self._again = []
        self._journal = folder / "journal"
        scripted, dcmtk = self._ports.take(), self._ports.take()
        self._scripted = Process(
            [sys.executable, "-m", "tests.campaign.sink", str(scripted), str(self._journal)],
            folder / "sink.log",
            os.environ,
        )
        self._scripted_port, self._dcmtk_port = scripted, dcmtk
        self._arrivals = checks.Arrivals(self._journal, folder / "sink2")
        # Each arrival under a name of its own, so that those that repeat another are counted.
        words = ["+B", "+uf", "-aet", "SINK2", "-od", str(folder / "sink2"), str(dcmtk)]
        self._dcmtk = Process(
            [find_program("storescp"), *words], folder / "storescp.log", peer_environment()
        )
        self._orders: subprocess.Popen[bytes] | None = None
        self._start_scripted()
        self._start_dcmtk()
        self._ways = {
            "SINK1": Proxy(scripted),
            "SINK2": Proxy(dcmtk),
            "SINK3": Proxy(scripted),
            "ROOM1": Proxy(scripted),
        }
        ordering = self._source.choice(list(Ordering))
        self._disk = (
            Disk(folder / "disk", folder / "disk.log", seed, ordering) if self._has_disk else None
        )
        disk = folder / "disk"
        self._device = disk / "data"
        self._gateway = Gateway.create(
            folder / "dgate",
            self._ports,
            settings={
                **SETTINGS,
                "SQLServer": disk / "dbase" / "dgate.db3",
                "MAGDevice0": disk / "data",
            },
            nodes=[Node(title, way.port) for title, way in self._ways.items()],
        )
        process = self._gateway.process
        self._gateway.process = ForkedProcess(
            process.command, process.log, process.environment, nursery=self._nursery
        )
        self._front = Proxy(self._gateway.port)
        self._line = Line(self._front.port)
        self._log = answers.Log(self._gateway.process.log)
        self._start_gateway()
        self._say(f"epoch on a disk of kind {ordering.value if self._disk else 'plain'}")

    def end_epoch(self) -> None:
        """Check everything that the epoch sent, after a last start, and clear away."""
        try:
            self._gateway.restart()
            wait_until(lambda: self._gateway.process.has_said("Spool: "), "the spool's sweep")
            findings = self._check(set(self._truth.facts))
            findings += checks.check_counts(self._gateway.database, self._arrivals)
            # The last round is over, and with it all faults.
            findings += self._log.check(())
            stored = checks.Stored.of(self._gateway.database, self._device)
            findings += checks.check_leftovers(self._device, stored, self._truth.facts)
            findings += checks.check_database(self._gateway.database)
            if findings:
                raise Violation(findings)
            self.tally.duplicates += self._arrivals.duplicates()
            self.tally.delivered += self._arrivals.total()
            self.tally.repeats += checks.repeats(self._gateway.database)
            self.tally.set_aside += checks.set_aside(self._device)
            self.tally.refused_but_kept += sum(
                checks.stored_digest(stored, sop) in fact.refused
                for sop, fact in self._truth.facts.items()
            ) + checks.passed_on_though_refused(self._truth.facts, self._arrivals)
            if self._gateway.stop() != 0:
                raise Violation(["the gateway does not end cleanly"])
        except Failed as failure:
            raise Violation([str(failure)]) from failure
        self.close()

    def next_epoch(self) -> None:
        """Begin anew."""
        self._begin_epoch(self._source.randrange(1 << 30))

    def close(self) -> None:
        """End all processes."""
        for process in (self._gateway.process, self._scripted, self._dcmtk):
            if process.child is not None:
                with contextlib.suppress(Failed, ProcessLookupError):
                    os.killpg(process.pid, 9)
        for way in (self._front, *self._ways.values()):
            way.close()
        if self._disk is not None:
            self._disk.close()
        for process in (self._gateway.process, self._scripted, self._dcmtk):
            if process.child is not None:
                process.child.wait()
                if process.child.stdin is not None:
                    process.child.stdin.close()
        self._ports.close()

    def end(self) -> None:
        """End the process that starts servers."""
        self._nursery.close()

    def keep(self) -> Path:
        """Leave everything as it is for whoever looks for the cause; returns the folder."""
        kept = self._folder / "disk as found"
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(self._folder / "disk", kept)
        return self._folder

    # Processes.

    def _start_scripted(self) -> None:
        # `Process.launch` gives no standard input, by which this one takes its orders.
        with self._scripted.log.open("ab") as output:
            self._scripted.child = subprocess.Popen(
                self._scripted.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        port = self._scripted_port
        self._scripted.wait_ready(lambda: accepts_connections(port), START_DEADLINE_S)

    def _start_dcmtk(self) -> None:
        self._arrivals.drop_torn(self._truth.facts)
        self._dcmtk.launch()
        port = self._dcmtk_port
        self._dcmtk.wait_ready(lambda: accepts_connections(port), START_DEADLINE_S)

    def _order(self, line: str) -> None:
        child = self._scripted.running
        assert child.stdin is not None
        # It may just have been killed by a fault; it takes everything again after that anyway.
        with contextlib.suppress(OSError):
            child.stdin.write(line.encode() + b"\n")
            child.stdin.flush()

    def _start_gateway(self) -> None:
        self._line.starts += 1
        self._gateway.start()
        self._line.up.set()

    # A round.

    def round(self) -> None:
        """Send, do harm, let it drain, check; raises Violation."""
        self._number += 1
        number = self._number
        if self._disk is not None:
            self._disk.mark(f"round {number}", fresh=True)
        source = random.Random(self._source.randrange(1 << 30))
        senders, items, folder = self._prepare(source, number)
        inner, outer = draw_plan(source, has_disk=self._disk is not None)
        self._say(f"round {number}: {', '.join(map(str, [*inner, *outer]))}")
        self._truth.begin(items, number)
        before = (self._truth.answers, self._truth.acknowledgements)
        threads = run_all(senders)
        scene = self._scene(lambda: not any(thread.is_alive() for thread in threads))
        mischief = [Mischief(scene, inner), Mischief(scene, outer)]
        harm = run_all(mischief)
        for thread in [*harm, *threads]:
            thread.join()
        for each in mischief:
            if each.failure is not None:
                what = f"{type(each.failure).__name__}: {each.failure}"
                raise Violation([what]) from each.failure
        self._calm()
        findings = list[str]()
        try:
            findings += self._drain()
            findings += self._check(set(self._truth.of_round(number)))
            findings += answers.check_answers(self._truth, scene.counts)
            findings += self._log.check(scene.counts)
        except (Failed, Closed, OSError) as failure:
            findings.append(f"{type(failure).__name__}: {failure}")
        if findings:
            raise Violation(findings)
        self._settle(number)
        tally = self.tally
        tally.rounds += 1
        tally.sent += len(items)
        tally.acknowledged += self._truth.acknowledgements - before[1]
        tally.refused += (
            self._truth.answers - before[0] - (self._truth.acknowledgements - before[1])
        )
        tally.faults += scene.counts
        own = [each for each in senders if isinstance(each, Sender)]
        tally.faults["sender hung up"] += sum(each.hung_up for each in own)
        tally.faults["sender hung up behind"] += sum(each.hung_up_behind for each in own)
        shutil.rmtree(folder)

    def _prepare(
        self, source: random.Random, number: int
    ) -> tuple[list[Sender | Storescu], list[Item], Path]:
        folder = self._folder / f"in{number}"

        def make(stream: Stream, count: int, kind: Kind = Kind.SMALL) -> list[tuple[Item, Path]]:
            # All UIDs and numbers of a plan come from its seed.
            self._made = getattr(self, "_made", 0) + 1
            plan = Plan(count, kind, seed=self._made, per_series=source.choice((4, 10)))
            return make_items(folder / f"{stream.name}{self._made}", stream, plan, source)

        groups = [
            [item for item, _ in made]
            for made in (
                make(Stream.KEEP, source.randint(10, 25)),
                make(Stream.KEEP, source.randint(1, 3), Kind.LARGE),
                make(Stream.PASS, source.randint(5, 15)),
                make(Stream.NAMED, source.randint(4, 10)),
                make(Stream.STUDY, source.randint(3, 12)),
                make(Stream.REJECT, source.randint(1, 3)),
            )
        ]
        if source.random() < 0.4:
            groups.append([item for item, _ in make(Stream.PASS, 1, Kind.LARGE)])
        if not self._again or source.random() < 0.1:
            self._again = [item for item, _ in make(Stream.AGAIN, 8)]
            if source.random() < 0.3:
                self._again += [item for item, _ in make(Stream.AGAIN, 1, Kind.LARGE)]
        versions = list[Item]()
        for _ in range(source.randint(1, 2)):
            self._again = [with_other_pixels(item, source) for item in self._again]
            versions += self._again
        groups.append(versions)
        files = make(Stream.KEEP, source.randint(3, 10))
        seed = source.randrange(1 << 30)
        senders: list[Sender | Storescu] = [
            Sender(self._line, self._truth, group, seed + place)
            for place, group in enumerate(groups)
        ]
        senders.append(Storescu(self._line, self._truth, files, Stream.KEEP.name))
        items = [item for group in groups for item in group] + [item for item, _ in files]
        return senders, items, folder

    def _scene(self, idle: Callable[[], bool]) -> Scene:
        return Scene(
            gateway=self._gateway,
            line=self._line,
            truth=self._truth,
            disk=self._disk,
            scripted=self._scripted,
            dcmtk=self._dcmtk,
            ways=list(self._ways.values()),
            front=self._front,
            order=self._order,
            restart_scripted=self._start_scripted,
            restart_dcmtk=self._start_dcmtk,
            start_gateway=self._start_gateway,
            say=self._say,
            idle=idle,
        )

    def _calm(self) -> None:
        """End all faults: the harm has been done."""
        for way in (self._front, *self._ways.values()):
            way.resume()
        self._order("take")
        if self._disk is not None:
            self._disk.heal()

    def _drain(self) -> list[str]:
        database = self._gateway.database

        def is_drained() -> bool:
            if self._gateway.process.running.poll() is not None:
                raise Failed(
                    f"the gateway has ended with {self._gateway.process.running.returncode}"
                )
            if checks.open_debts(database):
                return False
            self._help_stuck()
            return not checks.open_debts(database)

        # Of senders that are gone it may still be storing the last objects.
        wait_until(self._has_no_associations, "no association", deadline_s=DRAIN_DEADLINE_S)
        try:
            wait_until(is_drained, "all deliveries", deadline_s=DRAIN_DEADLINE_S)
        except Failed as failure:
            return [str(failure), *checks.debts(database, checks.OPEN)[:40]]
        return [f"stuck: {each}" for each in checks.debts(database, "state = 'stuck'")]

    def _has_no_associations(self) -> bool:
        try:
            server = server_in(self._gateway.folder)
            return server is not None and server.call("status")["associations"] == 0
        except DgateError as exc:
            raise Failed(str(exc)) from exc

    def _help_stuck(self) -> None:
        """Do what an operator does with debts whose file could not be read: try them again."""
        stuck = checks.debts(self._gateway.database, "state = 'stuck'")
        if stuck and all("nput/output error" in each for each in stuck):
            self.tally.by_hand += len(stuck)
            self._say(f"tried again by hand: {stuck}")
            self._gateway.command("queue", "retry", "--all")

    def _check(self, sops: set[str]) -> list[str]:
        facts = {sop: fact for sop, fact in self._truth.facts.items() if sop in sops}
        self._arrivals.update()
        stored = checks.Stored.of(self._gateway.database, self._device)
        findings = checks.check_objects(facts, stored, self._arrivals)
        findings += checks.check_found(self._gateway.port, facts, stored)
        return findings

    def _settle(self, number: int) -> None:
        """What is stored now is what was accepted; nothing of the round is on its way any more.

        Except for a version that was refused because the disk failed behind its commit: the next
        start gives it its place.
        """
        stored = checks.Stored.of(self._gateway.database, self._device)
        for sop, fact in self._truth.of_round(number).items():
            kept = checks.stored_digest(stored, sop)
            if kept is not None:
                fact.possible = {kept} | fact.refused


def run(
    folder: Path,
    seed: int,
    *,
    has_disk: bool,
    goes_on: Callable[[Tally], bool],
    say: Callable[[str], None],
    done: Callable[[Tally], None],
) -> list[str]:
    """Run rounds while they are wanted; returns the findings of the one that failed.

    `done` is told after each round, with the tally of all.
    """
    pair = Pair(folder, seed, say, has_disk=has_disk)
    try:
        return _rounds(pair, goes_on, say, done)
    finally:
        pair.end()


def _rounds(
    pair: Pair,
    goes_on: Callable[[Tally], bool],
    say: Callable[[str], None],
    done: Callable[[Tally], None],
) -> list[str]:
    try:
        while True:
            begun = time.monotonic()
            pair.round()
            say(f"took {time.monotonic() - begun:.1f} s")
            wanted = goes_on(pair.tally)
            if not wanted or pair.tally.rounds % EPOCH_ROUNDS == 0:
                pair.end_epoch()
                if not wanted:
                    done(pair.tally)
                    return []
                pair.next_epoch()
            done(pair.tally)
    except Violation as violation:
        place = pair.keep()
        pair.close()
        return [*violation.findings, f"everything is kept in {place}"]
