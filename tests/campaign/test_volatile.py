"""The model of a disk that forgets: what is synced stays, whatever chance does to the rest."""

from __future__ import annotations

import errno
import random
import stat

import pytest

from tests.campaign.volatile import ROOT, Node, Ordering, Trouble, Volatile

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def content(disk: Volatile, *names: str) -> bytes | None:
    """Return what a path holds; None where it leads nowhere."""
    number = ROOT
    for name in names:
        found = disk.nodes[number].entries.get(name)
        if found is None:
            return None
        number = found
    return bytes(disk.nodes[number].data)


def outcomes(ordering: Ordering, *paths: tuple[str, ...]) -> set[tuple[bytes | None, ...]]:
    """Return all that 200 power cuts make of one history: a file is written and synced, renamed
    into a folder that is not synced, and written again."""
    found = set()
    for seed in range(200):
        disk = Volatile(ordering)
        folder = disk.make(ROOT, "d", FOLDER)
        disk.sync(disk.nodes[ROOT])
        node = disk.make(ROOT, "a", FILE)
        disk.write(node, 0, b"old")
        disk.sync(node)
        disk.sync(disk.nodes[ROOT])
        disk.rename(ROOT, "a", folder.number, "b", 0)
        disk.write(node, 0, b"new")
        disk.cut(random.Random(seed))
        found.add(tuple(content(disk, *path) for path in paths))
    return found


@pytest.mark.parametrize("ordering", Ordering)
def test_rename_is_whole_or_not_at_all_and_writes_may_be_lost(ordering: Ordering) -> None:
    assert outcomes(ordering, ("a",), ("d", "b")) == {
        (b"old", None),
        (b"new", None),
        (None, b"old"),
        (None, b"new"),
    }


def new_file(disk: Volatile, name: str, data: bytes) -> Node:
    """Make a file with content, and sync it but not its name."""
    node = disk.make(ROOT, name, FILE)
    disk.write(node, 0, data)
    disk.sync(node)
    return node


@pytest.mark.parametrize("ordering", Ordering)
def test_sync_of_a_new_file_keeps_the_name_that_it_was_made_under(ordering: Ordering) -> None:
    for seed in range(100):
        disk = Volatile(ordering)
        new_file(disk, "a", b"x")
        disk.cut(random.Random(seed))
        assert content(disk, "a") == b"x"


@pytest.mark.parametrize("ordering", Ordering)
def test_sync_of_a_new_folder_keeps_its_own_name_and_what_was_moved_into_it(
    ordering: Ordering,
) -> None:
    for seed in range(100):
        disk = Volatile(ordering)
        outer = disk.make(ROOT, "outer", FOLDER)
        inner = disk.make(outer.number, "inner", FOLDER)
        new_file(disk, "a", b"x")
        disk.rename(ROOT, "a", inner.number, "b", 0)
        disk.sync(inner)
        disk.cut(random.Random(seed))
        assert content(disk, "outer", "inner", "b") == b"x"


def test_sync_of_a_new_file_keeps_earlier_names_of_others_on_a_journal_only() -> None:
    survivors: dict[Ordering, set[bytes | None]] = {each: set() for each in Ordering}
    for ordering, found in survivors.items():
        for seed in range(100):
            disk = Volatile(ordering)
            new_file(disk, "a", b"x")
            disk.rename(ROOT, "a", ROOT, "b", 0)
            new_file(disk, "c", b"y")
            disk.cut(random.Random(seed))
            found.add(content(disk, "b"))
    assert survivors == {Ordering.JOURNAL: {b"x"}, Ordering.STRICT: {b"x", None}}


@pytest.mark.parametrize("ordering", Ordering)
def test_sync_of_a_folder_keeps_its_names_but_no_content(ordering: Ordering) -> None:
    found = set()
    for seed in range(100):
        disk = Volatile(ordering)
        disk.write(disk.make(ROOT, "a", FILE), 0, b"xy")
        disk.sync(disk.nodes[ROOT])
        disk.cut(random.Random(seed))
        found.add(content(disk, "a"))
    assert found == {b"", b"xy"}


def test_long_write_can_be_torn_at_a_sector() -> None:
    lengths = set()
    for seed in range(300):
        disk = Volatile(Ordering.STRICT)
        node = disk.make(ROOT, "a", FILE)
        disk.sync(disk.nodes[ROOT])
        disk.write(node, 0, bytes(2048))
        disk.cut(random.Random(seed))
        lengths.add(len(content(disk, "a") or b""))
    assert lengths == {0, 512, 1024, 1536, 2048}


def test_what_a_failed_sync_lost_is_seen_until_the_power_goes_and_never_after() -> None:
    for seed in range(50):
        disk = Volatile(Ordering.JOURNAL)
        node = new_file(disk, "a", b"old")
        disk.write(node, 0, b"new")
        disk.lose(node)
        disk.sync(node)
        assert content(disk, "a") == b"new"
        disk.cut(random.Random(seed))
        assert content(disk, "a") == b"old"


def test_second_name_holds_a_file_whose_first_is_gone() -> None:
    disk = Volatile(Ordering.STRICT)
    node = new_file(disk, "a", b"x")
    disk.link(ROOT, "b", node.number)
    disk.unlink(ROOT, "a", is_folder=False)
    disk.sync(disk.nodes[ROOT])
    disk.cut(random.Random(1))
    assert (content(disk, "a"), content(disk, "b"), node.links) == (None, b"x", 1)


def test_nodes_that_nobody_can_reach_are_freed_when_that_is_durable() -> None:
    disk = Volatile(Ordering.STRICT)
    node = new_file(disk, "a", b"x")
    disk.sync(disk.nodes[ROOT])
    disk.unlink(ROOT, "a", is_folder=False)
    disk.collect()
    assert node.number in disk.nodes
    disk.sync(disk.nodes[ROOT])
    disk.collect()
    assert node.number not in disk.nodes


def test_mistakes_get_their_errno() -> None:
    disk = Volatile(Ordering.STRICT)
    folder = disk.make(ROOT, "d", FOLDER)
    disk.make(folder.number, "f", FILE)
    for number, attempt in (
        (errno.ENOENT, lambda: disk.lookup(ROOT, "none")),
        (errno.EEXIST, lambda: disk.make(ROOT, "d", FILE)),
        (errno.ENOTEMPTY, lambda: disk.unlink(ROOT, "d", is_folder=True)),
        (errno.EISDIR, lambda: disk.unlink(ROOT, "d", is_folder=False)),
        (errno.EEXIST, lambda: disk.rename(folder.number, "f", ROOT, "d", 1)),
    ):
        with pytest.raises(Trouble) as caught:
            attempt()
        assert caught.value.errno == number
