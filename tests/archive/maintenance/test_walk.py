"""Which files count, and that a walk can be taken up where it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.maintenance import walk as module
from dgate.archive.maintenance.walk import batched, index_name, is_taken, walk

NAMES = [
    "10/a.dcm",
    "10/b/c.v2",
    "10.dcm",
    "9/IM000001",
    "9/x.IMG",
    "Z/1.2.840.113619",
    "a b/c.dcm",
]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a.dcm", True),
        ("a.V2", True),
        ("a.img", True),
        ("IM0001", True),
        ("1.2.840.113619", True),
        ("a.txt", False),
        ("a.ini", False),
        ("1.2.3", False),
        ("1.2.3.4", False),
        ("a.dcm.prev", False),
        ("1.2.3.n12ab.part", False),
        ("conquest.db3", False),
        ("conquest.db3-wal", False),
        ("conquest.db3-journal", False),
        ("DICOMDIR", False),
        ("dgate.lock", False),
        (".hidden", False),
    ],
)
def test_names_are_taken_as_the_reference_says(name: str, taken: bool) -> None:
    assert is_taken(name) is taken


def test_all_files_come_once_in_order_of_their_bytes(device: Path) -> None:
    found = list(walk(device))

    assert sorted(found) == sorted(NAMES)
    assert found == sorted(found, key=lambda name: [part.encode() for part in name.split("/")])


@pytest.mark.parametrize("folder", ["incoming", "Printer_Files", "BIN", "dgate", "sub/incoming"])
def test_folders_of_work_in_progress_are_skipped(device: Path, folder: str) -> None:
    (device / folder).mkdir(parents=True)
    (device / folder / "x.dcm").write_bytes(b"x")

    assert sorted(walk(device)) == sorted(NAMES)


def test_walk_can_be_taken_up_behind_every_file(device: Path) -> None:
    whole = list(walk(device))

    for place, name in enumerate(whole):
        assert list(walk(device, after=name)) == whole[place + 1 :]


def test_file_that_is_gone_meanwhile_is_no_obstacle_to_going_on(device: Path) -> None:
    whole = list(walk(device))
    (device / whole[2]).unlink()

    assert list(walk(device, after=whole[2])) == whole[3:]


def test_walk_of_one_folder_can_be_taken_up(device: Path) -> None:
    assert list(walk(device, below="10")) == ["10/a.dcm", "10/b/c.v2"]
    assert list(walk(device, below="10", after="10/a.dcm")) == ["10/b/c.v2"]


def test_huge_folder_is_sorted_on_disk(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(walk(device))
    monkeypatch.setattr(module, "_SORTED_IN_MEMORY", 2)

    assert list(walk(device)) == expected
    assert list(walk(device, after=expected[1])) == expected[2:]


def test_links_are_followed_but_not_in_circles(
    device: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "x.dcm").write_bytes(b"x")
    (device / "linked").symlink_to(other)
    (other / "back").symlink_to(device)
    troubles: list[tuple[str, str]] = []

    found = list(walk(device, trouble=lambda path, text: troubles.append((path, text))))

    assert "linked/x.dcm" in found
    assert len(found) == len(NAMES) + 1
    assert [path for path, _ in troubles] == [str(device / "linked" / "back")]


def test_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    troubles: list[tuple[str, str]] = []

    assert list(walk(tmp_path / "none", trouble=lambda *one: troubles.append(one))) == []
    assert troubles == [(str(tmp_path / "none"), "No such file or directory")]


def test_name_in_latin_1_bytes_is_read_as_such(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/M\xfcller.dcm"
    with open(raw, "wb"):  # noqa: PTH123 - the name is no text
        pass

    (found,) = walk(tmp_path)

    assert index_name(found) == "Müller.dcm"
    assert index_name("Müller.dcm") == "Müller.dcm"


@given(st.lists(st.text(min_size=1, max_size=30_000), max_size=300))
def test_batches_hold_every_name_once_and_fit_into_a_pipe(names: list[str]) -> None:
    batches = list(batched(names))

    assert [name for batch in batches for name in batch] == names
    assert all(len(batch) <= 128 for batch in batches)
    assert all(sum(map(len, batch[:-1])) < 16_000 for batch in batches)
