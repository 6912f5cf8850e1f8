"""The side table of searches, when another program has written the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.fold import has_form
from dgate.archive.folding import Folding
from dgate.archive.levels import Level
from dgate.archive.query import Finder, QueryKey
from tests.archive.database_kit import Archive, image, open_archive, setup

NAME, ID, STUDY = 0x00100010, 0x00100020, 0x0020000D


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Return an archive that dgate has opened before, with what another program did since."""
    settings = setup(tmp_path)
    first = open_archive(settings)
    for number, name in enumerate(("Müller^Jürgen", "SMITH^JOHN", "Weiß^Eva^^^", "Żak=扎克")):
        first.store(
            image(
                SpecificCharacterSet="ISO_IR 192",
                PatientName=name,
                PatientID=f"P{number}",
                StudyInstanceUID=f"1.2.{number}",
                SeriesInstanceUID=f"1.2.{number}.1",
                SOPInstanceUID=f"1.2.{number}.1.1",
            )
        )
    first.close()
    connection = sqlite3.connect(tmp_path / "index.db3")
    latin = "Grün^Anna".encode("latin-1")
    for table in ("DICOMPatients", "DICOMStudies"):
        connection.execute(
            f"UPDATE {table} SET PatientNam = CAST(? AS TEXT) WHERE PatientID = 'P1'", (latin,)
        )
        connection.execute(f"UPDATE {table} SET PatientNam = 'Meier' WHERE PatientID = 'P0'")
    connection.commit()
    connection.close()
    archive = open_archive(settings)
    yield archive
    archive.close()


def patients(archive: Archive, name: str) -> list[str | None]:
    """Return the patients with this name."""
    finder = Finder(archive.database, archive.schema, archive.settings)
    keys = [QueryKey(NAME, name), QueryKey(ID)]
    return sorted(str(answer[ID]) for answer in finder.find(Level.PATIENT, keys))


SEARCHES = [
    ("grun^anna", ["P1"]),
    ("Grün*", ["P1"]),
    ("GR?N^ANNA", ["P1"]),
    ("Müller^Jürgen", []),
    ("muller*", []),
    ("meier", ["P0"]),
    ("weiss^eva", ["P2"]),
    ("Weiß^Eva", ["P2"]),
    ("扎克", ["P3"]),
    ("zak", ["P3"]),
    ("*", ["P0", "P1", "P2", "P3"]),
    ("a*b?c[d", []),
]


@pytest.mark.parametrize(("name", "found"), SEARCHES)
def test_search_is_right_before_the_side_table_is(
    archive: Archive, name: str, found: list[str]
) -> None:
    assert not archive.schema.folding.complete

    assert patients(archive, name) == found


@pytest.mark.parametrize(("name", "found"), SEARCHES)
def test_search_is_right_when_the_side_table_is_complete(
    archive: Archive, name: str, found: list[str]
) -> None:
    folding = Folding(archive.database, archive.schema, archive.writer)
    folding.start()
    assert folding.wait(120)
    folding.stop()

    assert patients(archive, name) == found


def test_second_look_finds_nothing_to_do(archive: Archive) -> None:
    folding = Folding(archive.database, archive.schema, archive.writer)

    entered, removed = folding.reconcile()

    # Each name stands in two tables.
    assert (entered, removed) == (2, 2)
    assert folding.reconcile() == (0, 0)


def test_database_that_is_new_needs_no_look(tmp_path: Path) -> None:
    archive = open_archive(setup(tmp_path))

    assert archive.schema.folding.complete
    archive.close()


def test_keys_in_latin_1_are_linked_byte_for_byte(tmp_path: Path) -> None:
    """A patient ID that is no UTF-8: also the last row of a page, which must not come again."""
    settings = setup(tmp_path)
    open_archive(settings).close()
    connection = sqlite3.connect(tmp_path / "index.db3")
    key = "Ä1".encode("latin-1")
    connection.execute(
        "INSERT INTO DICOMPatients (PatientID, PatientNam) "
        "VALUES (CAST(? AS TEXT), CAST(? AS TEXT))",
        (key, "Jäger".encode("latin-1")),
    )
    connection.execute("DROP TABLE dgate_folded")
    connection.commit()
    connection.close()

    archive = open_archive(settings)

    assert patients(archive, "jager") == ["Ä1"]
    assert Folding(archive.database, archive.schema, archive.writer).reconcile() == (0, 0)
    archive.close()


def test_unexpected_error_is_logged_and_it_is_tried_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dgate.archive.folding.TROUBLE_S", 0.0)
    folding = Folding(archive.database, archive.schema, archive.writer)
    reconcile, failures = folding.reconcile, [RuntimeError("as a test wants it")]

    def fail_once() -> tuple[int, int]:
        if failures:
            raise failures.pop()
        return reconcile()

    monkeypatch.setattr(folding, "reconcile", fail_once)
    folding.start()

    assert folding.wait(120)
    folding.stop()
    assert "Bringing the side table up to date failed unexpectedly." in caplog.text


def test_stop_ends_the_thread_at_once(archive: Archive) -> None:
    folding = Folding(archive.database, archive.schema, archive.writer)
    folding.stop()

    folding.start()
    folding.stop()

    assert not archive.schema.folding.complete


@pytest.mark.parametrize(
    ("raw", "wanted", "found"),
    [
        (b"M\xfcller", "muller", 1),
        ("Müller".encode(), "mu*", 1),
        ("Müller".encode(), "m?ller", 1),
        ("Müller".encode(), "m.ller", 0),
        (b"plain", "plain", 0),
        (None, "x", 0),
        (b"", "*", 0),
    ],
)
def test_function_for_sqlite_asks_what_the_side_table_would_be_asked(
    raw: bytes | None, wanted: str, found: int
) -> None:
    assert has_form(raw, 1, wanted) == found
