"""The long form: it stops when told to, goes on later, and writes one row for all of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.acceptance.processes import wait_until
from tests.campaign.longrun import BEGIN, END, PAGE, State, row_of, write_row

HEAD = "| begun | hours |\n|---|---|"


def test_row_is_replaced_and_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\n{HEAD}\n| 2026-01-01 10:00 | 1.0 |\n{END}\n\nEnd\n")
    state = State("2026-02-02 12:00", "0.1", 1, seconds=5400, numbers=Counter(rounds=1234))
    write_row(page, state)
    state.numbers["rounds"] = 2345
    state.faults.update({"kill": 3, "cut": 1000})
    write_row(page, state)
    text = page.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n{HEAD}\n| 2026-01-01 10:00 | 1.0 |\n| 2026-02-02")
    assert text.endswith("| cut 1,000, kill 3 |\n" + END + "\n\nEnd\n")
    assert "| 1.5 | 2,345 |" in text
    assert "1,234" not in text


def test_page_of_the_project_has_the_place_for_it() -> None:
    text = PAGE.read_text()
    head = text.split(BEGIN)[1].split(END)[0].strip().splitlines()[0]
    row = State("2026-02-02 12:00", "0.1", 1)
    assert row_of(row).count("|") == head.count("|")


def test_another_version_of_dgate_gets_a_row_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = State.load(path, 5)
    state.numbers["rounds"], state.next_pair = 7, 3
    state.save(path)
    assert State.load(path, None) == state

    state.source = "of an earlier one"
    state.save(path)
    other = State.load(path, None)
    assert other.begun != state.begun
    assert (other.seed, other.next_pair) == (5, 3)
    assert other.numbers == Counter()


def rounds(folder: Path) -> int:
    """Return how many rounds a campaign has done."""
    state = folder / "state.json"
    return int(json.loads(state.read_text())["numbers"].get("rounds", 0)) if state.exists() else 0


def test_it_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    page, folder = tmp_path / "page.md", tmp_path / "campaign"
    page.write_text(f"{BEGIN}\n{HEAD}\n{END}\n")
    command = [
        *(sys.executable, "-m", "tests.campaign.longrun", "--folder", str(folder)),
        *("--page", str(page), "--parallel", "1"),
    ]
    with subprocess.Popen([*command, "--seed", "4"], stdout=subprocess.PIPE, text=True) as first:
        wait_until(lambda: rounds(folder) > 0, "a round", deadline_s=300)
        first.send_signal(signal.SIGINT)
        output, _ = first.communicate()
    assert first.returncode == 0, output
    done = rounds(folder)

    second = subprocess.run(
        [*command, "--rounds", "1"], capture_output=True, text=True, check=False
    )
    assert second.returncode == 0, second.stdout + second.stderr
    assert rounds(folder) > done
    [row] = [line for line in page.read_text().splitlines() if line.startswith("| 20")]
    assert row.split(" | ")[3] == str(rounds(folder))
    # What is kept of pairs is what violated something.
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []
