"""The invariant: what has to be true of a gateway and its destinations once all is quiet.

Reads the index with SQLite, files as files, and what arrived at the destinations themselves; asks
the server by C-FIND. Every finding is a sentence; none means that all is well.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.processes import files_below
from tests.acceptance.rawdicom import STUDY_ROOT_FIND, Offer, RawAssociation
from tests.campaign.truth import Fact
from tests.generate import data_set_of

OPEN = "state NOT IN ('done', 'cancelled', 'stuck')"


TICK_NS = 20_000_000
"""Longer than what a kernel takes for one moment when it notes when files were written."""


class Arrivals:
    """What the destinations have accepted so far."""

    def __init__(self, journal: Path, folder: Path) -> None:
        """Read the journal of the scripted destination, and the folder of DCMTK's (SINK2)."""
        self._journal = journal
        self._folder = folder
        self._read_to = 0
        self._held = b""
        self.contents: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """How often each content (SHA-256) came, by title and SOP instance."""

    def update(self) -> None:
        """Read what is new."""
        if self._journal.exists():
            with self._journal.open("rb") as file:
                file.seek(self._read_to)
                *lines, self._held = (self._held + file.read()).split(b"\n")
                self._read_to = file.tell()
            for line in lines:
                title, sop_instance, digest, _ = line.decode().split(" ")
                self.contents[title, sop_instance][digest] += 1
        for path in self._folder.iterdir():
            # Each arrival has a file of its own, which is removed once it is counted.
            sop_instance, digest = _received(path)
            self.contents["SINK2", sop_instance][digest] += 1
            path.unlink()

    def drop_torn(self, facts: Mapping[str, Fact]) -> None:
        """Remove what DCMTK's destination was writing when it was killed.

        It serves one association at a time, so that this is one file at most, and the last; the
        clock of a file system may give it the time of the one before.
        """
        written = {path: path.stat().st_mtime_ns for path in self._folder.iterdir()}
        latest = max(written.values(), default=0)
        for path, at in written.items():
            if at < latest - TICK_NS:
                continue
            try:
                sop_instance, digest = _received(path)
                is_whole = sop_instance in facts and digest in facts[sop_instance].sent
            except (ValueError, IndexError):
                is_whole = False
            if not is_whole:
                path.unlink()
                return

    def duplicates(self) -> int:
        """Return how many arrivals repeated a content that the destination had already."""
        return sum(count - 1 for each in self.contents.values() for count in each.values())

    def total(self) -> int:
        """Return how many objects arrived in all."""
        return sum(sum(each.values()) for each in self.contents.values())


def _received(path: Path) -> tuple[str, str]:
    """Return SOP instance and SHA-256 of a file of storescp; raises ValueError, IndexError."""
    content = path.read_bytes()
    data = data_set_of(content)
    # (0002,0003), which comes before the data set.
    place = content.index(b"\x02\x00\x03\x00UI", 0, len(content) - len(data))
    length = int.from_bytes(content[place + 6 : place + 8], "little")
    sop_instance = content[place + 8 : place + 8 + length].decode("ascii").rstrip("\0 ")
    return sop_instance, hashlib.sha256(data).hexdigest()


@dataclass(slots=True)
class Stored:
    """What the index says is stored."""

    names: dict[str, Path] = field(default_factory=dict)
    """The file of each SOP instance."""

    @classmethod
    def of(cls, database: Path, device: Path) -> Stored:
        """Read the index."""
        stored = cls()
        connection = _opened(database)
        try:
            rows = connection.execute("SELECT SOPInstanc, ObjectFile, DeviceName FROM DICOMImages")
            for sop_instance, name, on in rows:
                assert str(on).startswith("MAG0"), f"{sop_instance} is on {on}"
                path = device / str(name).replace("\\", "/")
                stored.names[sop_instance] = (
                    path if path.exists() else _staged(device, path, sop_instance)
                )
        finally:
            connection.close()
        return stored


def _staged(device: Path, path: Path, sop_instance: str) -> Path:
    """Return where a new object lies whose file could not get its name: the disk failed between the
    commit and the rename, the sender was told so, and the next start gives it the name."""
    found = list((device / "dgate" / "incoming").glob(f"{sop_instance}.n*"))
    return found[0] if len(found) == 1 else path


def _opened(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)


def open_debts(database: Path) -> int:
    """Return how many debts are neither paid, given up nor stuck."""
    connection = _opened(database)
    try:
        query = f"SELECT count(*) FROM dgate_debts WHERE {OPEN}"
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def debts(database: Path, where: str) -> list[str]:
    """Return debts in words."""
    connection = _opened(database)
    columns = "id, kind, state, destination, sop_instance, device, attempts, repeats, last_error"
    try:
        rows = connection.execute(f"SELECT {columns} FROM dgate_debts WHERE {where} ORDER BY id")
        return [" | ".join(map(str, row)) for row in rows]
    finally:
        connection.close()


def repeats(database: Path) -> int:
    """Return how many repeats the ledger counts."""
    connection = _opened(database)
    try:
        return int(
            connection.execute("SELECT coalesce(sum(repeats), 0) FROM dgate_debts").fetchone()[0]
        )
    finally:
        connection.close()


