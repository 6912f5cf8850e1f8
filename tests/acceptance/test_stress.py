"""Intake under stress: full, read-only and exhausted disks, without a restart between."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import threading
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.disks import inside, remount, small_disks
from tests.acceptance.harness import Gateway, run_dgate
from tests.acceptance.peers import find
from tests.acceptance.processes import files_below, wait_until
from tests.acceptance.rawdicom import Closed, Offer, RawAssociation, Reply
from tests.generate import Generated, Kind, Plan, data_set_of, write_files

OUT_OF_RESOURCES = 0xA700


def send(gateway: Gateway, item: Generated) -> Reply:
    """Store one object and return the response."""
    with RawAssociation.open(gateway.port, [Offer(item.sop_class)]) as association:
        content = data_set_of(item.path.read_bytes())
        return association.store(item.sop_class, item.sop_instance, content)


def status_of(gateway: Gateway) -> dict[str, object]:
    """Return what `dgate status --json` says."""
    result = run_dgate("status", "-c", str(gateway.folder), "--json")
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def content_of(folder: Path) -> set[bytes]:
    """Return the data sets of all objects below a folder."""
    return {data_set_of(path.read_bytes()) for path in files_below(folder) if path.suffix == ".dcm"}


def lines_with(gateway: Gateway, words: str) -> list[str]:
    """Return the lines of the log that have these words."""
    return [line for line in gateway.log.splitlines() if words in line]


def test_inodes_are_kept_in_reserve_and_used_again_when_there_are_more(
    farm: Farm, tmp_path: Path
) -> None:
    device = tmp_path / "small"
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "MAGDeviceFullThreshold": 1, "InodeReserve": 40},
        wrapper=small_disks({device: "size=64m,nr_inodes=200"}),
    )
    items = write_files(tmp_path / "objects", Plan(3))
    seen = inside(gateway, device)
    assert send(gateway, items[0]).status == 0
    ballast = [seen / f"ballast{number}" for number in range(os.statvfs(seen).f_favail - 30)]
    for path in ballast:
        path.touch()

    def is_refused() -> bool:
        return send(gateway, items[1]).status == OUT_OF_RESOURCES

    wait_until(is_refused, "the server to see it")
    wait_until(lambda: lines_with(gateway, "MAG0 takes no new objects"), "the log to tell")
    [line] = lines_with(gateway, "MAG0 takes no new objects")
    assert "inodes" in line
    assert "Remedy" in line
    assert os.statvfs(seen).f_favail >= 20

    for path in ballast:
        path.unlink()
    wait_until(lambda: send(gateway, items[2]).status == 0, "objects to be stored again")
    wait_until(lambda: lines_with(gateway, "MAG0 takes objects again"), "the log to tell")


def test_a_disk_without_inodes_refuses_and_goes_on(farm: Farm, tmp_path: Path) -> None:
    device = tmp_path / "small"
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "IgnoreMAGDeviceThreshold": 1},
        wrapper=small_disks({device: "size=64m,nr_inodes=100"}),
    )
    items = write_files(tmp_path / "objects", Plan(3))
    seen = inside(gateway, device)
    assert send(gateway, items[0]).status == 0
    ballast = [seen / f"ballast{number}" for number in range(os.statvfs(seen).f_favail)]
    for path in ballast:
        path.touch()

    reply = send(gateway, items[1])

    assert reply.status == OUT_OF_RESOURCES
    assert "No space left" in reply.comment
    ballast.pop().unlink()
    ballast.pop().unlink()
    assert send(gateway, items[1]).status == 0
    assert content_of(seen) == {data_set_of(item.path.read_bytes()) for item in items[:2]}


def test_the_next_device_takes_what_the_first_cannot(farm: Farm, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    gateway = farm.gateway(
        settings={
            "MAGDevices": 2,
            "MAGDevice0": first,
            "MAGDevice1": second,
            "IgnoreMAGDeviceThreshold": 1,
        },
        wrapper=small_disks({first: "size=3m", second: "size=40m"}),
    )
    slices = write_files(tmp_path / "ct", Plan(14, Kind.CT))

    replies = [send(gateway, item) for item in slices]

    assert {reply.status for reply in replies} == {0}
    here, there = content_of(inside(gateway, first)), content_of(inside(gateway, second))
    assert here
    assert there
    assert here | there == {data_set_of(item.path.read_bytes()) for item in slices}
    assert not [path for path in files_below(inside(gateway, first) / "dgate" / "incoming")]
    failed = "Writing to the storage device MAG0 failed"
    wait_until(lambda: lines_with(gateway, failed), "the log to tell")
    assert len(lines_with(gateway, failed)) == 1


def test_a_large_object_moves_to_a_device_that_has_room_while_it_arrives(
    farm: Farm, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    gateway = farm.gateway(
        settings={
            "MAGDevices": 2,
            "MAGDevice0": first,
            "MAGDevice1": second,
            "IgnoreMAGDeviceThreshold": 1,
        },
        wrapper=small_disks({first: "size=8m", second: "size=64m"}),
    )
    [item] = write_files(tmp_path / "ct", Plan(1, Kind.CT))
    head = data_set_of(item.path.read_bytes())
    # A private block behind the pixels, twice as large as the first device.
    tail = (0x7FE1).to_bytes(2, "little") + (0x1001).to_bytes(2, "little") + b"OB\0\0"
    large = head + tail + (16 << 20).to_bytes(4, "little") + os.urandom(1 << 20) * 16

    with RawAssociation.open(gateway.port, [Offer(item.sop_class)]) as association:
        reply = association.store(item.sop_class, item.sop_instance, large)

    assert (reply.status, reply.comment) == (0, "")
    assert content_of(inside(gateway, second)) == {large}
    assert content_of(inside(gateway, first)) == set()
    assert not files_below(inside(gateway, first) / "dgate" / "incoming")


def test_a_read_only_disk_refuses_with_one_line_and_is_used_again_without_a_restart(
    farm: Farm, tmp_path: Path
) -> None:
    device = tmp_path / "small"
    gateway = farm.gateway(
        settings={"MAGDevice0": device, "MAGDeviceFullThreshold": 1},
        wrapper=small_disks({device: "size=40m"}),
    )
    items = write_files(tmp_path / "objects", Plan(20))
    assert send(gateway, items[0]).status == 0

    remount(gateway, device, "ro")
    replies = [send(gateway, item) for item in items[1:]]

    assert {reply.status for reply in replies} == {OUT_OF_RESOURCES}
    wait_until(lambda: send(gateway, items[1]).comment.find("read-only") >= 0, "the reason")
    lasting = "Objects are refused as long as this lasts"
    wait_until(lambda: lines_with(gateway, lasting), "the log to tell")
    refusals = lines_with(gateway, lasting)
    assert len(refusals) <= 3
    assert all("mount" in line for line in refusals)
    assert not lines_with(gateway, "was not stored")
    health = status_of(gateway)["health"]
    assert isinstance(health, dict)
    assert health["state"] == "degraded"
    assert any("mounted read-only" in problem for problem in health["problems"])

    remount(gateway, device, "rw")
    wait_until(lambda: send(gateway, items[1]).status == 0, "objects to be stored again")
    assert {send(gateway, item).status for item in items} == {0}


def test_a_read_only_device_is_passed_over(farm: Farm, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    gateway = farm.gateway(
        settings={
            "MAGDevices": 2,
            "MAGDevice0": first,
            "MAGDevice1": second,
            "MAGDeviceFullThreshold": 1,
        },
        wrapper=small_disks({first: "size=40m", second: "size=40m"}),
    )
    items = write_files(tmp_path / "objects", Plan(6))
    assert send(gateway, items[0]).status == 0

    remount(gateway, first, "ro")
    replies = [send(gateway, item) for item in items[1:]]

    assert {reply.status for reply in replies} == {0}
    assert len(content_of(inside(gateway, second))) == 5
    # An object whose file cannot be replaced where it is gets another place.
    assert send(gateway, items[0]).status == 0
    found = find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")
    assert len(found) == len(items)


def test_the_database_keeps_half_of_the_reserve(farm: Farm, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    gateway = farm.gateway(
        settings={"SQLServer": disk / "index.db3", "DiskReserve": 16},
        wrapper=small_disks({disk: "size=40m"}),
    )
    items = write_files(tmp_path / "objects", Plan(3))
    assert send(gateway, items[0]).status == 0
    ballast = inside(gateway, disk) / "ballast"
    ballast.write_bytes(bytes(33 << 20))

    wait_until(lambda: send(gateway, items[1]).status == OUT_OF_RESOURCES, "the refusal")
    assert "database" in send(gateway, items[1]).comment
    # What does not need space goes on.
    assert len(find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")) >= 1
    ballast.unlink()

    wait_until(lambda: send(gateway, items[2]).status == 0, "objects to be stored again")


def test_a_changed_reserve_counts_without_a_restart(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway()
    assert send(gateway, objects[0]).status == 0

    gateway.configure(DiskReserve="900000000")
    wait_until(lambda: send(gateway, objects[1]).status == OUT_OF_RESOURCES, "the new reserve")

    gateway.configure(DiskReserve="1")
    wait_until(lambda: send(gateway, objects[1]).status == 0, "the old reserve")


def test_too_many_open_files_are_survived(farm: Farm, tmp_path: Path) -> None:
    gateway = farm.gateway(settings={"MAGDeviceFullThreshold": 1}, start=False)
    gateway.process.command = [
        "sh",
        "-c",
        'ulimit -n 64 && exec "$@"',
        "sh",
        *gateway.process.command,
    ]
    gateway.start()
    items = write_files(tmp_path / "objects", Plan(4))
    assert send(gateway, items[0]).status == 0
    held = RawAssociation.open(gateway.port, [Offer(items[1].sop_class)])
    others = []
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    while len(others) < min(120, hard - 40):
        try:
            others.append(RawAssociation.open(gateway.port, timeout_s=2.0))
        except (OSError, Closed):
            break

    data = data_set_of(items[1].path.read_bytes())
    reply = held.store(items[1].sop_class, items[1].sop_instance, data)

    assert reply.status in (0, OUT_OF_RESOURCES)
    assert len(others) < 120, "the limit was never reached"
    for each in others:
        each.connection.close()
    wait_until(lambda: gateway.answers(), "connections to be accepted again")
    wait_until(lambda: send(gateway, items[2]).status == 0, "objects to be stored")
    assert held.store(items[1].sop_class, items[1].sop_instance, data).status == 0
    held.connection.close()
    assert len(lines_with(gateway, "No connection can be accepted")) <= 3


def send_until_stopped(gateway: Gateway, items: list[Generated], taken: set[str]) -> None:
    """Store objects over one association until it ends, and note which were acknowledged."""
    with (
        contextlib.suppress(OSError, Closed),
        RawAssociation.open(gateway.port, [Offer(items[0].sop_class)]) as association,
    ):
        for item in items:
            data = data_set_of(item.path.read_bytes())
            if association.store(item.sop_class, item.sop_instance, data).status == 0:
                taken.add(item.sop_instance)


def test_stop_in_the_middle_of_intake_loses_nothing_that_was_acknowledged(
    farm: Farm, tmp_path: Path
) -> None:
    gateway = farm.gateway()
    items = write_files(tmp_path / "objects", Plan(2000))
    taken: set[str] = set()
    threads = [
        threading.Thread(target=send_until_stopped, args=(gateway, items[part::4], taken))
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(taken) >= 40, "some objects")

    code = gateway.stop()
    for thread in threads:
        thread.join()

    assert code == 0
    gateway.start()
    assert not files_below(gateway.device() / "dgate" / "incoming")
    found = find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")
    assert taken <= {str(one.SOPInstanceUID) for one in found}
    assert len(found) == len(gateway.stored_files())


def test_more_callers_than_allowed_are_told_so_and_the_others_are_served(
    farm: Farm, tmp_path: Path
) -> None:
    gateway = farm.gateway(settings={"MaxAssociations": 4})
    items = write_files(tmp_path / "objects", Plan(60))
    barrier = threading.Barrier(len(items))
    answers: list[int | str] = []

    def call(item: Generated) -> None:
        barrier.wait(120)
        try:
            answers.append(send(gateway, item).status)
        except (Closed, OSError) as exc:
            answers.append(str(exc))

    threads = [threading.Thread(target=call, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stored = [answer for answer in answers if answer == 0]
    assert len(answers) == len(items)
    assert stored
    assert not [answer for answer in answers if isinstance(answer, int) and answer]
    assert len(gateway.stored_files()) == len(stored)
    # Nobody holds a place any more.
    for item in items[:8]:
        wait_until(lambda one=item: send_patiently(gateway, one) == 0, "a place")


def send_patiently(gateway: Gateway, item: Generated) -> int | None:
    """Store one object; None when the server has no place just now."""
    try:
        return send(gateway, item).status
    except (Closed, OSError):
        return None
