"""UIDs and transfer syntaxes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pydicom.uid
import pytest

from dgate.dicom.uids import (
    EXPLICIT_BE,
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_VERSION,
    UidGenerator,
    is_uid,
    transfer_syntax,
)


class FixedClock:
    """A clock that stands still."""

    def now(self) -> float:
        return 1_700_000_000.5

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize("uid", [str(uid) for uid in pydicom.uid.AllTransferSyntaxes])
def test_every_transfer_syntax_is_known_as_pydicom_knows_it(uid: str) -> None:
    ours, judge = transfer_syntax(uid), pydicom.uid.UID(uid)
    assert ours.uid == uid
    assert "unknown" not in ours.name
    assert ours.explicit is not judge.is_implicit_VR
    assert ours.little_endian is judge.is_little_endian
    # Of the newest ones pydicom does not know yet that they are deflated; the name says so.
    assert ours.deflated is (judge.is_deflated or "Deflate" in judge.name)
    if ours.encapsulated:
        assert judge.is_encapsulated


def test_only_big_endian_is_big_endian() -> None:
    assert not transfer_syntax(EXPLICIT_BE).little_endian
    assert not transfer_syntax(EXPLICIT_BE).encapsulated


def test_unknown_transfer_syntax_is_taken_as_compressed() -> None:
    unknown = transfer_syntax("1.2.3")
    assert (unknown.explicit, unknown.little_endian, unknown.encapsulated) == (True, True, True)


@pytest.mark.parametrize("text", ["1", "1.2.840.10008.1.1", "1.02.3", "9" * 64])
def test_uid_is_digits_and_dots(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".1", "1..2", "1.2a", "1.2 ", "1.2\n", "../1", "1/2", "1.2\0", "٣.1", "1" * 65],
)
def test_everything_else_is_no_uid(text: str) -> None:
    assert not is_uid(text)


def test_implementation_identifies_itself_by_the_rules() -> None:
    assert pydicom.uid.UID(IMPLEMENTATION_CLASS).is_valid
    assert IMPLEMENTATION_CLASS.startswith("2.25.")
    assert len(IMPLEMENTATION_VERSION) <= 16


def test_new_uid_has_prefix_time_and_counter() -> None:
    uid = UidGenerator("1.2.826.0.1.3680043.2.135.1066.101", FixedClock()).new()
    assert uid.startswith("1.2.826.0.1.3680043.2.135.1066.101.6.1700000000.")
    assert is_uid(uid)


def test_new_uids_differ_within_a_second_and_between_processes() -> None:
    generators = [UidGenerator("1.2.3", FixedClock()) for _ in range(20)]
    made = [generator.new() for generator in generators for _ in range(50)]
    assert len(set(made)) == len(made)


def test_new_uids_differ_between_threads() -> None:
    generator = UidGenerator("1.2.3", FixedClock())
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: generator.new(), range(2000)))
    assert len(set(made)) == len(made)


def test_longest_prefix_still_gives_uids() -> None:
    generator = UidGenerator("1." + "9" * 40, FixedClock())
    assert all(is_uid(generator.new()) for _ in range(100))


@pytest.mark.parametrize("prefix", ["", "abc", "1." + "9" * 41])
def test_unusable_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        UidGenerator(prefix, FixedClock())
