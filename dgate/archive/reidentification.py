"""What de-identification took out, encrypted, and the way back to it: `dgate_reidentification`.

No value stands in the table in the clear. Rows are found by keyed hashes of the replacement
(`lookup`) and of the original (`origin`); the content is sealed with AES-256-GCM under a key that
is derived from the site's key file (`dgate.archive.keyfile`), bound to the row it stands in. A
crash may leave rows that no object uses, never an object without its rows. Any thread may keep and
find; several gateways may share the table.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dgate.archive.database import Database
from dgate.archive.keyfile import read_key
from dgate.archive.sealedtable import TABLE
from dgate.archive.writer import Transaction, Writer
from dgate.clock import Clock
from dgate.dicom.deidentify import Pseudonyms, Replaced
from dgate.errors import ConfigError, RuleError, StoreError

_REMEMBERED = 1 << 16
"""Rows that need not be looked for again; those of a series come with each of its objects."""
_Row = tuple[str, str, str, str, float]
"""Lookup, origin, stage, sealed content, time."""
_NONCE_BYTES = 12
_EXTRA = "pip install 'dgate[deidentify]'"


class Cipher(Protocol):
    """Authenticated encryption, as `cryptography` has it."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was replaced."""

    stage: str
    kind: str
    """`patient` or `uid`."""
    new: str
    old: str
    """Empty where the object had none."""
    made: float
    """Unix seconds."""
    patient: Mapping[str, str]
    """What the patient had, by keyword; empty where it is no longer known."""
    shift_days: int


class Vault:
    """Seals and opens what the table holds."""

    def __init__(self, secret: bytes) -> None:
        """Derive the keys.

        Raises:
            ConfigError: the library for encryption is not installed.
        """
        self.secret = secret
        self._index_key = hmac.digest(secret, b"dgate reidentification index", "sha256")
        seal_key = hmac.digest(secret, b"dgate reidentification seal", "sha256")
        self._cipher = _cipher(seal_key)

    def lookup(self, value: str) -> str:
        """Return the keyed hash by which a value is found."""
        text = value.encode("utf-8", "surrogateescape")
        return hmac.digest(self._index_key, text, "sha256").hex()

    def seal(self, content: Mapping[str, Any], place: str) -> str:
        """Return content encrypted for a row with these hashes and stage."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = json.dumps(content, separators=(",", ":")).encode("ascii")
        sealed = self._cipher.encrypt(nonce, plain, place.encode("utf-8"))
        return base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, sealed: str, place: str) -> dict[str, Any]:
        """Return what was sealed; raises StoreError when the key or the row is not the same."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            nonce, data = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            plain = self._cipher.decrypt(nonce, data, place.encode("utf-8"))
            content = json.loads(plain)
        except (ValueError, binascii.Error) as exc:
            raise StoreError("a row is damaged", where=TABLE) from exc
        except Exception as exc:
            # `cryptography` is imported on use only; its InvalidTag means one thing here.
            raise StoreError(
                "a row cannot be opened: it was sealed with another key, or has been changed",
                where=TABLE,
            ) from exc
        return dict(content)


def _cipher(key: bytes) -> Cipher:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as exc:
        raise ConfigError(
            "the library that encrypts the table of de-identification is not installed",
            remedy=f"{_EXTRA}, or write no-table",
        ) from exc
    cipher: Cipher = AESGCM(key)
    return cipher


