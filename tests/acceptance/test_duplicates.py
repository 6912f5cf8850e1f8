"""The same SOP instance twice: at once on many associations, and with other content."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway, run_dgate
from tests.acceptance.peers import find
from tests.acceptance.processes import wait_until
from tests.acceptance.rawdicom import Offer, RawAssociation
from tests.generate import Generated, data_set_of

PROCESSING_FAILURE = 0x0110


def variants(item: Generated, count: int) -> list[bytes]:
    """Return contents of one SOP instance that differ in a private element at the end."""
    data = data_set_of(item.path.read_bytes())
    tail = bytes.fromhex("e17f0010") + b"LO\x04\0TEST" + bytes.fromhex("e17f0110") + b"LO\x04\0"
    return [data + tail + f"{number:04}".encode() for number in range(count)]


def send_at_once(gateway: Gateway, item: Generated, contents: list[bytes]) -> list[int]:
    """Store each content on an association of its own, all at the same moment."""
    barrier = threading.Barrier(len(contents))
    statuses: list[int] = []

    def send(content: bytes) -> None:
        with RawAssociation.open(gateway.port, [Offer(item.sop_class)]) as association:
            barrier.wait(120)
            statuses.append(association.store(item.sop_class, item.sop_instance, content).status)

    threads = [threading.Thread(target=send, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def stored(gateway: Gateway) -> list[bytes]:
    """Return the data sets that are stored."""
    return [data_set_of(path.read_bytes()) for path in gateway.stored_files()]


def aside(gateway: Gateway, *words: str) -> list[dict[str, object]]:
    """Run `dgate aside` and return what it printed as JSON."""
    result = run_dgate("aside", *words, "-c", str(gateway.folder), "--json", check=True)
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("differ", [False, True], ids=["same content", "different contents"])
def test_one_instance_on_many_associations_at_once_is_one_object(
    farm: Farm, objects: list[Generated], tmp_path: Path, differ: bool
) -> None:
    sink = farm.sink()
    gateway = farm.gateway(
        settings={"ExportConverters": 1, "ExportConverter0": "forward to SINK"}, nodes=[sink.node]
    )
    contents = variants(objects[0], 12)
    contents = contents if differ else contents[:1] * 12

    statuses = send_at_once(gateway, objects[0], contents)

    assert statuses == [0] * 12
    [content] = stored(gateway)
    assert content in contents
    assert len(find(gateway.port, {"SOPInstanceUID": ""}, tmp_path, level="IMAGE")) == 1

    def is_drained() -> bool:
        result = run_dgate("status", "-c", str(gateway.folder), "--json")
        queue = json.loads(result.stdout.splitlines()[-1])["queue"]
        return not [each for each in queue if each["state"] != "done"]

    wait_until(is_drained, "the deliveries")
    # Whatever was sent in between, the destination has what is stored.
    [path] = sink.files().values()
    assert data_set_of(path.read_bytes()) == content


def test_of_different_contents_the_first_stays_and_the_others_are_put_aside(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"DuplicateContent": "aside"})
    item = objects[0]
    contents = variants(item, 6)

    assert send_at_once(gateway, item, contents) == [0] * 6

    [content] = stored(gateway)
    entries = aside(gateway, "list")
    assert len(entries) == 5
    files = (gateway.folder / "dgate" / "aside").glob("*.dcm")
    assert {data_set_of(path.read_bytes()) for path in files} | {content} == set(contents)
    health = json.loads(run_dgate("status", "-c", str(gateway.folder), "--json").stdout)["health"]
    assert any("5 object(s) put aside" in problem for problem in health["problems"])


def test_person_decides_about_what_was_put_aside(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(settings={"DuplicateContent": "aside"})
    item = objects[0]
    first, second, third = variants(item, 3)
    for content in (first, second, third):
        send_at_once(gateway, item, [content])
    by_value = {
        str(each["differences"][0]["aside"]): str(each["id"])  # type: ignore[index]
        for each in aside(gateway, "show", item.sop_instance)
    }
    assert set(by_value) == {"0001", "0002"}
    folder = str(gateway.folder)
    shown = run_dgate("aside", "show", by_value["0001"], "-c", folder, check=True).stdout
    assert "0000" in shown
    assert "(7FE1,1001)" in shown
    assert "nothing was done" in run_dgate("aside", "accept", by_value["0001"], "-c", folder).stdout
    assert stored(gateway) == [first]

    run_dgate("aside", "accept", by_value["0001"], "-c", folder, "--yes", check=True)

    assert stored(gateway) == [second]
    # Without a server as well.
    gateway.stop()
    run_dgate("aside", "discard", by_value["0002"], "-c", folder, "--yes", check=True)
    assert "Nothing was put aside" in run_dgate("aside", "list", "-c", folder).stdout
    assert stored(gateway) == [second]
    failed = run_dgate("aside", "show", by_value["0002"], "-c", folder)
    assert failed.returncode == 1
    assert "aside list" in failed.stdout
    gateway.start()


def test_different_content_is_rejected_where_it_is_wanted(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = farm.gateway(settings={"DuplicateContent": "reject"})
    item = objects[0]
    first, second = variants(item, 2)

    statuses = [send_at_once(gateway, item, [each])[0] for each in (first, first, second, first)]

    assert statuses == [0, 0, PROCESSING_FAILURE, 0]
    assert stored(gateway) == [first]


def test_policy_can_be_changed_while_the_server_runs(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway()
    item = objects[0]
    first, second = variants(item, 2)
    assert send_at_once(gateway, item, [first]) == [0]

    gateway.configure(DuplicateContent="reject")

    wait_until(
        lambda: (
            PROCESSING_FAILURE
            in [send_at_once(gateway, item, [each])[0] for each in (first, second)]
        ),
        "the changed policy",
    )
