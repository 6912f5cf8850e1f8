"""A node that answers C-FIND in ways of its own, as nodes do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dgate.delivery.inquiry import (
    ACCESSION,
    OBJECTS_OF_SERIES,
    OBJECTS_OF_STUDY,
    PATIENT_ID,
    SERIES,
    SOP_CLASS,
    SOP_INSTANCE,
    STUDY,
    STUDY_DATE,
    STUDY_TIME,
)
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.net import Association, Message, Status
from tests.net.kit import CT


@dataclass
class Odd:
    """A node with studies, and its ways to answer about them."""

    studies: dict[str, tuple[str, dict[str, list[str]]]] = field(default_factory=dict)
    """By UID: the date, and the objects by series."""
    limit: int | None = None
    """It answers no more than so many matches..."""
    final: int = Status.SUCCESS
    """... and says so by this status."""
    counts: bool = True
    series_counts: bool = True
    ranges: str = "match"
    """`ignore` or `nothing`: what a range of dates leads to."""
    pad: str = ""
    times: dict[str, str] = field(default_factory=dict)
    """Study times by UID; without one there is none."""
    patients: dict[str, str] = field(default_factory=dict)
    """Patient IDs by UID."""
    heeds_time: bool = True
    heeds_patient: bool = True
    ignores_days: bool = False
    """It takes no notice of single dates, either."""
    ignores_uids: bool = False
    refuses: bool = False
    """It refuses a question that has more matches than `limit`, and lists none."""
    knows_lists: bool = True
    """It takes several UIDs in one question."""
    broken_series: frozenset[str] = frozenset()
    """Studies whose series cannot be asked for."""
    count: int | None = None
    """This many objects it says that everything has."""
    repeats: int = 1
    """So often it lists each study."""
    asked: list[dict[int, str]] = field(default_factory=list)

    def add(
        self, study: str, date: str, objects: int = 2, time: str = "", patient: str = "THERE"
    ) -> None:
        """Give it a study of one series."""
        series = f"{study}.1"
        self.times[study], self.patients[study] = time, patient
        self.studies[study] = date, {series: [f"{series}.{n + 1}" for n in range(objects)]}

    def handle(self, association: Association, message: Message) -> None:
        """Answer a C-FIND."""
        assert message.payload is not None
        syntax = message.context.transfer_syntax
        table = ElementTable(message.payload.view(), syntax)
        keys = {tag: table.text(tag) for tag in table.tags()}
        self.asked.append(keys)
        found = self.rows(keys)
        if keys.get(STUDY) in self.broken_series and keys[QUERY_RETRIEVE_LEVEL] == "SERIES":
            association.respond(message, Status.UNABLE_TO_PROCESS, comment="broken")
            return
        is_cut = self.limit is not None and len(found) > self.limit
        if is_cut and self.refuses:
            association.respond(message, self.final, comment="too many")
            return
        for row in found[: self.limit]:
            association.respond(message, Status.PENDING, data=[encode_data_set(row, syntax, "")])
        association.respond(message, self.final if is_cut else Status.SUCCESS)

    def rows(self, keys: dict[int, str]) -> list[dict[int, Any]]:
        """Return what matches."""
        level = keys[QUERY_RETRIEVE_LEVEL]
        if level == "STUDY":
            return [
                self._study(uid)
                for uid, (date, _) in self.studies.items()
                for _ in range(self.repeats)
                if (self.ignores_uids or keys.get(STUDY, "") in ("", uid))
                and self._is_of(date, keys.get(STUDY_DATE, ""))
                and self._is_at(self.times.get(uid, ""), keys.get(STUDY_TIME, ""))
                and self._is_patient(self.patients.get(uid, "THERE"), keys.get(PATIENT_ID, ""))
            ]
        _, series = self.studies.get(keys[STUDY], ("", {}))
        if level == "SERIES":
            return [
                {
                    STUDY: keys[STUDY],
                    SERIES: uid + self.pad,
                    OBJECTS_OF_SERIES: self._count(len(objects)) if self.series_counts else None,
                }
                for uid, objects in series.items()
            ]
        wanted = keys.get(SOP_INSTANCE, "")
        return [
            {SERIES: keys[SERIES], SOP_INSTANCE: uid + self.pad, SOP_CLASS: CT}
            for uid in series.get(keys[SERIES], [])
            if not wanted or uid in (wanted.split("\\") if self.knows_lists else [wanted])
        ]

    def _study(self, uid: str) -> dict[int, Any]:
        date, series = self.studies[uid]
        count = sum(map(len, series.values()))
        return {
            STUDY: uid + self.pad,
            STUDY_DATE: date,
            STUDY_TIME: self.times.get(uid, ""),
            PATIENT_ID: self.patients.get(uid, "THERE"),
            ACCESSION: "A1",
            OBJECTS_OF_STUDY: self._count(count),
        }

    def _count(self, objects: int) -> str | None:
        if not self.counts:
            return None
        return str(objects if self.count is None else self.count)

    def _is_of(self, date: str, wanted: str) -> bool:
        if not wanted:
            return True
        if "-" not in wanted:
            return self.ignores_days or date == wanted
        if self.ranges != "match":
            return self.ranges == "ignore"
        begin, _, end = wanted.partition("-")
        return bool(date) and date >= begin and (not end or date <= end)

    def _is_at(self, time: str, wanted: str) -> bool:
        if not wanted or not self.heeds_time:
            return True
        begin, _, end = wanted.partition("-")
        return bool(time) and begin <= time <= end

    def _is_patient(self, patient: str, wanted: str) -> bool:
        if not wanted or not self.heeds_patient:
            return True
        return patient.startswith(wanted[:-1]) if wanted.endswith("*") else patient == wanted
