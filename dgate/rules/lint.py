"""Rules that are well-formed and still cannot do what was meant: unreachable, aimless, unwanted.

Mistakes of a single statement are found by `dgate.rules.problems`. Nothing is executed and no
script file is changed; script files are read. Pure functions otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from dgate.config.check import CHANGES
from dgate.config.codes import kind_of
from dgate.config.nodes import Node, NodeMap
from dgate.config.ports import service_port
from dgate.config.settings import ConverterText, Filters, Settings
from dgate.rules.compile import DEEPEST, Library
from dgate.rules.grammar import Line, inner_script, parse_line
from dgate.rules.patterns import FILTER_KEYS, matcher
from dgate.rules.problems import Gravity, RuleProblem
from dgate.rules.statements.base import Statement
from dgate.rules.statements.delayed import Delayed, Fetch
from dgate.rules.statements.flow import Drop, Return, Stop
from dgate.rules.statements.forwarding import DirectForward
from dgate.rules.statements.placement import Storage
from dgate.rules.syntax import Dialect, Family
from dgate.rules.tokens import Template

_ADVISED_NODES = 20
"""Looking for the nearest of a thousand titles costs some milliseconds."""
_CHANGING = re.compile(
    r"(set|setifempty|delete|newuids|olduids|scrub|tomono|crop|deidentify|fixkodak|unfixkodak|process)\b",
    re.IGNORECASE,
)
_REENCODING = re.compile(r"compression (\S+)|forward compressed as (\S+)", re.IGNORECASE)
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1", re.IGNORECASE)
# What no modality (CS), AE title (AE) or station name (SH) can hold: PS3.5 table 6.2-1.
_IMPOSSIBLE = {
    "modality": re.compile(r"[^A-Z0-9 _]", re.IGNORECASE),
    "station": re.compile(r"[\\\x00-\x1f]"),
    "calling": re.compile(r"[\\\x00-\x1f]"),
    "called": re.compile(r"[\\\x00-\x1f]"),
}
_LONGEST_VALUE = 16
"""Characters of a CS, AE or SH value (PS3.5 table 6.2-1)."""


class End(Enum):
    """How every way through a line ends."""

    DROPPED = "dropped"
    """The object goes no further, whatever it holds."""
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class _Source:
    """One line of rule text, with the place it is reported at."""

    where: str
    key: str
    text: str
    line: Line


def lint(settings: Settings, nodes: NodeMap, library: Library) -> list[RuleProblem]:
    """Return what is odd about the rules of a configuration, with their scripts in `library`."""
    return list(_Linter(settings, nodes, library).problems())


def reachable(line: Line) -> tuple[set[int], bool, bool]:
    """Return the items of a line that can be reached, and whether it can end well or dropped.

    Tests may go either way; a statement that fails counts as one that goes on.
    """
    items = line.items
    seen: set[int] = set()
    todo = [0]
    ends_well = dropped = False
    while todo:
        at = todo.pop()
        if at >= len(items):
            ends_well = True
        elif at not in seen:
            seen.add(at)
            statement = items[at].statement
            # Statements derive from an abstract class, of which isinstance is slow.
            kind = type(statement)
            if kind is Drop:
                dropped = True
            elif kind is Stop or kind is Return:
                ends_well = True
            else:
                todo.append(at + 1)
                if statement is not None and statement.may_fail:
                    todo.append(items[at].after_failure)
    return seen, ends_well, dropped


def end_of(line: Line) -> End:
    """Return how every way through a line ends."""
    _, ends_well, dropped = reachable(line)
    return End.DROPPED if dropped and not ends_well else End.OPEN


class _Linter:
    """One look at the rules of a configuration."""

    def __init__(self, settings: Settings, nodes: NodeMap, library: Library) -> None:
        self._settings = settings
        self._nodes = nodes
        self._library = library
        self._advised: dict[str, str | None] = {}
        self._converters = [
            (text, self._source(text)) for text in settings.converters if not text.lua
        ]

    def problems(self) -> Iterator[RuleProblem]:
        """Yield everything, converter by converter, then script by script."""
        for text, source in self._converters:
            yield from self._filters(text)
            yield from self._line(source)
            yield from self._back(text, source)
            if text.family == "Import":
                yield from self._changes(source)
        yield from self._shadowed()
        for source in self._scripts():
            yield from self._line(source)

    def _source(self, text: ConverterText) -> _Source:
        family = Family.EXPORT if text.family == "Export" else Family.IMPORT
        dialect = Dialect(family, text.family, self._settings.allow_system_commands)
        line = self._library.parse(text.text, dialect)
        return _Source(text.where, f"{text.family}Converter{text.index}", text.text, line)

    def _scripts(self) -> Iterator[_Source]:
        """Yield the lines of named scripts, and of script files that are called."""
        names = list(self._settings.scripts)
        seen: set[str] = set()
        todo = [*names, *(call for _, source in self._converters for call in _calls(source.line))]
        while todo:
            name = todo.pop(0)
            if name.lower() in seen:
                continue
            seen.add(name.lower())
            for text in self._library.source(name) or ():
                line = self._library.parse(text, self._library.dialect)
                todo += _calls(line)
                yield _Source(name, f"script {name}", text, line)

    def _filters(self, text: ConverterText) -> Iterator[RuleProblem]:
        """Yield filters that no object passes."""
        for field, part in FILTER_KEYS.items():
            pattern = getattr(text.filters, field)
            body = pattern.strip().strip("*")
            bad = _IMPOSSIBLE[field].search(body)
            if not body or (bad is None and len(body) <= _LONGEST_VALUE):
                continue
            key = f"{text.family}{part}{text.index}"
            what = f"no value has {bad[0]!r} in it" if bad else "no value is that long"
            message = f"the filter {pattern!r} matches nothing: {what}"
            advice = "shorten it"
            if bad and bad[0] in ",;|/":
                advice = "a filter is one pattern, not a list; write a rule for each"
            elif bad:
                advice = "only a * at the begin or the end stands for anything"
            column = pattern.find(bad[0]) + 1 if bad else None
            yield RuleProblem(
                text.where, key, None, column, message, Gravity.WARNING, advice, pattern
            )

    def _line(self, source: _Source) -> Iterator[RuleProblem]:
        for problem in (
            *self._unreachable(source.line),
            *self._aims(source.line, source.text, 0),
        ):
            yield replace(problem, where=source.where, key=source.key, source=source.text)

    def _back(self, text: ConverterText, source: _Source) -> Iterator[RuleProblem]:
        """Yield forwards of what a node has sent to that same node."""
        caller = text.filters.calling
        if "*" in caller or not caller.strip():
            return
        for item, statement in source.line.statements():
            if not isinstance(statement, DirectForward):
                continue
            called = statement.dest or statement.target
            if (called.constant or "").strip().lower() != caller.strip().lower():
                continue
            message = f"this sends back to {caller} what {caller} has sent"
            advice = "where a rule there forwards to this server too, objects go round in a loop"
            found = _warning(item.number, statement.column, message, advice)
            yield replace(found, where=source.where, key=source.key, source=source.text)

    def _unreachable(self, line: Line) -> Iterator[RuleProblem]:
        """Yield the first statement of each stretch that is never reached."""
        found, _, _ = reachable(line)
        before = True
        for item, statement in line.statements():
            here = item.number in found
            if before and not here:
                ending = max(number for number in found if number < item.number)
                word = _ending_word(line.items[ending].statement)
                message = f"this statement is never reached: {word} before it ends the line"
                advice = "remove it, or put a test before what ends the line"
                yield _warning(item.number, statement.column, message, advice)
            before = here

    def _aims(self, line: Line, source: str, depth: int) -> Iterator[RuleProblem]:
        """Yield what leads to unknown nodes and devices, back here, or into another encoding."""
        tested = False
        for item, statement in line.statements():
            tested = tested or statement.may_fail
            for target in _targets(statement):
                certain = depth == 0 and isinstance(statement, DirectForward) and not tested
                yield from self._target(item.number, statement.column, target, certain=certain)
            if isinstance(statement, Storage) and statement.device.constant:
                yield from self._device(item.number, statement.column, statement.device.constant)
            if depth == 0:
                yield from _reencoding(item.number, statement.column, source)
            script = inner_script(statement)
            if script is not None and depth < DEEPEST:
                inner = parse_line(script.text, self._library.dialect, len(script.values))
                for problem in self._aims(inner, source, depth + 1):
                    yield replace(problem, statement=item.number)

    def _target(
        self, number: int, column: int, target: Template, *, certain: bool
    ) -> Iterator[RuleProblem]:
        title = (target.constant or "").strip()
        # What holds a % is known only when an object comes.
        if not title:
            return
        node = self._nodes.find(title)
        if node is not None:
            if self._is_this_server(node):
                yield _to_itself(number, column, title, certain=certain)
            return
        host, _, port = title.partition(":")
        if _LOOPBACK.fullmatch(host) and port == str(self._settings.tcp_port):
            yield _to_itself(number, column, title, certain=certain)
            return
        if self._settings.peers.members(title):
            return
        near = self._nearest(title)
        message = f"acrnema.map does not name the node {title[:80]}"
        if not near and ("." in title or ":" in title):
            message = f"{message}; it is called as host[:port]"
            yield RuleProblem("", "", number, column, message, Gravity.NOTE, "name it there")
            return
        advice = f"did you mean {near}?" if near else "add it to acrnema.map, or mend its name"
        yield _warning(number, column, message, advice)

    def _nearest(self, title: str) -> str | None:
        if title not in self._advised:
            wanted = len(self._advised) < _ADVISED_NODES
            self._advised[title] = self._nodes.nearest(title) if wanted else None
        return self._advised[title]

    def _is_this_server(self, node: Node) -> bool:
        port = int(node.port) if node.port.isdecimal() else service_port(node.port)
        return bool(_LOOPBACK.fullmatch(node.host)) and port == self._settings.tcp_port

    def _device(self, number: int, column: int, name: str) -> Iterator[RuleProblem]:
        count = len(self._settings.mag_devices)
        digits = name.strip()[3:]
        if digits.isdecimal() and int(digits) >= count:
            message = f"there is no device {name.strip().upper()}: MAGDevices = {count}"
            yield _warning(number, column, message, "name one of the MAGDevice folders")

    def _changes(self, source: _Source) -> Iterator[RuleProblem]:
        """Name an import rule that changes what is stored (rulings.md 1)."""
        words = []
        for _, statement in source.line.statements():
            found = _CHANGING.match(source.text, statement.column - 1)
            if found is not None and found[1].lower() not in words:
                words.append(found[1].lower())
        if words:
            message = f"objects are changed before they are stored, by {', '.join(words)}"
            yield RuleProblem(
                source.where, source.key, None, None, message, Gravity.NOTE, "", source.text
            )

    def _shadowed(self) -> Iterator[RuleProblem]:
        """Yield rules behind an import rule that lets none of their objects pass."""
        droppers: list[tuple[str, Filters]] = []
        for family in ("Import", "Export"):
            for text, source in self._converters:
                if text.family != family:
                    continue
                by = next((n for n, filters in droppers if _covers(filters, text.filters)), None)
                if by is not None:
                    message = f"this rule never runs: {by} lets none of its objects pass"
                    advice = f"move it before {by}, or narrow the filters or tests of {by}"
                    yield replace(
                        _warning(None, None, message, advice),
                        where=source.where,
                        key=source.key,
                        source=source.text,
                    )
                elif family == "Import" and end_of(source.line) is End.DROPPED:
                    droppers.append((source.key, text.filters))


def _to_itself(number: int, column: int, title: str, *, certain: bool) -> RuleProblem:
    """Return that a rule sends to this server; an error where nothing keeps it from doing so."""
    message = f"{title} is this server itself, which would get the object again"
    found = _warning(number, column, message, "name another node")
    return replace(found, gravity=Gravity.ERROR) if certain else found


def _warning(number: int | None, column: int | None, message: str, advice: str) -> RuleProblem:
    return RuleProblem("", "", number, column, message, Gravity.WARNING, advice)


def _ending_word(statement: Statement | None) -> str:
    if isinstance(statement, Drop):
        return statement.word
    return "return" if isinstance(statement, Return) else "stop"


def _calls(line: Line) -> list[str]:
    """Return the names of the scripts that a line calls."""
    names = (getattr(statement, "name", None) for _, statement in line.statements())
    return [name for name in names if isinstance(name, str)]


def _targets(statement: Statement) -> Iterator[Template]:
    """Yield the templates of a statement that name a node."""
    if isinstance(statement, DirectForward):
        yield statement.target
    elif isinstance(statement, Delayed):
        yield from (clause.value for clause in statement.clauses if clause.name in ("to", "from"))
    elif isinstance(statement, Fetch) and statement.source is not None:
        yield statement.source


def _reencoding(number: int, column: int, source: str) -> Iterator[RuleProblem]:
    found = _REENCODING.match(source, column - 1)
    if found is None:
        return
    code = found[1] or found[2]
    kind = kind_of(code)
    if kind in CHANGES:
        verb = "stored" if found[1] else "sent"
        message = f"objects are {verb} {CHANGES[kind]}"
        yield RuleProblem("", "", number, column, message, Gravity.NOTE)


def _covers(wide: Filters, narrow: Filters) -> bool:
    """Tell whether every object that passes `narrow` passes `wide`, as far as filters tell."""
    return all(
        _pattern_covers(getattr(wide, field), getattr(narrow, field)) for field in FILTER_KEYS
    )


def _pattern_covers(wide: str, narrow: str) -> bool:
    if wide == "*" or wide.lower() == narrow.lower():
        return True
    # Only for a narrow pattern without * is there a single value to try.
    return "*" not in narrow and bool(narrow) and matcher(wide)(narrow)
