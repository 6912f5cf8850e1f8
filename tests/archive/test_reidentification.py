"""The encrypted table that leads from a pseudonym back to the patient."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgate.archive.changes import record_of
from dgate.archive.keyfile import create_key, read_key
from dgate.archive.reidentification import Reidentification
from dgate.dicom.deidentify import Deidentifier, Profile, Pseudonyms, Replaced
from dgate.errors import ConfigError, RuleError, StoreError
from tests.archive.database_kit import ALL_ENGINES, Archive, Place, open_archive, place_of
from tests.rules import kit

ORIGINALS = ("PAT-4711", "Zumsteg", "19540321", "1.2.826.0.1.5", "1.2.826.0.1.2")


class StillClock:
    """A clock that stands."""

    def now(self) -> float:
        return 1_795_298_517.0

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(params=ALL_ENGINES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(place_of(request, tmp_path)())
    yield opened
    opened.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Archive]:
    opened = open_archive(Place(tmp_path)())
    yield opened
    opened.close()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "site.key"
    create_key(path)
    return path


def table_of(archive: Archive, key: Path) -> Reidentification:
    return Reidentification(archive.database, archive.writer, StillClock(), key)


def replaced(
    pseudonyms: Pseudonyms, instance: str = "1.2.826.0.1.5", name: str = "Zumsteg^Q"
) -> Replaced:
    """Return what de-identification took out of an object."""
    uids = (instance, "1.2.826.0.1.2")
    return Replaced(
        pseudonyms.stage,
        pseudonyms.identifier("PAT-4711"),
        {"PatientID": "PAT-4711", "PatientName": name, "PatientBirthDate": "19540321"},
        17,
        pseudonyms.uid(instance),
        {pseudonyms.uid(uid): uid for uid in uids},
    )


def rows(archive: Archive) -> list[tuple[object, ...]]:
    return archive.rows(
        "SELECT lookup, origin, stage, sealed, made FROM dgate_reidentification ORDER BY lookup"
    )


def test_a_pseudonym_leads_back_to_the_patient(archive: Archive, key: Path) -> None:
    table = table_of(archive, key)
    taken = replaced(table.pseudonyms("trial"))

    table.keep(taken)

    [found] = table_of(archive, key).find(taken.pseudonym)
    assert (found.stage, found.kind, found.old) == ("trial", "patient", "PAT-4711")
    assert found.patient["PatientName"] == "Zumsteg^Q"
    assert found.shift_days == 17


def test_a_new_uid_leads_back_with_its_patient(archive: Archive, key: Path) -> None:
    table = table_of(archive, key)
    taken = replaced(table.pseudonyms(""))
    table.keep(taken)

    [found] = table_of(archive, key).find(taken.sop_instance)

    assert (found.kind, found.old) == ("uid", "1.2.826.0.1.5")
    assert found.patient["PatientID"] == "PAT-4711"


def test_an_original_leads_to_its_replacements_in_all_stages(local: Archive, key: Path) -> None:
    table = table_of(local, key)
    for stage in ("one", "two"):
        table.keep(replaced(table.pseudonyms(stage)))

    found = table.find("PAT-4711")

    assert {each.stage for each in found} == {"one", "two"}
    assert len({each.new for each in found}) == 2


def test_nothing_stands_in_the_table_in_the_clear(archive: Archive, key: Path) -> None:
    table = table_of(archive, key)
    taken = replaced(table.pseudonyms("trial"))
    table.keep(taken)

    written = repr(rows(archive))

    sought = (*ORIGINALS, taken.pseudonym, taken.sop_instance)
    assert [each for each in sought if each in written] == []


def test_what_is_known_is_not_written_again(local: Archive, key: Path) -> None:
    table = table_of(local, key)
    pseudonyms = table.pseudonyms("")
    table.keep(replaced(pseudonyms))
    table.keep(replaced(pseudonyms))
    assert len(rows(local)) == 3

    table.keep(replaced(pseudonyms, "1.2.826.0.1.6"))

    assert len(rows(local)) == 4


def test_two_spellings_of_a_name_are_both_kept(local: Archive, key: Path) -> None:
    table = table_of(local, key)
    pseudonyms = table.pseudonyms("")
    for name in ("Zumsteg^Q", "ZUMSTEG^QUIRIN"):
        table.keep(replaced(pseudonyms, name=name))

    found = table.find("PAT-4711")

    assert {each.patient["PatientName"] for each in found} == {"Zumsteg^Q", "ZUMSTEG^QUIRIN"}


def test_the_same_row_of_two_gateways_is_found_once(local: Archive, key: Path) -> None:
    for _ in range(2):
        table = table_of(local, key)
        table.keep(replaced(table.pseudonyms("")))

    assert len(table.find("PAT-4711")) == 1


def test_what_is_unknown_finds_nothing(local: Archive, key: Path) -> None:
    assert table_of(local, key).find("PAT-4711") == []


def test_another_key_finds_nothing(local: Archive, key: Path, tmp_path: Path) -> None:
    table = table_of(local, key)
    table.keep(replaced(table.pseudonyms("")))
    other = tmp_path / "other.key"
    create_key(other)

    assert table_of(local, other).find("PAT-4711") == []


def test_a_changed_row_is_not_believed(local: Archive, key: Path) -> None:
    table = table_of(local, key)
    table.keep(replaced(table.pseudonyms("one")))
    statement = local.database.sql("UPDATE dgate_reidentification SET stage = ?")
    local.writer.transact(lambda transaction: transaction.execute(statement, ("two",)))

    with pytest.raises(StoreError, match="cannot be opened"):
        table.find("PAT-4711")


def test_a_missing_library_is_named_with_its_remedy(
    local: Archive, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cryptography.hazmat.primitives.ciphers.aead"
    monkeypatch.setitem(sys.modules, name, None)
    table = table_of(local, key)

    with pytest.raises(RuleError, match=r"not installed .*dgate\[deidentify\].*no-table"):
        table.keep(replaced(table.pseudonyms("")))


# The key.


def test_a_key_is_for_its_owner_only(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(read_key(key)) == 32


def test_an_existing_key_is_never_replaced(key: Path) -> None:
    before = read_key(key)

    with pytest.raises(ConfigError, match="a key already"):
        create_key(key)

    assert read_key(key) == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_use_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)

    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(key)


@pytest.mark.parametrize(
    "content",
    [b"", b"secret", b"dgate-reidentification-key-1\nAAAA\n", b"\xff\xfe" * 40,
     b"dgate-reidentification-key-2\n" + b"A" * 43 + b"=\n"],
    ids=["empty", "no key", "short", "binary", "later form"],
)  # fmt: skip
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(ConfigError, match="no key of dgate"):
        read_key(path)


def test_a_missing_key_is_an_error_of_the_rule_until_it_is_made(
    local: Archive, tmp_path: Path
) -> None:
    path = tmp_path / "later.key"
    table = table_of(local, path)
    with pytest.raises(RuleError, match="dgate deidentify key"):
        table.pseudonyms("")

    create_key(path)

    assert table.pseudonyms("").identifier("x")


def test_a_folder_or_a_pipe_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="regular file"):
        read_key(tmp_path / "pipe")
    with pytest.raises(ConfigError):
        read_key(tmp_path)


def test_a_key_cannot_be_made_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        create_key(tmp_path / "none" / "site.key")


# The record of change.


def test_there_is_no_record_of_change_in_the_clear(key: Path, local: Archive) -> None:
    table = kit.table()
    original = table.snapshot()

    Deidentifier(Profile()).apply(table, table_of(local, key).pseudonyms(""))

    assert record_of(original, table, ["ImportConverter0"]) is None


def test_what_was_deidentified_before_is_recorded_like_anything_else(
    key: Path, local: Archive
) -> None:
    table = kit.table()
    Deidentifier(Profile()).apply(table, table_of(local, key).pseudonyms(""))
    original = table.snapshot()

    table.set_text(0x00120040, "S7")

    assert record_of(original, table, ["ImportConverter0"]) is not None
