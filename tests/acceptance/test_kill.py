"""The promise that matters most: an acknowledged object survives SIGKILL at any moment.

Twenty times, a send of 500 objects with two forwards each is cut short by a kill at a random
moment, and the server is started again. In the end every object that was acknowledged must be
stored, indexed and delivered to both destinations; what arrived twice is counted, and the ledger
must know of each such repeat.

A second test does the same to two senders at once: one sends new objects that are too large to be
kept in memory, the other sends the same objects over and over with other pixels.
"""

from __future__ import annotations

import random
import re
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import StoreScp, store_answers
from tests.acceptance.processes import find_program, peer_environment, wait_until
from tests.acceptance.rawdicom import STUDY_ROOT_FIND, STUDY_ROOT_GET, Offer, RawAssociation
from tests.generate import Generated, Kind, Plan, data_set_of, write_files

ROUNDS = 20
OBJECTS = 500
SEED = 20260314


@dataclass(slots=True)
class Sent:
    """What was sent in all rounds, and which of it was acknowledged."""

    contents: dict[str, bytes] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)


def send_until_killed(
    gateway: Gateway, items: list[Generated], kill_after: int, sent: Sent
) -> None:
    """Send a set and kill the server after so many answers, wherever its threads then are."""
    names = {item.path: item.sop_instance for item in items}
    command = [
        find_program("storescu"), "-v", "+sd", "127.0.0.1", str(gateway.port),
        str(items[0].path.parent),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=peer_environment()
    ) as sender:
        assert sender.stdout is not None
        for count, answer in enumerate(store_answers(sender.stdout), 1):
            if answer.is_success:
                sent.acknowledged.add(names[answer.path])
            if count == kill_after:
                gateway.kill()


def kill_moments(source: random.Random) -> Iterator[int]:
    """Yield after how many answers to kill: the first and last few, and anywhere between."""
    yield from (1, 2, OBJECTS - 1, OBJECTS)
    while True:
        yield source.randrange(1, OBJECTS)


def arrivals(sink: StoreScp) -> Counter[str]:
    """Count how often each object arrived, from the receiver's own log."""
    found = re.findall(r"storing DICOM file: .*/[A-Z]+\.([0-9.]+)$", sink.process.text(), re.M)
    return Counter(found)


