"""Background housekeeping: space is made when a device runs low, and by night (dicom-ini.md 6).

One thread that sleeps until it is rung for or the next hour of the night comes; it works whether or
not the log goes to a file, unlike the original's. What it does is in
`dgate.archive.maintenance.clean` and `move_device`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from dgate.archive.alarm import SpaceAlarm
from dgate.archive.devices import MEGABYTE
from dgate.archive.levels import Level
from dgate.archive.maintenance.caretaker import Caretaker
from dgate.archive.maintenance.clean import NIGHTLY_MORE_MB, THRESHOLD_MORE_MB, Victim
from dgate.clock import Clock
from dgate.errors import DgateError
from dgate.ops.rounds import Rounds

log = logging.getLogger(__name__)

CLEAN_MINUTE = 60
"""NightlyCleanThreshold is looked at at 01:00."""
IN_VAIN_S = 600.0
"""After a clean-up that did not free enough, the next one waits so long."""
LONGEST_WAIT_S = 3600.0
"""So that a changed clock or a machine that slept is noticed."""
DAY_S = 86400.0


class Housekeeper:
    """Makes space in the background."""

    def __init__(self, caretaker: Callable[[], Caretaker], alarm: SpaceAlarm, clock: Clock) -> None:
        """`caretaker` returns the tools of the configuration that counts now."""
        self._caretaker = caretaker
        self._alarm = alarm
        self._clock = clock
        self._rounds = Rounds(
            "housekeeping",
            self._step,
            "Keeping house failed unexpectedly.",
            trouble_s=LONGEST_WAIT_S,
            bell=alarm.bell,
        )
        # The rest belongs to the thread.
        self._due: dict[str, tuple[int, float]] = {}
        self._in_vain: dict[str, float] = {}

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    def apply(self, generation: object) -> None:
        """Look at the times and thresholds of a changed configuration."""
        self._rounds.wake()

    def stop(self) -> None:
        """End after the patient in hand; safe to call twice."""
        self._rounds.stop()

    # The thread.

    def _step(self) -> float:
        for device in sorted(self._alarm.take()):
            self._guarded(partial(self.clean_device, device))
        for job in self._jobs_due():
            self._guarded(job)
        return min(self._until_due(), LONGEST_WAIT_S)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except DgateError as exc:
            log.error("Making space failed: %s", exc)
        except Exception:
            # The thread must live, or the disk fills up with nobody to clean it.
            log.exception("Making space failed unexpectedly.")

    def _until_due(self) -> float:
        """Return the seconds until the next job of the night; far away when there is none."""
        self._plan()
        now = self._clock.now()
        return max(0.0, min((due - now for _, due in self._due.values()), default=DAY_S))

    def _plan(self) -> None:
        """Work out when each job that is wanted is due, where that is not known or has changed."""
        try:
            settings = self._caretaker().settings
        except DgateError as exc:
            log.debug("There is nothing to keep house in: %s", exc)
            self._due.clear()
            return
        wanted: dict[str, int] = {}
        if settings.nightly_clean_threshold_mb and not settings.ignore_mag_device_threshold:
            wanted["clean"] = CLEAN_MINUTE
        if settings.nightly_move_threshold_mb and settings.nightly_move_target:
            wanted["move"] = settings.nightly_move_minute
        if settings.change_log:
            wanted["forget"] = CLEAN_MINUTE
        now = self._clock.now()
        for name in [name for name in self._due if name not in wanted]:
            del self._due[name]
        for name, minute in wanted.items():
            known = self._due.get(name)
            # Farther away than a day: the clock was set back.
            if known is None or known[0] != minute or known[1] - now > DAY_S + LONGEST_WAIT_S:
                self._due[name] = (minute, next_time(now, minute))

    def _jobs_due(self) -> list[Callable[[], None]]:
        now = self._clock.now()
        jobs = {
            "clean": self.clean_by_night,
            "move": self.move_by_night,
            "forget": self.forget_by_night,
        }
        found = []
        for name, (minute, due) in list(self._due.items()):
            if due <= now:
                self._due[name] = (minute, next_time(now, minute))
                found.append(jobs[name])
        return found

    # The jobs.

    def clean_device(self, device: str) -> None:
        """Clean a device that fell below MAGDeviceThreshold."""
        caretaker = self._caretaker()
        threshold = caretaker.settings.mag_device_threshold_mb
        if not threshold or self._clock.monotonic() < self._in_vain.get(device, 0.0):
            return
        if caretaker.cleaner.free(device) >= threshold * MEGABYTE:
            return
        wanted = (threshold + THRESHOLD_MORE_MB) * MEGABYTE
        self._clean(caretaker, wanted, f"MAGDeviceThreshold = {threshold}", device)

    def clean_by_night(self) -> None:
        """Look at NightlyCleanThreshold."""
        caretaker = self._caretaker()
        threshold = caretaker.settings.nightly_clean_threshold_mb
        if not threshold or caretaker.cleaner.free() >= threshold * MEGABYTE:
            return
        wanted = (threshold + NIGHTLY_MORE_MB) * MEGABYTE
        self._clean(caretaker, wanted, f"NightlyCleanThreshold = {threshold}", None)

    def move_by_night(self) -> None:
        """Move least recent patients from devices below NightlyMoveThreshold to the target."""
        caretaker = self._caretaker()
        settings, cleaner = caretaker.settings, caretaker.cleaner
        target = settings.nightly_move_target
        threshold = settings.nightly_move_threshold_mb
        wanted = (threshold + NIGHTLY_MORE_MB) * MEGABYTE
        for device in caretaker.devices:
            if device.name == target or cleaner.free(device.name) >= threshold * MEGABYTE:
                continue
            moved = 0
            for patient_id in caretaker.lru.patients(device.name):
                if self._rounds.is_stopping() or cleaner.free(device.name) >= wanted:
                    break
                moved += self._move(caretaker, device.name, target, patient_id)
            log.info("%d objects moved from %s to %s by night.", moved, device.name, target)

    def forget_by_night(self) -> None:
        """Remove records of change that are older than ChangeLogDays."""
        caretaker = self._caretaker()
        days = caretaker.settings.change_log_days
        gone = caretaker.restorer.prune(days)
        if gone:
            log.info("%d records of change older than %d days were removed.", gone, days)

    def _move(self, caretaker: Caretaker, source: str, target: str, patient_id: str) -> int:
        scope = (Level.PATIENT, patient_id)
        with caretaker.journal.work(
            "move",
            who="the server",
            why=f"NightlyMoveThreshold = {caretaker.settings.nightly_move_threshold_mb}",
            source=source,
            target=target,
            patient=patient_id,
        ) as result:
            result["objects"] = 0
            steps = caretaker.mover.move(source, target, scope, stopping=self._rounds.is_stopping)
            for step in steps:
                result.update(step.counts())
        return int(result["objects"])

    def _clean(self, caretaker: Caretaker, wanted: int, why: str, device: str | None) -> None:
        if caretaker.lru.problem:
            log.warning("%s; the AccessTime counts.", caretaker.lru.problem)
        gone: list[Victim] = []
        spared = 0
        for victim in caretaker.cleaner.make_room(
            wanted, who="the server", why=why, device=device, stopping=self._rounds.is_stopping
        ):
            if victim.spared:
                spared += 1
            else:
                gone.append(victim)
        where = device or "the storage devices"
        log.info(
            "%s: %d patients with %d objects (%d MB) were deleted from %s, %d were spared.",
            why,
            len(gone),
            sum(victim.extent.images for victim in gone),
            sum(victim.extent.size for victim in gone) // MEGABYTE,
            where,
            spared,
        )
        if caretaker.cleaner.free(device) < wanted and not self._rounds.is_stopping():
            self._in_vain[device or ""] = self._clock.monotonic() + IN_VAIN_S
            log.error(
                "%s: not enough could be deleted from %s. %d patients were spared, because "
                "deliveries are open or they are new: see `dgate clean` and `dgate queue list`.",
                why,
                where,
                spared,
            )


def next_time(now: float, minute: int) -> float:
    """Return when the local time is next so many minutes after midnight, later than `now`."""
    local = time.localtime(now)
    today = (local.tm_year, local.tm_mon, local.tm_mday)
    for days in range(3):
        # mktime sorts out months and the hour that a change of summer time takes or gives.
        when = time.mktime((*today[:2], today[2] + days, minute // 60, minute % 60, 0, 0, 0, -1))
        if when > now:
            return when
    return now + DAY_S
