"""Two gateways with a bad link between them: site A forwards 2,000 objects to site B.

The link breaks again and again in the middle of whatever it carries, both servers are killed and
restarted meanwhile, and at the end B has each object once, as it was sent.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
import threading
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node
from tests.acceptance.processes import wait_until
from tests.campaign import checks
from tests.campaign.proxy import Proxy
from tests.campaign.senders import Line, Sender, run_all
from tests.campaign.truth import Item, Stream, Truth
from tests.generate import Plan, data_set_of, write_files

OBJECTS = 2000
SENDERS = 4
SEED = 20261122
FAST = {"RetryFirst": 0.1, "RetryMax": 0.5}


class BadLink:
    """Breaks the link each time that it has carried so much; how much, chance says."""

    def __init__(self, link: Proxy, source: random.Random) -> None:
        self._link = link
        self._source = source
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # By what went through and not by time: some objects pass between two breaks then, however
        # slow the machine is.
        while not self._is_over.wait(0.05):
            if self._link.is_whole():
                self._link.cut_after(self._source.randrange(20_000, 500_000))

    def mend(self) -> None:
        """Let the link be."""
        self._is_over.set()
        self._thread.join()
        self._link.resume()


def arrived(gateway: Gateway) -> int:
    """Return how many objects the index has."""
    connection = sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True, timeout=60)
    try:
        return int(connection.execute("SELECT count(*) FROM DICOMImages").fetchone()[0])
    finally:
        connection.close()


def test_two_thousand_objects_arrive_over_a_link_that_breaks(farm: Farm, tmp_path: Path) -> None:
    source = random.Random(SEED)
    site_b = farm.gateway("b", settings={**FAST, "MyACRNema": "SITEB"})
    link = Proxy(site_b.port)
    site_a = farm.gateway(
        "a",
        settings={**FAST, "ExportConverters": 1, "ExportConverter0": "forward to SITEB"},
        nodes=[Node("SITEB", link.port)],
    )
    made = write_files(tmp_path / "in", Plan(OBJECTS, seed=9, per_series=25))
    items = [
        Item(
            Stream.KEEP,
            one.sop_class,
            one.sop_instance,
            one.study,
            data_set_of(one.path.read_bytes()),
        )
        for one in made
    ]
    truth = Truth()
    truth.begin(items, 1)
    line = Line(site_a.port)
    line.up.set()
    senders = [
        Sender(line, truth, items[place::SENDERS], SEED + place, gives_up=False)
        for place in range(SENDERS)
    ]
    bad = BadLink(link, source)
    threads = run_all(senders)

    # Each restart at so many answers, while objects come in and go out.
    for number, count in enumerate(sorted(source.sample(range(100, OBJECTS - 100), 6))):
        with line.progress:
            assert line.progress.wait_for(lambda least=count: truth.answers >= least, 300)
        if number % 2:
            site_b.kill()
            site_b.start()
        else:
            line.up.clear()
            if number == 2:
                site_a.stop()
            else:
                site_a.kill()
            site_a.start()
            line.up.set()
    for thread in threads:
        thread.join()
    assert {sop for sop, fact in truth.facts.items() if fact.is_acknowledged} == set(truth.facts)
    # Every object is safe at A; the link goes on breaking until B has most of them.
    wait_until(lambda: arrived(site_b) > OBJECTS * 0.8, "most objects", deadline_s=600)
    bad.mend()
    wait_until(lambda: not checks.open_debts(site_a.database), "all deliveries", deadline_s=600)

    assert checks.debts(site_a.database, "state <> 'done'") == []
    expected = {item.sop_instance: {item.digest} for item in items}
    for site in (site_a, site_b):
        stored = checks.Stored.of(site.database, site.device())
        digests = {
            sop: {hashlib.sha256(data_set_of(path.read_bytes())).hexdigest()}
            for sop, path in stored.names.items()
        }
        assert digests == expected
        assert len(site.stored_files()) == OBJECTS
    print(
        f"{link.cuts} connections broken, {checks.repeats(site_a.database)} repeats counted, "
        f"{sum(sender.breaks for sender in senders)} breaks towards the senders"
    )
    assert link.cuts > 0
    link.close()
