"""Direct forward of one object: `forward [compressed as CC] to TARGET ...` (spec 8.5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dgate.config.codes import CodeKind, kind_of
from dgate.errors import RuleError
from dgate.rules.effects import Forward
from dgate.rules.opaque import seal
from dgate.rules.run import CONTINUE, Run, Step, Value
from dgate.rules.statements.base import Executable, Keyword, Scope, Statement
from dgate.rules.syntax import Text, words
from dgate.rules.tokens import Reading, Skeleton, Template, parse_skeleton, parse_template
from dgate.rules.values import compile_template

_COMPRESSION = re.compile(r"[A-Za-z][A-Za-z0-9](?:[0-9]{2})?|[jJnN]#[0-9]{1,9},[0-9]{1,9}")
_CHANNEL = re.compile(r"\*|1?[0-9]")
_SCRIPT = " script "
_CLAUSES = ("org", "dest", "channel")


@dataclass(frozen=True, slots=True)
class DirectForward(Executable):
    """`forward to TARGET [org AE] [dest AE] [channel N] [script S]`.

    The channel is read and has no effect: associations are told apart by where they lead (spec S1).
    """

    target: Template
    compression: Template | None = None
    org: Template | None = None
    dest: Template | None = None
    channel: Template | None = None
    script: Skeleton | None = None

    def build(self, scope: Scope) -> Step:
        """Return the step that records the forward."""
        make = self._maker(scope.number)
        if self.script is None and all(part.constant is not None for part in self.templates()):
            return _remembering(make)

        def step(run: Run) -> int:
            run.forward(make(run))
            return CONTINUE

        return step

    def _maker(self, number: int) -> Callable[[Run], Forward]:
        target = compile_template(self.target)
        compression = _optional(self.compression)
        org = _optional(self.org)
        dest = _optional(self.dest)
        script = None if self.script is None else compile_script_text(self.script)

        def make(run: Run) -> Forward:
            where = target(run).strip()
            if not where:
                raise RuleError("the target of the forward is empty")
            return Forward(
                where,
                f"{run.name}.{number}",
                calling=org(run),
                called=dest(run),
                compression=compression(run),
                script=_with_prelude(run, script),
            )

        return make


def _remembering(make: Callable[[Run], Forward]) -> Step:
    """Return the step of a forward without tokens: the same value for every object of a line."""
    known: dict[str, Forward] = {}

    def step(run: Run) -> int:
        forward = None if run.prelude else known.get(run.name)
        if forward is None:
            forward = make(run)
            if not run.prelude:
                known[run.name] = forward
        run.forward(forward)
        return CONTINUE

    return step


def _optional(template: Template | None) -> Callable[[Run], str | None]:
    if template is None:
        return _absent
    value = compile_template(template)
    return lambda run: value(run).strip() or None


def _absent(run: Run) -> None:
    return None


def compile_script_text(skeleton: Skeleton) -> Value:
    """Return the closure that gives the script's text with this object's values sealed in."""
    pieces = skeleton.parts()
    values = [compile_template(template) for template in skeleton.values]

    def text(run: Run) -> str:
        return "".join(
            [piece if isinstance(piece, str) else seal(values[piece](run)) for piece in pieces]
        )

    return text


def _with_prelude(run: Run, script: Value | None) -> str | None:
    """Return the script of the copy; each line of it runs by itself, as in a script file."""
    own = None if script is None else script(run)
    if not run.prelude:
        return own
    return "\n".join([*run.prelude, own] if own else run.prelude)


def unquoted(script: Text) -> Text:
    """Return the text of a `script` clause, which may stand in double quotes."""
    script = script.rstrip()
    if script.value.startswith('"'):
        last = len(script.value) - (script.value.endswith('"') and len(script.value) > 1)
        script = script.cut(1, last)
    if not script.value:
        raise script.fail("the script is missing")
    return script


def _forward_to(text: Text, rest: Text, reading: Reading) -> Statement:
    return _parse(text, rest, None, reading)


def _forward_compressed(text: Text, rest: Text, reading: Reading) -> Statement:
    code, gap, _ = rest.value.partition(" ")
    compression = parse_template(rest.cut(0, len(code)), reading)
    constant = compression.constant
    if constant is not None and not _COMPRESSION.fullmatch(constant):
        raise rest.fail("a compression code is two characters, with two digits of quality or none")
    if constant is not None and kind_of(constant) is CodeKind.UNKNOWN:
        reading.note(f"the compression code {constant} is unknown", rest.column)
    target = rest.cut(len(code) + len(gap))
    if not target.starts("to "):
        raise target.fail("the compression code must be followed by: to TARGET")
    return _parse(text, target.cut(len("to ")), compression, reading)


def _parse(text: Text, rest: Text, compression: Template | None, reading: Reading) -> DirectForward:
    script = None
    at = rest.value.lower().find(_SCRIPT)
    if at >= 0:
        script = parse_skeleton(unquoted(rest.cut(at + len(_SCRIPT))), reading)
        rest = rest.cut(0, at)
    target, *others = words(rest.rstrip())
    clauses: dict[str, Template] = {}
    while others:
        word, *others = others
        name = word.value.lower()
        if name not in _CLAUSES or name in clauses:
            raise word.fail(
                f"{word.value[:40]} is not expected here",
                remedy="after the target come org AE, dest AE, channel N, script S",
            )
        if not others:
            raise word.fail(f"{name} must be followed by a word", at=len(word.value))
        argument, *others = others
        clauses[name] = parse_template(argument, reading)
        constant = clauses[name].constant
        if name == "channel" and constant is not None and not _CHANNEL.fullmatch(constant):
            raise argument.fail("a channel is a number from 0 to 19, or *")
    return DirectForward(
        text.column,
        parse_template(target, reading),
        compression,
        clauses.get("org"),
        clauses.get("dest"),
        clauses.get("channel"),
        script,
    )


KEYWORDS = (
    Keyword("forward compressed as ", _forward_compressed),
    Keyword("forward to ", _forward_to),
)
