"""A changed configuration takes effect in the running server: as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, Node, run_dgate
from tests.acceptance.peers import store
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import IMPLICIT_LE, Closed, Offer, RawAssociation
from tests.generate import Generated, Plan, data_set_of, write_files
from tests.servers import USER, PostgresServer

FAST_RETRY = {"RetryFirst": 0.1, "RetryMax": 0.2}
APPLIED = "The configuration was changed"
REFUSED = "The configuration was not changed"
SECOND = "dgate_second"
"""Another login at the database server."""


def hang_up(gateway: Gateway, words: str = APPLIED) -> str:
    """Send SIGHUP, wait for what the server says to it, and return its log."""
    # It may have noticed the change by itself at the same time, and then says so apart from this.
    answer = re.compile(rf"{words}.* \(SIGHUP\)")
    before = len(answer.findall(gateway.log))
    os.kill(gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: len(answer.findall(gateway.log)) > before, f"{words} in the log")
    return gateway.log


@contextlib.contextmanager
def held(gateway: Gateway) -> Iterator[None]:
    """Let the server stand still, so that it sees the changes to several files at once."""
    os.kill(gateway.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(gateway.process.pid, signal.SIGCONT)


def await_looks() -> None:
    """Wait while a server that nobody hinders looks at its files three times."""
    looks = time.monotonic() + 3.5
    wait_until(lambda: time.monotonic() > looks, "three more looks at the files")


def send_one(association: RawAssociation, item: Generated) -> int:
    """Store one object over an open association and return the status."""
    return association.store(
        item.sop_class, item.sop_instance, data_set_of(item.path.read_bytes())
    ).status


def stored(gateway: Gateway, item: Generated) -> pydicom.Dataset:
    """Return the stored object, found without dicom.ini."""
    for path in gateway.folder.rglob("*.dcm"):
        found = pydicom.dcmread(path)
        if found.SOPInstanceUID == item.sop_instance:
            return found
    raise AssertionError(f"{item.sop_instance} is not stored")


def debts(gateway: Gateway) -> list[tuple[str, int, int]]:
    """Return state, tries and number of the debts, as the ledger's table has them."""
    with sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True) as connection:
        query = "SELECT state, attempts, id FROM dgate_debts ORDER BY id"
        return [(str(s), int(a), int(i)) for s, a, i in connection.execute(query)]