def ledger_repeats(gateway: Gateway) -> Counter[str]:
    """Return how many repeats after an unknown outcome the ledger counts, by SOP instance."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT sop_instance, repeats FROM dgate_debts WHERE repeats > 0")
        counts = Counter[str]()
        for sop_instance, repeats in rows:
            counts[sop_instance] += repeats
    return counts


def fetch_everything(gateway: Gateway, sent: Sent) -> dict[str, bytes]:
    """Fetch every study by C-GET and return the data sets by SOP instance UID."""
    offers = [Offer(STUDY_ROOT_GET), Offer(Kind.SMALL.sop_class, scp_role=True)]
    fetched = {}
    with RawAssociation.open(gateway.port, offers) as association:
        for study in sorted(sent.studies):
            received, final = association.get({0x00080052: "STUDY", 0x0020000D: study})
            assert final.status == 0
            fetched.update({one.sop_instance: one.data for one in received})
    return fetched


def indexed(gateway: Gateway) -> set[str]:
    """Return the SOP instance UIDs that C-FIND gives."""
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_FIND)]) as association:
        replies = association.find({0x00080052: "IMAGE", 0x00080018: ""})
    # The only element of these answers with this tag, explicit little endian.
    pattern = re.compile(rb"\x08\x00\x18\x00UI..([0-9.]+)", re.DOTALL)
    return {
        found[1].decode() for reply in replies if (found := pattern.search(reply.data)) is not None
    }


def test_nothing_acknowledged_is_lost_by_twenty_kills(farm: Farm, tmp_path: Path) -> None:
    # Without bit preserving mode storescp logs each file that it writes.
    sinks = [farm.sink(title, options=()) for title in ("SINK1", "SINK2")]
    gateway = farm.gateway(
        settings={
            "ExportConverters": 2,
            "ExportConverter0": "forward to SINK1",
            "ExportConverter1": "forward to SINK2",
            "RetryFirst": 0.1,
            "RetryMax": 0.5,
        },
        nodes=[sink.node for sink in sinks],
    )
    sent = Sent()
    moments = kill_moments(random.Random(SEED))
    for number in range(ROUNDS):
        items = write_files(tmp_path / f"round{number}", Plan(OBJECTS, seed=number, per_series=50))
        sent.contents |= {one.sop_instance: data_set_of(one.path.read_bytes()) for one in items}
        sent.studies |= {one.study for one in items}
        send_until_killed(gateway, items, next(moments), sent)
        gateway.start()

    kept = indexed(gateway)
    assert sent.acknowledged - kept == set(), "acknowledged, but not in the index"

    # An object whose acknowledgement the kill cut off may be kept; then it is delivered as well.
    wait_until(
        lambda: all(kept <= set(sink.files()) for sink in sinks), "all deliveries", deadline_s=300
    )
    fetched = fetch_everything(gateway, sent)
    assert fetched == {uid: sent.contents[uid] for uid in kept}, "not stored as it was sent"
    assert [path for path in (gateway.device() / "dgate" / "incoming").rglob("*.*")] == []

    counts = [arrivals(sink) for sink in sinks]
    repeated = sum((Counter({u: n - 1 for u, n in c.items() if n > 1}) for c in counts), Counter())
    known = ledger_repeats(gateway)
    print(
        f"{len(sent.acknowledged)} acknowledged, {len(kept)} kept, "
        f"{repeated.total()} arrived again, {known.total()} repeats counted"
    )
    assert all(set(count) == kept for count in counts)
    assert repeated <= known, "a repeat that the ledger does not know of"


# Large objects and rewrites, from two senders.

PAIRED_ROUNDS = 10
LARGE_OBJECTS = 12
REWRITTEN_OBJECTS = 60


def send(gateway: Gateway, items: list[Generated], on_success: Callable[[str], None]) -> None:
    """Send a set, tell of each object that was acknowledged, and end with it or with the server."""
    names = {item.path: item.sop_instance for item in items}
    command = [
        find_program("storescu"), "-v", "+sd", "127.0.0.1", str(gateway.port),
        str(items[0].path.parent),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=peer_environment()
    ) as sender:
        assert sender.stdout is not None
        for answer in store_answers(sender.stdout):
            if answer.is_success:
                on_success(names[answer.path])


class Killer:
    """Counts what is acknowledged to both senders, and kills the server at one of them."""

    def __init__(self, gateway: Gateway, kill_after: int) -> None:
        self._gateway = gateway
        self._left = kill_after
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()

    def note(self, sop_instance: str) -> None:
        """Note an acknowledgement; called by the threads of both senders."""
        with self._lock:
            self.acknowledged.add(sop_instance)
            self._left -= 1
            if self._left == 0:
                self._gateway.kill()


def with_other_pixels(items: list[Generated], number: int) -> dict[str, bytes]:
    """Change the pixels of each file in place; return the new data sets by SOP instance."""
    noise = random.Random(number)
    contents = {}
    for item in items:
        content = item.path.read_bytes()
        changed = content[:-1024] + noise.randbytes(1024)
        item.path.write_bytes(changed)
        contents[item.sop_instance] = data_set_of(changed)
    return contents


def test_large_objects_and_rewrites_of_two_senders_survive_kills(
    farm: Farm, tmp_path: Path
) -> None:
    gateway = farm.gateway()
    source = random.Random(SEED)
    known = write_files(tmp_path / "known", Plan(REWRITTEN_OBJECTS, seed=500, per_series=30))
    large: dict[str, bytes] = {}
    possible: dict[str, set[bytes]] = {item.sop_instance: set() for item in known}
    """What may be stored of each rewritten object: the version acknowledged last, or a later one
    whose acknowledgement the kill cut off."""
    acknowledged: set[str] = set()
    studies = {item.study for item in known}

    for number in range(PAIRED_ROUNDS):
        fresh = write_files(
            tmp_path / f"large{number}", Plan(LARGE_OBJECTS, Kind.LARGE, seed=600 + number)
        )
        large |= {one.sop_instance: data_set_of(one.path.read_bytes()) for one in fresh}
        studies |= {one.study for one in fresh}
        versions = with_other_pixels(known, number)
        for sop_instance, content in versions.items():
            possible[sop_instance].add(content)
        killer = Killer(gateway, source.randrange(1, LARGE_OBJECTS + REWRITTEN_OBJECTS // 2))
        senders = [
            threading.Thread(target=send, args=(gateway, items, killer.note))
            for items in (fresh, known)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        for sop_instance in killer.acknowledged & possible.keys():
            possible[sop_instance] = {versions[sop_instance]}
        acknowledged |= killer.acknowledged
        gateway.start()

        stored = fetch_all(gateway, studies)
        assert acknowledged <= stored.keys(), "acknowledged, but not stored"
        wrong = [uid for uid in stored.keys() & large if stored[uid] != large[uid]]
        wrong += [uid for uid in stored.keys() & possible if stored[uid] not in possible[uid]]
        assert wrong == [], f"other content than was acknowledged, in round {number}"
        for sop_instance in stored.keys() & possible:
            possible[sop_instance] = {stored[sop_instance]}

    assert acknowledged & large.keys()
    assert acknowledged & possible.keys()
    left = [path for path in gateway.device().rglob("*") if path.name.endswith((".prev", ".part"))]
    assert left == []
    assert len(gateway.stored_files()) == len(indexed(gateway))


def fetch_all(gateway: Gateway, studies: set[str]) -> dict[str, bytes]:
    """Fetch these studies by C-GET and return the data sets by SOP instance UID."""
    offers = [
        Offer(STUDY_ROOT_GET),
        Offer(Kind.SMALL.sop_class, scp_role=True),
        Offer(Kind.LARGE.sop_class, scp_role=True),
    ]
    fetched = {}
    with RawAssociation.open(gateway.port, offers) as association:
        for study in sorted(studies):
            received, final = association.get({0x00080052: "STUDY", 0x0020000D: study})
            assert final.status == 0
            fetched.update({one.sop_instance: one.data for one in received})
    return fetched
