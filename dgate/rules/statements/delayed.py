"""The delayed family: whole patients, studies, series (spec converters.md 8.6, 8.7).

A statement records a `Request`; working it off is delivery's. Clauses stand between single blanks
and have one word as value, except those that take the rest of the statement. Unknown words and
doubled or trailing blanks are errors (spec S17).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dgate.errors import RuleError
from dgate.rules.effects import ObjectScope, Request
from dgate.rules.run import CONTINUE, Run, Step
from dgate.rules.statements.base import (
    BOTH,
    EXPORT_ONLY,
    Executable,
    Keyword,
    Scope,
    Statement,
)
from dgate.rules.statements.commands import compile_arguments, parse_arguments
from dgate.rules.statements.forwarding import compile_script_text, unquoted
from dgate.rules.syntax import Text
from dgate.rules.tokens import Reading, Skeleton, Template, parse_skeleton, parse_template
from dgate.rules.values import compile_template

LEVELS = ("patient", "study", "series", "image")

_FILTERS = frozenset(
    ("date", "now", "age", "modality", "study", "series", "sop", "imagetype", "seriesdesc", "after")
)
_CLAUSES: dict[str, frozenset[str]] = {
    "forward": _FILTERS | {"compressed", "split", "to", "script"},
    "get": _FILTERS | {"from", "script"},
    "delete": _FILTERS,
    "process": _FILTERS | {"by"},
    "merge": _FILTERS | {"script"},
    "submit": frozenset(("study", "series", "sop", "after", "target", "password", "script")),
    "submit2": frozenset(("study", "series", "sop", "after", "target", "command", "script")),
}
_NEEDED = {
    "forward": ("to",),
    "get": ("from",),
    "process": ("by",),
    "submit": ("target", "password"),
    "submit2": ("target", "command"),
}
_FORMS = {
    "date": re.compile(r"[0-9]{8}(?:-[0-9]{8})?"),
    "now": re.compile(r"-[0-9]+\+[0-9]+"),
    "age": re.compile(r"-[0-9]+\+[0-9]+"),
    "after": re.compile(r"[0-9]{1,9}"),
    "split": re.compile(r"[0-9]+/[0-9]+"),
}
_PATIENT_ID = 0x00100020
_STUDY_DATE = 0x00080020
_IDENTITIES = (
    ("patient_id", _PATIENT_ID, "patient ID"),
    ("study", 0x0020000D, "Study Instance UID"),
    ("series", 0x0020000E, "Series Instance UID"),
    ("sop_instance", 0x00080018, "SOP Instance UID"),
)
_WILDCARDS = re.compile(r"[*?\\]")
_WIDENING = ("date", "now", "age", "modality")
"""Filters with which only the patient counts."""
_PEER_CLAUSES = {"forward": "to", "get": "from", "submit": "target", "submit2": "target"}
_PROGRAM_CLAUSES = ("by", "command")
_FORM_NAMES = {
    "date": "yyyymmdd or yyyymmdd-yyyymmdd",
    "now": "-DAYS+DAYS",
    "age": "-DAYS+DAYS",
    "after": "seconds",
    "split": "N/M",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a delayed statement."""

    name: str
    value: Template
    column: int


@dataclass(frozen=True, slots=True)
class Delayed(Executable):
    """`OP LEVEL clauses`: queue an operation on what the object belongs to."""

    operation: str
    level: str
    clauses: tuple[Clause, ...]
    script: Skeleton | None = None
    arguments: tuple[Template, ...] = ()
    """`process`, `submit2`: the program with its arguments, or the command line of a Lua file."""
    lua_file: str = ""

    def build(self, scope: Scope) -> Step:
        """Return the step that records the request."""
        operation, level, number = self.operation, self.level, scope.number
        values = {clause.name: compile_template(clause.value) for clause in self.clauses}
        arguments = (
            [compile_template(argument) for argument in self.arguments]
            if self.lua_file
            else compile_arguments(self.arguments)
        )
        script = None if self.script is None else compile_script_text(self.script)
        lua_file = self.lua_file

        def step(run: Run) -> int:
            texts = {name: value(run).strip() for name, value in values.items()}
            for name, form in _FORMS.items():
                if texts.get(name) and not form.fullmatch(texts[name]):
                    raise RuleError(f"{name} cannot be followed by {texts[name][:40]!r}")
            subject, own = _scope(run, operation, level, texts)
            run.requests.append(
                Request(
                    operation,
                    level,
                    subject,
                    f"{run.name}.{number}",
                    _delay(texts),
                    peer=_peer(operation, texts),
                    compression=texts.get("compressed", ""),
                    split=texts.get("split", ""),
                    script="" if script is None else script(run),
                    arguments=tuple([argument(run) for argument in arguments]),
                    lua_file=lua_file,
                    password=texts.get("password", ""),
                    own=own,
                )
            )
            return CONTINUE

        return step