class Reidentification:
    """The table of one site, and its pseudonyms; see `dgate.rules.deidentification`."""

    def __init__(self, database: Database, writer: Writer | None, clock: Clock, key: Path) -> None:
        """`key` is read when it is first needed; without a writer there is only `find`."""
        self._database = database
        self._writer = writer
        self._clock = clock
        self._key = key
        self._guard = threading.Lock()
        """Guards the rest."""
        self._secret: bytes | None = None
        self._vault: Vault | None = None
        self._pseudonyms: dict[str, Pseudonyms] = {}
        self._known: OrderedDict[str, None] = OrderedDict()

    def pseudonyms(self, stage: str) -> Pseudonyms:
        """Return the replacements of a stage; raises RuleError without a usable key."""
        with self._guard:
            found = self._pseudonyms.get(stage)
            if found is None:
                try:
                    found = Pseudonyms(self._read_secret(), stage)
                except ConfigError as exc:
                    raise RuleError(exc.what, where=exc.where, remedy=exc.remedy) from exc
                self._pseudonyms[stage] = found
            return found

    def keep(self, replaced: Replaced) -> None:
        """Write down what was taken out of an object; durable when this returns.

        Raises:
            RuleError: it cannot be encrypted.
            StoreError: the database does not answer.
        """
        assert self._writer is not None, "opened for reading only"
        try:
            vault = self._opened_vault()
        except ConfigError as exc:
            raise RuleError(exc.what, where=exc.where, remedy=exc.remedy) from exc
        wanted = dict(self._rows(vault, replaced))
        with self._guard:
            missing = {mark: row for mark, row in wanted.items() if mark not in self._known}
        if not missing:
            return
        statement = self._database.sql(
            f"INSERT INTO {TABLE} (lookup, origin, stage, sealed, made) VALUES (?, ?, ?, ?, ?)"
        )
        now = self._clock.now()
        rows = [self._sealed(vault, row, now) for row in missing.values()]

        def enter(transaction: Transaction) -> None:
            transaction.executemany(statement, rows)

        self._writer.transact(enter)
        with self._guard:
            for mark in missing:
                self._known[mark] = None
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def find(self, value: str) -> list[Found]:
        """Return what a replacement stands for, or what an original was replaced by, in all stages.

        Raises:
            ConfigError: there is no key, or no library to decrypt.
            StoreError: the database does not answer, or a row cannot be opened.
        """
        vault = self._opened_vault()
        hashed = vault.lookup(value)
        rows = self._select("lookup = ? OR origin = ?", (hashed, hashed))
        found: dict[str, Found] = {}
        for content, made in self._open_all(vault, rows):
            patient = self._patient_of(vault, content)
            entry = Found(
                content["stage"],
                content["kind"],
                content["new"],
                content["old"],
                made,
                patient.get("patient", {}),
                int(patient.get("shift_days", 0)),
            )
            # The same row may have been entered by several gateways.
            found.setdefault(json.dumps([content, entry.shift_days], sort_keys=True), entry)
        return list(found.values())

    def _rows(self, vault: Vault, replaced: Replaced) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the rows of an object, each by a mark that tells it from others."""
        old = replaced.patient.get("PatientID", "")
        patient: dict[str, Any] = {
            "kind": "patient",
            "stage": replaced.stage,
            "new": replaced.pseudonym,
            "old": old,
            "patient": dict(replaced.patient),
            "shift_days": replaced.shift_days,
        }
        # Another spelling of the name is another row.
        yield vault.lookup(json.dumps(patient, sort_keys=True)), patient
        for new, old in replaced.uids.items():
            row = {"kind": "uid", "stage": replaced.stage, "new": new, "old": old}
            yield f"{new} {replaced.pseudonym}", {**row, "pseudonym": replaced.pseudonym}

    @staticmethod
    def _sealed(vault: Vault, row: Mapping[str, Any], now: float) -> _Row:
        lookup, origin = vault.lookup(row["new"]), vault.lookup(row["old"])
        stage = row["stage"]
        return lookup, origin, stage, vault.seal(row, _place(lookup, origin, stage)), now

    def _patient_of(self, vault: Vault, content: Mapping[str, Any]) -> Mapping[str, Any]:
        if content["kind"] == "patient":
            return content
        rows = self._select("lookup = ?", (vault.lookup(content["pseudonym"]),))
        return next((patient for patient, _ in self._open_all(vault, rows)), {})

    def _select(self, condition: str, values: tuple[str, ...]) -> Sequence[Sequence[Any]]:
        statement = self._database.sql(
            f"SELECT lookup, origin, stage, sealed, made FROM {TABLE} "
            f"WHERE {condition} ORDER BY made"
        )
        with self._database.reader() as connection:
            return connection.execute(statement, values).fetchall()

    @staticmethod
    def _open_all(
        vault: Vault, rows: Sequence[Sequence[Any]]
    ) -> Iterator[tuple[dict[str, Any], float]]:
        for lookup, origin, stage, sealed, made in rows:
            yield vault.open(sealed, _place(lookup, origin, stage)), float(made)

    def _opened_vault(self) -> Vault:
        with self._guard:
            if self._vault is None:
                self._vault = Vault(self._read_secret())
            return self._vault

    def _read_secret(self) -> bytes:
        """Return the secret; whoever calls holds the guard."""
        if self._secret is None:
            self._secret = read_key(self._key)
        return self._secret


def _place(lookup: str, origin: str, stage: str) -> str:
    return f"{lookup} {origin} {stage}"
