"""Trouble on the server's own machine: full disks, broken databases, taken ports and folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find, store
from tests.acceptance.processes import files_below, run, wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation, Reply
from tests.generate import Generated, Kind, Plan, data_set_of, write_files

OUT_OF_RESOURCES = 0xA700


def send(gateway: Gateway, item: Generated) -> Reply:
    """Store one object and return the response."""
    with RawAssociation.open(gateway.port, [Offer(item.sop_class)]) as association:
        content = data_set_of(item.path.read_bytes())
        return association.store(item.sop_class, item.sop_instance, content)


def small_disk(folder: Path, size: str) -> Sequence[str]:
    """Return a command prefix that runs a program with a small file system mounted on the folder.

    The mount lives in a namespace of that program alone, and ends with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = f'mount -t tmpfs -o size={size} tmpfs "{folder}" && exec "$@"'
    return ["unshare", *user, "--mount", "sh", "-c", script, "sh"]


def inside(gateway: Gateway, folder: Path) -> Path:
    """Return a folder as the server sees it, through its own root."""
    return Path(f"/proc/{gateway.process.pid}/root") / folder.relative_to("/")


def test_a_full_device_is_answered_with_out_of_resources_and_serving_goes_on(
    farm: Farm, tmp_path: Path
) -> None:
    device = tmp_path / "small"
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "IgnoreMAGDeviceThreshold": 1},
        wrapper=small_disk(device, "3m"),
    )
    slices = write_files(tmp_path / "ct", Plan(10, Kind.CT))
    replies = [send(gateway, item) for item in slices]
    seen = inside(gateway, device)

    stored = [item for item, reply in zip(slices, replies, strict=True) if reply.status == 0]
    refused = [reply for reply in replies if reply.status != 0]
    assert 2 <= len(stored) <= 6
    assert {reply.status for reply in refused} == {OUT_OF_RESOURCES}
    assert all(reply.comment for reply in refused)
    assert gateway.answers()
    files = files_below(seen)
    assert {data_set_of(path.read_bytes()) for path in files if path.suffix == ".dcm"} == {
        data_set_of(item.path.read_bytes()) for item in stored
    }
    assert len(files) == len(stored), "something half-written stayed"
    found = find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")
    assert {str(one.SOPInstanceUID) for one in found} == {one.sop_instance for one in stored}


def test_a_device_that_was_full_is_used_again_when_there_is_space(
    farm: Farm, tmp_path: Path
) -> None:
    device = tmp_path / "small"
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "IgnoreMAGDeviceThreshold": 1},
        wrapper=small_disk(device, "3m"),
    )
    slices = write_files(tmp_path / "ct", Plan(8, Kind.CT))
    ballast = inside(gateway, device) / "ballast"
    ballast.write_bytes(bytes(2_800_000))
    assert send(gateway, slices[0]).status == OUT_OF_RESOURCES

    ballast.unlink()

    assert send(gateway, slices[0]).status == 0


def test_a_device_below_its_threshold_is_full(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"MAGDeviceFullThreshold": 2_000_000_000})

    reply = send(gateway, objects[0])

    assert reply.status == OUT_OF_RESOURCES
    assert reply.comment
    assert gateway.answers()


