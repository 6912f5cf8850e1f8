from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgate.config.nodes import Node, NodeMap


def nodes(text: str) -> NodeMap:
    return NodeMap.parse(text.encode(), "acrnema.map")[0]


WILD = nodes(
    """
    EXACT h1 104 as
    V*    *  1234 ul
    P*    h2 10* un
    S*X   h3 104
    lower h4 104 un
    """
)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("EXACT", ("EXACT", "h1", "104", "as")),
        ("EXACT \t\r\n", ("EXACT", "h1", "104", "as")),
        ("exact", ("exact", "h1", "104", "as")),
        ("V10.0.0.1", ("V10.0.0.1", "10.0.0.1", "1234", "ul")),
        ("vHost", ("vHost", "Host", "1234", "ul")),
        ("V", ("V", "", "1234", "ul")),
        ("P4", ("P4", "h2", "104", "un")),
        ("S*X", ("S*X", "h3", "104", "un")),
        ("LOWER", ("LOWER", "h4", "104", "un")),
    ],
)
def test_title_is_found(title: str, expected: tuple[str, str, str, str]) -> None:
    node = WILD.find(title)

    assert node is not None
    assert (node.ae_title, node.host, node.port, node.compression) == expected
    assert WILD.names(title)


@pytest.mark.parametrize("title", ["", "   ", "OTHER", "SaX", " EXACT"])
def test_title_is_not_found(title: str) -> None:
    assert WILD.find(title) is None
    assert not WILD.names(title)


def test_wildcard_above_an_exact_line_hides_it() -> None:
    node = nodes("A* first 1\nAB second 2\n").find("AB")

    assert node is not None
    assert node.host == "first"


def test_wildcard_below_an_exact_line_does_not() -> None:
    node = nodes("AB first 1\nA* second 2\n").find("AB")

    assert node is not None
    assert node.host == "first"


def test_wildcard_wins_over_a_title_in_another_letter_case() -> None:
    node = nodes("ab first 1\nA* second 2\n").find("AB")

    assert node is not None
    assert node.host == "second"


def test_entry_below_a_trailing_comment_is_kept_in_files_with_bare_line_feeds() -> None:
    assert [node.ae_title for node in nodes("AE1 h 104 un # x\nAE2 h 104 un ; y\nAE3 h 1\n")] == [
        "AE1",
        "AE2",
        "AE3",
    ]


def test_missing_code_means_uncompressed() -> None:
    assert [node.compression for node in nodes("AE1 h 104")] == ["un"]


def test_further_columns_are_kept() -> None:
    assert [node.extra for node in nodes("AE1 h 104 as 4 x # c")] == [("4", "x")]


def test_service_name_is_a_port() -> None:
    table, problems = NodeMap.parse(b"AE1 h acr-nema as\n", "acrnema.map")

    assert not problems
    assert [node.port for node in table] == ["acr-nema"]


word = st.text("ABCabc019_.", min_size=1, max_size=8)
entries = st.builds(
    Node,
    ae_title=st.one_of(word, word.map(lambda text: text + "*")),
    host=word,
    port=st.integers(1, 65535).map(str),
    compression=st.sampled_from(["as", "un", "ul", "j2", "jk"]),
    extra=st.lists(word, max_size=2).map(tuple),
)


@settings(max_examples=50)
@given(st.lists(entries, max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_written_table_is_read_back(table: list[Node], end: str) -> None:
    text = end.join(
        "\t".join((node.ae_title, node.host, node.port, node.compression, *node.extra)) + " # c"
        for node in table
    )

    read = [
        Node(node.ae_title, node.host, node.port, node.compression, node.extra)
        for node in NodeMap.parse(text.encode(), "acrnema.map")[0]
    ]
    assert read == table


map_like = st.lists(
    st.sampled_from(["/*", "*/", "//", "#", ";", "\n", "\r", " ", "AE", "*", "104", "h", "/", "ä"])
).map("".join)


@given(st.one_of(st.binary(), map_like.map(str.encode)), st.text(max_size=4))
def test_no_bytes_and_no_title_crash_the_table(data: bytes, title: str) -> None:
    table, problems = NodeMap.parse(data, "acrnema.map")

    lines = len(data.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    assert all(problem.line is None or 1 <= problem.line <= lines for problem in problems)
    assert table.names(title) == (table.find(title) is not None)
