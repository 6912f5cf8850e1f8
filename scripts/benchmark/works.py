"""What is measured, and within which bounds: one work per row of the table.

Each work runs against a server that was started for it and holds nothing else. A measurement is
wall time in seconds from the outside, with the client's own start included for every contestant.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark.checks import check
from scripts.benchmark.comparing import COMPARE_UNITS, compare_archives, compare_study
from scripts.benchmark.contestants import Contestant, Server, Stable
from scripts.benchmark.deliveries import (
    DESTINATIONS,
    MILLION_UNITS,
    OPEN_DEBTS,
    PAUSE_MS,
    SLOW_OBJECTS,
    SPREAD_OBJECTS,
    SPREAD_UNITS,
    deliver,
    deliver_slowly,
    half_dead,
    million_debts,
    start_million,
)
from scripts.benchmark.finds import FIND_UNITS, find_in_million
from scripts.benchmark.fullindex import fill_index
from scripts.benchmark.loads import Huge, Load
from scripts.benchmark.processtree import cpu_seconds, peak_bytes, reset_peak, resident_bytes
from scripts.benchmark.rebuilds import FILES, RATE, REGEN_UNITS, regen
from scripts.benchmark.reloads import reload
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import run_dcmtk
from tests.acceptance.processes import Failed
from tests.acceptance.rawdicom import (
    EXPLICIT_LE,
    STUDY_ROOT_GET,
    Offer,
    RawAssociation,
    Reply,
)

MB = 1 << 20
IDLE_ASSOCIATIONS = 100
IDLE_S = 20.0
INDEXED = 100_000

Measured = Mapping[str, float]
"""One round's result: metric name to value. The usual metric is `time`, in seconds."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a metric of one contestant must reach: a share of another's, or a number."""

    limit: float
    who: Contestant = Contestant.DGATE
    against: Contestant | None = None
    metric: str = "time"


@dataclass(frozen=True, slots=True)
class Work:
    """One thing that is measured."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    bounds: tuple[Bound, ...]
    run: Callable[[Bench, Contestant], Measured]
    units: Mapping[str, str] = field(default_factory=lambda: {"time": "s"})
    most_rounds: int = 1000


@dataclass(frozen=True, slots=True)
class Bench:
    """What the works need: places, data and queries."""

    stable: Stable
    small: Load
    ct: Load
    queries: list[Path]
    huge: Huge

    def load(self, name: str) -> Load:
        """Return a load by name."""
        return self.small if name == "small" else self.ct


def timed(action: Callable[[], object]) -> Measured:
    """Return how long an action took."""
    start = time.perf_counter()
    action()
    return {"time": time.perf_counter() - start}


def send(server: Server, folder: Path) -> None:
    """Send a folder over one association; fail when an object is refused."""
    # Not verbose; storescu stops with an error at the first refusal.
    run_dcmtk("storescu", "+sd", "-aec", server.title, "127.0.0.1", str(server.port), folder)


def send_parallel(server: Server, parts: Sequence[Path]) -> None:
    """Send several folders at once, one association each."""
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: send(server, part), parts))


def store(name: str) -> Callable[[Bench, Contestant], Measured]:
    """Return the work of storing a load over one association."""

    def run(bench: Bench, who: Contestant) -> Measured:
        with bench.stable.serving(who) as server:
            return timed(lambda: send(server, bench.load(name).folder))

    return run


def store_parallel(name: str) -> Callable[[Bench, Contestant], Measured]:
    """Return the work of storing a load over four associations at once."""

    def run(bench: Bench, who: Contestant) -> Measured:
        with bench.stable.serving(who) as server:
            return timed(lambda: send_parallel(server, bench.load(name).parts))

    return run


def find(bench: Bench, who: Contestant) -> Measured:
    """Ask 200 study queries by patient ID on one association, one match each."""
    with bench.stable.serving(who) as server:
        send(server, bench.small.folder)
        outputs = list[str]()

        def ask() -> None:
            result = run_dcmtk(
                "findscu", "-S", "-aec", server.title, "127.0.0.1", str(server.port), *bench.queries
            )
            outputs.append(result.stdout)

        result = timed(ask)
    matches = outputs[0].count("(Pending)")
    if matches != len(bench.queries):
        raise Failed(f"{who.value}: {matches} matches for {len(bench.queries)} queries")
    return result


def get(bench: Bench, who: Contestant) -> Measured:
    """Fetch the study of 400 CT slices by C-GET."""
    item = bench.ct.items[0]
    with bench.stable.serving(who) as server:
        send(server, bench.ct.folder)
        received = bench.stable.new_folder()
        received.mkdir()
        result = timed(
            lambda: run_dcmtk(
                "getscu", "-S", "-aec", server.title, "-od", received,
                "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={item.study}",
                "127.0.0.1", str(server.port),
            )
        )  # fmt: skip
    expect_files(received, len(bench.ct.items), who)
    return result


