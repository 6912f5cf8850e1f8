"""Statements on files: what is written, and where a header value may not lead."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.effects import Captured
from dgate.rules.files import ConfinedFiles
from dgate.rules.hooks import capture
from dgate.rules.session import Session
from tests.rules import kit

COMMENTS = 0x00104000
HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "a/../../b",
    "a/b",
    '"; rm x; "',
    "$(touch x)`touch y`",
    "%i%E0010,0010",
    "a\nb",
    "a\\b",
    "'; DROP TABLE DICOMImages; --",
    "| cat > x",
    "~root",
    "*",
]


def on_disk(line: str, folder: Path, on: ElementTable | None = None) -> kit.FakeEnvironment:
    """Run an import line with real files below `folder/base` and `folder/mag0`."""
    env = kit.FakeEnvironment()
    for name in ("base", "mag0"):
        (folder / name).mkdir(exist_ok=True)
    env.files = ConfinedFiles(folder / "base", [folder / "mag0"], folder / "temp")  # type: ignore[assignment]
    verdict, _ = kit.run_import(kit.importing(line), on, env)
    assert verdict.outcome.value == "keep", verdict.reason
    return env


def ran(line: str, *, export: bool = False, on: ElementTable | None = None) -> kit.FakeEnvironment:
    """Run a line and return what it acted on."""
    env = kit.FakeEnvironment()
    env.files.content[Path("/data/mag0/0009703828/1.2.3.4.5.dcm")] = b"object"
    if export:
        made = kit.rules(kit.converter(line, "Export"))
        made.expand(0, on or kit.table(), kit.captured(), env)
    else:
        verdict, _ = kit.run_import(kit.importing(line), on, env)
        assert verdict.outcome.value == "keep", verdict.reason
    return env


@pytest.mark.parametrize("export", [False, True], ids=["import", "export"])
@pytest.mark.parametrize(
    ("line", "files"),
    [
        ('write "%m%n" to a.txt; write "%i" to a.txt', {"a.txt": b"0009703828"}),
        ('append "%m%t1%n" to a.txt; append "x" TO a.txt', {"a.txt": b"CT\t1\nx"}),
        ('append "a; ""b" to %i.txt', {"0009703828.txt": b"a; b"}),
        ('append "x" to %VPatientName~.txt', {"head exp2.txt": b"x"}),
        ("append \"%'q%'\" to a.txt", {"a.txt": b'"q"'}),
        ('write "" to empty', {"empty": b""}),
        ('write "x" to a; copy a to b', {"a": b"x", "b": b"x"}),
        ('write "x" to a; rm a; rm a', {}),
    ],
)
def test_text_files(line: str, files: dict[str, bytes], export: bool) -> None:
    env = ran(line, export=export)
    assert content_below(env) == files


def content_below(env: kit.FakeEnvironment) -> dict[str, bytes]:
    """Return what is below the base folder."""
    return {
        str(path.relative_to("/base")): data
        for path, data in env.files.content.items()
        if path.is_relative_to("/base")
    }


def test_text_longer_than_the_original_could_is_written_whole() -> None:
    long = "x" * 5000
    assert content_below(ran(f'write "{long}" to a'))["a"] == long.encode()


def test_text_is_written_in_utf_8() -> None:
    table = kit.table(PatientName="Müller")
    assert content_below(ran('write "%VPatientName" to a', on=table))["a"] == "Müller".encode()


@pytest.mark.parametrize("export", [False, True], ids=["import", "export"])
def test_folders_are_made(export: bool) -> None:
    assert ran("mkdir a/%i/b", export=export).files.folders == {Path("/base/a/0009703828/b")}


def test_the_objects_own_file_is_copied_in_export_lines() -> None:
    env = ran("copy %f to /base/copy.dcm; copy %p/%b.dcm to %b.2", export=True)
    assert content_below(env) == {"copy.dcm": b"object", "1.2.3.4.5.2": b"object"}


def test_import_lines_say_that_the_objects_own_file_is_not_there_yet() -> None:
    verdict, _ = kit.run_import(kit.importing("copy %f to /base/x"))
    assert "the object's own file does not exist yet" in verdict.reason


def test_a_file_that_is_missing_fails_the_statement() -> None:
    verdict, _ = kit.run_import(kit.importing("nop; copy gone to x"))
    assert verdict.outcome.value == "reject"
    assert "ImportConverter0.1: gone cannot be read" in verdict.reason


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_in_a_name_never_leads_into_another_folder(tmp_path: Path, value: str) -> None:
    table = kit.table()
    table.set_raw(COMMENTS, "LT", value.encode())
    token = "%V0010,4000"
    on_disk(
        f'mkdir sub/{token}; write "x" to sub/{token}/a; append "y" to {token}.txt; '
        f"copy sub/{token}/a to sub/{token}.copy; save to sub/b{token}; rm sub/{token}/a",
        tmp_path,
        table,
    )
    found = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert len([path for path in found if path.suffix == ".txt"]) == 1
    # Two folders that were there, sub, one below it, the three files.
    assert len(found) == 7
    assert all(len(path.parts) <= 3 for path in found)


@pytest.mark.parametrize("value", ["x" * 10_000, "a\0b"])
def test_a_value_that_makes_no_name_fails_or_is_cut(tmp_path: Path, value: str) -> None:
    table = kit.table()
    table.set_raw(COMMENTS, "LT", value.encode())
    (tmp_path / "base").mkdir()
    env = kit.FakeEnvironment()
    env.files = ConfinedFiles(tmp_path / "base", [], tmp_path / "temp")  # type: ignore[assignment]
    line = 'append "%V0010,4000" to n%V0010,4000.txt'
    verdict, _ = kit.run_import(kit.importing(line), table, env)
    names = [path.name for path in (tmp_path / "base").iterdir()]
    # A value longer than 255 bytes is a mark, and text ends at its first NUL.
    assert (verdict.outcome.value, names) == (
        "keep",
        ["n(too long).txt" if len(value) > 255 else "na.txt"],
    )


def test_a_value_of_an_outer_line_is_no_path_but_the_objects_own_name_is() -> None:
    table = kit.table(PatientComments="../up")
    line = (
        'script "append %\'x%\' to %V0010,4000.a"; script "copy %f to copied"; '
        'script "mkdir %p/more"'
    )
    env = kit.FakeEnvironment()
    env.files.content[Path("/data/mag0/0009703828/1.2.3.4.5.dcm")] = b"object"
    made = kit.importing(line)
    verdict, _ = kit.run_import(made, table, env)
    assert verdict.outcome.value == "keep", verdict.reason
    assert content_below(env) == {".._up.a": b"x", "copied": b"object"}
    assert env.files.folders == {Path("/data/mag0/0009703828/more")}


def test_a_path_cut_by_a_modifier_is_no_longer_the_objects_own() -> None:
    env = ran('write "x" to n%f[0,4]')
    assert content_below(env) == {"n_data": b"x"}


@pytest.mark.parametrize(
    "line",
    [
        'write "x" to ../x',
        'append "x" to /etc/x',
        "mkdir ../../x",
        "rm /etc/passwd",
        "copy /etc/passwd to x",
        "copy a to ../b",
        "save to /etc/x.dcm",
    ],
)
def test_what_leads_out_of_the_folders_refuses_the_object(line: str) -> None:
    env = kit.FakeEnvironment()
    env.files.content[Path("/base/a")] = b"a"
    verdict, _ = kit.run_import(kit.importing(line), env=env)
    assert verdict.outcome.value == "reject"
    assert "leads out of the folders" in verdict.reason
    assert list(env.files.content) == [Path("/base/a")]


# save


@pytest.mark.parametrize("export", [False, True], ids=["import", "export"])
def test_the_object_is_saved_as_it_is_now(export: bool) -> None:
    line = "save to %o.dcm" if export else 'set PatientID to "NEW"; save to %o.dcm'
    saved = content_below(ran(line, export=export))["1.2.3.4.5.dcm"]
    found = dcmread(io.BytesIO(saved))
    assert found.PatientID == ("0009703828" if export else "NEW")
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == "1.2.3.4.5"
    assert found.file_meta.TransferSyntaxUID == EXPLICIT_LE


@pytest.mark.parametrize("name", ["x.v2", "X.V2"])
def test_the_old_raw_format_has_no_header(name: str) -> None:
    table = kit.table(PixelData=b"\1\2" * 8, BitsAllocated=16)
    saved = content_below(ran(f"save to {name}", on=table))[name]
    assert saved[:4] == b"\x08\x00\x05\x00"
    found = ElementTable(saved, IMPLICIT_LE)
    assert found.text(0x00100020) == "0009703828"
    assert found.raw(0x7FE00010) == b"\1\2" * 8


def test_what_cannot_be_saved_raw_refuses_the_object() -> None:
    table = kit.table(PixelData=b"\1\2" * 8, BitsAllocated=16)
    table.syntax = "1.2.840.10008.1.2.4.100"
    verdict, _ = kit.run_import(kit.importing("save to x.v2"), table)
    assert "cannot be saved as .v2" in verdict.reason


def test_test_mode_lasts_as_long_as_the_session() -> None:
    env = kit.FakeEnvironment()
    session = Session()
    captured: Captured = capture(kit.table(), "A", "B")
    for line in ("testmode .%m", "save to a", 'write "x" to b', "testmode", "save to c"):
        made = kit.importing(line)
        assert made.problems == ()
        made.run_import(kit.table(), captured, env, session)
    assert sorted(content_below(env)) == ["a.CT", "b", "c"]


def test_a_value_in_the_suffix_leads_nowhere() -> None:
    table = kit.table(PatientComments="/../../etc/x")
    env = ran("testmode %V0010,4000; save to a", on=table)
    assert list(content_below(env)) == ["a_.._.._etc_x"]


def test_an_error_names_the_place() -> None:
    with pytest.raises(RuleError, match=r"dicom\.ini:40 ExportConverter0\.1: "):
        ran("nop; rm /etc/x", export=True)
