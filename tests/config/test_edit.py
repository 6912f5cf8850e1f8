from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.edit import quoted, with_value, with_values, without
from dgate.config.ini import IniFile
from dgate.errors import ConfigError

SITE = b"""\
# the settings

[sscscp]
MyACRNema  =  SITE1
TCPPort=104
# MaxAssociations = 100
ImportModality0 = CT
ImportConverter0 = nop

# --- paths
TCP/IPTimeOut = 30

[lua]
# nothing yet
[scripts]
tidy = nop a; stop
"""


def changed(key: str, value: str, section: str | None = None, data: bytes = SITE) -> list[str]:
    """Return the lines that are new, with those that they replace marked by a minus."""
    old = data.decode("utf-8").splitlines()
    new = with_value(IniFile.parse(data, "dicom.ini"), section, key, value).decode().splitlines()
    gone = [f"-{line}" for line in old if line not in new]
    return gone + [f"{new.index(line) + 1}:{line}" for line in new if line not in old]


@pytest.mark.parametrize(
    ("key", "value", "lines"),
    [
        ("MyACRNema", "SITE2", ["-MyACRNema  =  SITE1", "4:MyACRNema  =  SITE2"]),
        ("tcpport", "11112", ["-TCPPort=104", "5:TCPPort=11112"]),
        ("TCPIPTimeOut", "60", ["-TCP/IPTimeOut = 30", "11:TCP/IPTimeOut = 60"]),
        ("MaxAssociations", "9", ["7:MaxAssociations = 9"]),
        ("importconverter1", "stop", ["9:ImportConverter1 = stop"]),
        ("IgnoreRewrite", "1", ["12:IgnoreRewrite = 1"]),
        ("MyACRNema", " A ", ["-MyACRNema  =  SITE1", '4:MyACRNema  =  " A "']),
        ("MyACRNema", "", ["-MyACRNema  =  SITE1", "4:MyACRNema  =  "]),
    ],
)
def test_setting_is_changed_or_added_where_it_fits(key: str, value: str, lines: list[str]) -> None:
    assert changed(key, value) == lines


@pytest.mark.parametrize(
    ("section", "key", "lines"),
    [
        ("scripts", "TIDY", ["-tidy = nop a; stop", "16:tidy = v"]),
        ("scripts", "other", ["17:other = v"]),
        ("LUA", "startup", ["14:startup = v"]),
        ("node X", "Color", ["18:[node X]", "19:Color = v"]),
    ],
)
def test_other_sections_are_changed_too(section: str, key: str, lines: list[str]) -> None:
    assert changed(key, "v", section) == lines


def test_profile_is_the_section_that_counts() -> None:
    data = b"[sscscp]\nMicroPACS = two\nTCPPort = 1\n[two]\nTCPPort = 2\n"

    assert changed("TCPPort", "3", data=data) == ["-TCPPort = 2", "5:TCPPort = 3"]
    assert changed("MicroPACS", "sscscp", data=data) == [
        "-MicroPACS = two",
        "2:MicroPACS = sscscp",
    ]


def test_first_of_two_lines_is_the_one_that_is_changed() -> None:
    data = b"[sscscp]\nTCPPort = 1\ntcpport = 2\n"

    new = with_value(IniFile.parse(data, "dicom.ini"), None, "TCPPort", "3")
    assert new == b"[sscscp]\nTCPPort = 3\ntcpport = 2\n"


def test_removing_takes_every_line_of_the_key() -> None:
    data = b"[sscscp]\nTCP/IPTimeOut = 1\nx = 2\ntcpiptimeout = 2\n[two]\nTCPIPTimeOut = 5\n"

    new = without(IniFile.parse(data, "dicom.ini"), None, "TCPIPTimeOut")
    assert new == b"[sscscp]\nx = 2\n[two]\nTCPIPTimeOut = 5\n"


