"""Parts of an archive that one question to a node asks for: days, times of a day, patients.

A node that lists only so many studies is asked for smaller and smaller parts, until each is listed
whole: for half of the days, then for half of the time of a day by Study Time, then by the beginning
of the Patient ID. Pure values.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dgate.delivery.inquiry import PATIENT_ID, STUDY_DATE, STUDY_TIME
from dgate.delivery.reconcile.windows import Window

DAY_S = 86400
LONGEST_PREFIX = 12
"""Letters of a Patient ID by which is asked at most."""
_BEGINNINGS = string.digits + string.ascii_uppercase + string.ascii_lowercase + "-./#+@:,;=&()$!"
"""What may follow in a Patient ID. Wildcards and the backslash cannot be asked for (PS3.4
C.2.2.2.4), nor the wildcards of SQL, `_` and `%`, which many archives take for any sign."""


@dataclass(frozen=True, slots=True)
class Part:
    """Studies of some days; of one day, perhaps those of some time or of some patients only."""

    window: Window
    begin_s: int = 0
    end_s: int = DAY_S
    """From and before which second of the day; all of it means studies without a time too."""
    untimed: bool = False
    """Only studies without a Study Time. No question asks for these alone."""
    prefix: str = ""
    """How the Patient ID begins."""
    exact: bool = False
    """The Patient ID is `prefix`, and no longer."""

    @property
    def is_day(self) -> bool:
        """Tell whether it is of a single day, which can be divided by time and patient only."""
        return self.window.first is not None and self.window.first == self.window.last

    @property
    def is_timed(self) -> bool:
        """Tell whether it is of some time of the day."""
        return not self.untimed and self.end_s - self.begin_s < DAY_S

    @property
    def keys(self) -> dict[int, str]:
        """What a question has for it (PS3.4 C.2.2.2)."""
        found = {STUDY_DATE: self.window.key}
        if self.is_timed:
            found[STUDY_TIME] = f"{_clock(self.begin_s)}-{_clock(self.end_s - 1)}.999999"
        if self.prefix:
            found[PATIENT_ID] = self.prefix if self.exact else f"{self.prefix}*"
        return found

    def holds(self, date: str, time: str, patient_id: str) -> bool:
        """Tell whether a study belongs to it. One whose date is not told is believed."""
        return (
            (not date or self.window.holds(date))
            and self._holds_time(seconds_of(time))
            and self._holds_patient(patient_id)
        )

    def is_stray(self, date: str, time: str, patient_id: str) -> bool:
        """Tell whether an answer with these values shows that the node took no notice of a key."""
        seconds = seconds_of(time)
        if date and not self.window.holds(date):
            return True
        if self.is_timed and seconds is not None and not self._holds_time(seconds):
            return True
        # Others may take no notice of letter case.
        return not patient_id.lower().startswith(self.prefix.lower())

    def _holds_time(self, seconds: int | None) -> bool:
        if self.untimed:
            return seconds is None
        if seconds is None:
            return not self.is_timed
        return self.begin_s <= seconds < self.end_s

    def _holds_patient(self, patient_id: str) -> bool:
        if self.exact:
            return patient_id == self.prefix
        return patient_id.startswith(self.prefix)

    def by_days(self) -> list[Part]:
        """Return halves of its days; empty for a single day."""
        halves = self.window.halves()
        return [] if halves is None else [Part(half) for half in halves]

    def by_time(self) -> list[Part]:
        """Return halves of its time of the day; empty where it is a second, or not of one day."""
        if not self.is_day or self.untimed or self.prefix or self.end_s - self.begin_s < 2:
            return []
        middle = (self.begin_s + self.end_s) // 2
        return [replace(self, end_s=middle), replace(self, begin_s=middle)]

    def without_time(self) -> Part:
        """Return what no time of the day holds."""
        return replace(self, untimed=True)

    def by_patient(self) -> list[Part]:
        """Return parts by the next letter of the Patient ID; empty where it is long enough."""
        if self.exact or len(self.prefix) >= LONGEST_PREFIX:
            return []
        letters = _BEGINNINGS + " " if self.prefix else _BEGINNINGS
        found = [replace(self, prefix=self.prefix + letter) for letter in letters]
        if self.prefix:
            found.append(replace(self, exact=True))
        return found

    def in_words(self) -> str:
        """Return which studies these are."""
        said = f"studies of {self.window.key}"
        if self.untimed:
            said += " without a study time"
        elif self.is_timed:
            said += f" from {_clock(self.begin_s)} to {_clock(self.end_s - 1)}"
        if self.prefix:
            begin = "is" if self.exact else "begins with"
            said += f" of patients whose ID {begin} {self.prefix!r}"
        return said


def is_usual(patient_id: str) -> bool:
    """Tell whether a Patient ID is in the parts of `Part.by_patient`, however far it is divided."""
    return bool(patient_id) and not set(patient_id) - set(_BEGINNINGS + " ")


def is_in_one(parts: Sequence[Part], patient_id: str) -> bool:
    """Tell whether a patient's studies are in one of the parts that `Part.by_patient` returned."""
    return any(part._holds_patient(patient_id) for part in parts)


def seconds_of(time: str) -> int | None:
    """Return the second of the day of a time (PS3.5 6.2, TM, also as early systems wrote it with
    colons); None when it is none."""
    digits = time.strip(" \0").replace(":", "").partition(".")[0]
    if len(digits) not in (2, 4, 6) or not digits.isascii() or not digits.isdecimal():
        return None
    hour, minute, second = (int(digits[start : start + 2] or 0) for start in (0, 2, 4))
    if hour > 23 or minute > 59 or second > 60:
        return None
    return hour * 3600 + minute * 60 + min(second, 59)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
