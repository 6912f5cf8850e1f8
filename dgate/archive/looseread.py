"""Reading a DICOM file that is not one of the archive's, for scripts and tools.

Not for stored objects (`dgate.archive.export`). Any thread; constant memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from dgate.archive.files import FileReader
from dgate.dicom.part10 import read_meta
from dgate.dicom.table import ElementTable
from dgate.errors import StoreError

LOADED_BYTES = 4 << 20
"""Files up to this size are held in memory."""


def read_file(path: Path, temp_dir: Path | None) -> ElementTable:
    """Return the object in a file; a long one lies in a copy without a name, on `temp_dir`.

    Others may cut the file short at any moment, and to look at a page of a mapping that is gone
    would kill the process: so only the copy is mapped.

    Raises:
        NotDicom: it is not DICOM.
        StoreError: it cannot be read.
    """
    try:
        reader = FileReader.of(str(path))
        try:
            if reader.size > LOADED_BYTES:
                copy = _copied(path, temp_dir)
                reader.close()
                reader = copy
            view = reader.view()
        finally:
            reader.close()
    except OSError as exc:
        raise StoreError(exc.strerror or str(exc), where=str(path)) from exc
    meta = read_meta(view)
    return ElementTable(view[meta.data_offset :], meta.syntax)


def _copied(path: Path, temp_dir: Path | None) -> FileReader:
    if temp_dir is not None:
        temp_dir.mkdir(parents=True, exist_ok=True)
    with (
        path.open("rb") as source,
        tempfile.TemporaryFile(dir=temp_dir, buffering=0) as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
        return FileReader(os.dup(target.fileno()))
