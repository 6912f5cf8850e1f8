"""What the gateway may answer, and say in its log, given the faults of a round.

Nothing here waits or runs; a finding is a sentence, as in `checks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.senders import ABORTED, BROKEN, REJECTED, SILENT
from tests.campaign.truth import Stream, Truth

SUCCESS, OUT_OF_RESOURCES, PROCESSING_FAILURE = 0x0000, 0xA700, 0x0110

_DISK = {"full", "eio"}
_ENDS = {"kill", "restart", "power", "kill in trouble"}
_WAYS = {"sender cut", "sender cut inside", "sender stalled", "sender late"}
_STATUSES = {
    **{stream: {SUCCESS, OUT_OF_RESOURCES} for stream in Stream},
    # What StorageFailedErrorCode has in a new installation.
    Stream.REJECT: {PROCESSING_FAILURE, OUT_OF_RESOURCES},
}
_CAUSES = {
    # A stop ends associations properly, and takes no new ones.
    ABORTED: {"restart"},
    REJECTED: {"restart"},
    BROKEN: _ENDS | _WAYS,
    SILENT: set[str](),
}


def check_answers(truth: Truth, faults: Counter[str]) -> list[str]:
    """Check the statuses and ends of associations of a round in which these faults were done."""
    done = {kind for kind, count in faults.items() if count}
    findings = []
    for (stream, status), count in sorted(truth.told.items(), key=str):
        say = f"{count} objects of {stream.name} were answered {status:04X}"
        if status not in _STATUSES[stream]:
            findings.append(say)
        elif status == OUT_OF_RESOURCES and not done & _DISK:
            findings.append(f"{say} without a fault of the disk")
    for how, count in sorted(truth.breaks.items()):
        if not done & _CAUSES.get(how, set()):
            findings.append(f"{count} associations of senders: {how}, without a cause")
    return findings


@dataclass(frozen=True, slots=True)
class Allowed:
    """An error with a traceback that is no finding."""

    message: str
    """All of the message, as a regular expression."""
    error: str
    """The last line of the traceback, as a regular expression."""
    causes: frozenset[str]
    """One of these faults is needed."""
    why: str


ALLOWED = (
    Allowed(
        r".* dgate\.archive\.writer: A committed object could not be moved into place\.",
        r"dgate\.errors\.(OutOfSpace|NotSynced): .*Input/output error.*",
        frozenset({"eio"}),
        "the disk fails in the rename behind a commit: the sender hears A700, the next start gives "
        "the object its place, and the operator is to see which one it is",
    ),
)


class Log:
    """The log of a gateway, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0

    def check(self, faults: Iterable[str]) -> list[str]:
        """Return the errors of dgate itself that were written since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            text = file.read().decode(errors="replace")
            self._read_to = file.tell()
        done = set(faults)
        return [
            f"the log has: {message} | {error}"
            for message, error in _failures(text.splitlines())
            if not any(_covers(each, message, error, done) for each in ALLOWED)
        ]


def _covers(allowed: Allowed, message: str, error: str, done: set[str]) -> bool:
    return bool(
        allowed.causes & done
        and re.fullmatch(allowed.message, message)
        and re.fullmatch(allowed.error, error)
    )


_SUSPICIOUS = re.compile(r"error of dgate itself|internal error|unexpectedly|Exception in thread")


def _failures(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield message and last line of each traceback, and messages that tell of an error of ours."""
    message, error, is_traceback = "", "", False
    for line in [*lines, ""]:
        if line.startswith((" ", "\t")):
            is_traceback = is_traceback or "Traceback (most recent call last)" in line
            error = line.strip()
            continue
        if is_traceback or _SUSPICIOUS.search(message):
            yield message, error
        message, error = line, ""
        is_traceback = "Traceback (most recent call last)" in line
