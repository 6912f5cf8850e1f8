"""A disk that forgets what was not synced: the model of files and names behind `fusedisk`.

It keeps two states: what programs see, and what is certain to be there after a power cut. `cut`
makes one of the states that a real disk may be found in: whatever was synced, and of the rest as
much as chance decides, writes torn at sectors. Pure data, for one thread; no file system calls.
"""

from __future__ import annotations

import errno
import random
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

ROOT = 1
SECTOR = 512


class Ordering(Enum):
    """How names get durable that nobody has synced the folder of."""

    JOURNAL = "journal"
    """As on ext4 and XFS: changes of names survive in the order in which they were made, and the
    sync of a file that is new or has grown takes all earlier ones along."""
    STRICT = "strict"
    """Almost as POSIX has it: only the sync of a folder makes its names durable, and of the others
    any may survive without those made before. A rename is one change all the same, and the sync of
    a file or folder makes its own names durable, with those that its folders were created under, as
    Btrfs does, and others in their way."""


Change = tuple[tuple[int, str, int], ...]
"""A change of names: folder, name, and the node that the name is of afterwards (0: of none)."""


@dataclass(slots=True)
class Node:
    """A file, folder or socket."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    stable: bytearray = field(default_factory=bytearray)
    """The content after a power cut, as far as it is certain."""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Changes since: bytes at an offset, or a new size."""
    entries: dict[str, int] = field(default_factory=dict)
    """The names in a folder."""
    links: int = 0
    lookups: int = 0
    """How often the kernel was told of it."""
    has_grown: bool = True
    """New, or of another size than when it was synced last."""
    changed: float = field(default_factory=time.time)
    name: str = ""
    """The name that it was created under."""

    made_by: Change | None = None
    """The change that gave it its first name."""

    @property
    def is_folder(self) -> bool:
        """Tell whether it can hold names."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_map(self) -> bool:
        """Tell whether it is the memory that SQLite's processes share, a file by name only."""
        return self.name.endswith("-shm")


class Trouble(OSError):
    """A request fails with an errno."""


def _apply(data: bytearray, offset: int, content: bytes | None) -> None:
    if content is None:
        del data[offset:]
        data.extend(bytes(offset - len(data)))
        return
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(content)] = content


