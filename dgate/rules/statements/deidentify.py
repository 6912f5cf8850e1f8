"""`deidentify profile basic [retain ...] [clean ...] ...`: PS3.15 Annex E as a statement.

What it does to an object is in `dgate.dicom.deidentify`. Whatever fails refuses the object, also
with `ScriptErrors = ignore`: half de-identified it must not be kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dgate.dicom.deidentify import (
    Clean,
    Deidentifier,
    Masks,
    Profile,
    Retain,
    SafeList,
)
from dgate.dicom.table import ElementTable
from dgate.errors import ConfigError, RuleError, StoreError, Unsafe
from dgate.rules.deidentification import Deidentification
from dgate.rules.run import CONTINUE, Run, Step, log
from dgate.rules.statements.base import IMPORT_ONLY, Executable, Keyword, Scope, Statement
from dgate.rules.syntax import BLANKS, ParseError, Text
from dgate.rules.tokens import Reading

DEIDENTIFY = "deidentify"
"""The word that the statement begins with."""
LONGEST_STAGE = 32
_STAGE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_RETAIN = {option.value: option for option in Retain}
_CLEAN = {option.value: option for option in Clean}
_FACES = ("visual-features", "recognizable-visual-features", "faces")
_REST = ("retain", "clean", "stage", "mask", "safe-list", "allow-burned-in", "no-table")
_USAGE = "write: deidentify profile basic [retain ...] [clean ...] [stage NAME] [mask FILE]"


_T = TypeVar("_T")
_O = TypeVar("_O", Retain, Clean)


class Files(Protocol):
    """Where text files are found that a rule names."""

    def text(self, name: str) -> str | None:
        """Return the text of a file, None when there is none; raises RuleError."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a statement or a script asks for."""

    retain: frozenset[Retain] = frozenset()
    clean: frozenset[Clean] = frozenset()
    stage: str = ""
    mask: str = ""
    """Name of the file of masks."""
    safe_list: str = ""
    """Name of the list of safe private elements; empty takes the one that comes with dgate."""
    allow_burned_in: bool = False
    keeps: bool = True
    """Whether what was replaced goes to the table that leads back."""

    def profile(self, files: Files) -> Profile:
        """Return the profile, with the files read.

        Raises:
            RuleError: a file is missing or wrong.
        """
        masks = None
        if Clean.PIXELS in self.clean:
            masks = _read(files, self.mask, "mask file", Masks.parse)
        safe = None
        if Retain.SAFE_PRIVATE in self.retain:
            safe = SafeList.shipped()
            if self.safe_list:
                safe = _read(files, self.safe_list, "safe list", SafeList.parse)
        return Profile(self.retain, self.clean, masks, safe, self.allow_burned_in)


def _read(files: Files, name: str, what: str, parse: Callable[[str, str], _T]) -> _T:
    text = files.text(name)
    if text is None:
        raise RuleError(
            f"there is no {what} {name[:80]}", remedy="correct the name, or create the file"
        )
    try:
        return parse(text, name)
    except ConfigError as exc:
        raise RuleError(f"the {what} {exc}") from exc


def deidentify(
    deidentifier: Deidentifier, request: Request, table: ElementTable, outside: Deidentification
) -> None:
    """De-identify an object in place, and write down what was replaced.

    Raises:
        Unsafe: it must go no further; it may be changed in part.
        StoreError: the same, because of the database or of what is in the object.
    """
    try:
        replaced = deidentifier.apply(table, outside.pseudonyms(request.stage))
        if request.keeps:
            outside.keep(replaced)
    except StoreError:
        raise
    except RuleError as exc:
        # Without its place, which becomes that of the statement.
        what = f"{exc.where}: {exc.what}" if exc.where else exc.what
        raise Unsafe(what, remedy=exc.remedy) from exc
    except Exception as exc:
        # A mistake of ours, met in one object: it is refused like any that cannot be understood.
        log.exception("An object could not be de-identified.")
        raise Unsafe(f"de-identification failed: {type(exc).__name__}") from exc


@dataclass(frozen=True, slots=True)
class Deidentify(Executable):
    """The statement."""

    request: Request

    def build(self, scope: Scope) -> Step:
        """Return the step; raises Unsafe for files that cannot be used."""
        request = self.request
        try:
            deidentifier = Deidentifier(request.profile(scope.library))
        except RuleError as exc:
            raise Unsafe(exc.what, remedy=exc.remedy) from exc

        def step(run: Run) -> int:
            deidentify(deidentifier, request, run.table, run.env.deidentification)
            return CONTINUE

        return step

    def fault(self, files: Files) -> RuleError | None:
        """Return what is wrong with the files that the statement names, None when they are fine."""
        try:
            self.request.profile(files)
        except RuleError as exc:
            return exc
        return None


# The grammar.


class _Words:
    """The words of the statement, one after the other; a name in double quotes is one word."""

    def __init__(self, text: Text) -> None:
        self._left = list(_split(text))
        self.end = text.cut(len(text.value))

    def __bool__(self) -> bool:
        return bool(self._left)

    def peek(self) -> str:
        """Return the next word in lower case, empty at the end."""
        return self._left[0].value.lower() if self._left else ""

    def next(self, what: str) -> Text:
        """Return the next word; raises ParseError at the end."""
        if not self._left:
            raise self.end.fail(f"{what} is missing here", remedy=_USAGE)
        return self._left.pop(0)


