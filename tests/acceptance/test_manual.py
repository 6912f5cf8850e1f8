"""What the manual tells an operator to do, done as it stands there: service file and back-up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import store
from tests.acceptance.processes import TOOL_DEADLINE_S, find_program, wait_until
from tests.acceptance.rawdicom import STUDY_ROOT_FIND, Offer, RawAssociation
from tests.generate import Generated, Plan, data_set_of, write_files
from tests.test_docs import ROOT, blocks

DOCS = ROOT / "docs"


def section(page: str, title: str) -> str:
    """Return a section of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found is not None, f"{page} has no section {title}"
    return found[1]


def run_shell(script: str, folder: Path, **places: Path) -> str:
    """Run commands of the manual, on other folders than those it names; fails as they do."""
    for old, new in places.items():
        script = script.replace(f"/{old.replace('_', '/')}", str(new))
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    command = tools / "dgate"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dgate "$@"\n')
    command.chmod(0o755)
    result = subprocess.run(
        ["bash", "-euxc", script],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_DEADLINE_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def indexed(gateway: Gateway) -> int:
    """Return how many objects C-FIND finds."""
    with RawAssociation.open(gateway.port, [Offer(STUDY_ROOT_FIND)]) as association:
        replies = association.find({0x00080052: "IMAGE", 0x00080018: ""})
    return sum(1 for reply in replies if reply.data)


def stored(gateway: Gateway) -> set[bytes]:
    """Return the data sets in the files of the archive."""
    return {data_set_of(path.read_bytes()) for path in gateway.stored_files()}


def contents(items: list[Generated]) -> set[bytes]:
    """Return the data sets that were sent."""
    return {data_set_of(item.path.read_bytes()) for item in items}


def test_the_service_file_is_one_that_systemd_understands(tmp_path: Path) -> None:
    page = (DOCS / "install.md").read_text(encoding="utf-8")
    [unit] = re.findall(r"^```\n(\[Unit\]\n.*?)^```$", page, re.M | re.S)
    # What is to be run has to be there, and is put there by the steps before.
    program = tmp_path / "dgate"
    shutil.copy(sys.executable, program)
    unit = re.sub(r"ExecStart=\S+", f"ExecStart={program}", unit)
    path = tmp_path / "dgate.service"
    path.write_text(unit)

    result = subprocess.run(
        [find_program("systemd-analyze"), "verify", "--man=no", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_DEADLINE_S,
        check=False,
    )

    about_it = [line for line in result.stdout.splitlines() if "dgate" in line]
    assert about_it == []
    assert result.returncode == 0, result.stdout


def test_back_up_of_a_stopped_server_is_a_copy_of_the_folder(
    farm: Farm, tmp_path: Path, objects: list[Generated]
) -> None:
    gateway = farm.gateway()
    store(gateway.port, *(one.path for one in objects))
    [block] = blocks(section("back-up.md", "With the server stopped"), "sh")
    # The service manager's part is done by the test.
    commands = "\n".join(line for line in block.splitlines() if "systemctl" not in line)
    backup = tmp_path / "backup"
    backup.mkdir()
    gateway.stop()
    run_shell(commands, tmp_path, srv_dgate=gateway.folder, backup_dgate=backup)
    shutil.rmtree(gateway.folder)
    backup.rename(gateway.folder)

    gateway.start()
    assert indexed(gateway) == len(objects)
    assert stored(gateway) == contents(objects)


def test_back_up_of_a_running_server_can_be_restored(farm: Farm, tmp_path: Path) -> None:
    before = write_files(tmp_path / "before", Plan(100, seed=31))
    meanwhile = write_files(tmp_path / "meanwhile", Plan(300, seed=32))
    gateway = farm.gateway()
    store(gateway.port, before[0].path.parent)
    [block] = blocks(section("back-up.md", "With the server running"), "sh")
    backup = tmp_path / "backup"
    backup.mkdir()
    sender = threading.Thread(target=store, args=(gateway.port, meanwhile[0].path.parent))
    sender.start()
    wait_until(lambda: len(gateway.stored_files()) > 110, "the sending to be under way")
    run_shell(block, tmp_path, srv_dgate=gateway.folder, backup_dgate=backup)
    sender.join()
    gateway.kill()
    shutil.rmtree(gateway.folder)
    subprocess.run(["cp", "-a", str(backup), str(gateway.folder)], check=True)

    restore = section("back-up.md", "Restore")
    check, bring_in = blocks(restore, "sh")
    commands = "\n".join(line for line in check.splitlines() if "dgate serve" not in line)
    run_shell(commands, tmp_path, srv_dgate=gateway.folder)
    gateway.start()
    copied = stored(gateway)
    assert contents(before) <= copied
    assert "Traceback" not in gateway.log
    run_shell(bring_in, tmp_path, srv_dgate=gateway.folder)

    # Whatever was copied is there and found; nothing was lost by restoring it.
    assert stored(gateway) == copied
    assert indexed(gateway) == len(copied)


def test_index_that_is_lost_can_be_rebuilt(
    farm: Farm, tmp_path: Path, objects: list[Generated]
) -> None:
    gateway = farm.gateway()
    store(gateway.port, *(one.path for one in objects))
    gateway.stop()
    [block] = list(blocks(section("back-up.md", "When only the index is lost"), "sh"))[:1]
    lines = block.splitlines()
    at = next(place for place, line in enumerate(lines) if "dgate serve" in line)
    run_shell("\n".join(lines[:at]), tmp_path, srv_dgate=gateway.folder)
    gateway.start()
    run_shell("\n".join(lines[at + 1 :]), tmp_path, srv_dgate=gateway.folder)

    assert indexed(gateway) == len(objects)
    assert stored(gateway) == contents(objects)
