"""Attribute matching: one query key against one column, as an SQL condition with bound parameters.

PS3.4 C.2.2.2 and spec dicom-sql.md 6.2. Not for joins and answers (`dgate.archive.query`). A
`Matcher` is immutable, safe between threads. Text from peers never becomes part of the SQL.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from dgate.archive.database import Database, Value
from dgate.archive.fold import FOLDED_LENGTH, fold_key
from dgate.archive.schema import Level
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
    entity: str
    """The key of its table, qualified and quoted."""
    vr: str
    caseless: bool
    """Its values are in the side table `dgate_folded` where plain comparison cannot find them."""
    caseless_index: bool
    """It has an index that ignores case."""

    @property
    def is_name(self) -> bool:
        """Tell whether it holds person names."""
        return self.vr == "PN"


def target(
    column: Column,
    level: Level,
    expression: str,
    entity: str,
    *,
    caseless: bool,
    caseless_index: bool,
) -> Target:
    """Return the target for a column."""
    vr = vr_of(column.tag)
    return Target(column, level, expression, entity, vr, caseless, caseless_index)


class Matcher:
    """Makes conditions in the engine's dialect, still with `?` (see `Database.sql`)."""

    def __init__(self, database: Database, *, match_case: bool) -> None:
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
            return self._like(target, value)
        uids: list[Value] = list(
            dict.fromkeys(uid for part in value.split("\\") if (uid := part.strip(" \0")))
        )
        if len(uids) == 1:
            return f"{target.expression} = ?", uids
        if self._embedded and len(uids) > MOST_PARAMETERS:
            return f"{target.expression} IN (SELECT value FROM json_each(?))", [json.dumps(uids)]
        return f"{target.expression} IN ({', '.join('?' * len(uids))})", uids

    def _moment(self, target: Target, value: str) -> Condition:
        if _WILDCARDS.search(value):
            return self._like(target, value)
        expression = target.expression
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
            parameters.append(last + _LAST)
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
        expression = target.expression
        for part in parts:
            like, _ = like_pattern(part)
            if _too_long(like):
                continue
            conditions.append(
                f"{expression} LIKE ? ESCAPE '!' OR {expression} LIKE ? ESCAPE '!' "
                f"OR {expression} LIKE ? ESCAPE '!' OR {expression} LIKE ? ESCAPE '!'"
            )
            parameters += [like, f"{like}\\%", f"%\\{like}\\%", f"%\\{like}"]
        return (f"({' OR '.join(conditions)})", parameters) if conditions else NOTHING

    def _equal(self, target: Target, value: str) -> Condition:
        expression = target.expression
        if not target.caseless_index or self._engine is Engine.MYSQL:
            return f"{expression} = ?", [value]
        # The index ignores case; the second comparison does not.
        return f"({self._nocase(expression, '=')} AND {expression} = ?)", [
            self._folded_parameter(value),
            value,
        ]

    def _like(self, target: Target, value: str, *, exact: bool = False) -> Condition:
        pattern, prefix = like_pattern(value)
        if _too_long(pattern):
            return NOTHING
        expression = target.expression
        if exact and self._embedded:
            # LIKE ignores the case of ASCII letters on SQLite, GLOB does not.
            condition, parameters = f"{expression} GLOB ?", [_glob_pattern(value)]
        else:
            condition, parameters = f"{expression} LIKE ? ESCAPE '!'", [pattern]
        if not prefix or not target.caseless_index:
            return condition, [*parameters]
        bounds, limits = self._prefix(expression, prefix)
        return f"({bounds} AND {condition})", [*limits, *parameters]

    def _caseless(self, target: Target, value: str) -> Condition:
        """Match without case and accents: in the column where that is enough, else in the side
        table."""
        folded = fold_key(value, target.is_name)
        if not folded:
            return NOTHING
        if _WILDCARDS.search(value):
            return self._caseless_like(target, folded)
        own = self._nocase(target.expression, "=")
        side = self._side(target, "folded = ?")
        return f"({own} OR {side})", [folded, folded[:FOLDED_LENGTH]]

    def _caseless_like(self, target: Target, folded: str) -> Condition:
        pattern, prefix = like_pattern(folded)
        if _too_long(pattern):
            return NOTHING
        expression = target.expression
        if self._engine is Engine.POSTGRES:
            expression = f"lower({expression})"
        own, own_parameters = f"{expression} LIKE ? ESCAPE '!'", [pattern]
        side, side_parameters = "folded LIKE ? ESCAPE '!'", [pattern]
        if prefix:
            bounds, limits = self._prefix(target.expression, prefix)
            own, own_parameters = f"({bounds} AND {own})", [*limits, *own_parameters]
            if self._embedded:
                side = f"folded >= ? AND folded < ? AND {side}"
                side_parameters = [prefix, prefix + _LAST, *side_parameters]
        return f"({own} OR {self._side(target, side)})", [*own_parameters, *side_parameters]

    def _side(self, target: Target, condition: str) -> str:
        return (
            f"{target.entity} IN (SELECT entity FROM dgate_folded WHERE "
            f"level = {target.level.depth} AND tag = {target.column.tag} AND {condition})"
        )

    def _nocase(self, expression: str, operator: str) -> str:
        if self._engine is Engine.POSTGRES:
            return f"lower({expression}) {operator} ?"
        return f"{expression} {operator} ?" + (" COLLATE NOCASE" if self._embedded else "")

    def _folded_parameter(self, value: str) -> str:
        return value.lower() if self._engine is Engine.POSTGRES else value

    def _prefix(self, expression: str, prefix: str) -> tuple[str, list[str]]:
        """Return the range of texts that begin so: an index can be used for it, not for LIKE."""
        if not self._embedded:
            # These servers find the prefix in the pattern themselves.
            return "1 = 1", []
        lower, upper = self._nocase(expression, ">="), self._nocase(expression, "<")
        return f"{lower} AND {upper}", [prefix, prefix + _LAST]


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
