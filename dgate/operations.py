"""Delayed operations that need more than the index: deleting, merging, fetching, programs, zips.

Part of the composition root, because each joins what other rooms may not know. What a request means
and when it is due is known before (`dgate.delivery.performing`). Runs in the worker of the
request's lane; each operation is done when it returns.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.export import Exporter
from dgate.archive.levels import Level
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.correction import Correction
from dgate.archive.maintenance.delete import Deleter, NotThere, StillArriving, StillOwed
from dgate.archive.records import InstanceRef
from dgate.delivery.performing import Operation, Performed, keys_of
from dgate.delivery.records import Debt
from dgate.dicom.part10 import file_meta
from dgate.dicom.table import ElementTable
from dgate.errors import Deferred, RuleError
from dgate.rules.actions import Programs
from dgate.rules.effects import ImportVerdict, ObjectScope, Outcome, Request
from dgate.rules.events import Event

log = logging.getLogger(__name__)

_KEYS = {
    Level.PATIENT: "patient_id",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "sop_instance",
}
_NAMED = (Level.IMAGE, Level.SERIES, Level.STUDY, Level.PATIENT)
_WHO = "a rule"

Select = Callable[[ObjectScope], list[InstanceRef]]
"""Returns the stored objects that a scope means."""
RunScript = Callable[[str, ElementTable], ImportVerdict]
"""Runs import statements over an object, which is changed in place; raises RuleError."""
Fetch = Callable[[str, str, dict[int, str]], int]
"""Has a node send us what keys name at a level, by C-MOVE, and returns how many objects came;
raises PeerError, ConfigError, RuleError."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What carries the operations out."""

    select: Select
    caretaker: Callable[[], Caretaker]
    """Raises DgateError where no index is kept."""
    exporter: Exporter
    programs: Programs
    run_script: RunScript
    run_lua: Callable[[str, str], None]
    """Runs a Lua file with its command line; raises RuleError."""
    fetch: Fetch
    new_uid: Callable[[], str]
    temporary: Callable[[str], Path]
    """Returns an unused path with this extension."""

    def table(self) -> Mapping[str, Operation]:
        """Return the operations by their words."""
        return {
            "delete": self.delete,
            "merge": self.merge,
            "get": self.retrieve,
            "preretrieve": self.retrieve,
            "process": self.process,
            "submit": self.submit,
            "submit2": self.submit,
        }

    # delete

    def delete(self, request: Request, debt: Debt) -> Performed:
        """Delete what the request means; while deliveries of it are open it waits.

        Raises:
            Deferred: deliveries are open, or objects are still arriving.
        """
        deleter = self.caretaker().deleter
        level = _whole(request.scope)
        refs = self.select(request.scope)
        if not refs:
            return Performed(text="nothing to delete: no such object is stored")
        gone = 0
        try:
            if level is not None:
                key = getattr(request.scope, _KEYS[level])
                gone = _deleted(deleter, level, key, request.rule)
            else:
                for ref in refs:
                    gone += _deleted(deleter, Level.IMAGE, ref.sop_instance, request.rule)
        except (StillOwed, StillArriving) as exc:
            raise Deferred(f"{exc}") from exc
        return Performed(text=f"deleted {gone} object(s)")

    # merge

    def merge(self, request: Request, debt: Debt) -> Performed:
        """Give the selected series of a study one new series, with new UIDs for its objects."""
        refs = self.select(request.scope)
        series = frozenset(ref.series for ref in refs)
        if len(series) < 2:
            return Performed(text=f"nothing to merge: {len(series)} series")
        studies = {ref.study for ref in refs}
        if len(studies) > 1:
            raise RuleError("series of several studies cannot become one", where=request.rule)
        run_script, script = self.run_script, request.script

        def alter(table: ElementTable, ref: InstanceRef) -> bool:
            return run_script(script, table).outcome is Outcome.KEEP

        correction = Correction(
            studies.pop(),
            series=series,
            into_series=self.new_uid(),
            new_uids=True,
            event=Event.MERGE_SERIES,
            alter=alter if script else None,
        )
        changed = 0
        try:
            for step in self.caretaker().corrector.correct(
                correction, who=_WHO, why=f"merge by {request.rule}"
            ):
                if step.committed:
                    changed = step.objects - len(step.left_out)
        except StillOwed as exc:
            raise Deferred(f"{exc}") from exc
        return Performed(text=f"merged {len(series)} series, {changed} object(s)")

    # get, preretrieve

    def retrieve(self, request: Request, debt: Debt) -> Performed:
        """Have the node send us what the request means; converters do not see it."""
        scope = request.scope
        level = request.level.upper()
        if request.operation == "get":
            level = _query_level(scope)
        came = self.fetch(request.peer, level, keys_of(scope))
        return Performed(text=f"{came} object(s) came from {request.peer}")

    # process

    def process(self, request: Request, debt: Debt) -> Performed:
        """Run the program, or the Lua file; what it says of its end is only written down."""
        if request.lua_file:
            self.run_lua(request.lua_file, request.arguments[0] if request.arguments else "")
            return Performed(text=f"ran {request.lua_file}")
        status = self.programs.run(request.arguments)
        return Performed(text=f"ran {Path(request.arguments[0]).name}, exit status {status}")

    # submit

    def submit(self, request: Request, debt: Debt) -> Performed:
        """Put copies of the objects into a zip file and hand that to a program that sends it.

        Raises:
            RuleError: the program failed, or programs are switched off.
        """
        refs = self.select(request.scope)
        if not refs:
            return Performed(text="nothing to submit: no such object is stored")
        place = self.temporary(".zip")
        try:
            self._zip(place, refs, request.script)
            status = self.programs.run(_sending(request, place))
        finally:
            place.unlink(missing_ok=True)
        if status:
            raise RuleError(
                f"the zip file was not sent: exit status {status}",
                where=request.rule,
                remedy="see the log for what the program said, then `dgate queue retry`",
            )
        return Performed(text=f"submitted {len(refs)} object(s) to {request.peer}")

    def _zip(self, place: Path, refs: list[InstanceRef], script: str) -> None:
        run_script = self.run_script

        def rewrite(table: ElementTable) -> None:
            verdict = run_script(script, table)
            if verdict.outcome is not Outcome.KEEP:
                raise RuleError(verdict.reason or "the script refuses the object")

        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as bundle:
            for ref in refs:
                changed = rewrite if script else None
                with closing(self.exporter.open(ref, None, changed)) as outgoing:
                    uids = outgoing.sop_class, outgoing.sop_instance
                    with bundle.open(f"{outgoing.sop_instance}.dcm", "w") as file:
                        file.write(file_meta(*uids, outgoing.syntax))
                        for chunk in outgoing.chunks():
                            file.write(chunk)