@dataclass(frozen=True, slots=True)
class Fetch(Executable):
    """`prefetch`, `preretrieve AE`: read the patient's files; fetch the patient from a node."""

    source: Template | None = None

    def build(self, scope: Scope) -> Step:
        """Return the step that records the request."""
        source = None if self.source is None else compile_template(self.source)
        number = scope.number

        def step(run: Run) -> int:
            node = "" if source is None else source(run).strip()
            if source is not None and not node:
                raise RuleError("the node to retrieve from is empty")
            operation = "prefetch" if source is None else "preretrieve"
            subject = ObjectScope(patient_id=_identity(run, _PATIENT_ID, "patient ID"))
            # Fetching before somebody asks cannot wait; reading ahead can (spec 8.7).
            delay = None if source is None else 0.0
            request = Request(
                operation,
                "patient",
                subject,
                f"{run.name}.{number}",
                delay,
                peer=node,
                own=("patient_id",),
            )
            run.requests.append(request)
            return CONTINUE

        return step


def _scope(
    run: Run, operation: str, level: str, texts: Mapping[str, str]
) -> tuple[ObjectScope, tuple[str, ...]]:
    """Return what the statement is about, and which of its fields are the object's own IDs; which
    clauses widen it: the table of spec 8.6."""
    explicit = any(texts.get(name) for name in ("study", "series", "sop"))
    by_filter = any(texts.get(name) for name in _WIDENING)
    of_study = bool(texts.get("imagetype") or texts.get("seriesdesc"))
    depth = LEVELS.index(level)
    if operation == "merge":
        # Filters choose among the series of this study.
        depth = 1
    elif explicit or by_filter:
        depth = 0
    elif of_study:
        depth = 1
    identity = {}
    for name, tag, what in (*_IDENTITIES,)[: depth + 1]:
        # Beside a UID the patient ID may be missing: the index has one of its own then.
        is_needed = depth == 0 or name != "patient_id"
        identity[name] = _identity(run, tag, what) if is_needed or run.table.text(tag) else ""
    own = set(identity)
    for clause, name in (("study", "study"), ("series", "series"), ("sop", "sop_instance")):
        if texts.get(clause):
            identity[name] = texts[clause]
            own.discard(name)
    scope = ObjectScope(
        **identity,
        date=_dates(run, texts),
        modality=texts.get("modality", ""),
        image_type=texts.get("imagetype", ""),
        series_description=texts.get("seriesdesc", ""),
    )
    return scope, tuple(name for name in identity if name in own)


def _identity(run: Run, tag: int, what: str) -> str:
    text = run.table.text(tag)
    if not text:
        # Nothing to select by would mean everything.
        raise RuleError(f"the object has no {what}, so nobody knows what is meant")
    if _WILDCARDS.search(text):
        # Whoever sent the object would choose which others are meant.
        raise RuleError(f"the {what} of the object, {text[:80]!r}, has a wildcard in it")
    return text


def _delay(texts: Mapping[str, str]) -> float | None:
    """Return the quiet time; absent or 0 means ForwardCollectDelay (spec 8.6)."""
    return float(texts.get("after") or 0) or None


def _peer(operation: str, texts: Mapping[str, str]) -> str:
    clause = _PEER_CLAUSES.get(operation)
    if clause is None:
        return ""
    if not texts[clause]:
        raise RuleError(f"the clause {clause} is empty")
    return texts[clause]


def _dates(run: Run, texts: Mapping[str, str]) -> str:
    """Return the study dates meant by `date`, `now` or `age`, as a range matches them."""
    if texts.get("date"):
        return texts["date"]
    for name in ("now", "age"):
        if texts.get(name):
            before, after = (int(part) for part in texts[name][1:].split("+"))
            middle = _today(run) if name == "now" else _study_day(run)
            try:
                first = middle - datetime.timedelta(days=before)
                last = middle + datetime.timedelta(days=after)
            except OverflowError:
                raise RuleError(f"{name} {texts[name]} is no span of days") from None
            return f"{first:%Y%m%d}-{last:%Y%m%d}"
    return ""


def _today(run: Run) -> datetime.date:
    return datetime.date.fromtimestamp(run.env.clock.now())


def _study_day(run: Run) -> datetime.date:
    text = run.table.text(_STUDY_DATE)
    try:
        return datetime.datetime.strptime(text[:8], "%Y%m%d").date()
    except ValueError:
        raise RuleError(f"the object's study date {text[:20]!r} is no date") from None


