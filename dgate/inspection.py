"""Everything that is wrong or odd in a configuration: in its files, its folders and its rules.

`dgate check`, the start of a server and a reload of its configuration all call `inspect`. It opens
no sockets and changes nothing; whether the ports are free is looked at by `dgate check` itself, and
shows anyhow when a server binds them. Owned by the calling thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from dgate.archive.keyfile import read_key
from dgate.config.check import check, in_order
from dgate.config.converters import SCRIPT_SECTION
from dgate.config.ini import Entry, IniFile
from dgate.config.keys import KeyType
from dgate.config.node_sections import node_sections
from dgate.config.problem import LONGEST_SOURCE, Problem, Report, Severity
from dgate.config.settings import Configuration
from dgate.config.text import split_lines
from dgate.dicom.transcode import can_encode, stored_syntax_for
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, VERIFICATION, transfer_syntax
from dgate.errors import ConfigError
from dgate.rules.altering import altering_rules
from dgate.rules.compile import Library, read_script
from dgate.rules.hooks import Rules
from dgate.rules.lint import lint
from dgate.rules.problems import Gravity, RuleProblem
from dgate.rules.statements.deidentify import DEIDENTIFY

_SCRIPT = "script "
_KEY = "ReidentificationKey"
_SENDS_NOTHING = "so ReconcileSend sends nothing"


def inspect(configuration: Configuration, rules: Rules | None = None) -> list[Problem]:
    """Return every problem by file and line, those of a whole file first.

    `rules` are those of the configuration where they have been built already. An error stands for
    what cannot work: with one, a server does not start and a reload is refused.
    """
    settings = configuration.settings
    rules = rules or Rules.build(settings)
    found = [*rules.problems, *lint(settings, configuration.nodes, rules.library)]
    bypassing = [*_bypassing(configuration, rules.library)]
    rules.library.forget_trees()
    places = _Places(configuration, rules.library)
    return in_order(
        configuration,
        [
            *check(configuration),
            *_acceptance(configuration),
            *_missing_encoders(configuration),
            *_missing_key(configuration),
            *bypassing,
            *(places.located(problem) for problem in found),
        ],
    )


def blocking(problems: Iterable[Problem], rules: Rules) -> list[Problem]:
    """Return those that keep a server from starting, and a reload from being applied: the errors.

    Statements that are right and only not executed here fail when an object meets them
    (rulings.md 10); an archive that is taken over may have such rules in corners nobody uses. What
    a comparison by schedule must not send, it leaves out.
    """
    fail_later = {
        found.problem().message for found in rules.problems if found.gravity is Gravity.UNAVAILABLE
    }
    return [
        problem
        for problem in problems
        if problem.severity is Severity.ERROR
        and problem.message not in fail_later
        and not problem.message.endswith(_SENDS_NOTHING)
    ]


def _acceptance(configuration: Configuration) -> Iterator[Problem]:
    """Report what dgatesop.lst leaves out although every peer counts on it."""
    settings, sop_list = configuration.settings, configuration.sop_list
    report = Report(str(settings.sop_class_list))
    title = settings.ae_title
    if sop_list.local_ae is not None and title not in sop_list.local_ae:
        message = f"no LocalAE line names {title}, so calls to MyACRNema are rejected"
        report.warning(None, message, f"add: own {title} LocalAE")
    if sop_list.transfer is not None and IMPLICIT_LE not in sop_list.transfer:
        message = "implicit little endian is not listed, which every DICOM node can fall back to"
        report.warning(None, message, f"add: LittleEndianImplicit {IMPLICIT_LE} transfer")
    if sop_list.abstract is not None and VERIFICATION not in sop_list.abstract:
        message = "Verification is not listed, so C-ECHO is refused"
        report.warning(None, message, f"add: Verification {VERIFICATION} sop")
    yield from report.problems


def _missing_encoders(configuration: Configuration) -> Iterator[Problem]:
    """Report codes of dicom.ini that nothing can encode: objects are then kept as they are."""
    report = Report(str(configuration.settings.ini_path))
    for value in configuration.values:
        if value.key.type is not KeyType.CODE or not value.key.effective:
            continue
        target = stored_syntax_for(value.text, EXPLICIT_LE)
        if not transfer_syntax(target).encapsulated or can_encode(target):
            continue
        name = transfer_syntax(target).name
        message = f"{value.name} = {value.text}: there is no encoder for {name}, objects stay as is"
        report.warning(value.line, message, f"write {value.name} = as, or a code such as un or rl")
    yield from report.problems


def _missing_key(configuration: Configuration) -> Iterator[Problem]:
    """Report rules that de-identify without a key: every object that comes to them is refused."""
    settings = configuration.settings
    texts = (*(one.text for one in settings.converters), *settings.scripts.values())
    if not any(DEIDENTIFY in text.lower() for text in texts):
        return
    report = Report(str(settings.ini_path))
    line = next((one.line for one in configuration.values if one.name == _KEY), None)
    try:
        read_key(settings.reidentification_key)
    except ConfigError as exc:
        message = f"rules that deidentify will refuse every object: {exc.where}: {exc.what}"
        report.warning(line, message, exc.remedy)
    yield from report.problems


def _bypassing(configuration: Configuration, library: Library) -> Iterator[Problem]:
    """Report nodes that ReconcileSend would give what rules change, as it is stored."""
    settings, nodes = configuration.settings, configuration.nodes
    report = Report(str(settings.ini_path))
    for title in dict.fromkeys(node.ae_title for node in nodes if not node.is_wildcard()):
        node = settings.peers.of(title)
        if not (node.reconcile and node.reconcile_send):
            continue
        rules = altering_rules(settings, nodes, library, title)
        if rules:
            name = f"{rules[0].family}Converter{rules[0].index}"
            message = f"{name} may forward to {title} what it changes, {_SENDS_NOTHING}"
            advice = "remove ReconcileSend, or run: dgate reconcile NODE --send --as-stored"
            report.error(_line_of(configuration, title, "ReconcileSend"), message, advice)
    yield from report.problems


def _line_of(configuration: Configuration, title: str, key: str) -> int | None:
    """Return the line of a key in a node's own section."""
    for name, section in () if configuration.ini is None else node_sections(configuration.ini):
        entry = section.get(key)
        if name == title.lower() and entry is not None:
            return entry.line
    return None


