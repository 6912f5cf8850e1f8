"""Which rules give a node something else than what is stored here: changed, de-identified, encoded
otherwise.

What is sent without them, such as the objects that a comparison found missing, would go out with
what the rules take away. So in doubt a rule counts: a target with a % may be any node, Lua that
forwards may forward anything anywhere, and every statement beside tests and forwards may change the
object. Nothing is executed. Pure functions, but for script files that are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from dgate.config.model import ConverterText
from dgate.config.nodes import NodeMap
from dgate.config.settings import Settings
from dgate.errors import RuleError
from dgate.rules.compile import DEEPEST, Library
from dgate.rules.grammar import Line, inner_script, parse_line
from dgate.rules.statements import conditions, delayed, flow, forwarding, placement
from dgate.rules.statements.base import Statement
from dgate.rules.statements.delayed import Delayed
from dgate.rules.statements.forwarding import DirectForward
from dgate.rules.statements.scripts import Call, InnerScript, Lua, LuaFile
from dgate.rules.syntax import Dialect, Family
from dgate.rules.tokens import Template

_FORWARD = "forward"
_HARMLESS = frozenset(
    module.__name__ for module in (conditions, delayed, flow, forwarding, placement)
)
"""Modules of statements that leave the data set as it is."""


def altering_rules(
    settings: Settings, nodes: NodeMap, library: Library, title: str
) -> list[ConverterText]:
    """Return the rules that may forward to a node, or what shares or takes over its work, and not
    (only) what is stored.

    Args:
        library: the scripts of the rules.
        title: the AE title of the node.
    """
    look = _Look(settings, nodes, library, title)
    return [text for text in settings.converters if look.alters(text)]


def leading_rules(
    settings: Settings, nodes: NodeMap, library: Library, title: str
) -> list[ConverterText]:
    """Return all rules that may forward to a node, or what shares or takes over its work; the
    arguments are those of `altering_rules`."""
    look = _Look(settings, nodes, library, title)
    return [text for text in settings.converters if look.leads(text)]


class _Look:
    """One look at the rules for the sake of one node."""

    def __init__(self, settings: Settings, nodes: NodeMap, library: Library, title: str) -> None:
        self._settings = settings
        self._nodes = nodes
        self._library = library
        self._names = _names_for(settings, title)
        node = nodes.find(title)
        self._address = None if node is None else (node.host.lower(), node.port)

    def alters(self, text: ConverterText) -> bool:
        """Tell whether a rule may forward to the node what is not stored so."""
        if text.lua:
            return _FORWARD in text.text.lower()
        statements = self._all(text)
        forwards = [each for each in statements if self._leads_there(each)]
        return bool(forwards) and not all(map(_leaves_alone, [*forwards, *statements]))

    def leads(self, text: ConverterText) -> bool:
        """Tell whether a rule may forward to the node."""
        if text.lua:
            return _FORWARD in text.text.lower()
        return any(self._leads_there(each) for each in self._all(text))

    def _all(self, text: ConverterText) -> list[Statement]:
        """Return the statements of a rule, with those of its scripts."""
        family = Family.EXPORT if text.family == "Export" else Family.IMPORT
        dialect = Dialect(family, text.family, self._settings.allow_system_commands)
        return list(self._statements(self._library.parse(text.text, dialect), set(), 0))

    def _statements(self, line: Line, seen: set[str], depth: int) -> Iterator[Statement]:
        """Yield the statements of a line, and of the scripts that it calls or holds."""
        for _, statement in line.statements():
            yield statement
            script = inner_script(statement)
            if script is not None and depth < DEEPEST:
                inner = parse_line(script.text, self._library.dialect, len(script.values))
                yield from self._statements(inner, seen, depth + 1)
            if isinstance(statement, Call) and statement.name.lower() not in seen:
                seen.add(statement.name.lower())
                for text in self._library.source(statement.name) or ():
                    called = self._library.parse(text, self._library.dialect)
                    yield from self._statements(called, seen, depth)

    def _leads_there(self, statement: Statement) -> bool:
        if isinstance(statement, DirectForward):
            return self._may_be(statement.target)
        if isinstance(statement, Delayed):
            return any(each.name == "to" and self._may_be(each.value) for each in statement.clauses)
        if isinstance(statement, Lua):
            return any(_FORWARD in sample.lower() for sample in statement.samples())
        if isinstance(statement, LuaFile):
            try:
                code = self._library.text(statement.name)
            except RuleError:
                return False  # It cannot run, either.
            return code is not None and _FORWARD in code.lower()
        return False

    def _may_be(self, target: Template) -> bool:
        """Tell whether the target of a forward may be the node."""
        if target.constant is None:
            return True
        title = target.constant.strip().lower()
        if any(_matches(name, title) for name in self._names):
            return True
        node = self._nodes.find(target.constant.strip())
        if node is not None:
            return (node.host.lower(), node.port) == self._address
        host, _, port = title.partition(":")
        return self._address is not None and (host, port or self._address[1]) == self._address


def _names_for(settings: Settings, title: str) -> set[str]:
    """Return the names in lower case, some ending in *, under which a forward reaches a node: its
    own, its group's, and those for which it, or what reaches it, is the fallback."""
    names = {title.strip().lower()}
    peers = settings.peers.by_title
    grown = True
    while grown:
        known = len(names)
        for name, node in peers.items():
            if node.fallback.strip().lower() in names:
                names.add(name)
        for name in list(names):
            group = settings.peers.of(name).group.strip().lower()
            names.update({group} - {""})
        grown = len(names) > known
    return names


def _matches(name: str, title: str) -> bool:
    if name.endswith("*"):
        return title.startswith(name[:-1])
    return title == name


def _leaves_alone(statement: Statement) -> bool:
    """Tell whether a statement certainly leaves the data set as it is, for what it forwards too."""
    if inner_script(statement) is not None and not isinstance(statement, InnerScript):
        return False
    if isinstance(statement, DirectForward):
        return statement.compression is None
    if isinstance(statement, Delayed):
        return all(each.name != "compressed" for each in statement.clauses)
    # A script is what stands in it.
    return isinstance(statement, Call | InnerScript) or type(statement).__module__ in _HARMLESS
