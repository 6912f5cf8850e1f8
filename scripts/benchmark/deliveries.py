"""Works about delivery: how fast debts are paid, and what does not slow them down.

A delivery is measured from the moment at which its destination may be called. Before that the
destination was down, so that all of it is owed. It ends when the ledger owes nothing any more;
where it is compared with a sender that has no ledger, when the receiver has all files.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dgate.archive.debttable import OPEN_SQL
from dgate.ops.control import ControlClient, socket_path
from scripts.benchmark.contestants import Contestant
from scripts.benchmark.loads import Load
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import StoreScp, run_dcmtk
from tests.acceptance.processes import Failed, Process, wait_until

if TYPE_CHECKING:
    from scripts.benchmark.works import Bench, Measured

OPEN_DEBTS = 1_000_000
PAUSE_MS = 20
SLOW_OBJECTS = 400
DESTINATIONS = 50
SPREAD_OBJECTS = 200
"""So many objects go to each of the destinations."""
PER_RULE = 5
LONG_S = 600.0
_FIRST_FAILURE = {"RetryDelay": 3600}
"""A destination that was down is not tried again before it is told to be."""


def deliver(name: str) -> Callable[[Bench, Contestant], Measured]:
    """Return the work of sending a load to a storescp over one association."""

    def run(bench: Bench, who: Contestant) -> Measured:
        load = bench.load(name)
        if who is Contestant.STORESCU:
            with bench.stable.sink() as sink:
                return _timed(
                    lambda: run_dcmtk("storescu", "+sd", "127.0.0.1", str(sink.port), load.folder)
                )
        with _sleeping_sink(bench) as sink, _owing(bench, load, [sink.node]) as gateway:
            sink.start()
            begin = time.perf_counter()
            _call_sink(gateway)
            sink.wait_for(len(load.items), deadline_s=LONG_S)
            result = {"time": time.perf_counter() - begin}
            _wait_paid(gateway, ["SINK"])
            _expect_done(gateway, len(load.items))
            return result

    return run


def deliver_slowly(bench: Bench, who: Contestant) -> Measured:
    """Send objects of 4 kB to a receiver that answers each after 20 ms."""
    associations = 4 if who is Contestant.DGATE else 1
    port = bench.stable.ports.take()
    load = _part(bench.small, SLOW_OBJECTS)
    node = Node("SINK", port)
    settings = {"DelayedForwarderThreads": associations}
    with _owing(bench, load, [node], **settings) as gateway, _pausing(bench, port, PAUSE_MS):
        result = _timed(lambda: _pay(gateway))
        _expect_done(gateway, len(load.items))
        return result


def million_debts(bench: Bench, who: Contestant) -> Measured:
    """Take in and deliver 2,000 objects beside a million open debts of another destination.

    A second rule puts each study off: its quiet time begins anew with each object. With
    `Durability = none`, or the disk's own moods would hide the difference.
    """
    with _sleeping_sink(bench) as sink:
        dead = Node("DEAD", bench.stable.ports.take())
        gateway = _gateway(
            bench, [sink.node, dead], Durability="none",
            ExportConverters=2, ExportConverter1="forward study to DEAD after 3600",
        )  # fmt: skip
        if who is Contestant.DGATE:
            _fill(gateway, bench)
        gateway.start()
        try:
            stored = _timed(lambda: _store(gateway, bench.small))
            sink.start()
            paid = _timed(lambda: _pay(gateway))
            _expect_done(gateway, len(bench.small.items))
        finally:
            gateway.kill()
    return {"ingest": stored["time"], "dispatch": paid["time"]}


def start_million(bench: Bench, _: Contestant) -> Measured:
    """Start with a million open debts, until the first C-ECHO is answered."""
    gateway = _gateway(bench, [Node("DEAD", bench.stable.ports.take())])
    _fill(gateway, bench)
    begin = time.perf_counter()
    gateway.process.launch()
    try:
        wait_until(gateway.answers, "the first C-ECHO", deadline_s=LONG_S)
        return {"time": time.perf_counter() - begin}
    finally:
        gateway.kill()


def half_dead(bench: Bench, who: Contestant) -> Measured:
    """Store objects for 50 destinations, of which 25 live; the others refuse, or never answer.

    Compared with a server whose other 25 are outside of their window, and so never tried.
    """
    load = _part(bench.small, SPREAD_OBJECTS)
    half = DESTINATIONS // 2
    live_port, refusing_port = bench.stable.ports.take(), bench.stable.ports.take()
    with ExitStack() as stack:
        stack.enter_context(_pausing(bench, live_port, 0))
        hanging_port = stack.enter_context(_hanging())
        live = [Node(f"LIVE{number}", live_port) for number in range(half)]
        dead = [
            Node(f"DEAD{number}", refusing_port if number % 2 else hanging_port)
            for number in range(half)
        ]
        gateway = _gateway(
            bench, [*live, *dead], forwards=[node.title for node in (*live, *dead)],
            Durability="none", RetryFirst=1, RetryMax=5, TCPIPTimeOut=5,
        )  # fmt: skip
        if who is Contestant.DGATE_ASLEEP:
            _close_windows(gateway, dead)
        gateway.start()
        stack.callback(gateway.kill)
        begin = time.perf_counter()
        _store(gateway, load)
        stored = time.perf_counter()
        _wait_paid(gateway, [node.title for node in live])
        result = {"ingest": stored - begin, "deliver": time.perf_counter() - begin}
        _expect_done(gateway, len(load.items) * half)
        return result


# Parts of these.


def _timed(action: Callable[[], object]) -> Measured:
    start = time.perf_counter()
    action()
    return {"time": time.perf_counter() - start}


def _part(load: Load, count: int) -> Load:
    """Return the first objects of a load, in a folder of links."""
    folder = load.folder.parent / f"first{count}"
    items = load.items[:count]
    if not folder.exists():
        folder.mkdir()
        for item in items:
            (folder / item.path.name).hardlink_to(item.path)
    return replace(load, folder=folder, items=items)


@contextmanager
def _sleeping_sink(bench: Bench) -> Iterator[StoreScp]:
    """Prepare a storescp that the caller starts when it may be called."""
    place = bench.stable.new_folder()
    place.mkdir()
    sink = StoreScp.create(place / "sink", bench.stable.ports, verbose=False)
    try:
        yield sink
    finally:
        sink.kill()


def _gateway(
    bench: Bench, nodes: list[Node], *, forwards: list[str] | None = None, **settings: object
) -> Gateway:
    rules = _rules(forwards or ["SINK"])
    values = {**_FIRST_FAILURE, "ExportConverters": len(rules), **rules, **settings}
    if "RetryFirst" in settings:
        del values["RetryDelay"]
    return Gateway.create(
        bench.stable.new_folder() / "dgate", bench.stable.ports, settings=values, nodes=nodes
    )


def _rules(targets: list[str]) -> dict[str, str]:
    """Return export rules that forward everything; there can be twenty at most."""
    parts = [targets[start : start + PER_RULE] for start in range(0, len(targets), PER_RULE)]
    return {
        f"ExportConverter{number}": "; ".join(f"forward to {name}" for name in part)
        for number, part in enumerate(parts)
    }


@contextmanager
def _owing(bench: Bench, load: Load, nodes: list[Node], **settings: object) -> Iterator[Gateway]:
    """Run a server that owes all of a load to SINK, which was down when it was stored."""
    gateway = _gateway(bench, nodes, **settings)
    gateway.start()
    try:
        _store(gateway, load)
        os.sync()
        yield gateway
    finally:
        gateway.kill()


def _store(gateway: Gateway, load: Load) -> None:
    run_dcmtk("storescu", "+sd", "-aec", "DGATE", "127.0.0.1", str(gateway.port), load.folder)


def _call_sink(gateway: Gateway) -> None:
    """Have SINK called now, which was down before."""
    control = ControlClient(socket_path(gateway.folder))
    selection = {"ids": None, "destination": "SINK", "states": None}
    control.call("queue.retry", {"selection": selection})


def _pay(gateway: Gateway) -> None:
    """Have SINK called now, and wait until nothing is owed to it."""
    _call_sink(gateway)
    _wait_paid(gateway, ["SINK"])


def _wait_paid(gateway: Gateway, names: Sequence[str]) -> None:
    """Wait until none of these destinations is owed anything.

    Reads the database beside the server: a reader keeps nobody from working.
    """
    still_open = f"SELECT 1 FROM dgate_debts WHERE {OPEN_SQL} AND destination = ? LIMIT 1"
    with closing(sqlite3.connect(gateway.database)) as connection:

        def is_paid() -> bool:
            return not any(connection.execute(still_open, (name,)).fetchone() for name in names)

        wait_until(is_paid, f"deliveries to {len(names)} destinations", deadline_s=LONG_S)


def _expect_done(gateway: Gateway, count: int) -> None:
    """Fail when something else than a delivery has ended the debts."""
    with closing(sqlite3.connect(gateway.database)) as connection:
        rows = connection.execute("SELECT count(*) FROM dgate_debts WHERE state = 'done'")
        done = int(rows.fetchone()[0])
    if done != count:
        raise Failed(f"{done} of {count} deliveries were made")


def _fill(gateway: Gateway, bench: Bench) -> None:
    """Multiply one open debt until there are a million, of a destination that is down.

    They wait: the file of each holds another object, so that a try would make it stuck.
    """
    gateway.start()
    item = bench.small.items[-1]
    run_dcmtk("storescu", "-aec", "DGATE", "127.0.0.1", str(gateway.port), item.path)
    gateway.stop()
    with closing(sqlite3.connect(gateway.database)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(dgate_debts)")]
        names.remove("id")
        columns = ", ".join(names)
        delivery = f"SELECT {columns} FROM dgate_debts WHERE kind = 'deliver'"
        values = connection.execute(delivery).fetchone()
        changes = {"destination": "DEAD", "state": "queued", "due": time.time() + 3600}
        row = dict(zip(names, values, strict=True)) | changes
        root = row["sop_instance"]
        marks = ", ".join("?" * len(names))
        connection.execute("DELETE FROM dgate_debts")
        connection.executemany(
            f"INSERT INTO dgate_debts ({columns}) VALUES ({marks})",
            (
                tuple(
                    {
                        **row,
                        "sop_instance": f"{root}.{number}",
                        "study": f"{root}.{number // 100}",
                        "series": f"{root}.{number // 100}.1",
                        "patient_id": f"P{number // 100}",
                    }.values()
                )
                for number in range(OPEN_DEBTS)
            ),
        )
    os.sync()


@contextmanager
def _pausing(bench: Bench, port: int, pause_ms: float) -> Iterator[None]:
    """Run a receiver that takes its time."""
    command = [sys.executable, "-m", "scripts.benchmark.sink", str(port), str(pause_ms)]
    place = bench.stable.new_folder()
    place.mkdir()
    process = Process(command, place / "sink.log", dict(os.environ))
    process.launch()
    try:
        process.wait_ready(lambda: process.has_said("ready"), 60)
        yield
    finally:
        process.end()


@contextmanager
def _hanging() -> Iterator[int]:
    """Listen on a port, take connections, and never say a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(DESTINATIONS)
        yield server.getsockname()[1]


def _close_windows(gateway: Gateway, nodes: list[Node]) -> None:
    """Let nothing be sent to some nodes while this is measured."""
    now = time.localtime()
    begin = (now.tm_hour + 12) % 24
    window = f"{begin:02d}:00-{begin:02d}:30"
    sections = "".join(f"\n[node {node.title}]\nWindow = {window}\n" for node in nodes)
    with Path(gateway.ini).open("a") as ini:
        ini.write(sections)


MILLION_UNITS: Mapping[str, str] = {"ingest": "s to store", "dispatch": "s to deliver"}
SPREAD_UNITS: Mapping[str, str] = {"ingest": "s to store", "deliver": "s until delivered"}