@dataclass(slots=True)
class _Rest:
    """The part of a statement that has not been read yet."""

    text: Text

    def word(self, what: str) -> Text:
        """Take the next word."""
        stop = self.text.value.find(" ")
        word = self.text if stop < 0 else self.text.cut(0, stop)
        if not word.value:
            raise self.text.fail(f"{what} is missing", remedy="one blank stands between words")
        self.text = self.text.cut(len(word.value))
        return word

    def blank(self) -> None:
        """Take the blank before the next word."""
        self.text = self.text.cut(1)

    def everything(self, what: str) -> Text:
        """Take all that is left."""
        rest, self.text = self.text, self.text.cut(len(self.text.value))
        if not rest.value:
            raise rest.fail(f"{what} is missing")
        return rest


def _delayed(text: Text, rest: Text, reading: Reading) -> Statement:
    operation, level = text.value[: len(text.value) - len(rest.value)].lower().split()
    allowed = _CLAUSES[operation]
    if rest.value and not rest.value.startswith(" "):
        raise rest.fail(f"a blank must follow {level}")
    left = _Rest(rest)
    clauses: dict[str, Clause] = {}
    script = None
    program: tuple[tuple[Template, ...], str] = ((), "")
    while left.text.value:
        left.blank()
        word = left.word("a clause")
        name = word.value.lower()
        if name not in allowed or name in clauses:
            raise word.fail(
                f"{word.value[:40]} is not expected here",
                remedy=f"{operation} {level} takes {', '.join(sorted(allowed))}",
            )
        if left.text.value:
            left.blank()
        if name == "by":
            program = _program(left.everything("the command").strip(), reading)
            continue
        if name == "command":
            program = (_command(left, reading), "")
            continue
        if name == "script":
            script = parse_skeleton(unquoted(left.everything("the script")), reading)
            continue
        clauses[name] = Clause(name, _clause_value(name, left, reading), word.column)
    for name in _NEEDED.get(operation, ()):
        if name not in clauses and not (name in _PROGRAM_CLAUSES and program[0]):
            raise rest.fail(f"the clause {name} is missing", at=len(rest.value))
    if "split" in clauses and "imagetype" in clauses:
        raise rest.fail("split cannot be combined with imagetype")
    return Delayed(text.column, operation, level, tuple(clauses.values()), script, *program)


def _program(text: Text, reading: Reading) -> tuple[tuple[Template, ...], str]:
    """Parse what follows `by`: a Lua file with its command line, or a program."""
    name = re.split(r"[ (]", text.value, maxsplit=1)[0]
    if not name.lower().endswith(".lua"):
        return parse_arguments(text, "the command", reading), ""
    if "%" in name:
        raise text.fail("the name of a Lua file must not contain %-tokens")
    rest = text.cut(len(name))
    if not rest.value:
        raise text.fail("the Lua file must be followed by arguments", at=len(name))
    if rest.value.startswith("("):
        if not rest.value.endswith(")"):
            raise rest.fail("the parenthesis is not closed")
        rest = rest.cut(1, len(rest.value) - 1)
    else:
        rest = rest.cut(1)
    return (parse_template(rest, reading),), name


def _command(left: _Rest, reading: Reading) -> tuple[Template, ...]:
    """Parse what follows `command`: one word, or a command line in brackets."""
    if not left.text.value.startswith("["):
        return parse_arguments(left.word("the command"), "the command", reading)
    close = left.text.value.find("]")
    if close < 0:
        raise left.text.fail("the bracket is not closed")
    inner = left.text.cut(1, close)
    left.text = left.text.cut(close + 1)
    if left.text.value[:1] not in ("", " "):
        raise left.text.fail("a blank must follow the bracket")
    return parse_arguments(inner, "the command", reading)


def _clause_value(name: str, left: _Rest, reading: Reading) -> Template:
    if name == "compressed":
        if left.word("as").value.lower() != "as":
            raise left.text.fail("compressed must be followed by: as CC")
        left.blank()
    value = left.word(f"the value of {name}")
    template = parse_template(value, reading)
    form = _FORMS.get(name)
    if form is not None and template.constant is not None and not form.fullmatch(template.constant):
        raise value.fail(f"{name} must be followed by {_FORM_NAMES[name]}")
    return template


def _prefetch(text: Text, rest: Text, reading: Reading) -> Statement:
    return Fetch(text.column)


def _preretrieve(text: Text, rest: Text, reading: Reading) -> Statement:
    rest = rest.rstrip()
    if not rest.value or " " in rest.value:
        raise rest.fail("preretrieve must be followed by one AE title")
    return Fetch(text.column, parse_template(rest, reading))


def _keywords() -> tuple[Keyword, ...]:
    families = {"delete": EXPORT_ONLY}
    levelled = ("forward", "get", "delete", "process", "submit2", "submit")
    prefixes = [(operation, level) for operation in levelled for level in LEVELS]
    return tuple(
        Keyword(f"{operation} {level}", _delayed, families.get(operation, BOTH))
        for operation, level in [*prefixes, ("merge", "study")]
    )


KEYWORDS = (
    *_keywords(),
    Keyword("preretrieve ", _preretrieve),
    Keyword("prefetch", _prefetch),
)
