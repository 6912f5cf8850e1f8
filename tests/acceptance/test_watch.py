"""Folders whose files are imported: with a real server, and with what people do to folders."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import store
from tests.acceptance.processes import files_below, wait_until
from tests.acceptance.rawdicom import STUDY_ROOT_FIND, Offer, RawAssociation
from tests.generate import Generated, Plan, data_set_of, write_files

MOST_WAKE_UPS_S = 10.0
"""Of all threads of an idle server together; there are three a second."""


def watching(farm: Farm, **settings: object) -> Gateway:
    """Return a server that watches the folder `in` beside its data."""
    return farm.gateway(settings={"WatchFolder": "./in", **settings})


def count(gateway: Gateway) -> int:
    """Return how many objects C-FIND finds."""
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_FIND)]) as association:
        replies = association.find({0x00080052: "IMAGE", 0x00080018: ""})
    return sum(1 for reply in replies if reply.data)


def files(folder: Path) -> list[str]:
    """Return the files below a folder."""
    return [str(path.relative_to(folder)) for path in files_below(folder)]


def processor_seconds(pid: int) -> float:
    """Return what a process has used of a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_files_are_imported_and_removed(farm: Farm, objects: list[Generated]) -> None:
    gateway = watching(farm)
    folder = gateway.folder / "in"
    missing = f"The watched folder {folder} cannot be used: No such file"
    wait_until(lambda: missing in gateway.log, "the message about the missing folder")
    shutil.copytree(objects[0].path.parent, folder / "CD" / "DICOM")

    wait_until(lambda: count(gateway) == 20, "the import")
    wait_until(lambda: files(folder) == [], "the removal")
    wait_until(lambda: "can be used again" in gateway.log, "the message that it is back")
    stored = {data_set_of(path.read_bytes()) for path in gateway.stored_files()}
    assert stored == {data_set_of(one.path.read_bytes()) for one in objects}


