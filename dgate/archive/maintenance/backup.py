"""A copy of the index database, whole and consistent, also while a server writes it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dgate.archive.database import Database
from dgate.disk import sync_folder
from dgate.errors import DgateError


def back_up(database: Database, target: Path) -> int:
    """Copy an SQLite database into a new file, synced; returns its bytes.

    A crash leaves a part of the copy, under the name of the target with `.part`.

    Raises:
        DgateError: it is no SQLite file, or the copy cannot be made.
    """
    if database.path is None:
        raise DgateError(
            "only an SQLite database can be copied by dgate",
            where=database.location,
            remedy="make a dump with pg_dump or mariadb-dump, then use --yes",
        )
    if target.exists():
        raise DgateError("the file exists already", where=str(target), remedy="name a new one")
    part = target.with_name(target.name + ".part")
    source = f"file:{quote(str(database.path.absolute()))}?mode=rw"
    try:
        part.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(source, uri=True, timeout=10)) as opened,
            closing(sqlite3.connect(part)) as copy,
        ):
            # In one step, so that no writer in between makes it begin again.
            opened.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(target)
        sync_folder(target.absolute().parent)
    except (sqlite3.Error, OSError) as exc:
        raise DgateError(f"the database could not be copied: {exc}", where=str(target)) from exc
    return target.stat().st_size
