"""Packs the log files away once a day (`ziptime`): moved, zipped into `logs`, then removed.

Only log files go into the archive, never dicom.ini or anything else with passwords in it. One
thread, which sleeps until the time has come. A crash leaves files named `.packing`, which the next
packing includes; none is removed before the archive that holds it is on the disk.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from dgate.clock import Clock
from dgate.disk import sync_folder

log = logging.getLogger(__name__)

PACKING = ".packing"
WRITERS_S = 2.0
"""How long writers get to notice that their file was moved: twice what a log file needs."""
NIGHT_ENDS_AT_HOUR = 8
"""What is packed before this hour is the day before's (spec dicom-ini.md section 3)."""
_LONGEST_SLEEP_S = 3600.0
"""The clock may be set, so the time is looked at again after so long."""
_DAY_S = 86400
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
_EARLIEST = "00:00:00"


def first_match(prefix: str) -> int | None:
    """Return the first second of a day whose `HH:MM:SS` begins with the prefix, None without one.

    An empty prefix is none.
    """
    text = prefix + _EARLIEST[len(prefix) :]
    if not prefix or _TIME.fullmatch(text) is None:
        return None
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def archive_name(now: float) -> str:
    """Return the name of the archive that is made now."""
    local = time.localtime(now)
    if local.tm_hour < NIGHT_ENDS_AT_HOUR:
        # Noon of the day before, whatever the clocks did in the night.
        noon = (local.tm_year, local.tm_mon, local.tm_mday - 1, 12, 0, 0, 0, 0, -1)
        local = time.localtime(time.mktime(noon))
    return f"logs_{time.strftime('%Y%m%d', local)}.zip"


class Packer:
    """Packs log files into `folder` when the local time begins with `prefix`.

    Once a day: a server that starts within the time packs too, unless that day's archive is there.
    """

    def __init__(self, folder: Path, files: Sequence[Path], prefix: str, clock: Clock) -> None:
        self._folder = folder
        self._files = tuple(dict.fromkeys(files))
        self._prefix = prefix
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._packed = ""

    def start(self) -> None:
        """Begin, unless the prefix fits no time of day."""
        if first_match(self._prefix) is None:
            return
        self._thread = threading.Thread(target=self._run, name="log-packer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a packing that has begun is finished."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def pause_s(self) -> float:
        """Return how long nothing is to be done; 0 when it is time."""
        first = first_match(self._prefix)
        assert first is not None
        now = self._clock.now()
        local = time.localtime(now)
        if time.strftime("%H:%M:%S", local).startswith(self._prefix) and not self._has_packed(now):
            return 0.0
        second = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec
        return min((first - second) % _DAY_S or _DAY_S, _LONGEST_SLEEP_S)

    def pack(self) -> Path | None:
        """Pack the log files now; returns the archive, None when there was nothing to pack.

        Raises:
            OSError: a file or the folder cannot be written; no line is lost, and what was moved
            goes into the next archive.
        """
        now = self._clock.now()
        name = self._packed = archive_name(now)
        moved = [path for file in self._files for path in _left_behind(file)]
        moved += [path for file in self._files if (path := _move(file, int(now))) is not None]
        if not moved:
            return None
        self._folder.mkdir(exist_ok=True)
        # Who has a file open must have noticed, or its last lines would be lost with it.
        self._stopping.wait(WRITERS_S)
        archive = _write_archive(self._folder, name, moved)
        for path in moved:
            path.unlink()
        log.info("The log files were packed into %s.", archive)
        return archive

    def _has_packed(self, now: float) -> bool:
        name = archive_name(now)
        return name == self._packed or (self._folder / name).exists()

    def _run(self) -> None:
        while not self._stopping.wait(self.pause_s()):
            if self.pause_s() > 0:
                continue
            try:
                self.pack()
            except OSError as exc:
                log.error(
                    "The log files were not packed: %s. They are kept until the next time.", exc
                )


def _left_behind(file: Path) -> list[Path]:
    """Return what an earlier packing moved and did not finish."""
    begin = f"{file.name}."
    try:
        names = sorted(os.listdir(file.parent))  # noqa: PTH208 - names are what is looked at
    except OSError:
        return []
    return [
        file.with_name(name) for name in names if name.startswith(begin) and name.endswith(PACKING)
    ]


def _move(file: Path, stamp: int) -> Path | None:
    """Move a log file aside; None when it is empty, missing or no plain file."""
    try:
        status = file.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return None
    target = file.with_name(f"{file.name}.{stamp}{PACKING}")
    file.rename(target)
    return target


def _write_archive(folder: Path, name: str, files: Iterable[Path]) -> Path:
    """Write a synced archive under a name that is free; raises OSError and leaves nothing then."""
    unfinished = folder / f"{name}{PACKING}"
    try:
        with unfinished.open("wb") as out:
            with zipfile.ZipFile(
                out, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False
            ) as archive:
                for path in files:
                    archive.write(path, path.name.removesuffix(PACKING))
            out.flush()
            os.fsync(out.fileno())
        target = _free_name(folder, name)
        unfinished.rename(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return target


def _free_name(folder: Path, name: str) -> Path:
    target, number = folder / name, 0
    while target.exists():
        number += 1
        target = folder / f"{name.removesuffix('.zip')}_{number}.zip"
    return target