def _split(text: Text) -> Iterator[Text]:
    value = text.value
    at = 0
    while at < len(value):
        if value[at] in BLANKS:
            at += 1
            continue
        if value[at] == '"':
            stop = value.find('"', at + 1)
            if stop < 0:
                raise text.fail("the double quote is not closed", at=at)
            yield text.cut(at + 1, stop)
            at = stop + 1
            continue
        stop = at
        while stop < len(value) and value[stop] not in BLANKS:
            stop += 1
        yield text.cut(at, stop)
        at = stop


def _parse(text: Text, rest: Text, reading: Reading) -> Statement:
    if "%" in rest.value:
        raise rest.fail(
            "deidentify takes no %-tokens: what is removed must not depend on the object",
            at=rest.value.index("%"),
        )
    if rest.value and rest.value[0] not in BLANKS:
        raise text.fail("unknown statement, did you mean deidentify?", remedy=_USAGE)
    return Deidentify(text.column, parse_request(rest))


def parse_request(text: Text) -> Request:
    """Return what stands behind `deidentify`; raises ParseError."""
    words = _Words(text)
    for expected, what in (("profile", "profile"), ("basic", "the name of the profile")):
        word = words.next(what)
        if word.value.lower() != expected:
            raise word.fail(f"expected {expected} here", remedy=_USAGE)
    wish = _Wish()
    while words:
        word = words.next("a word")
        name = word.value.lower()
        if name not in _REST:
            raise word.fail(f"{word.value[:40]!r} is not understood: there are {', '.join(_REST)}")
        wish.take(name, word, words)
    return wish.request()


class _Wish:
    """Collects the words of a request and refuses what does not go together."""

    def __init__(self) -> None:
        self._retain: dict[Retain, Text] = {}
        self._clean: dict[Clean, Text] = {}
        self._once: dict[str, Text] = {}
        self._places: dict[str, Text] = {}

    def take(self, name: str, word: Text, words: _Words) -> None:
        if name == "retain":
            self._options(_RETAIN, self._retain, word, words)
            return
        if name == "clean":
            self._options(_CLEAN, self._clean, word, words)
            return
        if name in self._once:
            raise word.fail(f"{name} is there twice")
        self._places[name] = word
        takes_value = name in ("stage", "mask", "safe-list")
        self._once[name] = words.next(f"the value of {name}") if takes_value else word
        if name == "stage" and not _STAGE.fullmatch(self._once[name].value):
            raise self._once[name].fail(
                f"a stage has 1 to {LONGEST_STAGE} letters, digits, dots, dashes or underscores"
            )

    def request(self) -> Request:
        self._check()
        return Request(
            frozenset(self._retain),
            frozenset(self._clean),
            self._value("stage"),
            self._value("mask"),
            self._value("safe-list"),
            "allow-burned-in" in self._once,
            "no-table" not in self._once,
        )

    def _value(self, name: str) -> str:
        return self._once[name].value if name in self._once else ""

    @staticmethod
    def _options(known: dict[str, _O], chosen: dict[_O, Text], word: Text, words: _Words) -> None:
        found = False
        while words and words.peek() not in _REST:
            option = words.next("an option")
            name = option.value.lower()
            if name in _FACES:
                raise _no_faces(option)
            if name not in known:
                raise option.fail(
                    f"{option.value[:40]!r} is no option of {word.value.lower()}: "
                    f"there are {', '.join(known)}"
                )
            if known[name] in chosen:
                raise option.fail(f"{name} is there twice")
            chosen[known[name]] = option
            found = True
        if not found:
            raise word.fail(
                f"{word.value.lower()} is followed by at least one of {', '.join(known)}"
            )

    def _check(self) -> None:
        if {Retain.FULL_DATES, Retain.MODIFIED_DATES} <= self._retain.keys():
            both = (self._retain[Retain.FULL_DATES], self._retain[Retain.MODIFIED_DATES])
            raise max(both, key=lambda text: text.column).fail(
                "dates are either kept (full-dates) or shifted (modified-dates)"
            )
        if Clean.PIXELS in self._clean and "mask" not in self._once:
            raise self._clean[Clean.PIXELS].fail(
                "clean pixels needs the file that says what to black out",
                remedy="add: mask FILE",
            )
        if "mask" in self._once and Clean.PIXELS not in self._clean:
            raise self._places["mask"].fail("mask works with clean pixels only")
        if "safe-list" in self._once and Retain.SAFE_PRIVATE not in self._retain:
            raise self._places["safe-list"].fail("safe-list works with retain safe-private only")


def _no_faces(option: Text) -> ParseError:
    return option.fail(
        "recognizable visual features cannot be cleaned: dgate does not find faces in images",
        remedy="deface such images with a program made for it before they come here",
    )


KEYWORDS = (Keyword(DEIDENTIFY, _parse, IMPORT_ONLY),)