def move(bench: Bench, who: Contestant) -> Measured:
    """Have the study of 400 CT slices sent to a storescp by C-MOVE."""
    item = bench.ct.items[0]
    with bench.stable.sink() as sink, bench.stable.serving(who, nodes=[sink.node]) as server:
        send(server, bench.ct.folder)
        result = timed(
            lambda: run_dcmtk(
                "movescu", "-S", "-aec", server.title, "-aem", sink.title,
                "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={item.study}",
                "127.0.0.1", str(server.port),
            )
        )  # fmt: skip
        expect_files(sink.folder, len(bench.ct.items), who)
    return result


def expect_files(folder: Path, count: int, who: Contestant) -> None:
    """Fail when a retrieval did not bring everything."""
    found = len(list(folder.iterdir()))
    if found != count:
        raise Failed(f"{who.value} sent {found} of {count} objects")


def route(name: str) -> Callable[[Bench, Contestant], Measured]:
    """Return the work of forwarding a load: from the first byte in to the last object delivered."""

    def run(bench: Bench, who: Contestant) -> Measured:
        load = bench.load(name)
        with (
            bench.stable.sink() as sink,
            bench.stable.serving(who, nodes=[sink.node], forward=True) as server,
        ):

            def send_and_wait() -> None:
                send(server, load.folder)
                sink.wait_for(len(load.items), deadline_s=300)

            return timed(send_and_wait)

    return run


def idle(bench: Bench, who: Contestant) -> Measured:
    """Hold 100 associations open without a word."""
    with bench.stable.serving(who) as server, ExitStack() as held:
        for _ in range(IDLE_ASSOCIATIONS):
            association = RawAssociation.open(server.port, [Offer(STUDY_ROOT_GET)])
            held.callback(association.connection.close)
        pid = server.process.pid
        time.sleep(1.0)
        before = cpu_seconds(pid)
        time.sleep(IDLE_S)
        used = cpu_seconds(pid) - before
        return {"cpu": 100 * used / IDLE_S, "memory": resident_bytes(pid) / MB}


def huge(bench: Bench, who: Contestant) -> Measured:
    """Take in and give back one multi-frame object of 2 GB."""
    item = bench.huge
    with bench.stable.serving(who) as server:
        pid = server.process.pid
        offers = [Offer(item.sop_class, (EXPLICIT_LE,), scp_role=True), Offer(STUDY_ROOT_GET)]
        resident = resident_bytes(pid)
        reset_peak(pid)
        start = time.perf_counter()
        with RawAssociation.open(server.port, offers, timeout_s=300) as association:
            reply = association.store(item.sop_class, item.sop_instance, item.chunks())
            stored = time.perf_counter()
            checksum, final = fetch(association, item)
        fetched = time.perf_counter()
        growth = (peak_bytes(pid) - resident) / MB
    if reply.status != 0 or final.status != 0 or checksum != item.checksum():
        raise Failed(f"2 GB: statuses {reply.status:04X} {final.status:04X}, other bytes came out")
    return {"growth": growth, "in": stored - start, "out": fetched - stored}


def fetch(association: RawAssociation, item: Huge) -> tuple[int, Reply]:
    """Fetch the huge object and return the CRC-32 of what came, with the final response."""
    checksum = 0

    def take(piece: bytes) -> None:
        nonlocal checksum
        checksum = zlib.crc32(piece, checksum)

    association.on_data = take
    _, final = association.get({0x00080052: "STUDY", 0x0020000D: item.study})
    return checksum, final


def start_empty(bench: Bench, _: Contestant) -> Measured:
    """Start on an empty folder, until the first C-ECHO is answered."""
    folder = bench.stable.new_folder()
    gateway = Gateway.create(folder, bench.stable.ports)
    return start_of(gateway)


def start_full(bench: Bench, _: Contestant) -> Measured:
    """Start with 100,000 objects in the index, until the first C-ECHO is answered."""
    gateway = Gateway.create(bench.stable.new_folder(), bench.stable.ports)
    gateway.start()
    item = bench.small.items[0]
    run_dcmtk("storescu", "127.0.0.1", str(gateway.port), item.path)
    gateway.stop()
    fill_index(gateway.database, INDEXED)
    # Once without measuring, as a server of that size has been started before.
    gateway.start()
    gateway.stop()
    return start_of(gateway)


def start_of(gateway: Gateway) -> Measured:
    """Measure one start."""
    begin = time.perf_counter()
    gateway.start()
    result = {"time": time.perf_counter() - begin}
    gateway.kill()
    return result