def test_incoming_on_the_first_device_is_watched_too(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway()
    folder = gateway.device() / "incoming"
    folder.mkdir(parents=True)
    shutil.copy(objects[0].path, folder)

    wait_until(lambda: count(gateway) == 1 and files(folder) == [], "the import")
    # It has nothing to do with where arriving objects are written.
    store(gateway.port, objects[1].path)
    assert count(gateway) == 2


def test_copy_that_takes_its_time_is_taken_when_it_is_complete(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = watching(farm)
    folder = gateway.folder / "in"
    folder.mkdir()
    content = objects[0].path.read_bytes()
    with (folder / "slow.dcm").open("wb") as file:
        file.write(content[:-1000])
        file.flush()
        shutil.copy(objects[1].path, folder / "quick.dcm")
        wait_until(lambda: files(folder) == ["slow.dcm"], "the import of the complete file")
        assert count(gateway) == 1
        file.write(content[-1000:])

    wait_until(lambda: count(gateway) == 2 and files(folder) == [], "the import of the slow one")
    assert data_set_of(content) in {data_set_of(p.read_bytes()) for p in gateway.stored_files()}


def test_what_cannot_be_imported_lies_in_failed_and_nothing_is_tried_for_ever(
    farm: Farm, objects: list[Generated]
) -> None:
    gateway = watching(farm)
    folder = gateway.folder / "in"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear colleague, please find enclosed")
    os.mkfifo(folder / "pipe")
    (folder / "passwords").symlink_to("/etc/passwd")
    shutil.copy(objects[0].path, folder)

    wait_until(lambda: count(gateway) == 1, "the import")
    expected = ["letter.txt", "letter.txt.reason.txt", "passwords", "passwords.reason.txt"]
    wait_until(
        lambda: files(folder) == [f"failed/{name}" for name in expected] + ["pipe"], "the failures"
    )
    assert "not DICOM" in (folder / "failed" / "letter.txt.reason.txt").read_text()
    trouble = gateway.folder / "PacsTrouble.log"
    wait_until(lambda: "letter.txt in" in trouble.read_text(), "the message in the trouble log")
    assert gateway.log.count("letter.txt in") == 1


def test_kill_in_the_middle_loses_nothing(farm: Farm, tmp_path: Path) -> None:
    items = write_files(tmp_path / "many", Plan(300, seed=77))
    gateway = watching(farm)
    folder = gateway.folder / "in"
    staged = gateway.folder / "staged"
    shutil.copytree(items[0].path.parent, staged)
    staged.rename(folder)

    wait_until(lambda: len(files(folder)) < 250, "the import to be under way")
    gateway.kill()
    gateway.start()

    wait_until(lambda: files(folder) == [], "the rest")
    assert count(gateway) == 300


def test_watching_costs_next_to_nothing(farm: Farm) -> None:
    gateway = watching(farm)
    folder = gateway.folder / "in"
    (folder / "failed").mkdir(parents=True)
    for number in range(2000):
        (folder / "failed" / f"{number}.txt").touch()
    (folder / "note.partial").touch()
    pid = gateway.process.pid
    time.sleep(3.0)
    used, woken, began = -processor_seconds(pid), -wake_ups(pid), time.monotonic()
    # The measured quantity is what the server does in this time, so there is nothing to wait for.
    time.sleep(7.0)
    used, woken = used + processor_seconds(pid), woken + wake_ups(pid)
    took_s = time.monotonic() - began

    assert woken <= MOST_WAKE_UPS_S * took_s
    # Looking at every file each time would be seven times as much as this machine now needs for
    # it. The kernel counts in clock ticks.
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert used <= 2 * look_at_all(folder / "failed") + tick_s


def wake_ups(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep by themselves."""
    counted = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text(), re.M)
        assert found is not None
        counted += int(found[1])
    return counted


def look_at_all(folder: Path) -> float:
    """Look at every file of a folder; return the processor time that it takes."""
    started = time.thread_time()
    for path in folder.iterdir():
        path.stat()
    return time.thread_time() - started


def test_folder_among_the_images_is_refused(farm: Farm) -> None:
    gateway = farm.gateway(settings={"WatchFolder": "./data"}, start=False)
    result = gateway.command("check", check=False)

    assert result.returncode == 1
    assert "WatchFolder = ./data holds the images of MAG0" in result.stdout.replace("\n", " ")


def test_rules_do_not_see_files_where_import_export_drag_and_drop_is_off(
    farm: Farm, objects: list[Generated]
) -> None:
    rule = {"ImportConverter0": "destroy"}
    gateway = watching(farm, ImportExportDragAndDrop=0, **rule)
    (gateway.folder / "in").mkdir()
    shutil.copy(objects[0].path, gateway.folder / "in")

    wait_until(lambda: count(gateway) == 1, "the import without rules")
    gateway.command("import", str(objects[1].path))
    store(gateway.port, objects[2].path)
    assert count(gateway) == 2


ORDER = (
    b"MSH|^~\\&|RIS|SITE|DGATE|SITE|20260301||ORM^O01|1|P|2.3\r"
    b"PID|1||P77|P77|Doe^Jane||19700101|F\r"
    b"ORC|NW|4711\r"
    b"OBR|1|4711|ACC77|CT^CT of the head\r"
)


def test_hl7_file_becomes_an_entry_of_the_worklist(farm: Farm) -> None:
    gateway = watching(farm)
    folder = gateway.folder / "in"
    folder.mkdir()
    (folder / "order.hl7").write_bytes(ORDER)
    (folder / "letter.hl7").write_bytes(b"Dear colleague")

    wait_until(lambda: "failed/letter.hl7.reason.txt" in files(folder), "the failure")
    wait_until(lambda: "order.hl7" not in files(folder), "the import")
    assert "ACC77" in gateway.command("worklist", "list").stdout
    assert "HL7" in (folder / "failed" / "letter.hl7.reason.txt").read_text()
