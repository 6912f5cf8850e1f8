"""Programs run without a shell, in bounded time, and only where the configuration allows it."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest

from dgate.errors import RuleError
from dgate.rules.programs import LONGEST_OUTPUT, SystemPrograms
from tests.acceptance.processes import wait_until


def programs(folder: Path, *, allowed: bool = True, timeout_s: float = 60) -> SystemPrograms:
    return SystemPrograms(allowed=allowed, timeout_s=timeout_s, folder=folder)


def shell(script: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *arguments]


def test_nothing_runs_unless_it_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="switched off") as caught:
        programs(tmp_path, allowed=False).run(["touch", "x"])

    assert "AllowSystemCommands" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


HOSTILE = ["; touch x", "$(touch x)", "`touch x`", "a\nb", '"', "'", "> x", "| cat", "*", "é", "-"]


@pytest.mark.parametrize("argument", HOSTILE)
def test_arguments_arrive_as_they_are(
    tmp_path: Path, argument: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    status = programs(tmp_path).run(["printf", "<%s>", argument])

    assert status == 0
    assert f"<{argument}>" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_program_runs_in_the_base_folder_without_input(tmp_path: Path) -> None:
    assert programs(tmp_path).run(shell("cat > made; pwd >> made")) == 0
    assert (tmp_path / "made").read_text().strip() == str(tmp_path)


def test_the_exit_status_is_returned_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status = programs(tmp_path).run(shell("echo out; echo err >&2; exit 7"))

    assert status == 7
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "sh ended with status 7" in record.getMessage()
    assert "out\nerr" in record.getMessage()


def test_a_signal_is_a_negative_status(tmp_path: Path) -> None:
    assert programs(tmp_path).run(shell("kill -9 $$")) == -signal.SIGKILL


def test_only_the_beginning_of_a_long_output_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    status = programs(tmp_path).run(shell("head -c 20000000 /dev/zero | tr '\\0' 'x'"))

    assert status == 0
    assert caplog.text.count("x") in range(LONGEST_OUTPUT, LONGEST_OUTPUT + 100)


@pytest.mark.parametrize(
    "arguments",
    [["no-such-program-here"], ["/no/such/program"], [""], [], ["./plain"], ["echo", "a\0b"]],
    ids=str,
)
def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "plain").write_text("not executable")

    with pytest.raises(RuleError):
        programs(tmp_path).run(arguments)


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = f"1000.{os.getpid()}{tmp_path.stat().st_ino}"

    with pytest.raises(RuleError, match="did not end within 1 seconds") as caught:
        programs(tmp_path, timeout_s=1).run(shell(f"sleep {mark} & wait"))

    assert "SystemTimeout" in caught.value.remedy
    wait_until(lambda: not running_with(mark), "program and child are gone")


def test_a_program_that_never_stops_talking_is_killed_too(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="did not end"):
        programs(tmp_path, timeout_s=1).run(["yes"])


def test_nobody_waits_for_what_a_program_leaves_in_the_background(tmp_path: Path) -> None:
    """It holds the program's output open."""
    status = programs(tmp_path, timeout_s=100).run(shell("sleep 1000 & echo $! > child"))
    child = int((tmp_path / "child").read_text())

    try:
        assert status == 0
        assert Path(f"/proc/{child}").exists()
    finally:
        os.kill(child, signal.SIGKILL)


def running_with(argument: str) -> list[Path]:
    """Return the processes that have a text in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes():
                found.append(path)
        except (FileNotFoundError, ProcessLookupError):
            # It has ended meanwhile.
            continue
    return found
