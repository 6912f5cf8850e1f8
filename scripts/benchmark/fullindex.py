"""Fills an index with rows, as an archive that has been in use for long has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.generate import UID_ROOT

PER_SERIES = 100


def fill_index(database: Path, count: int) -> None:
    """Multiply the one object that the index holds until there are so many more.

    Their files do not exist; starting a server must not depend on looking at them.
    """
    series = count // PER_SERIES
    with sqlite3.connect(database) as connection:
        _multiply(connection, "DICOMPatients", series, {"PatientID": _patient})
        _multiply(connection, "DICOMStudies", series, {"StudyInsta": _study, "PatientID": _patient})
        _multiply(
            connection,
            "DICOMSeries",
            series,
            {"SeriesInst": _series, "StudyInsta": _study, "SeriesPat": _patient},
        )
        _multiply(
            connection,
            "DICOMImages",
            count,
            {
                "SOPInstanc": lambda number: f"{UID_ROOT}.77.4.{number}",
                "SeriesInst": lambda number: _series(number // PER_SERIES),
                "ImagePat": lambda number: _patient(number // PER_SERIES),
                "ObjectFile": lambda number: f"{number // PER_SERIES}/{number}.dcm",
            },
        )
    connection.close()


def fill_studies(
    database: Path, studies: int, per_study: int, values: dict[str, Callable[[int], str]]
) -> None:
    """Multiply the one object that the index holds to studies of one series each.

    `values` gives columns of patient and study, by the number of the study.
    """
    patient = values["PatientID"]
    first = 10_000_000
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA cache_size = -500000")
        _multiply(
            connection,
            "DICOMPatients",
            studies,
            {name: values[name] for name in ("PatientID", "PatientNam")},
        )
        study = values | {"StudyInsta": lambda number: _study(first + number)}
        _multiply(connection, "DICOMStudies", studies, study)
        _multiply(
            connection,
            "DICOMSeries",
            studies,
            {
                "SeriesInst": lambda number: _series(first + number),
                "StudyInsta": lambda number: _study(first + number),
                "SeriesPat": patient,
            },
        )
        _multiply(
            connection,
            "DICOMImages",
            studies * per_study,
            {
                "SOPInstanc": lambda number: f"{UID_ROOT}.77.4.{first + number}",
                "SeriesInst": lambda number: _series(first + number // per_study),
                "ImagePat": lambda number: patient(number // per_study),
                "ObjectFile": lambda number: f"{number // per_study}/{number}.dcm",
            },
        )
    connection.close()


def _patient(number: int) -> str:
    return f"FULL{number:06d}"


def _study(number: int) -> str:
    return f"{UID_ROOT}.77.2.{number}"


def _series(number: int) -> str:
    return f"{UID_ROOT}.77.3.{number}"


def _multiply(
    connection: sqlite3.Connection,
    table: str,
    count: int,
    changed: dict[str, Callable[[int], str]],
) -> None:
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = list(connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone())
    places = {names.index(name): make for name, make in changed.items()}
    marks = ",".join("?" * len(names))
    connection.executemany(
        f"INSERT INTO {table} VALUES ({marks})",
        (
            [
                places[place](number) if place in places else value
                for place, value in enumerate(values)
            ]
            for number in range(count)
        ),
    )