def _query_level(scope: ObjectScope) -> str:
    """Return the level at which a scope is fetched (spec converters.md 8.6, execution)."""
    if scope.sop_instance or scope.image_type:
        return "IMAGE"
    if scope.series or scope.modality or scope.date or scope.series_description:
        return "SERIES"
    return "STUDY" if scope.study else "PATIENT"


def _whole(scope: ObjectScope) -> Level | None:
    """Return the level of which the scope means one whole entity, None where filters count."""
    if scope.date or scope.modality or scope.image_type or scope.series_description:
        return None
    return next((level for level in _NAMED if getattr(scope, _KEYS[level])), None)


def _deleted(deleter: Deleter, level: Level, key: str, rule: str) -> int:
    """Delete an entity and return how many objects that were; none where it has gone meanwhile."""
    gone = 0
    try:
        for progress in deleter.delete(level, key, who=_WHO, why=f"delete by {rule}"):
            gone = progress.images
    except NotThere:
        # What was to be reached is so: somebody else has deleted it, or corrected its IDs.
        log.info("%s wanted to delete what was gone already.", rule)
    return gone


def _sending(request: Request, place: Path) -> list[str]:
    """Return the program that sends the zip file, with its arguments."""
    if request.peer.startswith("-"):
        raise RuleError("a target that begins with - would be taken for an option")
    if request.operation == "submit":
        return ["pscp", "-pw", request.password, "-batch", str(place), request.peer]
    values = iter((str(place), request.peer))
    found = []
    for argument in request.arguments:
        while "%s" in argument:
            value = next(values, None)
            if value is None:
                break
            argument = argument.replace("%s", value, 1)
        found.append(argument)
    return found
