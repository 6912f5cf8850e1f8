"""Attribute matching: one query key against one column, as an SQL condition with bound parameters.

PS3.4 C.2.2.2 and spec dicom-sql.md 6.2. Not for joins and answers (`dgate.archive.query`). A
`Matcher` is immutable, safe between threads. Text from peers never becomes part of the SQL.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from dgate.archive.connection import Value
from dgate.archive.database import Database
from dgate.archive.fold import FOLDED_LENGTH, FoldState, fold_key
from dgate.archive.folding import unplain_sql
from dgate.archive.levels import Level
from dgate.config.layout import Column, DicomType
from dgate.config.settings import Engine
from dgate.dicom.element import vr_of

Condition = tuple[str, list[Value]]

NOTHING: Condition = ("1 = 0", [])
"""Matches no row."""
MOST_PARAMETERS = 500
"""Longer UID lists go to the database as one parameter."""

MOST_VALUES = 50
"""So many values of a list are matched against a column of several values; nobody has more."""

_LAST = "\U0010ffff"
"""Sorts behind every text, so that prefix + _LAST ends the range of texts with that prefix."""
_LAST_OF_MOMENTS = "~"
"""The same for dates and times, in every character set."""
_ESCAPED = str.maketrans({"!": "!!", "%": "!%", "_": "!_"})
_WILDCARDS = re.compile(r"[*?]")
_DATE_TIME = r"\d{4,14}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_DATE_TIME_RANGE = re.compile(rf"({_DATE_TIME})?-({_DATE_TIME})?")


@dataclass(frozen=True, slots=True)
class Target:
    """A column as a query sees it."""

    column: Column
    level: Level
    expression: str
    """The column, qualified and quoted."""
    table: str
    """Its table, quoted."""
    entity: str
    """The key of its table, qualified and quoted."""
    vr: str
    caseless: bool
    """Its values are in the side table `dgate_folded` where plain comparison cannot find them."""
    caseless_index: bool
    """It has an index that ignores case."""
    lowered: str
    """An expression of its text in lower case; on SQLite, which compares without case by itself,
    the column."""

    @property
    def is_name(self) -> bool:
        """Tell whether it holds person names."""
        return self.vr == "PN"


def target(
    column: Column,
    level: Level,
    expression: str,
    table: str,
    entity: str,
    *,
    caseless: bool,
    caseless_index: bool,
    lowered: str,
) -> Target:
    """Return the target for a column."""
    vr = vr_of(column.tag)
    return Target(column, level, expression, table, entity, vr, caseless, caseless_index, lowered)


class Matcher:
    """Makes conditions in the engine's dialect, still with `?` (see `Database.sql`)."""

    def __init__(
        self, database: Database, *, match_case: bool, folding: FoldState | None = None
    ) -> None:
        self._folding = folding or FoldState()
        self._embedded = database.embedded
        self._engine = database.engine
        self._match_case = match_case

    def condition(self, target: Target, value: str, *, exact: bool = False) -> Condition | None:
        """Return the condition for a key's value; None when it restricts nothing.

        `exact`: the key selects objects to be retrieved, so letter case counts.
        """
        value = value.rstrip(" \0")
        if not value.strip("* "):
            return None
        kind = target.column.dicom_type
        if kind is DicomType.UI or target.vr == "UI":
            return self._uid(target, value)
        if kind in (DicomType.DATE, DicomType.TIME) or target.vr in ("DA", "TM", "DT"):
            return self._moment(target, value)
        if kind in (DicomType.UINT16, DicomType.UINT32, DicomType.FL, DicomType.FD):
            return self._number(target, value)
        if kind is DicomType.MSTR:
            return self._any_of(target, value)
        caseless = target.caseless and not exact
        if caseless and (not self._match_case or kind is DicomType.ISTR):
            return self._caseless(target, value)
        if _WILDCARDS.search(value):
            return self._like(target, value, exact=exact or self._match_case)
        return self._equal(target, value)

    def _uid(self, target: Target, value: str) -> Condition:
        if _WILDCARDS.search(value):
            return self._like(target, value, exact=not self._embedded)
        uids: list[Value] = list(
            dict.fromkeys(uid for part in value.split("\\") if (uid := part.strip(" \0")))
        )
        if len(uids) == 1:
            return f"{target.expression} = ?", uids
        if self._embedded and len(uids) > MOST_PARAMETERS:
            return f"{target.expression} IN (SELECT value FROM json_each(?))", [json.dumps(uids)]
        if self._engine is Engine.POSTGRES and len(uids) > MOST_PARAMETERS:
            joined = "\\".join(map(str, uids))
            return f"{target.expression} = ANY (string_to_array(?, '\\'))", [joined]
        return f"{target.expression} IN ({', '.join('?' * len(uids))})", uids

    def _moment(self, target: Target, value: str) -> Condition:
        if _WILDCARDS.search(value):
            return self._like(target, value, exact=not self._embedded)
        expression = target.expression
        if self._engine is Engine.POSTGRES:
            # The order of a language would be another one, and has no use for digits.
            expression += ' COLLATE "C"'
        # Old forms: 2024.01.31 and 10:15:00; an index date is stored without its marks.
        value = re.sub(r"[.:/](?=\d\d(?:\D|$))", "", value) if target.vr != "DT" else value
        bounds = _range(value, target.vr)
        if bounds is None:
            if target.vr == "TM" and len(value) == 6:
                # The fraction was not asked for.
                return f"({expression} = ? OR {expression} LIKE ?)", [value, f"{value}.%"]
            return f"{expression} = ?", [value]
        conditions: list[str] = []
        parameters: list[Value] = []
        first, last = bounds
        if first:
            conditions.append(f"{expression} >= ?")
            parameters.append(first)
        if last:
            # Inclusive for what is stored more precisely, too: -1015 takes 101530.
            conditions.append(f"{expression} < ?")
            parameters.append(last + _LAST_OF_MOMENTS)
        if not conditions:
            return NOTHING
        return f"({' AND '.join(conditions)})", parameters

    def _number(self, target: Target, value: str) -> Condition:
        try:
            if target.column.dicom_type in (DicomType.FL, DicomType.FD):
                value = f"{float(value):.16g}"
            else:
                value = str(int(value))
        except ValueError:
            # Not a number: compared as it is, as text.
            value = value.strip()
        return f"{target.expression} = ?", [value]

    def _any_of(self, target: Target, value: str) -> Condition:
        r"""Match columns that hold several values joined by `\`."""
        parts = list(dict.fromkeys(filter(None, value.split("\\"))))[:MOST_VALUES]
        conditions: list[str] = []
        parameters: list[Value] = []
        mark = "\\"
        expression = target.lowered
        for part in parts:
            like, _ = like_pattern(self._cased(part))
            if _too_long(like):
                continue
            conditions.append(
                f"{expression} LIKE ? ESCAPE '!' OR {expression} LIKE ? ESCAPE '!' "
                f"OR {expression} LIKE ? ESCAPE '!' OR {expression} LIKE ? ESCAPE '!'"
            )
            parameters += [like, f"{like}{mark}%", f"%{mark}{like}{mark}%", f"%{mark}{like}"]
        return (f"({' OR '.join(conditions)})", parameters) if conditions else NOTHING

    def _equal(self, target: Target, value: str) -> Condition:
        expression = target.expression
        if self._engine is Engine.MYSQL:
            # A column that another program made may ignore case; the second comparison does not.
            return f"({expression} = ? AND {expression} = ? COLLATE utf8mb4_bin)", [value, value]
        if not target.caseless_index:
            return f"{expression} = ?", [value]
        # The index ignores case; the second comparison does not.
        own = self._nocase(target, "=")
        return f"({own} AND {expression} = ?)", [self._cased(value), value]

    def _like(self, target: Target, value: str, *, exact: bool = False) -> Condition:
        pattern, prefix = like_pattern(value)
        if _too_long(pattern):
            return NOTHING
        parameters: list[Value]
        if exact and self._embedded:
            # LIKE ignores the case of ASCII letters on SQLite, GLOB does not.
            condition, parameters = f"{target.expression} GLOB ?", [_glob_pattern(value)]
        elif exact:
            as_is = " COLLATE utf8mb4_bin" if self._engine is Engine.MYSQL else ""
            condition, parameters = f"{target.expression}{as_is} LIKE ? ESCAPE '!'", [pattern]
        else:
            condition = f"{target.lowered} LIKE ? ESCAPE '!'"
            parameters = [self._cased(pattern)]
        if not prefix or not target.caseless_index:
            return condition, parameters
        bounds, limits = self._prefix(target, self._cased(prefix))
        return f"({bounds} AND {condition})", [*limits, *parameters]

    def _caseless(self, target: Target, value: str) -> Condition:
        """Match without case and accents: in the column where that is enough, else in the side
        table."""
        folded = fold_key(value, target.is_name)
        if not folded:
            return NOTHING
        if _WILDCARDS.search(value):
            return self._caseless_like(target, folded)
        own = self._nocase(target, "=")
        if not self._folding.complete:
            return f"({own} OR {_looked_at(target)})", [folded, folded]
        either = self._either(target, own, "folded = ?")
        return either, [folded, folded[:FOLDED_LENGTH]]

    def _caseless_like(self, target: Target, folded: str) -> Condition:
        pattern, prefix = like_pattern(folded)
        if _too_long(pattern):
            return NOTHING
        own, own_parameters = f"{target.lowered} LIKE ? ESCAPE '!'", [pattern]
        side, side_parameters = "folded LIKE ? ESCAPE '!'", [pattern]
        if prefix:
            bounds, limits = self._prefix(target, prefix)
            own, own_parameters = f"({bounds} AND {own})", [*limits, *own_parameters]
            side = f"folded >= ? AND folded < ? AND {side}"
            side_parameters = [prefix, prefix + _LAST, *side_parameters]
        if not self._folding.complete:
            return f"({own} OR {_looked_at(target)})", [*own_parameters, folded]
        return self._either(target, own, side), [*own_parameters, *side_parameters]

    def _either(self, target: Target, own: str, side: str) -> str:
        """Return that the column fulfils one condition or its rows in the side table another."""
        folded = (
            f"SELECT entity FROM dgate_folded WHERE level = {target.level.depth} "
            f"AND tag = {target.column.tag} AND {side}"
        )
        if self._embedded:
            return f"({own} OR {target.entity} IN ({folded}))"
        # These servers use no index for an OR with a subquery, but one for each part of a union.
        found = f"SELECT {target.entity} AS entity FROM {target.table} WHERE {own}"
        both = f"SELECT entity FROM ({found} UNION ALL {folded}) AS found"
        return f"{target.entity} IN ({both})"

    def _nocase(self, target: Target, operator: str) -> str:
        """Return a comparison without case, as an index of `dgate.archive.schema` serves it; its
        parameter is in lower case."""
        if self._embedded:
            return f"{target.expression} {operator} ? COLLATE NOCASE"
        if self._engine is Engine.POSTGRES and operator != "=":
            operator = f"~{operator}~"
        return f"{target.lowered} {operator} ?"

    def _cased(self, value: str) -> str:
        """Return what a parameter has to be for comparisons without case."""
        return value if self._embedded else value.lower()

    def _prefix(self, target: Target, prefix: str) -> tuple[str, list[str]]:
        """Return the range of texts that begin so: an index can be used for it, not for LIKE."""
        lower, upper = self._nocase(target, ">="), self._nocase(target, "<")
        return f"{lower} AND {upper}", [prefix, prefix + _LAST]


