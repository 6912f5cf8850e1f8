"""The register of replaced values: table UIDMODS, as the original keeps it (anonymization.md 1).

Which elements are replaced is decided by `dgate.rules`. A mapping is committed, and synced as
`Durability` says, before `forward` returns it: a crash may leave a mapping that no object uses,
never an object whose mapping is lost. Any thread may ask; several gateways may share the table.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dgate.archive.database import Database
from dgate.archive.registerturns import TABLE as TURNS_TABLE
from dgate.archive.registerturns import TURNS
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.dicom.digest import old_digest
from dgate.dicom.uids import UidGenerator
from dgate.errors import RuleError

log = logging.getLogger(__name__)

NO_STAGE = "(empty)"
"""What the column says of a mapping without a stage."""
LONGEST_VALUE = 64
LONGEST_STAGE = 32
LONGEST_KIND = 32
"""Some keywords are longer, and cut."""
_REMEMBERED = 8192
_MOST_DRAWS = 8
_TABLE = "UIDMODS"
_REMEDY = "use a shorter one"

_HASH_BASE = 25
"""Characters of prefix and branch that a hashed UID keeps."""
_HASH_FULL = 58
"""A hashed UID that is longer gets no further word."""


class _Wanted(NamedTuple):
    kind: str
    proposal: str


class Register:
    """Replaces values and knows the way back.

    The key of a mapping is the exact value with the exact stage (A3), whatever the collation of
    the database.
    """

    def __init__(self, database: Database, writer: Writer, clock: Clock, prefix: str) -> None:
        """`prefix` is UIDPrefix; new values are `prefix.7.<unix time>.<counter>`."""
        self._database = database
        self._writer = writer
        self._clock = clock
        self._prefix = prefix.rstrip(".")
        self._uids = UidGenerator(prefix, clock, branch=7)
        self._guard = threading.Lock()
        """Guards `_known` and `_warned`."""
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._warned = False
        self._statements: _Statements | None = None

    def forward(self, old: str, stage: str = "", kind: str = "", proposal: str = "") -> str:
        """Return the replacement of a value in a stage, made and kept when there is none.

        See `dgate.rules.actions.UidRegister`.
        """
        if not old:
            return ""
        if stage.startswith("#"):
            return self._hashed(old, stage)
        return self._forward({old: _Wanted(kind, proposal)}, stage)[old]

    def forward_all(self, olds: Mapping[str, str], stage: str = "") -> dict[str, str]:
        """Return the replacements of many values, with their kinds, in one commit at most."""
        if stage.startswith("#"):
            return {old: self._hashed(old, stage) if old else "" for old in olds}
        wanted = {old: _Wanted(kind, "") for old, kind in olds.items() if old}
        found = self._forward(wanted, stage)
        return {old: found.get(old, "") for old in olds}

    def known(self, old: str, stage: str = "") -> str | None:
        """Return the replacement of a value, None when there is none yet."""
        column = _stage_column(stage)
        _check(old, LONGEST_VALUE, "the value to replace")
        return self._read((old,), column).get(old)

    def back(self, new: str, stage: str = "", kind: str = "") -> str | None:
        """Return the value that a replacement stands for, None when nobody knows."""
        if not new or stage.startswith("#"):
            return None
        column = _stage_column(stage)
        _check(new, LONGEST_VALUE, "the value")
        statements = self._sql()
        with self._database.reader() as connection:
            rows = connection.execute(statements.back, (new, column)).fetchall()
        for old, found, found_stage, found_kind in rows:
            if found == new and found_stage == column and kind[:LONGEST_KIND] in ("", found_kind):
                return str(old)
        return None

    def forget(self) -> None:
        """Ask the table again from now on, after somebody else has changed it."""
        with self._guard:
            self._known.clear()

    # Forward.

    def _forward(self, wanted: Mapping[str, _Wanted], stage: str) -> dict[str, str]:
        column = _stage_column(stage)
        found = self._remembered(wanted, column)
        missing = {old: each for old, each in wanted.items() if old not in found}
        if not missing:
            return found
        for old, each in missing.items():
            _check(old, LONGEST_VALUE, "the value to replace")
            _check(each.proposal, LONGEST_VALUE, "the proposed value")
        found |= self._read(missing, column)
        missing = {old: each for old, each in missing.items() if old not in found}
        if missing:
            found |= self._writer.transact(lambda turn: self._enter(turn, missing, column))
        for old, each in wanted.items():
            if each.proposal and found[old] != each.proposal:
                log.info(
                    "A value was replaced by what it was replaced by before in stage %s, "
                    "not by what was proposed.",
                    column,
                )
        self._remember(found, column)
        return found

    def _remembered(self, wanted: Mapping[str, _Wanted], column: str) -> dict[str, str]:
        found = {}
        with self._guard:
            for old in wanted:
                new = self._known.get((old, column))
                if new is not None:
                    self._known.move_to_end((old, column))
                    found[old] = new
        return found

    def _remember(self, found: Mapping[str, str], column: str) -> None:
        with self._guard:
            for old, new in found.items():
                self._known[old, column] = new
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _read(self, wanted: Iterable[str], column: str) -> dict[str, str]:
        statements = self._sql()
        found = {}
        with self._database.reader() as connection:
            for old in wanted:
                rows = connection.execute(statements.forward, (old, column)).fetchall()
                new = _exact(rows, old, column)
                if new is not None:
                    found[old] = new
        return found

    def _enter(
        self, transaction: Transaction, wanted: Mapping[str, _Wanted], column: str
    ) -> dict[str, str]:
        """Enter mappings, except where somebody was faster; inside the writer's transaction."""
        statements = self._sql()
        self._take_turns(transaction, wanted, column)
        now = int(self._clock.now())
        result = {}
        for old, each in wanted.items():
            rows = transaction.execute(statements.forward, (old, column)).fetchall()
            new = _exact(rows, old, column)
            if new is None:
                new = self._unused(transaction, column, each)
                values = (now, old, each.kind[:LONGEST_KIND], new, column)
                transaction.execute(statements.enter, values)
            result[old] = new
        return result

    def _take_turns(
        self, transaction: Transaction, wanted: Mapping[str, _Wanted], column: str
    ) -> None:
        """Keep other gateways from entering the same values before this transaction has ended.

        The original's table has no unique key, and an existing one may hold what would break it.
        """
        if self._database.embedded:
            # One transaction writes at a time.
            return
        turn = self._sql().turn
        slots = {zlib.crc32(f"{column}\0{old}".encode()) % TURNS for old in wanted}
        for slot in sorted(slots):
            transaction.execute(turn, (slot,)).fetchall()

    def _unused(self, transaction: Transaction, column: str, wanted: _Wanted) -> str:
        """Return the new value: the proposal, else one that stands for nothing else."""
        taken = self._sql().taken
        if wanted.proposal:
            rows = transaction.execute(taken, (wanted.proposal, column)).fetchall()
            if any(row[0] == wanted.proposal for row in rows):
                log.warning(
                    "Two values of kind %s have the same replacement in stage %s, as was "
                    "proposed: only the first can be restored.",
                    wanted.kind or "(none)",
                    column,
                )
            return wanted.proposal
        for _ in range(_MOST_DRAWS):
            new = self._uids.new()
            if not transaction.execute(taken, (new, column)).fetchall():
                return new
        raise RuleError("no unused replacement was found", remedy="choose another UIDPrefix")

    # Hashed stages.

    def _hashed(self, old: str, stage: str) -> str:
        _check(stage, LONGEST_VALUE, "the stage")
        with self._guard:
            known = self._known.get((old, stage))
        if known is not None:
            return known
        new = hashed_uid(self._prefix, old, stage)
        if is_doubtful(self._prefix, new):
            self._warn()
        self._remember({old: new}, stage)
        return new

    def _warn(self) -> None:
        with self._guard:
            warned, self._warned = self._warned, True
        if not warned:
            log.warning(
                "UIDs of hashed stages are made as before, and with UIDPrefix = %s some of them "
                "leave that root or have a component that begins with 0.",
                self._prefix,
            )

    # Statements.

    def _sql(self) -> _Statements:
        """Return the statements; the spelling of the table's name is asked for once."""
        if self._statements is None:
            with self._database.reader() as connection:
                name = connection.tables().get(_TABLE.lower())
            if name is None:
                # Only one that is looked at read-only, of another program, may have none.
                raise RuleError("the database has no table UIDMODS", remedy="start the server once")
            self._statements = _Statements.of(self._database, name)
        return self._statements


