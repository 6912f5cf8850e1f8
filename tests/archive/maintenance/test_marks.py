"""How far a rebuild has come, in the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive.maintenance.marks import Mark, Marks, Tally
from tests.archive.database_kit import open_archive, setup


@pytest.mark.parametrize("place", ["", "a/b.dcm", "M\udcfcller/x.dcm", 'odd"name\\.v2', "日本.dcm"])
def test_mark_comes_back_as_it_was_whatever_the_file_is_called(tmp_path: Path, place: str) -> None:
    archive = open_archive(setup(tmp_path))
    marks = Marks(archive.database)
    mark = Mark(place, Tally(seen=5, entered=3, refused=2), 1_700_000_000.5)

    archive.writer.transact(lambda tx: marks.write(tx, "MAG0:", Mark("old", Tally(), 1.0)))
    archive.writer.transact(lambda tx: marks.write(tx, "MAG0:", mark))

    assert archive.writer.transact(lambda tx: marks.read(tx, "MAG0:")) == mark
    assert archive.writer.transact(lambda tx: marks.read(tx, "MAG1:")) is None
    archive.writer.transact(lambda tx: marks.remove(tx, ["MAG0:"]))
    assert archive.writer.transact(lambda tx: marks.read(tx, "MAG0:")) is None
    archive.close()


def test_tallies_add_up() -> None:
    total = Tally(seen=1, known=1)

    total.add(Tally(seen=2, refused=2))

    assert total == Tally(seen=3, known=1, refused=2)
