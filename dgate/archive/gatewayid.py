"""The name by which one gateway is known to others that share its database.

Not for who works on a folder at the moment (`dgate.ops.lock`) nor for leases
(`dgate.delivery.leases`). Called by the thread that holds the folder's lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from dgate.archive.files import create_folders
from dgate.disk import sync_folder
from dgate.errors import ConfigError

_NAME = "gateway.id"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HEX_DIGITS = 32
_PLACE_DIGITS = 12
_MEANING = "the name of this gateway in a shared database; a copy of the folder must not have it"


@dataclass(frozen=True, slots=True)
class GatewayId:
    """Who a gateway is."""

    home: str
    """Random, made at the first start, and kept in the base folder."""
    place: str
    """Changes with each boot of the machine, and is another in any copy of the folder: processes
    with the same home and place have worked under the same lock of the folder."""


def id_path(base_folder: Path) -> Path:
    """Return where the name of a gateway is kept."""
    return base_folder / "dgate" / _NAME


def gateway_id(base_folder: Path) -> GatewayId:
    """Return who works on a base folder; at the first call a name is made, on disk when this
    returns.

    The caller holds the folder's lock. A crash leaves no name, or a whole one.

    Raises:
        ConfigError: the name cannot be written or read, or is damaged.
    """
    path = id_path(base_folder)
    try:
        home = _read(path)
        if home is None:
            _create(path)
            home = _read(path)
        status = path.stat()
    except OSError as exc:
        raise ConfigError(
            f"the name of this gateway cannot be kept: {exc.strerror}",
            where=str(path),
            remedy="give the server's user write permission",
        ) from exc
    if not home:
        raise ConfigError(
            "the name of this gateway is damaged",
            where=str(path),
            remedy="remove the file; what the gateway was delivering goes on within 5 minutes",
        )
    return GatewayId(home, _place(status))


def up_s() -> float:
    """Return for how many seconds the machine has been running, asleep or not."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _read(path: Path) -> str | None:
    """Return the name, empty when it is damaged; None when there is none yet."""
    try:
        words = path.read_bytes()[:1024].split(maxsplit=1)
    except FileNotFoundError:
        return None
    found = words[0].decode("latin-1") if words else ""
    return found if re.fullmatch(rf"[0-9a-f]{{{_HEX_DIGITS}}}", found) else ""


def _create(path: Path) -> None:
    create_folders(path.parent)
    # Always the same name: what a crash leaves is overwritten.
    new = path.with_name(f"{_NAME}.new")
    with new.open("w", encoding="ascii") as file:
        file.write(f"{secrets.token_hex(_HEX_DIGITS // 2)}  {_MEANING}\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync_folder(path.parent)


def _place(status: os.stat_result) -> str:
    """Return what no copy of the file has while the original is in use.

    Without the kernel's name for this boot nothing is sure, and it is new each time.
    """
    try:
        boot = _BOOT_ID.read_text("ascii").strip()
    except OSError:
        boot = secrets.token_hex()
    text = f"{boot} {status.st_dev} {status.st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:_PLACE_DIGITS]
