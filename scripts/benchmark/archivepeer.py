"""An archive that answers C-FIND: `python -m scripts.benchmark.archivepeer PORT DATABASE EVERY`.

It has what an index of dgate has, but of each EVERY-th object nothing. It tells numbers of objects
for studies and series, answers ranges of dates, and lists as much as it is asked for. On SIGTERM it
prints how many questions it was asked.
"""

from __future__ import annotations

import itertools
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dgate.config.settings import SopList
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
    STUDY_ROOT,
    STUDY_TIME,
)
from dgate.dicom.encode import QUERY_RETRIEVE_LEVEL, encode_data_set
from dgate.dicom.table import ElementTable
from dgate.net import Association, CommandField, Listener, Message, Policy, Router, Status, Terms

Row = dict[int, str | None]


@dataclass
class Archive:
    """What it has."""

    studies: dict[str, Row] = field(default_factory=dict)
    days: dict[str, list[str]] = field(default_factory=dict)
    """Studies by date."""
    series: dict[str, list[str]] = field(default_factory=dict)
    objects: dict[str, list[str]] = field(default_factory=dict)
    questions: int = 0

    def load(self, database: Path, every: int) -> None:
        """Read an index."""
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            for study, date, time, patient in connection.execute(
                "SELECT StudyInsta, StudyDate, StudyTime, PatientID FROM DICOMStudies"
            ):
                self.studies[study] = {STUDY_DATE: date, STUDY_TIME: time, PATIENT_ID: patient}
                self.days.setdefault(date or "", []).append(study)
            for study, series in connection.execute(
                "SELECT StudyInsta, SeriesInst FROM DICOMSeries"
            ):
                self.series.setdefault(study, []).append(series)
            rows = connection.execute("SELECT SeriesInst, SOPInstanc FROM DICOMImages ORDER BY 2")
            for number, (series, instance) in enumerate(rows, 1):
                if number % every:
                    self.objects.setdefault(series, []).append(instance)

    def handle(self, association: Association, message: Message) -> None:
        """Answer a C-FIND."""
        assert message.payload is not None
        self.questions += 1
        syntax = message.context.transfer_syntax
        table = ElementTable(message.payload.view(), syntax)
        keys = {tag: table.text(tag) for tag in table.tags()}
        for row in self._rows(keys):
            association.respond(message, Status.PENDING, data=[encode_data_set(row, syntax, "")])
        association.respond(message, Status.SUCCESS)

    def _rows(self, keys: dict[int, str]) -> Iterator[Row]:
        level = keys[QUERY_RETRIEVE_LEVEL]
        if level == "STUDY":
            yield from map(self._study, self._found(keys))
            return
        if level == "SERIES":
            for series in self.series.get(keys[STUDY], []):
                yield {STUDY: keys[STUDY], SERIES: series, OBJECTS_OF_SERIES: self._count([series])}
            return
        wanted = set(keys[SOP_INSTANCE].split("\\")) - {""}
        for instance in self.objects.get(keys[SERIES], []):
            if not wanted or instance in wanted:
                yield {SERIES: keys[SERIES], SOP_INSTANCE: instance, SOP_CLASS: "1.2.840.10008.5"}

    def _found(self, keys: dict[int, str]) -> list[str]:
        """Return the studies that match; a day is all that is asked for beside a UID."""
        if keys[STUDY]:
            return [keys[STUDY]] if keys[STUDY] in self.studies else []
        begin, dash, end = keys[STUDY_DATE].partition("-")
        end = end if dash else begin
        days = (day for day in self.days if begin <= day and (not end or day <= end))
        return list(itertools.chain.from_iterable(self.days[day] for day in days))

    def _study(self, study: str) -> Row:
        count = self._count(self.series.get(study, []))
        return {STUDY: study, ACCESSION: "", OBJECTS_OF_STUDY: count, **self.studies[study]}

    def _count(self, series: list[str]) -> str:
        return str(sum(len(self.objects.get(each, [])) for each in series))


def main() -> None:
    """Serve until SIGTERM."""
    port, database, every = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    archive = Archive()
    archive.load(database, every)
    router = Router({(CommandField.C_FIND_RQ, f"{STUDY_ROOT}.1"): archive.handle})
    listener = Listener("127.0.0.1", port, lambda: Terms(Policy(SopList()), router.run))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    listener.start()
    print("ready", flush=True)
    ended.wait()
    listener.stop(0.5)
    print(archive.questions, flush=True)


if __name__ == "__main__":
    main()