def _looked_at(target: Target) -> str:
    """Return a condition on the column that asks what the side table would be asked: slower, and
    right while that table is not complete."""
    unplain = unplain_sql(target.expression, is_name=target.is_name)
    found = f"dgate_has_form(CAST({target.expression} AS BLOB), {int(target.is_name)}, ?)"
    return f"({unplain} AND {found})"


def like_pattern(value: str) -> tuple[str, str]:
    """Return the LIKE pattern, escaped by `!`, for a DICOM wildcard text, and its fixed
    beginning."""
    value = re.sub(r"\*+", "*", value)
    prefix = _WILDCARDS.split(value, maxsplit=1)[0]
    return value.translate(_ESCAPED).replace("*", "%").replace("?", "_"), prefix


def _glob_pattern(value: str) -> str:
    return re.sub(r"\*+", "*", value).replace("[", "[[]")


def _too_long(pattern: str) -> bool:
    """Tell whether a pattern is longer than any text in the index, and than databases take."""
    return len(pattern) > 4096


def _range(value: str, vr: str) -> tuple[str, str] | None:
    if "-" not in value:
        return None
    if vr == "DT":
        found = _DATE_TIME_RANGE.fullmatch(value)
        if found is None:
            return None
        first, last = found[1] or "", found[2] or ""
        # 202401011200-0500 is a moment in New York, not a range up to the year 500.
        is_offset = bool(first) and len(last) == 4 and last <= "1400"
        return None if is_offset else (first, last)
    first, _, last = value.partition("-")
    return first.strip(), last.strip()
