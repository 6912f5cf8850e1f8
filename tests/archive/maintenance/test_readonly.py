"""A database opened without leaving a trace, and the comparison with dicom.sql."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dgate.archive.database import Database
from dgate.archive.levels import Level
from dgate.archive.maintenance.backup import back_up
from dgate.archive.maintenance.catalog import read_catalog
from dgate.archive.maintenance.readonly import is_with_log, open_read_only
from dgate.config.layout import default_layout
from dgate.config.settings import Engine, Settings, default_settings
from dgate.errors import DgateError
from tests.original import build


def settings_of(folder: Path, database: Path) -> Settings:
    """Return settings for a database."""
    return default_settings(folder, engine=Engine.SQLITE, sql_server=str(database))


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all files."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_reading_leaves_no_trace(tmp_path: Path, mode: str) -> None:
    site = build(tmp_path / "site")
    with sqlite3.connect(site.database) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.close()
    before = state(site.folder)
    settings = settings_of(site.folder, site.database)

    with open_read_only(settings, in_use=False) as opened:
        (count,) = opened.connection.execute("SELECT count(*) FROM DICOMImages").fetchone()
        with pytest.raises(sqlite3.OperationalError, match="read"):
            opened.connection.execute("DELETE FROM DICOMImages")

    assert count == 16
    assert opened.note == ""
    assert state(site.folder) == before
    assert is_with_log(site.database) is (mode == "WAL")


def test_log_that_was_left_behind_is_read_from_a_copy(tmp_path: Path) -> None:
    site = build(tmp_path / "site")
    writer = sqlite3.connect(site.database)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("DELETE FROM DICOMImages WHERE ImagePat = 'P2'")
    writer.commit()
    settings = settings_of(site.folder, site.database)
    before = state(site.folder)

    with open_read_only(settings, in_use=False) as opened:
        (count,) = opened.connection.execute("SELECT count(*) FROM DICOMImages").fetchone()

    assert count == 12
    assert "a copy of it was read" in opened.note
    assert state(site.folder) == before
    writer.close()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no database to read"), (b"text" * 30, "not an SQLite")]
)
def test_what_is_no_database_is_an_error(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "x.db3"
    if content is not None:
        path.write_bytes(content)

    opening = open_read_only(settings_of(tmp_path, path), in_use=False)

    with pytest.raises(DgateError, match=message), opening:
        pass


def test_catalog_gives_the_names_as_the_database_spells_them(tmp_path: Path) -> None:
    site = build(tmp_path / "site")
    with sqlite3.connect(site.database) as connection:
        connection.execute("ALTER TABLE DICOMStudies ADD COLUMN Ward varchar(16)")
    connection.close()
    settings = settings_of(site.folder, site.database)

    with open_read_only(settings, in_use=False) as opened:
        layout = default_layout(10, 0)
        catalog = read_catalog(opened.connection, opened.database, layout, settings)

    assert catalog.keyed
    assert catalog.schema.table(Level.IMAGE).key == '"SOPInstanc"'
    assert catalog.missing_indices == []
    assert {one.table: one.extra for one in catalog.differences if one.extra} == {
        "DICOMStudies": ["Ward"]
    }


def test_backup_is_whole_while_somebody_writes(tmp_path: Path) -> None:
    site = build(tmp_path / "site")
    writer = sqlite3.connect(site.database)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO UIDMODS (OldUID) VALUES ('1')")
    writer.commit()
    writer.execute("INSERT INTO UIDMODS (OldUID) VALUES ('not committed')")
    database = Database(settings_of(site.folder, site.database))

    size = back_up(database, tmp_path / "copy.db3")
    writer.close()

    assert size == (tmp_path / "copy.db3").stat().st_size
    with sqlite3.connect(tmp_path / "copy.db3") as copy:
        assert copy.execute("SELECT OldUID FROM UIDMODS").fetchall() == [("1",)]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert list(tmp_path.glob("*.part*")) == []
    with pytest.raises(DgateError, match="exists already"):
        back_up(database, tmp_path / "copy.db3")
    with pytest.raises(DgateError, match="could not be copied"):
        back_up(database, tmp_path / "none" / "copy.db3")
