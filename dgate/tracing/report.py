"""What a trace found out about one object: plain values, and their JSON and text forms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from dgate.dicom.differences import Difference
from dgate.rules.recorder import Executed


@dataclass(frozen=True, slots=True)
class FilterTest:
    """One filter beside a rule, and what it was compared with."""

    key: str
    pattern: str
    value: str
    matches: bool


@dataclass(slots=True)
class RuleTrace:
    """What one converter did to the object, or why it did not run."""

    rule: str
    where: str
    """Place in dicom.ini."""
    fires: bool
    reason: str = ""
    """Why it does not run; also what kept its text from being worked off."""
    filters: list[FilterTest] = field(default_factory=list)
    statements: list[Executed] = field(default_factory=list)


@dataclass(slots=True)
class DestinationTrace:
    """One place that the object would be sent to."""

    rule: str
    target: str
    host: str = ""
    port: int = 0
    calling: str = ""
    called: str = ""
    compression: str = ""
    problem: str = ""
    """Why nothing can be sent there."""
    script: list[Executed] = field(default_factory=list)
    """What the script of the forward did to the copy."""


@dataclass(slots=True)
class RequestTrace:
    """A delayed operation on what the object belongs to."""

    rule: str
    operation: str
    level: str
    scope: dict[str, str]
    """Which objects it means: patient, study and so on, and filters."""
    delay_s: float
    """The quiet time after which it is worked off."""
    peer: str = ""
    compression: str = ""
    script: str = ""
    command: list[str] = field(default_factory=list)
    """The program, or the Lua file, and its arguments."""


@dataclass(slots=True)
class ObjectTrace:
    """Everything that rules would do to one object."""

    source: str
    """The file, or the SOP Instance UID of an object of the archive."""
    sop_instance: str
    sop_class: str
    patient_id: str
    modality: str
    calling: str
    called: str
    imports: list[RuleTrace] = field(default_factory=list)
    exports: list[RuleTrace] = field(default_factory=list)
    outcome: str = "keep"
    """`keep`, `destroy` or `reject`."""
    reason: str = ""
    device: str = ""
    """The device that `storage` asks for."""
    changes: list[Difference] = field(default_factory=list)
    """What the import rules changed altogether."""
    destinations: list[DestinationTrace] = field(default_factory=list)
    requests: list[RequestTrace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What happens to the object beside rules."""

    @property
    def fired(self) -> list[str]:
        """Return the names of the rules that ran, in order."""
        return [one.rule for one in (*self.imports, *self.exports) if one.fires]

    def as_json(self) -> dict[str, Any]:
        """Return the trace for machines."""
        return asdict(self)

    def lines(self, *, verbose: bool = True) -> Iterator[str]:
        """Yield the trace for people; `verbose` names rules that do not run, too."""
        yield f"{self.source}: {self.modality or 'no modality'}, patient {self.patient_id!r}"
        yield f"  SOP instance {self.sop_instance}, from {self.calling!r} to {self.called!r}"
        for note in self.notes:
            yield f"  note: {note}"
        for rule in (*self.imports, *self.exports):
            if rule.fires or verbose:
                yield from _rule_lines(rule)
        ending = f" ({self.reason})" if self.reason else ""
        yield f"  outcome: {self.outcome}{ending}"
        if self.device:
            yield f"  device: {self.device}"
        for change in self.changes:
            yield f"  changed: {change.line()}"
        for destination in self.destinations:
            yield from _destination_lines(destination)
        for request in self.requests:
            yield _request_line(request)


def _request_line(request: RequestTrace) -> str:
    peer = f" {request.peer}" if request.peer else ""
    scope = ", ".join(f"{name} {value}" for name, value in request.scope.items())
    command = f" by {' '.join(request.command)}" if request.command else ""
    return (
        f"  after {request.delay_s:g} s: {request.operation} {request.level}{peer}{command}, "
        f"by {request.rule} ({scope})"
    )


def _rule_lines(rule: RuleTrace) -> Iterator[str]:
    if not rule.fires:
        yield f"  {rule.rule} ({rule.where}): does not run: {rule.reason}"
        return
    yield f"  {rule.rule} ({rule.where}): runs{f': {rule.reason}' if rule.reason else ''}"
    for event in rule.statements:
        yield from _statement_lines(event)


def _statement_lines(event: Executed) -> Iterator[str]:
    values = f" [{', '.join(map(repr, event.values))}]" if event.values else ""
    depth = "  " * event.rule.count(".")
    yield f"    {depth}{event.number}: {event.text}{values} -> {event.error or event.result}"
    for change in event.changes:
        yield f"    {depth}   {change.line()}"
    for action in event.actions:
        yield f"    {depth}   would {action}"
    for text in event.skipped:
        yield f"    {depth}   skipped: {text}"


def _destination_lines(destination: DestinationTrace) -> Iterator[str]:
    if destination.problem:
        place = f"cannot be sent: {destination.problem}"
    else:
        place = (
            f"{destination.called} at {destination.host}:{destination.port}, "
            f"calling {destination.calling}"
        )
    code = f", compression {destination.compression}" if destination.compression else ""
    yield f"  to {destination.target} by {destination.rule}: {place}{code}"
    for event in destination.script:
        yield from _statement_lines(event)
