"""`Deidentify` of objects in Lua."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dgate.errors import RuleError, Unsafe
from tests.rules import kit
from tests.rules.lua.library_kit import Bench

PATIENT_ID = 0x00100020


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(kit.table())
    yield made
    made.close()


@pytest.mark.parametrize(
    "code",
    ["Data:Deidentify()", "deidentify()", "deidentify(Data)", "Data:Deidentify('profile basic')"],
)
def test_the_object_of_the_hook_is_deidentified(bench: Bench, code: str) -> None:
    bench.run(code)

    [kept] = bench.env.deidentification.kept
    assert kept.patient["PatientID"] == "0009703828"
    assert bench.table.text(PATIENT_ID) == kept.pseudonym


def test_a_script_sees_the_new_values(bench: Bench) -> None:
    name = bench.run("deidentify('profile basic stage s1 no-table'); return Data.PatientName")

    assert name == bench.table.text(PATIENT_ID)
    assert bench.env.deidentification.kept == []


def test_another_object_can_be_meant(bench: Bench) -> None:
    found = bench.run("local o = Data:Copy(); o:Deidentify(); return o.PatientID")

    assert found != "0009703828"
    assert bench.table.text(PATIENT_ID) == "0009703828"


def test_files_are_those_that_scripts_may_read(bench: Bench) -> None:
    bench.env.files.write("masks.txt", b"modality=CT : none\n")

    bench.run("deidentify('profile basic clean pixels mask masks.txt')")

    assert bench.table.text(0x00120062) == "YES"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("profile basic retain nothing", "no option of retain.*at character 22"),
        ("profile basic clean pixels mask none.txt", "none.txt"),
        ("profile basic clean pixels mask /etc/passwd", "leads out"),
        ("", "profile is missing"),
    ],
)
def test_what_is_wrong_is_an_error_of_the_script(bench: Bench, options: str, message: str) -> None:
    before = bench.table.tobytes()

    with pytest.raises(RuleError, match=message):
        bench.run(f"deidentify('{options}')")

    assert bench.table.tobytes() == before


def test_a_missing_key_is_an_error_of_the_script(bench: Bench) -> None:
    bench.env.deidentification.fault = RuleError("there is no key")

    with pytest.raises(Unsafe, match="there is no key"):
        bench.run("deidentify()")