class Volatile:
    """Files, names, and what is durable of them."""

    def __init__(self, ordering: Ordering) -> None:
        self.ordering = ordering
        self.nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o755, links=2)}
        self._stable_names: dict[int, dict[str, int]] = {ROOT: {}}
        self._pending_names: list[Change] = []
        self._next = ROOT + 1

    def node(self, number: int) -> Node:
        """Return a node by its number; raises Trouble for one that is gone."""
        try:
            return self.nodes[number]
        except KeyError:
            raise Trouble(errno.ENOENT, "no such node") from None

    def lookup(self, folder: int, name: str) -> Node:
        """Return what a name is of."""
        number = self.node(folder).entries.get(name)
        if number is None:
            raise Trouble(errno.ENOENT, name)
        return self.nodes[number]

    # Changes of names.

    def make(self, folder: int, name: str, mode: int) -> Node:
        """Create a file, folder or socket."""
        parent = self.node(folder)
        if name in parent.entries:
            raise Trouble(errno.EEXIST, name)
        node = Node(self._next, mode, name=name)
        self._next += 1
        self.nodes[node.number] = node
        if node.is_folder:
            node.links = 1
            parent.links += 1
            self._stable_names[node.number] = {}
        self._change((folder, name, node.number))
        node.made_by = self._pending_names[-1]
        return node

    def link(self, folder: int, name: str, number: int) -> Node:
        """Give a file a further name."""
        if name in self.node(folder).entries:
            raise Trouble(errno.EEXIST, name)
        node = self.node(number)
        self._change((folder, name, number))
        return node

    def unlink(self, folder: int, name: str, *, is_folder: bool) -> None:
        """Take a name away."""
        node = self.lookup(folder, name)
        if node.is_folder != is_folder:
            raise Trouble(errno.ENOTDIR if is_folder else errno.EISDIR, name)
        if node.entries:
            raise Trouble(errno.ENOTEMPTY, name)
        if is_folder:
            self.nodes[folder].links -= 1
            node.links -= 1
        self._change((folder, name, 0))

    def rename(self, folder: int, name: str, new_folder: int, new_name: str, flags: int) -> None:
        """Move a name, over another one unless the flag RENAME_NOREPLACE (1) is set."""
        node = self.lookup(folder, name)
        there = self.node(new_folder).entries.get(new_name)
        if flags & ~1:
            raise Trouble(errno.EINVAL, "no such kind of rename here")
        if there is not None:
            if flags & 1:
                raise Trouble(errno.EEXIST, new_name)
            if there == node.number:
                return
            if self.nodes[there].entries:
                raise Trouble(errno.ENOTEMPTY, new_name)
        if node.is_folder:
            self.nodes[folder].links -= 1
            self.nodes[new_folder].links += 1
        self._change((folder, name, 0), (new_folder, new_name, node.number))

    def _change(self, *change: tuple[int, str, int]) -> None:
        for folder, name, number in change:
            entries = self.nodes[folder].entries
            before = entries.pop(name, None)
            if before is not None:
                self.nodes[before].links -= 1
            if number:
                entries[name] = number
                self.nodes[number].links += 1
        self._pending_names.append(change)

    # Changes of content.

    def write(self, node: Node, offset: int, content: bytes) -> None:
        """Write into a file."""
        node.has_grown = node.has_grown or offset + len(content) > len(node.data)
        _apply(node.data, offset, content)
        node.pending.append((offset, content))
        node.changed = time.time()

    def resize(self, node: Node, size: int) -> None:
        """Cut a file short, or lengthen it with zeros."""
        node.has_grown = True
        _apply(node.data, size, None)
        node.pending.append((size, None))
        node.changed = time.time()

    def forget(self, number: int, count: int) -> None:
        """The kernel lets go of a node."""
        node = self.nodes.get(number)
        if node is not None:
            node.lookups -= count

    # What is durable.

    def sync(self, node: Node) -> None:
        """Make a file's content, or a folder's names, durable."""
        if node.is_folder:
            touching = [
                place
                for place, change in enumerate(self._pending_names)
                if any(folder == node.number for folder, _, _ in change)
            ]
            self._settle_names({*touching, *self._origins(node)})
            return
        for offset, content in node.pending:
            _apply(node.stable, offset, content)
        node.pending.clear()
        if node.has_grown and self._pending_names:
            self._settle_names(self._taken_along(node))
        node.has_grown = False

    def _taken_along(self, node: Node) -> list[int]:
        """Return the changes of names that the sync of a new or longer file makes durable."""
        if self.ordering is Ordering.JOURNAL:
            return [len(self._pending_names) - 1]
        return self._origins(node)

    def _origins(self, node: Node) -> list[int]:
        """Return the pending changes that gave the node its names, and its folders their first."""
        wanted = [
            change
            for change in self._pending_names
            if any(number == node.number for _, _, number in change)
        ]
        made_by = node.made_by
        while made_by is not None:
            wanted.append(made_by)
            made_by = self.nodes[made_by[0][0]].made_by if made_by[0][0] in self.nodes else None
        return [
            place
            for place, change in enumerate(self._pending_names)
            if any(change is each for each in wanted)
        ]

    def lose(self, node: Node) -> None:
        """Forget changes of content after a sync that failed: later syncs do not write them.

        Programs go on seeing them, as they do on Linux.
        """
        node.pending.clear()

    def _settle_names(self, places: Iterable[int]) -> None:
        settled = self._with_earlier(places)
        for place in sorted(settled):
            self._settle(self._pending_names[place])
        self._pending_names = [
            change for place, change in enumerate(self._pending_names) if place not in settled
        ]

    def _with_earlier(self, places: Iterable[int]) -> set[int]:
        """Return these pending changes of names with those that cannot be missing then."""
        wanted = set(places)
        if not wanted:
            return wanted
        if self.ordering is Ordering.JOURNAL:
            return set(range(max(wanted) + 1))
        names = set[tuple[int, str]]()
        for place in reversed(range(max(wanted) + 1)):
            touched = {(folder, name) for folder, name, _ in self._pending_names[place]}
            if place in wanted or touched & names:
                wanted.add(place)
                names |= touched
        return wanted

    def _settle(self, change: Change) -> None:
        for folder, name, number in change:
            entries = self._stable_names.setdefault(folder, {})
            if number:
                entries[name] = number
            else:
                entries.pop(name, None)

    def cut(self, source: random.Random) -> str:
        """Become what the disk holds after a power cut now; returns in words what survived."""
        before = len(self._pending_names)
        kept = self._with_earlier(_choose(source, before))
        for place in sorted(kept):
            self._settle(self._pending_names[place])
        self._pending_names.clear()
        unsynced = kept_writes = 0
        for node in self.nodes.values():
            unsynced += len(node.pending)
            kept_writes += self._survive(node, source)
        self._become_stable()
        return (
            f"{len(kept)} of {before} unsynced changes of names and {kept_writes} of {unsynced} "
            f"unsynced writes survived ({self.ordering.value})"
        )

    def _survive(self, node: Node, source: random.Random) -> int:
        chosen = sorted(_choose(source, len(node.pending)))
        is_torn = source.random() < 0.3
        for place in chosen:
            offset, content = node.pending[place]
            if content and is_torn and place == chosen[-1]:
                sectors = -(-len(content) // SECTOR)
                first = SECTOR - offset % SECTOR
                length = first + SECTOR * source.randrange(sectors) if sectors > 1 else len(content)
                content = content[:length]
            _apply(node.stable, offset, content)
        node.pending.clear()
        return len(chosen)

    def _become_stable(self) -> None:
        found = {ROOT}
        folders = [ROOT]
        links = dict[int, int]()
        while folders:
            for number in self._stable_names.get(folders.pop(), {}).values():
                links[number] = links.get(number, 0) + 1
                if number not in found:
                    found.add(number)
                    if self.nodes[number].is_folder:
                        folders.append(number)
        self.nodes = {number: self.nodes[number] for number in sorted(found)}
        self._stable_names = {
            number: names for number, names in self._stable_names.items() if number in found
        }
        for number, node in self.nodes.items():
            node.lookups = 0
            node.data = bytearray(node.stable)
            node.has_grown = False
            node.entries = dict(self._stable_names.get(number, {}))
            node.links = links.get(number, 0)
        for node in self.nodes.values():
            if node.is_folder:
                node.links = 2 + sum(self.nodes[each].is_folder for each in node.entries.values())

    def collect(self) -> None:
        """Free the nodes that nobody can reach any more, before or after a power cut."""
        used = {ROOT}
        for names in self._stable_names.values():
            used.update(names.values())
        for change in self._pending_names:
            used.update(number for _, _, number in change)
        for number, node in list(self.nodes.items()):
            if node.links <= 0 and node.lookups <= 0 and number not in used:
                del self.nodes[number]
                self._stable_names.pop(number, None)


def _choose(source: random.Random, count: int) -> list[int]:
    """Choose which of so many unsynced changes survive: none, all, the first few, or any."""
    if not count:
        return []
    styles: tuple[Callable[[], list[int]], ...] = (
        list,
        lambda: list(range(count)),
        lambda: list(range(source.randrange(count + 1))),
        lambda: [place for place in range(count) if source.random() < 0.5],
    )
    return source.choice(styles)()