def fill(path: Path) -> None:
    """Write a file until its disk is full; the server may be writing there, too."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_database_disk_is_answered_with_out_of_resources(farm: Farm, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    gateway = farm.gateway(
        settings={"SQLServer": disk / "index.db3", "DiskReserve": 0},
        wrapper=small_disk(disk, "2m"),
    )
    items = write_files(tmp_path / "objects", Plan(60))
    assert send(gateway, items[0]).status == 0
    ballast = inside(gateway, disk) / "ballast"
    fill(ballast)

    replies = [send(gateway, item) for item in items[1:]]

    refused = [item for item, reply in zip(items[1:], replies, strict=True) if reply.status]
    assert {reply.status for reply in replies} - {0} == {OUT_OF_RESOURCES}
    ballast.unlink()
    assert send(gateway, refused[0]).status == 0
    assert len(gateway.stored_files()) == len(items) - len(refused) + 1


def test_a_locked_database_is_answered_with_out_of_resources_until_it_is_free(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway()
    assert send(gateway, objects[0]).status == 0
    other = sqlite3.connect(gateway.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    reply = send(gateway, objects[1])
    echoed = gateway.answers()
    other.execute("ROLLBACK")
    other.close()

    assert reply.status == OUT_OF_RESOURCES
    assert reply.comment
    assert echoed
    assert len(gateway.stored_files()) == 1
    assert send(gateway, objects[1]).status == 0


def refuses_to_start(gateway: Gateway) -> str:
    """Start a server that must not start; return what it printed."""
    gateway.process.launch()
    wait_until(lambda: gateway.process.running.poll() is not None, "the server to give up")
    assert gateway.process.running.returncode not in (0, None)
    assert "Traceback" not in gateway.log
    return gateway.log


def test_a_database_file_that_is_no_database_is_named_and_left_alone(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    gateway.database.parent.mkdir(parents=True, exist_ok=True)
    gateway.database.write_bytes(b"this is not a database" * 400)

    log = refuses_to_start(gateway)

    assert gateway.database.name in log
    assert gateway.database.read_bytes() == b"this is not a database" * 400


def test_a_database_that_another_program_holds_at_the_start_is_named(farm: Farm) -> None:
    gateway = farm.gateway()
    gateway.stop()
    other = sqlite3.connect(gateway.database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    log = refuses_to_start(gateway)
    other.execute("ROLLBACK")
    other.close()

    assert gateway.database.name in log
    assert "locked" in log
    gateway.start()


def test_a_database_removed_under_a_running_server_is_noticed_before_success(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway()
    assert send(gateway, objects[0]).status == 0
    for path in gateway.database.parent.glob(gateway.database.name + "*"):
        path.unlink()

    reply = send(gateway, objects[1])

    # Rows in a file that has no name any more would be gone after the next start.
    assert reply.status == OUT_OF_RESOURCES
    assert reply.comment
    assert len(gateway.stored_files()) == 1


def test_a_missing_database_is_made_anew_and_the_files_stay(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path.parent)
    files = gateway.stored_files()
    gateway.stop()
    for path in gateway.database.parent.glob(gateway.database.name + "*"):
        path.unlink()

    gateway.start()

    assert gateway.stored_files() == files
    assert send(gateway, objects[0]).status == 0


def test_a_database_in_a_folder_that_cannot_be_made_is_named(farm: Farm, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    gateway = farm.gateway(settings={"SQLServer": blocker / "index.db3"}, start=False)

    assert "SQLServer" in refuses_to_start(gateway)


def test_a_port_in_use_is_named(farm: Farm) -> None:
    first = farm.gateway("first")
    second = farm.gateway("second", settings={"TCPPort": first.port}, start=False)

    log = refuses_to_start(second)

    assert str(first.port) in log
    assert first.answers()


def test_a_second_server_on_the_same_folder_is_refused(
    farm: Farm, objects: list[Generated]
) -> None:
    first = farm.gateway()
    other_port = str(farm.ports.take())
    ini = first.folder / "second.ini"
    ini.write_text(first.ini.read_text().replace(str(first.port), other_port))

    result = run(
        [sys.executable, "-m", "dgate", "serve", "-c", str(ini)], dict(os.environ), check=False
    )

    assert result.returncode not in (0, None)
    assert str(first.folder) in result.stdout or str(first.process.pid) in result.stdout
    assert "Traceback" not in result.stdout
    assert send(first, objects[0]).status == 0


def test_a_folder_is_free_again_after_a_kill(farm: Farm) -> None:
    gateway = farm.gateway()
    for _ in range(3):
        gateway.kill()
        gateway.start()

    assert gateway.answers()


def test_the_port_is_free_again_at_once_after_a_restart(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway()
    held = RawAssociation.open(gateway.port)

    gateway.restart()

    assert send(gateway, objects[0]).status == 0
    held.connection.close()


def test_a_device_that_cannot_be_written_stops_the_start(farm: Farm, tmp_path: Path) -> None:
    blocker = tmp_path / "device"
    blocker.write_text("not a folder")
    gateway = farm.gateway(settings={"MAGDevice0": blocker}, start=False)

    assert "device" in refuses_to_start(gateway)


def test_a_missing_configuration_is_named(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    gateway.ini.unlink()

    assert "dicom.ini" in refuses_to_start(gateway)


def test_a_missing_node_table_is_named(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    (gateway.folder / "acrnema.map").unlink()

    assert "acrnema.map" in refuses_to_start(gateway)


def test_a_missing_sop_list_accepts_everything_and_says_so(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    (gateway.folder / "dgatesop.lst").unlink()

    gateway.start()

    assert "dgatesop.lst" in gateway.log
    with RawAssociation.open(gateway.port, [Offer("1.2.3.4.5")]) as association:
        assert association.results == {1: 0}


def test_a_folder_moved_elsewhere_serves_the_same_objects(
    farm: Farm, objects: list[Generated], tmp_path: Path
) -> None:
    gateway = farm.gateway()
    store(gateway.port, objects[0].path.parent)
    gateway.stop()
    moved = gateway.folder.with_name("moved")
    shutil.move(gateway.folder, moved)
    gateway.folder = moved
    gateway.process.command = [*gateway.process.command[:-1], str(moved)]

    gateway.start()

    found = find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")
    assert len(found) == len(objects)


def test_a_signal_is_heeded_that_came_while_the_server_stood_still(farm: Farm) -> None:
    # The kernel then gives it to any thread: most often not to the one that waits for signals.
    for place in range(5):
        gateway = farm.gateway(f"gateway{place}")
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
            os.kill(gateway.process.pid, number)
        wait_until(lambda each=gateway: each.process.running.poll() is not None, "the end")
        assert gateway.process.running.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_stop_with_an_open_association_is_clean(farm: Farm, number: signal.Signals) -> None:
    gateway = farm.gateway()
    held = RawAssociation.open(gateway.port)

    code = gateway.process.end(number)

    held.connection.close()
    assert code == 0
