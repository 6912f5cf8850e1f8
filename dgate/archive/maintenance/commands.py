"""The maintenance commands of the control socket, which offline commands run too (rulings.md 20).

Each takes a dictionary, checks it, and yields answers: `{"total": n}` and `{"done": n}` while it
works, `{"victim": ...}` for each patient of a clean-up, `{"problem": ...}` for each object that
does not move, `{"report": ...}` at the end. Without `apply` nothing changes. Runs in the caller's
thread; a caller that leaves ends the work between two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dgate.archive.devices import MEGABYTE
from dgate.archive.levels import PATIENT_NAME, Level
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.clean import NIGHTLY_MORE_MB, THRESHOLD_MORE_MB, Victim
from dgate.archive.maintenance.corrections import (
    BIRTH_DATE,
    SEX,
    Plan,
    series_uids,
)
from dgate.archive.maintenance.move_device import Moved
from dgate.config.layout import PATIENT_ID
from dgate.errors import DgateError
from dgate.ops.control import Answer, Command

_LEVELS = {level.value.lower(): level for level in Level}
_CHANGES = {"id": PATIENT_ID, "name": PATIENT_NAME, "birth_date": BIRTH_DATE, "sex": SEX}


def maintenance_commands(caretaker: Callable[[], Caretaker]) -> dict[str, Command]:
    """Return the commands; `caretaker` gives the tools that count now, or raises DgateError."""
    office = _Office(caretaker)
    return {
        "maintenance.delete": office.delete,
        "maintenance.clean": office.clean,
        "maintenance.move-device": office.move_device,
        "maintenance.correct": office.correct,
        "maintenance.restore": office.restore,
    }


class _Office:
    def __init__(self, caretaker: Callable[[], Caretaker]) -> None:
        self._caretaker = caretaker

    def delete(self, arguments: Answer) -> Iterator[Answer]:
        """Delete a patient, study, series or image."""
        deleter = self._caretaker().deleter
        level, key = _level(arguments), _text(arguments, "key")
        even_owed = bool(arguments.get("even_owed"))
        refs = deleter.find(level, key)
        extent = deleter.extent(level, key, refs)
        if not arguments.get("apply"):
            yield {"report": extent.as_dict()}
            return
        yield {"total": extent.images}
        images = size = waiting = 0
        who = _who(arguments)
        for progress in deleter.delete(
            level, key, who=who, why=f"dgate delete {level.value.lower()}", even_owed=even_owed
        ):
            images, size, waiting = progress.images, progress.size, progress.waiting
            yield {"done": images}
        report = {**extent.as_dict(), "images": images, "size": size, "waiting": waiting}
        yield {"report": report}

    def clean(self, arguments: Answer) -> Iterator[Answer]:
        """Delete least recent patients until enough is free."""
        caretaker = self._caretaker()
        cleaner = caretaker.cleaner
        device = arguments.get("device")
        device = None if device is None else str(device).upper()
        free_mb = arguments.get("free_mb")
        if free_mb is None:
            free_mb = self._default_mb(caretaker)
        if not isinstance(free_mb, int) or free_mb <= 0:
            raise DgateError("free_mb is not a number of megabytes")
        wanted = free_mb * MEGABYTE
        before = cleaner.free(device)
        gone = spared = size = 0
        if arguments.get("apply"):
            victims = cleaner.make_room(
                wanted, who=_who(arguments), why="dgate clean", device=device
            )
        else:
            victims = cleaner.would_go(wanted, device)
        for victim in victims:
            gone += not victim.spared
            spared += bool(victim.spared)
            size += 0 if victim.spared else victim.extent.size
            yield {"victim": _victim(victim)}
        free = cleaner.free(device) if arguments.get("apply") else before + size
        yield {
            "report": {
                "wanted": wanted,
                "before": before,
                "free": free,
                "patients": gone,
                "spared": spared,
                "size": size,
                "sort_problem": caretaker.lru.problem,
            }
        }

    def move_device(self, arguments: Answer) -> Iterator[Answer]:
        """Move objects from one device to another, or rename the device in the index."""
        mover = self._caretaker().mover
        source, target = _text(arguments, "source"), _text(arguments, "target")
        rename = bool(arguments.get("rename"))
        scope = None
        if arguments.get("level") is not None:
            scope = (_level(arguments), _text(arguments, "key"))
            self._caretaker().deleter.find(*scope)
        mover.check(source, target, rename=rename)
        total = mover.count(source, scope)
        yield {"total": total}
        moved = Moved()
        if arguments.get("apply"):
            with self._caretaker().journal.work(
                "rename device" if rename else "move",
                who=_who(arguments),
                why="dgate move-device",
                source=source,
                target=target,
                scope=None if scope is None else [scope[0].value, scope[1]],
                total=total,
            ) as result:
                steps = (
                    mover.rename(source, target) if rename else mover.move(source, target, scope)
                )
                for moved in steps:
                    result.update(moved.counts())
                    for problem in moved.problems:
                        yield {"problem": problem}
                    yield {"done": moved.objects + moved.skipped}
        yield {"report": {"total": total, **moved.counts()}}

    def correct(self, arguments: Answer) -> Iterator[Answer]:
        """Merge, split or change identities."""
        caretaker = self._caretaker()
        plan = self._plan(caretaker, arguments)
        report: dict[str, Any] = {
            "studies": [correction.study for correction in plan.corrections],
            "objects": plan.objects,
            "before": dict(plan.before),
            "after": dict(plan.after),
        }
        if not arguments.get("apply"):
            yield {"report": report}
            return
        yield {"total": plan.objects}
        done = left_out = 0
        for correction in plan.corrections:
            for step in caretaker.corrector.correct(
                correction,
                who=_who(arguments),
                why=plan.what,
                even_owed=bool(arguments.get("even_owed")),
            ):
                yield {"done": done + step.objects}
                if step.committed:
                    done += step.objects
                    left_out += len(step.left_out)
        yield {"report": {**report, "objects": done - left_out, "left_out": left_out}}

    def restore(self, arguments: Answer) -> Iterator[Answer]:
        """Take back what rules changed, by the record of change."""
        restorer = self._caretaker().restorer
        plan = restorer.plan(_level(arguments), _text(arguments, "key"))
        if not arguments.get("apply"):
            yield {"report": {"objects": list(restorer.preview(plan))}}
            return
        yield {"total": len(plan.refs)}
        done = 0
        for step in restorer.restore(
            plan, who=_who(arguments), even_owed=bool(arguments.get("even_owed"))
        ):
            yield {"done": done + step.objects}
            if step.committed:
                done += step.objects - len(step.left_out)
        yield {"report": {"restored": done}}

    def _plan(self, caretaker: Caretaker, arguments: Answer) -> Plan:
        planner, key = caretaker.planner, _text(arguments, "key")
        new_uids = bool(arguments.get("new_uids"))
        match arguments.get("operation"):
            case "merge-patient":
                return planner.merge_patient(key, _text(arguments, "into"), new_uids=new_uids)
            case "merge-study":
                return planner.merge_study(key, _text(arguments, "into"), new_uids=new_uids)
            case "merge-series":
                return planner.merge_series(key, _text(arguments, "into"), new_uids=new_uids)
            case "split-study":
                given = arguments.get("series")
                if not isinstance(given, list):
                    raise DgateError("series is missing")
                series = series_uids(map(str, given))
                return planner.split_study(key, series, new_uids=new_uids)
            case "correct-patient" | "correct-study" as operation:
                changes = {
                    tag: str(arguments[name])
                    for name, tag in _CHANGES.items()
                    if arguments.get(name) is not None
                }
                level = Level.PATIENT if operation == "correct-patient" else Level.STUDY
                return planner.correct(level, key, changes, new_uids=new_uids)
            case other:
                raise DgateError(f"there is no correction {other!r}")

    def _default_mb(self, caretaker: Caretaker) -> int:
        settings = caretaker.settings
        if settings.mag_device_threshold_mb:
            return settings.mag_device_threshold_mb + THRESHOLD_MORE_MB
        if settings.nightly_clean_threshold_mb:
            return settings.nightly_clean_threshold_mb + NIGHTLY_MORE_MB
        raise DgateError(
            "how much is to be free?",
            remedy="give --free MB, or set MAGDeviceThreshold or NightlyCleanThreshold",
        )


def _victim(victim: Victim) -> Answer:
    return {
        "patient_id": victim.patient_id,
        "spared": victim.spared,
        **victim.extent.as_dict(),
    }


def _level(arguments: Answer) -> Level:
    level = _LEVELS.get(str(arguments.get("level", "")).lower())
    if level is None:
        raise DgateError(f"there is no level {arguments.get('level')!r}")
    return level


def _text(arguments: Answer, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise DgateError(f"{name} is missing")
    return value


def _who(arguments: Answer) -> str:
    return str(arguments.get("who") or "somebody at the control socket")[:80]