class _Statements(NamedTuple):
    forward: str
    """By old value and stage: old value, new value, stage."""
    back: str
    """By new value and stage: old value, new value, stage, kind."""
    taken: str
    """By new value and stage: the new value."""
    enter: str
    turn: str

    @classmethod
    def of(cls, database: Database, name: str) -> _Statements:
        """Return the statements for a table of that name."""
        sql, table = database.sql, database.quote(name)
        # In the order of entry where the original wrote two: the first one counts.
        order = "ORDER BY MODTime"
        return cls(
            sql(
                f"SELECT OldUID, NewUID, Stage FROM {table} WHERE OldUID = ? AND Stage = ? {order}"
            ),
            sql(
                f"SELECT OldUID, NewUID, Stage, MODType FROM {table} "
                f"WHERE NewUID = ? AND Stage = ? {order}"
            ),
            sql(f"SELECT NewUID FROM {table} WHERE NewUID = ? AND Stage = ?"),
            sql(
                f"INSERT INTO {table} (MODTime, OldUID, MODType, NewUID, Stage) "
                "VALUES (?, ?, ?, ?, ?)"
            ),
            sql(f"SELECT slot FROM {TURNS_TABLE} WHERE slot = ? FOR UPDATE"),
        )


def hashed_uid(prefix: str, old: str, stage: str) -> str:
    """Return the UID of a hashed stage: the same on every server (anonymization.md 3)."""
    base = f"{prefix.rstrip('.')}.7"
    digest = old_digest(f"{base}{old}{stage}".encode("utf-8", "surrogateescape"))
    uid = base[:_HASH_BASE]
    if not uid.endswith("."):
        uid += "."
    for at in range(0, len(digest), 2):
        if len(uid) <= _HASH_FULL:
            uid += f"{int.from_bytes(digest[at : at + 2]):05d}"
    at = uid.find(".0", _HASH_BASE)
    return uid if at < 0 else f"{uid[:at]}.1{uid[at + 2 :]}"


def is_doubtful(prefix: str, uid: str) -> bool:
    """Tell whether a hashed UID lies under another root or is no valid UID (A7)."""
    if len(f"{prefix}.7") > _HASH_BASE:
        return True
    return any(part.startswith("0") and part != "0" for part in uid.split("."))


def _exact(rows: list[tuple[object, ...]], old: str, column: str) -> str | None:
    """Return the new value of the first row that is meant: collations may find more."""
    for found, new, stage in rows:
        if found == old and stage == column:
            return str(new)
    return None


def _stage_column(stage: str) -> str:
    if not stage:
        return NO_STAGE
    _check(stage, LONGEST_STAGE, "the stage")
    return stage


def _check(text: str, longest: int, what: str) -> None:
    """Raise RuleError for what the columns cannot hold."""
    if len(text) > longest:
        raise RuleError(f"{what} has more than {longest} characters", remedy=_REMEDY)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RuleError(f"{what} is not text in the object's character set") from None
    if "\0" in text:
        raise RuleError(f"{what} contains a NUL character")
