from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.config.ini import IniFile
from dgate.config.nodes import Node, NodeMap
from dgate.config.toml import (
    Document,
    document_of,
    from_toml,
    ini_text,
    map_text,
    same_shape,
    to_toml,
)
from dgate.errors import ConfigError

INI = b"""\
above = the first header
[sscscp]
MyACRNema = SITE1
TCPPort = 0104
tcpport = 104
PACSName = "  blanks  "
TCPPort = 5
QuotedTwice = '"x"'
[scripts]
a = nop "\\"; stop
[sscscp]
no equals sign
Empty =
= no key
"""


def document(data: bytes, table: bytes = b"A h 104 as x y\n") -> Document:
    ini = IniFile.parse(data, "dicom.ini")
    return document_of(ini, NodeMap.parse(table, "acrnema.map")[0])


def entries(data: bytes) -> list[tuple[str, str, str, bool]]:
    """Return every entry of a file in its order."""
    ini = IniFile.parse(data, "dicom.ini")
    found = [ini.entry_at(n) for n in range(1, len(ini.written_lines) + 1)]
    return [(e.section, e.key, e.value, e.has_equals) for e in found if e is not None]


def test_document_reads_well() -> None:
    data = tomllib.loads(to_toml(document(INI)))

    assert data["format"] == 1
    assert data["node"] == [
        {"ae_title": "A", "host": "h", "port": "104", "compression": "as", "extra": ["x", "y"]}
    ]
    assert data["part"] == [
        {"settings": {"above": "the first header"}},
        {
            "section": "sscscp",
            "settings": {
                "MyACRNema": "SITE1",
                "TCPPort": "0104",
                "tcpport": 104,
                "PACSName": "  blanks  ",
            },
        },
        {"section": "sscscp", "continued": True, "settings": {"TCPPort": 5, "QuotedTwice": '"x"'}},
        {"section": "scripts", "settings": {"a": 'nop "\\"; stop'}},
        {"section": "sscscp", "settings": {"no equals sign": True, "Empty": "", "": "no key"}},
    ]


def test_files_written_from_a_document_say_the_same() -> None:
    again = from_toml(to_toml(document(INI)), "x.toml")

    assert entries(ini_text(again).encode()) == entries(INI)
    assert again.nodes is not None
    nodes = NodeMap.parse(map_text(again.nodes).encode(), "acrnema.map")[0]
    assert list(nodes) == [Node("A", "h", "104", "as", ("x", "y"), line=2)]


key = st.text("ABab0_/. -äé", min_size=1, max_size=6).map(str.strip).filter(bool)
value = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
line = st.one_of(
    st.builds("{} = {}".format, key, value),
    st.builds("{}={}".format, key, st.integers().map(str)),
    st.builds('{} = "{}"'.format, key, value),
    st.builds("[{}]".format, key),
    key,
    st.sampled_from(["# c", "", "= x", "=", " = x"]),
)


@given(st.lists(line, max_size=25))
def test_round_trip_loses_no_key_value_order_or_double(lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    first = document(data)
    again = from_toml(to_toml(first), "x.toml")

    assert again.parts == first.parts
    written = ini_text(again).encode()
    assert entries(written) == entries(data)
    assert document(written).parts == first.parts


word = st.text("ABCabc019_.-*", min_size=1, max_size=8)
node = st.builds(Node, word, word, st.integers(1, 65535).map(str), st.just("as"), st.tuples(word))


@given(st.lists(node, max_size=6))
def test_round_trip_loses_no_node(nodes: list[Node]) -> None:
    first = Document((), tuple(nodes))
    again = from_toml(to_toml(first), "x.toml")

    assert again == first
    read = NodeMap.parse(map_text(nodes).encode(), "acrnema.map")[0]
    assert [(n.ae_title, n.host, n.port, n.extra) for n in read] == [
        (n.ae_title, n.host, n.port, n.extra) for n in nodes
    ]


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_toml(text, "x.toml")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("format = 1\nfoo = 1", "foo is not known"),
        ("format = 2", "no line: format = 1"),
        ("format = 1\npart = 3", r"\[\[part\]\]"),
        ("format = 1\n[[part]]\nsettings = 3", "settings"),
        ("format = 1\n[[part]]\nsection = 3", "section"),
        ("format = 1\n[[part]]\nsection = 'a]b'", "name of a section"),
        ("format = 1\n[[part]]\nsection = 'a'\nsettings = {x = 1.5}", "neither text nor"),
        ("format = 1\n[[part]]\nsection = 'a'\nsettings = {x = false}", "neither text nor"),
        ('format = 1\n[[part]]\nsection = "a"\nsettings = {x = "a\\nb"}', "line end"),
        ("format = 1\n[[part]]\nsection = 'a'\nsettings = {'#x' = 1}", "a comment or a section"),
        ("format = 1\n[[part]]\nsection = 'a'\nsettings = {'x=' = 1}", "name of a setting"),
        ("format = 1\n[[part]]\nsection = 'a'\nother = 1", "other is not known"),
        ("format = 1\n[[part]]\nsection = 'a'\n[[part]]\nsettings = {}", "only the first part"),
        (
            "format = 1\n[[part]]\nsection = 'a'\n[[part]]\nsection = 'b'\ncontinued = true",
            "goes on with b, but follows a",
        ),
        ("format = 1\n[[node]]\nae_title = 'A'", "without blanks"),
        ("format = 1\n[[node]]\nae_title = 'A B'\nhost = 'h'\nport = '1'", "'A B'"),
        ("format = 1\n[[node]]\nae_title = 'A;B'\nhost = 'h'\nport = '1'", "'A;B'"),
        (f"format = 1\nx = {'[' * 5000}", "not TOML"),
        (f"format = {'9' * 5000}", "cannot be read|not TOML"),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        from_toml(text, "x.toml")


def test_shape_does_not_depend_on_values() -> None:
    assert same_shape(document(b"[s]\na = 1\n"), document(b"# c\n[s]\na=2\n"))
    assert not same_shape(document(b"[s]\na = 1\n"), document(b"[s]\nb = 1\n"))
    assert not same_shape(document(b"[s]\na = 1\n"), document(b"[s]\na\n"))