def _table() -> tuple[Work, ...]:
    dgate, none = Contestant.DGATE, Contestant.DGATE_NONE
    scp, orthanc, unsynced = Contestant.STORESCP, Contestant.ORTHANC, Contestant.ORTHANC_UNSYNCED
    all_five = (none, dgate, scp, orthanc, unsynced)
    pair = (dgate, orthanc)
    small, ct = "2,000 x 4 kB", "400 CT of 512 kB"
    return (
        Work("store-small", f"store {small}, one association", all_five,
             (Bound(1.5, none, scp), Bound(0.8, dgate, orthanc)), store("small")),
        Work("store-ct", f"store {ct}, one association", all_five,
             (Bound(1.3, none, scp), Bound(0.5, dgate, orthanc)), store("ct")),
        Work("store-small-4", f"store {small}, four associations", pair,
             (Bound(0.6, dgate, orthanc),), store_parallel("small")),
        Work("store-ct-4", f"store {ct}, four associations", pair,
             (Bound(0.6, dgate, orthanc),), store_parallel("ct")),
        Work("find", "C-FIND x 200 by PatientID, one association", pair,
             (Bound(1.5, dgate, orthanc),), find),
        Work("get", f"C-GET of {ct}", pair, (Bound(1.2, dgate, orthanc),), get),
        Work("move", f"C-MOVE of {ct}", pair, (Bound(1.2, dgate, orthanc),), move),
        Work("route-ct", f"route {ct} to a storescp", pair,
             (Bound(0.7, dgate, orthanc),), route("ct")),
        Work("route-small", f"route {small} to a storescp", pair,
             (Bound(0.7, dgate, orthanc),), route("small"), {"time": "s"}, 3),
        Work("idle", f"{IDLE_ASSOCIATIONS} idle associations", (dgate,),
             (Bound(0.5, metric="cpu"), Bound(120, metric="memory")), idle,
             {"cpu": "% of a core", "memory": "MB resident"}, 3),
        Work("huge", "one 2 GB multi-frame object in and out", (dgate,),
             (Bound(64, metric="growth"),), huge,
             {"growth": "MB growth", "in": "s in", "out": "s out"}, 3),
        Work("start-empty", "start to first C-ECHO, empty", (dgate,), (Bound(1.5),), start_empty),
        Work("start-full", f"start to first C-ECHO, {INDEXED:,} objects indexed", (dgate,),
             (Bound(1.5),), start_full),
        Work("find-million", "C-FIND with at most 10 matches in 1,000,000 objects", (dgate,),
             (*(Bound(5, metric=kind) for kind in ("id", "accession", "date", "name")),
              Bound(0, metric="excess")), find_in_million, FIND_UNITS, 3),
        Work("reload", "reload of 50 rules and 1,000 nodes beside a C-STORE stream", (dgate,),
             (Bound(0.1), Bound(50, metric="store")), reload,
             {"time": "s", "slowest": "s slowest reload", "store": "ms slowest C-STORE",
              "quiet": "ms slowest C-STORE before", "stored": "objects stored"}, 5),
        Work("check", "dgate check of 2,000 lines and 1,000 nodes, the whole command", (dgate,),
             (Bound(0.5),), check, {"time": "s", "cpu": "s of CPU"}, 10),
        Work("deliver-small", f"deliver {small} to a storescp, one association",
             (dgate, Contestant.STORESCU), (Bound(1.15, dgate, Contestant.STORESCU),),
             deliver("small")),
        Work("deliver-ct", f"deliver {ct} to a storescp, one association",
             (dgate, Contestant.STORESCU), (Bound(1.15, dgate, Contestant.STORESCU),),
             deliver("ct")),
        Work("deliver-slow", f"deliver {SLOW_OBJECTS} x 4 kB to a sink that waits {PAUSE_MS} ms, "
             "four associations", (dgate, Contestant.DGATE_ONE),
             (Bound(1 / 3.5, dgate, Contestant.DGATE_ONE),), deliver_slowly),
        Work("debts-million", f"{small} beside {OPEN_DEBTS:,} open debts, `Durability = none`",
             (dgate, Contestant.DGATE_EMPTY),
             (Bound(1.1, dgate, Contestant.DGATE_EMPTY, "ingest"),
              Bound(1.1, dgate, Contestant.DGATE_EMPTY, "dispatch")),
             million_debts, MILLION_UNITS, 7),
        Work("half-dead", f"{SPREAD_OBJECTS} x 4 kB to {DESTINATIONS} destinations, half of them "
             "dead, `Durability = none`", (dgate, Contestant.DGATE_ASLEEP),
             (Bound(1.05, dgate, Contestant.DGATE_ASLEEP, "ingest"),
              Bound(1.05, dgate, Contestant.DGATE_ASLEEP, "deliver")),
             half_dead, SPREAD_UNITS, 7),
        Work("start-million", f"start to first C-ECHO, {OPEN_DEBTS:,} open debts", (dgate,),
             (Bound(2),), start_million, {"time": "s"}, 3),
        Work("regen", f"index of {FILES:,} x 4 kB rebuilt from the files", (dgate,),
             (Bound(FILES / RATE), Bound(256, metric="memory")), regen, REGEN_UNITS, 3),
        Work("reconcile-large", "compare 5,000 studies of 200,000 objects with a node", (dgate,),
             (Bound(128, metric="memory"),), compare_archives, COMPARE_UNITS, 3),
        Work("reconcile-study", "compare one study of 200,000 objects with a node", (dgate,),
             (Bound(128, metric="memory"),), compare_study, COMPARE_UNITS, 3),
    )  # fmt: skip


WORKS = _table()
