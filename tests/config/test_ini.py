from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.ini import IniFile
from dgate.config.problem import Severity


def value_of(line: str) -> str:
    section = IniFile.parse(f"[s]\n{line}\n".encode(), "dicom.ini").section("s")
    assert section is not None
    return section.entries[0].value


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("key=value", "value"),
        ("key \t = \t value \t ", "value"),
        ("key = a = b", "a = b"),
        ("key = 1 # no comment", "1 # no comment"),
        ("key = nop; stop", "nop; stop"),
        ('key = "quoted "', "quoted "),
        ("key = 'quoted '", "quoted "),
        ("key = \"open'", "\"open'"),
        ('key = "', '"'),
        ('key = ""', ""),
        ("key = '\"both\"'", '"both"'),
        ("key =", ""),
        ("key", ""),
    ],
)
def test_value_is_read_as_the_original_reads_it(line: str, value: str) -> None:
    assert value_of(line) == value


def test_first_of_two_equal_keys_counts_and_the_other_is_reported() -> None:
    ini = IniFile.parse(b"[s]\nKey = 1\nkey = 2\n", "dicom.ini")

    section = ini.section("S")
    assert section is not None
    entry = section.get("KEY")
    assert entry is not None
    assert (entry.value, entry.line) == ("1", 2)
    assert [(p.severity, p.line) for p in ini.problems] == [(Severity.WARNING, 3)]


def test_reopened_section_goes_on() -> None:
    ini = IniFile.parse(b"[a]\nx = 1\n[b]\n[A] rest\ny = 2\n", "dicom.ini")

    section = ini.section("a")
    assert section is not None
    assert [entry.key for entry in section.entries] == ["x", "y"]
    assert [s.name for s in ini.sections] == ["a", "b"]


def test_password_on_an_indented_line_stays_out_of_the_report() -> None:
    ini = IniFile.parse(b"[s]\n Password = secret\n", "dicom.ini")

    assert ini.problems
    assert "secret" not in str(ini.problems[0])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_every_line_end_counts_lines(end: bytes) -> None:
    ini = IniFile.parse(end.join([b"[s]", b"", b"# c", b"x = 1"]), "dicom.ini")

    section = ini.section("s")
    assert section is not None
    assert section.entries[0].line == 4


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
def test_byte_order_mark_tells_the_encoding(encoding: str) -> None:
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    data = f"{mark}[sscscp]\r\nPACSName = Zürich\r\n".encode(encoding)
    ini = IniFile.parse(data, "dicom.ini")

    section = ini.section("sscscp")
    assert section is not None
    assert section.entries[0].value == "Zürich"
    assert ini.render() == data
    found = [problem.severity for problem in ini.problems]
    assert found == ([] if encoding == "utf-8-sig" else [Severity.WARNING])


@pytest.mark.parametrize(
    "data",
    ["[sscscp]\n".encode("utf-16-le"), "[sscscp]\n".encode("utf-16-be"), b"\xff\xfe[\0s\0]"],
    ids=["little", "big", "odd number of bytes"],
)
def test_utf16_that_cannot_be_read_is_one_error(data: bytes) -> None:
    ini = IniFile.parse(data, "dicom.ini")

    errors = [p for p in ini.problems if p.severity is Severity.ERROR]
    assert len(errors) == 1
    assert "UTF-16" in errors[0].message
    assert ini.render() == data


def test_nul_characters_are_left_out_and_reported_once() -> None:
    ini = IniFile.parse(b"[s]\nke\0y = val\0ue\n\0\0\0\nz = \0\n", "dicom.ini")

    section = ini.section("s")
    assert section is not None
    assert [(entry.key, entry.value) for entry in section.entries] == [("key", "value"), ("z", "")]
    assert [(p.severity, p.line) for p in ini.problems] == [(Severity.WARNING, 2)]


PIECES = ["[s]", "[", "]", "=", '"', "'", "key", "#c", ";c", "//c", "ä", "\u2028"]
MORE = [b" ", b"\t", b"\r", b"\n", b"\x00", b"\x0c", b"\xff", b"\xef\xbb\xbf"]
ini_like = st.lists(st.sampled_from([*(piece.encode() for piece in PIECES), *MORE])).map(b"".join)


@given(st.one_of(st.binary(), ini_like))
def test_any_bytes_are_rendered_back_unchanged(data: bytes) -> None:
    assert IniFile.parse(data, "dicom.ini").render() == data


names = st.text("ABab0_/.", min_size=1, max_size=8).filter(lambda text: not text.startswith("//"))
values = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\"'"), max_size=30
).map(lambda text: text.strip(" \t"))


@given(st.lists(st.tuples(names, values), max_size=8, unique_by=lambda item: item[0].lower()))
def test_written_settings_are_read_back(settings: list[tuple[str, str]]) -> None:
    text = "[sscscp]\n" + "".join(f"{key} = {value}\n" for key, value in settings)

    section = IniFile.parse(text.encode(), "dicom.ini").section("sscscp")
    assert section is not None
    assert [(entry.key, entry.value) for entry in section.entries] == settings