def test_removing_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="MaxAssociations is not set"):
        without(IniFile.parse(SITE, "dicom.ini"), None, "MaxAssociations")


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("PACSName", "two\nlines", "control character"),
        ("PACSName", "a\0b", "control character"),
        ("a=b", "x", "name of a setting"),
        ("[x]", "x", "name of a setting"),
        ("#x", "x", "name of a setting"),
        ("", "x", "name of a setting"),
    ],
)
def test_what_is_no_line_of_text_is_refused(key: str, value: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        with_value(IniFile.parse(SITE, "dicom.ini"), None, key, value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_encoding_and_line_ends_stay(encoding: str, end: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    text = f"{mark}[sscscp]{end}PACSName = Zürich{end}# é{end}TCPPort = 1"
    ini = IniFile.parse(text.encode(encoding), "dicom.ini")

    new = with_value(ini, None, "PACSName", "Köln")
    assert new == text.replace("Zürich", "Köln").encode(encoding)
    added = with_value(ini, None, "MyACRNema", "A")
    assert added == f"{text}{end}MyACRNema = A{end}".encode(encoding)


def test_character_that_the_file_cannot_hold_is_refused() -> None:
    ini = IniFile.parse("[sscscp]\n# é\nPACSName = x\n".encode("latin-1"), "dicom.ini")

    with pytest.raises(ConfigError, match="latin-1, which has no character '漢'"):
        with_value(ini, None, "PACSName", "漢字")


def test_change_after_which_the_file_would_be_read_in_another_way_is_refused() -> None:
    # Without the é in the value the rest is UTF-8 by chance, and the comment would change.
    ini = IniFile.parse(b"[sscscp]\nPACSName = \xe9\n# \xc3\xa9\n", "dicom.ini")
    assert ini.encoding == "latin-1"

    with pytest.raises(ConfigError, match="would not be read back"):
        with_value(ini, None, "PACSName", "plain")


plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)


@given(plain)
def test_any_value_is_read_back(value: str) -> None:
    data = with_value(IniFile.parse(SITE, "dicom.ini"), None, "PACSName", value)

    section = IniFile.parse(data, "dicom.ini").section("sscscp")
    assert section is not None
    entry = section.get("PACSName")
    assert entry is not None
    assert entry.value == value
    assert quoted(value).strip(" \t") == quoted(value)


ini_lines = st.lists(
    st.one_of(
        st.builds("{} = {}".format, st.sampled_from(["PACSName", "x", "TCPPort", "y z"]), plain),
        st.sampled_from(["", "# c", "[sscscp]", "[lua]", " z = 1", "\t", "novalue", "a=b=c", "="]),
    ),
    max_size=12,
)


@given(ini_lines, st.sampled_from(["\n", "\r\n", "\r"]), plain)
def test_change_of_one_key_changes_its_line_only(lines: list[str], end: str, value: str) -> None:
    data = end.join(["[sscscp]", "PACSName = before", *lines]).encode()
    new = with_value(IniFile.parse(data, "dicom.ini"), None, "PACSName", value)

    assert new == data.replace(b"PACSName = before", f"PACSName = {quoted(value)}".encode(), 1)


@given(ini_lines, plain)
def test_added_key_leaves_all_other_lines(lines: list[str], value: str) -> None:
    text = "\n".join(["[sscscp]", *lines, ""])
    ini = IniFile.parse(text.encode(), "dicom.ini")
    new = with_value(ini, None, "LRUSort", value).decode().split("\n")

    new.remove(f"LRUSort = {quoted(value)}")
    assert "\n".join(new) == text


def test_several_values_are_changed_at_once() -> None:
    ini = IniFile.parse(b"[s]\na = 1\nb\n# c\nd='x'\n", "dicom.ini")

    assert with_values(ini, [(2, "9"), (3, "2"), (5, "y")]) == b"[s]\na = 9\nb = 2\n# c\nd=y\n"
