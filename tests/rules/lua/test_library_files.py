"""`readdicom`, `writedicom`, `writeheader`, `addimage`, `mkdir`, `tempfile`, `system`."""

from __future__ import annotations

import pytest

from dgate.dicom.part10 import read_meta
from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import RuleError
from dgate.rules.lua.files import split_command
from tests.archive.intake_kit import data_set
from tests.rules.lua.library_kit import Bench


def stored(bench: Bench) -> None:
    data = data_set(IMPLICIT_LE, PatientName="STORED")
    bench.archive.objects["P1:1.2"] = ElementTable(data, IMPLICIT_LE)


def test_object_is_replaced_by_what_is_read(bench: Bench) -> None:
    stored(bench)

    assert bench.run("local r = Data:Read('P1:1.2') return r .. Data.PatientName") == "1STORED"
    assert bench.table.text(0x00100010) == "STORED"
    code = "local d = DicomObject:new(); readdicom(d, 'P1:1.2') return d.PatientName"
    assert bench.run(code) == "STORED"


def test_views_of_sequences_follow_what_is_read(bench: Bench) -> None:
    stored(bench)

    code = (
        "Data.ReferencedStudySequence = {} Data.ReferencedStudySequence[0].ReferencedSOPClassUID"
        " = '1.2' Data:Read('P1:1.2') return tostring(Data.ReferencedStudySequence)"
    )

    assert bench.run(code) == "nil"


def test_read_that_fails_is_an_error_that_pcall_sees(bench: Bench) -> None:
    code = "local ok, text = pcall(Data.Read, Data, 'nothing') return tostring(ok) .. text"

    assert "false" in bench.run(code)
    assert "Failed to read dicom file" in bench.run(code)
    assert bench.run("return Data.PatientName") == "SMITH^JOHN"


def test_object_is_written_as_part_10_or_bare(bench: Bench) -> None:
    bench.run("Data.PatientName = 'NEW' Data:Write('out.dcm') writedicom(Data, 'out.v2')")

    content = bench.env.files.read("out.dcm")
    meta = read_meta(content)
    assert meta.syntax == EXPLICIT_LE
    assert ElementTable(content[meta.data_offset :], meta.syntax).text(0x00100010) == "NEW"
    assert ElementTable(bench.env.files.read("out.v2"), IMPLICIT_LE).text(0x00100010) == "NEW"


def test_header_is_written_as_text(bench: Bench) -> None:
    bench.run("Data:Dump('a.txt') writeheader('b.txt')")

    assert b"0010,0020 LO PatientID 2 P1" in bench.env.files.read("a.txt")
    assert bench.env.files.read("a.txt") == bench.env.files.read("b.txt")


def test_object_is_added_to_the_archive(bench: Bench) -> None:
    bench.run("Data:AddImage() addimage(Data) addimage()")

    assert bench.archive.calls == [("add", "1.2.3.1.1.1")] * 3


def test_folders_and_temporary_names(bench: Bench) -> None:
    bench.run("mkdir('a/b')")

    assert bench.run("return tempfile('.dcm') ~= tempfile('.dcm')") is True
    assert bench.run("return tempfile('.dcm'):sub(-4)") == ".dcm"
    with pytest.raises(RuleError, match="folder"):
        bench.run("tempfile('/../../x')")


def test_program_gets_its_arguments_as_they_are(bench: Bench) -> None:
    bench.run("""system('convert "a b" c\\'d e\\'f')""")

    assert bench.env.programs.ran == [["convert", "a b", "cd ef"]]


@pytest.mark.parametrize(
    "text", ["a | b", "a > b", "a; b", "a && b", "a `b`", "a $HOME", "a *", "a\nb", 'a "b', "a 'b"]
)
def test_what_needs_a_shell_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        split_command(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("a 'b;c' \"d|e\"", ["a", "b;c", "d|e"]),
        ("a '' b", ["a", "", "b"]),
        (r"a c:\x\y", ["a", r"c:\x\y"]),
        ("a # b", ["a", "#", "b"]),
        ("", []),
    ],
)
def test_command_line_is_split_at_blanks(text: str, words: list[str]) -> None:
    assert split_command(text) == words


@pytest.mark.parametrize("function", ["system", "os.execute"])
def test_table_of_arguments_keeps_each_one_whole(function: str) -> None:
    bench = Bench()
    bench.run(f"{function}({{'/bin/tool', Data.PatientName, '-x', 'a b; \"c\"'}})")
    assert bench.env.programs.ran == [["/bin/tool", "SMITH^JOHN", "-x", 'a b; "c"']]
