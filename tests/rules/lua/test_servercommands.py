"""`servercommand`, `get_amap`, `gpps`, `HTML`, `CGI`."""

from __future__ import annotations

import pytest

from dgate.errors import RuleError
from tests.rules.lua.library_kit import Bench


def test_response_loses_one_padding_byte(bench: Bench) -> None:
    bench.server.response = b"1.2.3 "
    assert bench.run("return servercommand('genuid:')") == "1.2.3"
    assert bench.run("return servercommand('genuid:', 'binary')") == "1.2.3 "
    bench.server.response = None
    assert bench.run("return servercommand('genuid:')") is None
    assert [text for text, _ in bench.server.commands] == ["genuid:"] * 3


def test_binary_response_stays_bytes(bench: Bench) -> None:
    bench.server.response = bytes(range(256))

    assert bench.run("local s = servercommand('x:', 'binary') return #s .. ' ' .. s:byte(256)") == (
        "256 255"
    )


def test_file_goes_up_and_response_into_a_file(bench: Bench) -> None:
    bench.env.files.write("up.dcm", b"content")
    bench.server.response = b"answer"

    bench.run("servercommand('addimagefile:', '<up.dcm')")
    bench.run("return servercommand('display_status:', '>out.txt')")

    assert bench.server.commands == [("addimagefile:", b"content"), ("display_status:", b"")]
    assert bench.env.files.read("out.txt") == b"answer"


def test_table_keeps_its_arguments_apart(bench: Bench) -> None:
    bench.run("servercommand({'modifier', 'A,B:C', '', 1, 'set x'})")
    bench.run("servercommand({'genuid'})")

    assert [text for text, _ in bench.server.commands] == [
        "modifier:\x1fA,B:C\x1f\x1f1\x1fset x",
        "genuid:",
    ]


@pytest.mark.parametrize(
    "command", ["'x:\\31'", "{'x', '\\31'}", "{'x', {}}", "{'x', true}", "true", "nil"]
)
def test_what_is_no_command_is_refused(bench: Bench, command: str) -> None:
    with pytest.raises(RuleError):
        bench.run(f"servercommand({command})")
    assert bench.server.commands == []


@pytest.mark.parametrize("mode", ["cgi", "cgibinary", "cgihtml"])
def test_there_is_no_web_page(bench: Bench, mode: str) -> None:
    with pytest.raises(RuleError, match="web page"):
        bench.run(f"servercommand('x:', '{mode}')")


@pytest.mark.parametrize("name", ["HTML", "CGI"])
def test_functions_of_web_pages_say_so(bench: Bench, name: str) -> None:
    with pytest.raises(RuleError, match=f"{name} works in web pages only"):
        bench.run(f"{name}('text')")


def test_nodes_are_counted_from_nothing(bench: Bench) -> None:
    assert bench.run("return table.concat({get_amap(0)}, ' ')") == "PACS 10.0.0.1 104 un"
    assert bench.run("return get_amap(999)") is None


def test_setting_is_read_with_a_default(bench: Bench) -> None:
    assert bench.run("return gpps('sscscp', 'MyACRNema', 'x')") == "sscscp.MyACRNema"
    assert bench.run("return gpps('a', 'b', 'fallback')") == "fallback"
    assert bench.run("return gpps('a', 'b')") == ""
    with pytest.raises(RuleError):
        bench.run("gpps('a')")
