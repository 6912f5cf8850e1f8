"""`dgate regen` and `dgate verify` on a real server's archive: rebuilt, resumed, while serving."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import find, store
from tests.acceptance.processes import wait_until
from tests.generate import Generated, Plan, write_files

TABLES = ("DICOMPatients", "DICOMStudies", "DICOMSeries", "DICOMImages")


@pytest.fixture
def filled(farm: Farm, objects: list[Generated]) -> Gateway:
    """Return a running server that holds twenty objects."""
    gateway = farm.gateway()
    assert all(answer.is_success for answer in store(gateway.port, *(x.path for x in objects)))
    return gateway


def rows(gateway: Gateway) -> dict[str, list[tuple[object, ...]]]:
    """Return what the index has, without the times."""
    with sqlite3.connect(gateway.database) as connection:
        found = {}
        for table in TABLES:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in names if name != "AccessTime")
            found[table] = sorted(connection.execute(f"SELECT {kept} FROM {table}").fetchall())
    connection.close()
    return found


def image_rows(gateway: Gateway) -> int:
    """Return how many image rows there are."""
    with sqlite3.connect(gateway.database) as connection:
        count = int(connection.execute("SELECT count(*) FROM DICOMImages").fetchone()[0])
    connection.close()
    return count


def last(text: str) -> dict[str, object]:
    """Return the last line of JSON that a command printed."""
    found: dict[str, object] = json.loads(text.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("running", [True, False], ids=["beside-server", "alone"])
def test_lost_index_is_rebuilt_with_the_same_rows(filled: Gateway, running: bool) -> None:
    before = rows(filled)
    filled.stop()
    for path in filled.database.parent.glob(f"{filled.database.name}*"):
        path.unlink()
    filled.start()
    if not running:
        filled.stop()

    result = filled.command("regen", "--json", check=True)

    assert last(result.stdout)["entered"] == 20
    assert rows(filled) == before


def test_nothing_changes_where_everything_is_known(filled: Gateway) -> None:
    before = rows(filled)

    result = filled.command("regen", check=True)

    assert "20 files seen, 20 known already" in result.stdout
    assert rows(filled) == before


def test_server_goes_on_storing_during_a_rebuild_from_empty(
    filled: Gateway, tmp_path: Path
) -> None:
    more = write_files(tmp_path / "more", Plan(200, seed=5))
    answers = []
    sender = threading.Thread(
        target=lambda: answers.extend(store(filled.port, *(one.path for one in more)))
    )

    sender.start()
    result = filled.command("regen", "--from-empty", "--yes")
    sender.join()
    after = filled.command("regen")

    assert result.returncode == 0, result.stdout
    assert after.returncode == 0, after.stdout
    assert [answer.is_success for answer in answers] == [True] * 200
    assert image_rows(filled) == 220
    assert len(filled.stored_files()) == 220
    assert filled.command("verify").returncode == 0


def test_worklist_and_queue_survive_a_rebuild_from_empty(filled: Gateway) -> None:
    with sqlite3.connect(filled.database) as connection:
        connection.execute("INSERT INTO DICOMWorkList (AccessionN) VALUES ('A1')")
    connection.close()

    result = filled.command("regen", "--from-empty", "--backup", str(filled.folder / "old.db3"))

    assert result.returncode == 0, result.stdout
    with sqlite3.connect(filled.database) as connection:
        assert connection.execute("SELECT AccessionN FROM DICOMWorkList").fetchall() == [("A1",)]
    connection.close()
    with sqlite3.connect(filled.folder / "old.db3") as connection:
        assert connection.execute("SELECT count(*) FROM DICOMImages").fetchone() == (20,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_clearing_the_index_needs_a_backup_or_consent(filled: Gateway) -> None:
    result = filled.command("regen", "--from-empty", check=False)

    assert result.returncode == 2
    assert "--backup FILE or --yes" in result.stdout
    assert image_rows(filled) == 20


def test_killed_rebuild_goes_on_where_it_was(farm: Farm, tmp_path: Path) -> None:
    count = 6000
    gateway = farm.gateway(start=False, settings={"Durability": "none"})
    write_files(gateway.folder / "data" / "old", Plan(count))
    command = [sys.executable, "-m", "dgate", "regen", "--json", "-c", str(gateway.folder)]
    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: gateway.database.exists() and _entered(gateway) > 0, "the first rows")

    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = _entered(gateway)
    second = gateway.command("regen", "--json", check=False)

    assert 0 < kept < count
    assert second.returncode == 0, second.stdout
    assert "going on behind" in second.stdout
    summary = last(second.stdout)
    assert (summary["seen"], summary["entered"], summary["known"]) == (count, count, 0)
    assert image_rows(gateway) == count


def _entered(gateway: Gateway) -> int:
    try:
        return image_rows(gateway)
    except sqlite3.OperationalError:
        # It is just being created.
        return 0


def test_readers_end_with_the_command_that_was_killed(farm: Farm) -> None:
    gateway = farm.gateway(start=False, settings={"Durability": "none"})
    write_files(gateway.folder / "data" / "old", Plan(3000))
    command = [sys.executable, "-m", "dgate", "regen", "-c", str(gateway.folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[int] = []

    def is_under_way() -> bool:
        children[:] = _children(process.pid)
        return bool(children) and gateway.database.exists() and _entered(gateway) > 0

    wait_until(is_under_way, "the first rows, with readers at work")

    process.kill()
    process.wait()

    wait_until(lambda: not any(map(_is_alive, children)), "the readers to end")


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_rows_without_file_are_named_and_removed_only_on_request(
    filled: Gateway, tmp_path: Path
) -> None:
    gone = filled.stored_files()[:3]
    for path in gone:
        path.unlink()

    named = filled.command("regen", check=False)
    kept = image_rows(filled)
    pruned = filled.command("regen", "--prune", "--json", check=False)

    assert named.returncode == 1
    assert all(str(path) in named.stdout for path in gone)
    assert kept == 20
    assert (last(pruned.stdout)["missing"], last(pruned.stdout)["pruned"]) == (3, 3)
    assert image_rows(filled) == 17
    assert filled.command("verify").returncode == 0


def test_device_that_is_away_loses_no_row(filled: Gateway) -> None:
    away = filled.folder / "away"
    away.mkdir()
    for folder in filled.device().iterdir():
        if folder.name not in ("dbase", "dgate"):
            folder.rename(away / folder.name)

    result = filled.command("regen", "--prune", check=False)

    assert "is it mounted? No row was removed" in result.stdout
    assert result.returncode == 1
    assert image_rows(filled) == 20


def test_odd_files_are_named_and_left(filled: Gateway) -> None:
    folder = filled.device() / "odd"
    folder.mkdir()
    content = filled.stored_files()[0].read_bytes()
    (folder / "cut.dcm").write_bytes(content[:200])
    (folder / "empty.v2").write_bytes(b"")
    (folder / "readme").write_text("no image")
    (folder / "copy.dcm").write_bytes(content)
    (folder / "open.part").write_bytes(content)
    (filled.device() / "Bin").mkdir()
    (filled.device() / "Bin" / "x.dcm").write_bytes(content)
    os.mkfifo(folder / "pipe.dcm")

    result = filled.command("regen", "--json", check=False)

    summary = last(result.stdout)
    assert result.returncode == 1
    assert (summary["seen"], summary["known"], summary["unreadable"]) == (24, 20, 2)
    assert (summary["copies"], summary["foreign"]) == (1, 1)
    assert image_rows(filled) == 20
    assert sorted(path.name for path in folder.iterdir()) == [
        "copy.dcm", "cut.dcm", "empty.v2", "open.part", "pipe.dcm", "readme",
    ]  # fmt: skip


def test_object_whose_file_was_moved_is_found_again(filled: Gateway, tmp_path: Path) -> None:
    moved = filled.stored_files()[0]
    target = filled.device() / "elsewhere" / "moved.dcm"
    target.parent.mkdir()
    moved.rename(target)

    result = filled.command("regen", "--json", check=False)

    assert result.returncode == 0, result.stdout
    assert last(result.stdout)["moved"] == 1
    assert filled.command("verify").returncode == 0


def test_one_folder_can_be_rebuilt(filled: Gateway) -> None:
    folder = filled.stored_files()[0].relative_to(filled.device()).parts[0]

    result = filled.command("regen", "--folder", folder, "--json", check=True)
    absolute = filled.command("regen", "--folder", str(filled.device() / folder), check=True)
    unknown = filled.command("regen", "--folder", "../..", check=False)

    assert last(result.stdout)["seen"] == 10
    assert "10 files seen" in absolute.stdout
    assert unknown.returncode == 1
    assert "no device has a folder" in unknown.stdout


def test_conflicting_file_is_refused_and_named(filled: Gateway) -> None:
    """The same series under another patient ID (spec dicom-sql.md 4.3)."""
    content = filled.stored_files()[0].read_bytes()
    folder = filled.device() / "conflict"
    folder.mkdir()
    other = content.replace(b"P000-000000", b"P999-000000").replace(b"1.100000", b"1.999999")
    (folder / "conflict.dcm").write_bytes(other)

    result = filled.command("regen", "--json", check=False)

    assert result.returncode == 1
    assert last(result.stdout)["refused"] == 1
    assert "belongs to another patient ID" in result.stdout
    assert image_rows(filled) == 20


# verify


def test_clean_archive_is_verified(filled: Gateway) -> None:
    result = filled.command("verify", "--deep", "--json", check=False)

    summary = last(result.stdout)
    assert result.returncode == 0, result.stdout
    assert (summary["files"], summary["rows"], summary["sound"]) == (20, 20, 20)


def test_every_kind_of_damage_is_told(filled: Gateway, tmp_path: Path) -> None:
    files = filled.stored_files()
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-100])
    files[2].write_bytes(files[3].read_bytes())
    stray = write_files(tmp_path / "stray", Plan(1, seed=9))[0]
    (filled.device() / "stray.dcm").write_bytes(stray.path.read_bytes())
    files[4].write_bytes(b"")

    result = filled.command("verify", "--json", check=False)

    told = [json.loads(line) for line in result.stdout.strip().splitlines()]
    by_path: dict[str, set[str]] = {}
    for one in told:
        if one["kind"] == "problem":
            by_path.setdefault(one["path"], set()).add(one["what"])
    assert result.returncode == 1
    assert by_path == {
        str(files[0]): {"without_file"},
        str(files[1]): {"unreadable"},
        str(files[2]): {"copies", "mixed_up"},
        str(files[4]): {"unreadable"},
        str(filled.device() / "stray.dcm"): {"without_row"},
    }
    assert not told[-1]["clean"]


def test_verify_writes_nothing(filled: Gateway) -> None:
    filled.stop()
    before = {path: path.stat().st_mtime_ns for path in filled.folder.rglob("*")}

    result = filled.command("verify", check=False)

    assert result.returncode == 0, result.stdout
    assert {path: path.stat().st_mtime_ns for path in filled.folder.rglob("*")} == before


def test_answers_stay_right_while_the_index_is_refreshed(filled: Gateway, tmp_path: Path) -> None:
    patient = "P000-000001"
    stop = threading.Event()
    counts = set()

    def ask() -> None:
        while not stop.is_set():
            keys = {"PatientID": patient, "SOPInstanceUID": ""}
            counts.add(len(find(filled.port, keys, tmp_path, level="IMAGE")))

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(3):
        filled.command("regen", check=True)
    stop.set()
    asking.join()

    assert counts == {10}


def test_converters_of_a_rebuild_run(farm: Farm, objects: list[Generated]) -> None:
    gateway = farm.gateway(
        settings={
            "RegenConverter0": 'ifequal "%i", "P000-000001"; destroy',
            "RegenFailConverter0": "nop could not read %f",
        },
    )
    folder = gateway.folder / "data" / "old"
    folder.mkdir(parents=True)
    for one in objects:
        (folder / one.path.name).write_bytes(one.path.read_bytes())
    (folder / "bad.dcm").write_bytes(b"nonsense")

    result = gateway.command("regen", "--json", check=False)

    summary = last(result.stdout)
    assert (summary["entered"], summary["skipped"], summary["unreadable"]) == (10, 10, 1)
    assert f"could not read {folder}/bad.dcm" in gateway.log