class _Places:
    """Finds the line and column of the file that a problem of a rule is about."""

    def __init__(self, configuration: Configuration, library: Library) -> None:
        settings = configuration.settings
        self._ini_path = settings.ini_path
        self._ini = configuration.ini or IniFile.parse(b"", settings.ini_path)
        self._lines = {value.name: value.line for value in configuration.values}
        self._library = library
        self._named = settings.scripts
        self._files: dict[Path, list[str]] = {}

    def located(self, found: RuleProblem) -> Problem:
        """Return the finding with its place in dicom.ini, or in the script file."""
        problem = found.problem()
        if found.key.startswith(_SCRIPT):
            return self._in_script(problem, found.key.removeprefix(_SCRIPT), found.source)
        problem = dataclasses.replace(problem, path=str(self._ini_path.parent / problem.path))
        # A filter has a line of its own, other than that of its rule.
        line = self._lines.get(found.key) if problem.line is not None else None
        entry = self._ini.entry_at(line or problem.line or 0)
        return self._in_ini(problem, entry)

    def _in_ini(self, problem: Problem, entry: Entry | None) -> Problem:
        if entry is None:
            return problem
        _, shown = self._ini.place(entry.line)
        shown = shown if len(shown) <= LONGEST_SOURCE else ""
        column = entry.column + (problem.column or 1) - 1
        return dataclasses.replace(
            problem, path=str(self._ini_path), line=entry.line, column=column, source=shown
        )

    def _in_script(self, problem: Problem, name: str, source: str) -> Problem:
        if name in self._named:
            section = self._ini.section(SCRIPT_SECTION)
            entry = None if section is None else section.get(name)
            problem = dataclasses.replace(problem, path=str(self._ini_path), line=None)
            return self._in_ini(problem, entry)
        path = self._library.find_file(name)
        if path is None:
            return dataclasses.replace(problem, path=str(self._ini_path))
        lines = self._lines_of(path)
        line = lines.index(source) + 1 if source in lines else None
        return dataclasses.replace(problem, path=str(path), line=line)

    def _lines_of(self, path: Path) -> list[str]:
        if path not in self._files:
            try:
                self._files[path] = split_lines(read_script(path))
            except OSError:
                # It was readable a moment ago; the problem then names the file alone.
                self._files[path] = []
        return self._files[path]
