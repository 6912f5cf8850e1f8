"""What `dgate check` says of codes without an encoder, and of rules that send in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_inspection import found


@pytest.mark.parametrize("key", ["IncomingCompression", "DroppedFileCompression"])
@pytest.mark.parametrize(("code", "name"), [("jk", "JPEG 2000 Lossless"), ("j2", "Process 14")])
def test_code_without_an_encoder_is_named(tmp_path: Path, key: str, code: str, name: str) -> None:
    problems = [p for p in found(tmp_path, f"{key} = {code}") if "no encoder" in p.message]
    assert [problem.severity.value for problem in problems] == ["warning"]
    assert name in problems[0].message
    assert problems[0].line == 2


@pytest.mark.parametrize("code", ["as", "un", "rl", "k4", "s1", "uj"])
def test_codes_that_can_be_carried_out_lack_nothing(tmp_path: Path, code: str) -> None:
    problems = found(tmp_path, f"IncomingCompression = {code}")
    assert [p for p in problems if "no encoder" in p.message] == []


def _to_itself(tmp_path: Path, rule: str) -> list[str]:
    problems = found(tmp_path, f"TCPPort = 5678\nExportConverters = 1\nExportConverter0 = {rule}")
    return [p.severity.value for p in problems if "this server itself" in p.message]


def test_rule_that_always_sends_to_this_server_is_an_error(tmp_path: Path) -> None:
    assert _to_itself(tmp_path, "forward to 127.0.0.1:5678") == ["error"]
    assert _to_itself(tmp_path, "nop; forward to LOCALHOST:5678") == ["error"]


def test_rule_that_may_send_to_this_server_is_a_warning(tmp_path: Path) -> None:
    assert _to_itself(tmp_path, 'ifequal "%m", "CT"; forward to 127.0.0.1:5678') == ["warning"]


def test_another_port_is_another_server(tmp_path: Path) -> None:
    assert _to_itself(tmp_path, "forward to 127.0.0.1:5679") == []


@pytest.mark.parametrize(
    ("caller", "rule", "expected"),
    [
        ("ARCHIVE", "forward to ARCHIVE", ["warning"]),
        ("archive", "forward to ARCHIVE", ["warning"]),
        ("ARCHIVE", "forward to 10.0.0.1 dest ARCHIVE", ["warning"]),
        ("ARCHIVE", "forward to ARCHIVE dest OTHER", []),
        ("ARC*", "forward to ARCHIVE", []),
        ("SCANNER", "forward to ARCHIVE", []),
    ],
)
def test_rule_that_sends_back_what_a_node_has_sent_is_named(
    tmp_path: Path, caller: str, rule: str, expected: list[str]
) -> None:
    problems = found(
        tmp_path,
        f"ExportConverters = 1\nExportCallingAE0 = {caller}\nExportConverter0 = {rule}",
    )
    assert [p.severity.value for p in problems if "sends back to" in p.message] == expected