def test_a_new_rule_counts_for_new_associations_and_the_old_one_for_running_ones(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set 0010,4000 to "OLD"'})
    offers = [Offer(objects[0].sop_class)]
    with RawAssociation.open(gateway.port, offers) as before:
        assert send_one(before, objects[0]) == 0

        gateway.configure(ImportConverter0='set 0010,4000 to "NEW"')
        log = hang_up(gateway)

        assert send_one(before, objects[1]) == 0
        with RawAssociation.open(gateway.port, offers) as after:
            assert send_one(after, objects[2]) == 0
            assert send_one(before, objects[3]) == 0

    marks = [stored(gateway, item).PatientComments for item in objects[:4]]
    assert marks == ["OLD", "OLD", "NEW", "OLD"]
    assert 'ImportConverter0: set 0010,4000 to "OLD" -> set 0010,4000 to "NEW"' in log
    assert "(SIGHUP)" in log


def test_a_saved_file_takes_effect_by_itself(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set 0010,4000 to "OLD"'})

    gateway.configure(ImportConverter0='set 0010,4000 to "NEW"')

    wait_until(lambda: APPLIED in gateway.log, "the change in the log")
    assert "(file change)" in gateway.log
    store(gateway.port, objects[0].path)
    assert stored(gateway, objects[0]).PatientComments == "NEW"


def test_a_changed_script_file_takes_effect_by_itself(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": "call tidy.txt"}, start=False)
    (gateway.folder / "tidy.txt").write_text('set 0010,4000 to "OLD"\n')
    gateway.start()
    store(gateway.port, objects[0].path)

    (gateway.folder / "tidy.txt").write_text('set 0010,4000 to "NEW"\n')

    wait_until(lambda: APPLIED in gateway.log, "the change in the log")
    assert "tidy.txt: the script was read again" in gateway.log
    store(gateway.port, objects[1].path)
    assert stored(gateway, objects[0]).PatientComments == "OLD"
    assert stored(gateway, objects[1]).PatientComments == "NEW"


def test_a_node_and_a_rule_are_added_and_used_without_a_restart(
    farm: Farm, objects: list[Generated]
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(settings=FAST_RETRY)
    store(gateway.port, objects[0].path)

    gateway.name_nodes([sink.node])
    gateway.configure(ExportConverters=1, ExportConverter0="forward to SINK")
    log = hang_up(gateway)
    store(gateway.port, objects[1].path)

    sink.wait_for(1)
    assert set(sink.files()) == {objects[1].sop_instance}
    assert "node SINK added" in log
    assert "restart" not in log


def test_a_node_that_moves_is_found_again_and_its_debts_are_kept(
    farm: Farm, objects: list[Generated]
) -> None:
    wrong = Node("SINK", farm.ports.take())
    rules = {"ExportConverters": 1, "ExportConverter0": "forward to SINK"}
    gateway = farm.gateway(settings={**rules, **FAST_RETRY}, nodes=[wrong])
    store(gateway.port, *[item.path for item in objects[:5]])
    wait_until(lambda: debts(gateway)[0][1] > 0, "a failed try")
    owed = [number for _, _, number in debts(gateway)]

    sink = farm.sink()
    gateway.name_nodes([sink.node])
    hang_up(gateway)

    sink.wait_for(5)
    wait_until(lambda: {s for s, _, _ in debts(gateway)} == {"done"}, "an empty ledger")
    assert [number for _, _, number in debts(gateway)] == owed


def test_queues_and_pauses_are_not_reset(farm: Farm, objects: list[Generated]) -> None:
    dead = Node("SINK", farm.ports.take())
    settings = {
        "ExportConverters": 1,
        "ExportConverter0": "forward to SINK",
        "RetryFirst": 600,
        "RetryMax": 600,
    }
    gateway = farm.gateway(settings=settings, nodes=[dead])
    store(gateway.port, objects[0].path)
    wait_until(lambda: debts(gateway)[0][:2] == ("queued", 1), "the first try")

    gateway.configure(IgnoreRewrite=1)
    hang_up(gateway)
    store(gateway.port, objects[1].path)

    with RawAssociation.open(gateway.port) as association:
        assert association.echo().status == 0
    assert debts(gateway)[0][:2] == ("queued", 1)


def test_an_open_association_to_a_node_that_did_not_change_stays(
    farm: Farm, objects: list[Generated]
) -> None:
    sink = farm.sink(options=("+B", "-d"))
    settings = {
        "ExportConverters": 1,
        "ExportConverter0": "forward to SINK",
        "ForwardAssociationLevel": "GLOBAL",
        "ForwardAssociationCloseDelay": 600,
    }
    gateway = farm.gateway(settings=settings, nodes=[sink.node])
    store(gateway.port, objects[0].path)
    sink.wait_for(1)
    opened = sink.process.text().count("Association Received")

    gateway.name_nodes([sink.node, Node("OTHER", 104)])
    hang_up(gateway)
    store(gateway.port, objects[1].path)

    sink.wait_for(2)
    assert sink.process.text().count("Association Received") == opened


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dicom.ini", None, "dicom.ini: the configuration cannot be read"),
        ("dicom.ini", b"", "the file is empty"),
        ("dicom.ini", b"[sscscp]\nMicroPACS = sscs", "may be half-written"),
        ("dicom.ini", b"[sscscp]\nTCPPort = maybe\n", "is neither a number nor a known service"),
        ("acrnema.map", None, "acrnema.map"),
        ("dgatesop.lst", None, "the file is gone"),
        ("dicom.sql", b"*Patient*\n{ nonsense\n", "dicom.sql"),
    ],
    ids=["removed", "empty", "half", "port", "no map", "no list", "layout"],
)
def test_a_set_that_cannot_be_used_changes_nothing(
    farm: Farm, objects: list[Generated], name: str, content: bytes | None, reason: str
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set 0010,4000 to "OLD"'})
    whole = (gateway.folder / name).read_bytes()
    with held(gateway):
        gateway.configure(ImportConverter0='set 0010,4000 to "NEW"')
        if content is None:
            (gateway.folder / name).unlink()
        else:
            (gateway.folder / name).write_bytes(content)

    assert reason in hang_up(gateway, REFUSED)
    store(gateway.port, objects[0].path)
    assert stored(gateway, objects[0]).PatientComments == "OLD"

    if name == "dicom.ini":
        (gateway.folder / name).write_bytes(whole.replace(b'"OLD"', b'"NEW"'))
    else:
        (gateway.folder / name).write_bytes(whole)
    wait_until(lambda: APPLIED in gateway.log, "the mended set")
    store(gateway.port, objects[1].path)
    assert stored(gateway, objects[1]).PatientComments == "NEW"


def test_a_rule_that_cannot_be_read_keeps_the_old_rules(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set 0010,4000 to "OLD"'})

    gateway.configure(ImportConverter0='set 0010,4000 to "NEW', MaxAssociations=7)
    log = hang_up(gateway, REFUSED)

    assert "ImportConverter0" in log
    assert "dicom.ini:" in log
    store(gateway.port, objects[0].path)
    assert stored(gateway, objects[0]).PatientComments == "OLD"


def test_a_refused_set_is_reported_once_and_not_every_second(farm: Farm) -> None:
    gateway = farm.gateway()
    gateway.configure(TCPPort="maybe")
    wait_until(lambda: REFUSED in gateway.log, "the refusal")

    (gateway.folder / "other.txt").write_text("x")
    await_looks()

    assert gateway.log.count(REFUSED) == 1


def test_what_needs_a_restart_is_named_and_the_rest_applied(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set 0010,4000 to "OLD"'})
    other = farm.ports.take()

    gateway.configure(TCPPort=other, ImportConverter0='set 0010,4000 to "NEW"')
    log = hang_up(gateway)

    wait_until(lambda: "needs a restart" in gateway.log, "the warning")
    log = gateway.log
    assert f"TCPPort: {gateway.port} -> {other} (dicom.ini:" in log
    store(gateway.port, objects[0].path)
    assert stored(gateway, objects[0]).PatientComments == "NEW"
    with pytest.raises((OSError, Closed)):
        RawAssociation.open(other)


def test_limits_titles_and_lists_count_for_new_associations(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"MaxAssociations": 2})
    with RawAssociation.open(gateway.port), RawAssociation.open(gateway.port):
        with pytest.raises(Closed):
            RawAssociation.open(gateway.port)
        gateway.configure(MaxAssociations=5)
        hang_up(gateway)
        with RawAssociation.open(gateway.port) as second:
            assert second.echo().status == 0

    with (gateway.folder / "dgatesop.lst").open("a") as sop_list:
        sop_list.write("only TRUSTED RemoteAE\n")
    hang_up(gateway)
    with pytest.raises(Closed):
        RawAssociation.open(gateway.port, calling="STRANGER")
    with RawAssociation.open(gateway.port, calling="TRUSTED") as trusted:
        assert trusted.echo().status == 0


def test_no_object_is_lost_or_refused_while_the_configuration_changes_all_the_time(
    farm: Farm, tmp_path: Path
) -> None:
    sink = farm.sink()
    rules = {"ExportConverters": 1, "ExportConverter0": "forward to SINK", **FAST_RETRY}
    gateway = farm.gateway(settings=rules, nodes=[sink.node])
    items = write_files(tmp_path / "many", Plan(600, seed=7))
    stop = threading.Event()
    reloads = 0

    def change() -> None:
        nonlocal reloads
        while not stop.is_set():
            reloads += 1
            nodes = [sink.node, *(Node(f"N{n}", 1000 + n) for n in range(reloads % 50))]
            gateway.name_nodes(nodes)
            gateway.configure(ImportConverter0=f'set 0010,4000 to "SET{reloads}"')
            hang_up(gateway, "The configuration was")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        answers = [
            answer
            for part in range(6)
            for answer in store(
                gateway.port, *[item.path for item in items[part * 100 : part * 100 + 100]]
            )
        ]
    finally:
        stop.set()
        changer.join()

    assert len(answers) == len(items)
    assert all(answer.is_success for answer in answers)
    assert reloads > 3
    sink.wait_for(len(items))
    marks = {pydicom.dcmread(path).get("PatientComments") for path in gateway.stored_files()}
    assert len(marks) > 1
    assert len(gateway.stored_files()) == len(items)


def test_the_command_reloads_and_tells_what_changed(farm: Farm) -> None:
    gateway = farm.gateway()
    gateway.configure(MyACRNema="DOOR", Password="geheim")

    done = gateway.command("config", "reload")

    # The server may have seen the change by itself before the command asked.
    assert "Applied in" in done.stdout
    assert "MyACRNema: DGATE -> DOOR" in gateway.log
    assert "Password: changed" in gateway.log
    assert "geheim" not in done.stdout + gateway.log
    assert gateway.command("config", "show").stdout.count("DOOR") == 1

    gateway.configure(TCPPort="maybe")
    refused = gateway.command("config", "reload", check=False)
    assert refused.returncode == 1
    assert "neither a number" in refused.stdout


def test_history_shows_what_was_applied_and_rollback_brings_it_back(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"ImportConverter0": 'set 0010,4000 to "ONE"'})
    first = gateway.ini.read_bytes()
    with held(gateway):
        gateway.configure(ImportConverter0='set 0010,4000 to "TWO"', Password="geheim")
        gateway.name_nodes([Node("SINK", 104)])
        os.kill(gateway.process.pid, signal.SIGHUP)
    wait_until(lambda: f"{APPLIED} (SIGHUP)" in gateway.log, "the second set")
    second = gateway.ini.read_bytes()

    shown = gateway.command("config", "history", "--changes").stdout
    assert "start" in shown
    assert "SIGHUP" in shown
    assert "node SINK added" in shown
    assert "geheim" not in shown

    rolled = gateway.command("config", "rollback", "1")

    assert '"TWO" -> set 0010,4000 to "ONE"' in rolled.stdout
    assert gateway.ini.read_bytes() == first
    store(gateway.port, objects[0].path)
    assert stored(gateway, objects[0]).PatientComments == "ONE"
    backups = list(gateway.folder.glob("dicom.ini.bak*"))
    assert [path.read_bytes() for path in backups] == [second]
    assert "rollback to 1" in gateway.command("config", "history").stdout

    # Watching must not take the written files for another change.
    await_looks()
    assert gateway.log.count(APPLIED) == 2
    for path in (gateway.folder / "dgate" / "history").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_rollback_without_a_server_writes_the_files(farm: Farm) -> None:
    gateway = farm.gateway()
    first = gateway.ini.read_bytes()
    gateway.configure(IgnoreRewrite=1)
    gateway.restart()
    gateway.stop()

    done = gateway.command("config", "rollback", "1")

    assert "dicom.ini was changed" in done.stdout
    assert gateway.ini.read_bytes() == first
    again = gateway.command("config", "rollback", "1")
    assert "already" in again.stdout
    unknown = gateway.command("config", "rollback", "99", check=False)
    assert unknown.returncode == 1
    assert "there is no set 99" in unknown.stdout
    reload = run_dgate("config", "reload", "-c", str(gateway.folder))
    assert reload.returncode == 1
    assert "no server is running" in reload.stdout


def test_status_names_what_waits_and_what_was_refused(farm: Farm) -> None:
    gateway = farm.gateway()
    gateway.configure(TCPPort=farm.ports.take())
    hang_up(gateway)
    assert '"waiting_for_restart": ["TCPPort"]' in gateway.command("status", "--json").stdout

    gateway.configure(TCPPort="maybe")
    hang_up(gateway, REFUSED)
    assert "neither a number" in gateway.command("status", "--json").stdout


def test_a_changed_pdu_size_is_offered_to_new_associations(farm: Farm) -> None:
    gateway = farm.gateway(settings={"PDUSize": 16384})
    offer = [Offer("1.2.840.10008.1.1", (IMPLICIT_LE,))]
    with RawAssociation.open(gateway.port, offer) as before:
        assert before.peer_max_pdu == 16384
        gateway.configure(PDUSize=65536)
        hang_up(gateway)
        with RawAssociation.open(gateway.port, offer) as after:
            assert after.peer_max_pdu == 65536
        assert before.echo().status == 0


def test_a_new_login_is_tried_first_and_used_from_then_on(
    farm: Farm, objects: list[Generated], postgres: PostgresServer
) -> None:
    name = postgres.new_database()
    postgres.administer(f"DROP ROLE IF EXISTS {SECOND}")
    postgres.administer(f"CREATE ROLE {SECOND} LOGIN PASSWORD 'fresh' IN ROLE {USER}")
    gateway = farm.gateway(settings=postgres.lines(name))
    store(gateway.port, objects[0].path)

    gateway.configure(Username=SECOND, Password="stale")
    log = hang_up(gateway, REFUSED)
    assert "password authentication failed" in log
    store(gateway.port, objects[1].path)

    gateway.configure(Password="fresh")
    hang_up(gateway)
    # Whoever has to connect anew can do so with the new login only.
    postgres.administer(f"ALTER ROLE {USER} NOLOGIN")
    try:
        # With a time to wait for their end, in milliseconds.
        others = "SELECT pg_terminate_backend(pid, 100000) FROM pg_stat_activity"
        postgres.administer(f"{others} WHERE datname = '{name}'")
        answers = store(gateway.port, objects[2].path)
    finally:
        postgres.administer(f"ALTER ROLE {USER} LOGIN")
    assert answers[0].is_success
    users = postgres.query(
        name, f"SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = '{name}'"
    )
    assert (SECOND,) in users
    assert (USER,) not in users
