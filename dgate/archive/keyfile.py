"""The file with the secret of the site, from which every key of de-identification is derived.

It lies outside the database, readable for the server's user only. Who has it and the database can
tell who a patient is; who loses it can no longer. Functions for any thread.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

from dgate.disk import sync_folder
from dgate.errors import ConfigError

SECRET_BYTES = 32
_HEAD = "dgate-reidentification-key-1"
_LONGEST = 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CREATE = "create one with `dgate deidentify key`"


def create_key(path: Path) -> None:
    """Write a new random secret, on disk when this returns; an existing file is never replaced.

    Raises:
        ConfigError: there is such a file, or it cannot be written.
    """
    secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as exc:
        raise ConfigError(
            "there is a key already; another one would give everything new pseudonyms",
            where=str(path),
            remedy="move it away, and keep it as long as you may have to look up who is who",
        ) from exc
    except OSError as exc:
        raise ConfigError(f"the key cannot be written: {exc.strerror}", where=str(path)) from exc
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{_HEAD}\n{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.absolute().parent)
    except OSError as exc:
        raise ConfigError(f"the key cannot be written: {exc.strerror}", where=str(path)) from exc


def read_key(path: Path) -> bytes:
    """Return the secret.

    Raises:
        ConfigError: there is none, others may read it, or it is no key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as exc:
        raise ConfigError(
            "there is no key for de-identification (ReidentificationKey)",
            where=str(path),
            remedy=_CREATE,
        ) from exc
    except OSError as exc:
        raise ConfigError(f"the key cannot be read: {exc.strerror}", where=str(path)) from exc
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("the key is no regular file", where=str(path), remedy=_CREATE)
        if status.st_mode & _OTHERS:
            raise ConfigError(
                "others than its owner may use the key",
                where=str(path),
                remedy=f"chmod 600 {path}",
            )
        content = os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
    return _secret(content, path)


def _secret(content: bytes, path: Path) -> bytes:
    lines = content.split()
    try:
        if len(lines) != 2 or lines[0] != _HEAD.encode("ascii"):
            raise ValueError
        secret = base64.b64decode(lines[1], validate=True)
        if len(secret) != SECRET_BYTES:
            raise ValueError
    except (ValueError, binascii.Error) as exc:
        raise ConfigError(
            "the file is no key of dgate, or is damaged", where=str(path), remedy=_CREATE
        ) from exc
    return secret
