"""Reading a DICOM file that is not one of the archive's, for scripts and tools.

Not for stored objects (`dgate.archive.export`). Any thread; constant memory.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dgate.archive.export import read_head
from dgate.archive.files import FileReader
from dgate.dicom.filedata import as_buffer
from dgate.dicom.table import ElementTable
from dgate.errors import StoreError

LOADED_BYTES = 4 << 20
"""Files up to this size are held in memory."""


def read_file(path: Path, temp_dir: Path | None) -> ElementTable:
    """Return the object in a file as it is now, whatever others do to the file later.

    Args:
        temp_dir: for the copy without a name in which a long one lies.

    Raises:
        NotDicom: it is not DICOM.
        StoreError: it cannot be read.
    """
    try:
        with closing(FileReader.of(str(path))) as reader:
            meta, _ = read_head(reader)
            if temp_dir is not None and reader.size > LOADED_BYTES:
                temp_dir.mkdir(parents=True, exist_ok=True)
            data = as_buffer(reader.data(meta.data_offset, temp_dir))
    except OSError as exc:
        raise StoreError(exc.strerror or str(exc), where=str(path)) from exc
    return ElementTable(data, meta.syntax)
