"""`dictionary`, `genuid`, `changeuid`, `changeuidback`, `crc`, `md5`."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from dgate.errors import RuleError
from tests.rules.lua.library_kit import Bench


def test_dictionary_knows_keywords_and_tags(bench: Bench) -> None:
    assert bench.run("local g, e = dictionary('PatientID'); return g .. ',' .. e") == "16,32"
    assert bench.run("return dictionary(16, 32)") == "PatientID"


@pytest.mark.parametrize("call", ["'Nonsense'", "17, 34", "-1, 0", "99999, 1", "''"])
def test_dictionary_gives_nothing_for_what_is_unknown(bench: Bench, call: str) -> None:
    assert bench.run(f"return dictionary({call})") is None


def test_new_uids_differ(bench: Bench) -> None:
    assert bench.run("return genuid() ~= genuid()") is True
    assert bench.run("return genuid()").startswith("1.2.3.6.")


def test_uid_is_replaced_the_same_way_each_time_and_back(bench: Bench) -> None:
    assert bench.run("return changeuid('1.1') == changeuid('1.1')") is True
    assert bench.run("return changeuidback(changeuid('1.1'))") == "1.1"
    assert bench.run("return changeuid('')") == ""


def test_proposal_is_kept_unless_there_is_a_replacement(bench: Bench) -> None:
    assert bench.run("return changeuid('9.1', 'stageX')") == "stageX"
    assert bench.run("return changeuid('9.1', 'another')") == "stageX"


def test_stages_are_apart(bench: Bench) -> None:
    assert bench.run("return changeuid('1.1', 'a', 'one') .. changeuid('1.1', 'b', 'two')") == "ab"
    assert bench.run("return changeuidback('a', 'one')") == "1.1"
    assert bench.run("return changeuidback('a', 'two')") is None
    assert bench.run("return changeuidback('unknown')") is None


def test_hashed_stage_takes_no_proposal(bench: Bench) -> None:
    assert bench.run("return changeuid('1.1', 'mine', '#trial')") is None


@pytest.mark.parametrize(
    ("text", "expected"), [("hello", "4029829531"), ("", "0"), ("x" * 1000, None)]
)
def test_crc_is_that_of_the_original(bench: Bench, text: str, expected: str | None) -> None:
    wanted = expected or str(zlib.crc32(text.encode(), 0xFFFFFFFF) ^ 0xFFFFFFFF)

    assert bench.run(f"return crc('{text}')") == wanted


def test_md5_is_that_of_the_original(bench: Bench) -> None:
    assert bench.run("return md5('')") == "ee7ee7f6775a4a345175ce996256f6ee"
    assert bench.run("return md5('hello')") == "ff04e00080d43fba48546148680c0d18"


def test_standard_digests_have_names_of_their_own(bench: Bench) -> None:
    data = bytes(range(256))
    code = "local s = '' for i = 0, 255 do s = s .. string.char(i) end return "

    assert bench.run(f"{code} md5sum(s)") == hashlib.md5(data).hexdigest()
    assert bench.run(f"{code} sha256(s)") == hashlib.sha256(data).hexdigest()
    assert bench.run(f"{code} crc32(s)") == str(zlib.crc32(data))


@pytest.mark.parametrize(
    "call",
    [
        "changeuid('1.1', nil)",
        "changeuid(nil)",
        "changeuid()",
        "changeuidback(nil)",
        "dictionary(nil)",
        "crc(nil)",
        "md5({})",
    ],
)
def test_nil_is_a_lua_error(bench: Bench, call: str) -> None:
    assert bench.run(f"return pcall(function() {call} end)") is False
    with pytest.raises(RuleError, match="test:1"):
        bench.run(call)