def check_counts(database: Path, arrivals: Arrivals) -> list[str]:
    """Check how often each object arrived: as often as the ledger says at least, and no more often
    than it was owed and may have been repeated."""
    connection = _opened(database)
    try:
        rows = connection.execute(
            "SELECT destination, sop_instance, count(*), coalesce(sum(repeats), 0), "
            "sum(state = 'done' AND accepted IS NOT NULL) "
            "FROM dgate_debts WHERE kind = 'deliver' GROUP BY destination, sop_instance"
        ).fetchall()
    finally:
        connection.close()
    findings = []
    known = {(row[0], row[1]): row[2:] for row in rows}
    for key in sorted(known.keys() | arrivals.contents.keys()):
        owed, repeated, accepted = known.get(key, (0, 0, 0))
        came = arrivals.contents.get(key, Counter()).total()
        say = f"{key[1]}: came to {key[0]} {came} times"
        if came > owed + repeated:
            findings.append(f"{say}, was owed {owed} times, and the ledger has {repeated} repeats")
        elif came < accepted:
            findings.append(f"{say}, and the ledger says {accepted} times")
    return findings


def passed_on_though_refused(facts: Mapping[str, Fact], arrivals: Arrivals) -> int:
    """Return how many objects that are not stored were delivered though each answer was a
    failure."""
    arrived = {sop_instance for _, sop_instance in arrivals.contents}
    return sum(
        fact.is_refused and not fact.stream.is_kept and sop_instance in arrived
        for sop_instance, fact in facts.items()
    )


def check_objects(facts: Mapping[str, Fact], stored: Stored, arrivals: Arrivals) -> list[str]:
    """Check what was sent: stored as it came, and delivered to whom it belongs, only."""
    findings = []
    for sop_instance, fact in facts.items():
        say = f"{sop_instance} ({fact.stream.name}, round {fact.round})"
        kept = stored_digest(stored, sop_instance)
        if fact.is_acknowledged and fact.stream.is_kept and kept is None:
            findings.append(f"{say}: acknowledged, but not in the index")
        elif kept is not None and not fact.stream.is_kept:
            findings.append(f"{say}: stored, which its rule forbids")
        elif kept is not None and kept not in fact.possible:
            what = "an older content" if kept in fact.sent else f"other bytes ({kept})"
            findings.append(f"{say}: {what} than was acknowledged")
        findings += _check_deliveries(say, sop_instance, fact, kept, arrivals)
    return findings


def _check_deliveries(
    say: str, sop_instance: str, fact: Fact, kept: str | None, arrivals: Arrivals
) -> list[str]:
    findings = []
    for title in ("SINK1", "SINK2", "SINK3", "ROOM1"):
        arrived = arrivals.contents.get((title, sop_instance), Counter())
        if title not in fact.stream.destinations:
            if arrived:
                findings.append(f"{say}: delivered to {title}, which no rule asks for")
            continue
        strange = arrived.keys() - fact.sent
        if strange:
            findings.append(f"{say}: {title} got bytes that were never sent: {sorted(strange)}")
        if fact.stream.is_kept:
            # The sender was told that the disk failed, and sends it again.
            if kept is not None and kept not in arrived and kept not in fact.refused:
                findings.append(f"{say}: what is stored was not delivered to {title}")
            elif kept is None and arrived:
                findings.append(f"{say}: delivered to {title}, but not stored")
        elif fact.is_acknowledged and not arrived:
            findings.append(f"{say}: acknowledged, but not delivered to {title}")
    return findings


def stored_digest(stored: Stored, sop_instance: str) -> str | None:
    """Return the SHA-256 of a stored data set, None for one that is not in the index."""
    path = stored.names.get(sop_instance)
    if path is None:
        return None
    try:
        return hashlib.sha256(data_set_of(path.read_bytes())).hexdigest()
    except (OSError, ValueError) as exc:
        return f"unreadable: {exc}"


def check_found(port: int, facts: Mapping[str, Fact], stored: Stored) -> list[str]:
    """Check that C-FIND gives what the index has of these studies."""
    studies = {fact.study for fact in facts.values()}
    found = set[str]()
    pattern = re.compile(rb"\x08\x00\x18\x00UI..([0-9.]+)", re.DOTALL)
    with RawAssociation.open(port, [Offer(STUDY_ROOT_FIND)]) as association:
        for study in sorted(studies):
            keys = {0x00080052: "IMAGE", 0x0020000D: study, 0x00080018: ""}
            for reply in association.find(keys):
                if match := pattern.search(reply.data):
                    found.add(match[1].decode())
    expected = stored.names.keys() & facts.keys()
    return [
        f"{sop_instance}: {'not ' if sop_instance in expected else ''}found by C-FIND"
        for sop_instance in sorted(expected ^ found)
    ]


def check_leftovers(device: Path, stored: Stored, facts: Iterable[str]) -> list[str]:
    """Check a disk after a start: no file without a row, nothing under a temporary name."""
    findings = []
    known = set(stored.names.values())
    for path in files_below(device):
        inside = path.relative_to(device).parts
        if inside[0] == "dgate":
            if inside[1:2] in (("incoming",), ("spool",)) and "lost" not in inside:
                findings.append(f"left over: {path.relative_to(device)}")
        elif path.suffix in (".dcm", ".prev", ".part") and path not in known:
            findings.append(f"a file without a row: {path.relative_to(device)}")
    findings += [
        f"{sop_instance}: in the index, but never sent"
        for sop_instance in sorted(stored.names.keys() - set(facts))
    ]
    return findings


def set_aside(device: Path) -> int:
    """Return how many copies recovery has set aside."""
    return len(files_below(device / "dgate" / "spool" / "lost"))


def check_database(database: Path) -> list[str]:
    """Have SQLite check its file."""
    connection = _opened(database)
    try:
        words = connection.execute("PRAGMA quick_check").fetchone()[0]
    finally:
        connection.close()
    return [] if words == "ok" else [f"the index is damaged: {words}"]
