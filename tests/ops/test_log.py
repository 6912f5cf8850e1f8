"""The handlers of the process: what they write, what they keep from being forged, live changes."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dgate.ops.log import COMMANDS, QUERIES, RESULTS, SQL, Logs, LogSettings, visible

log = logging.getLogger("dgate.test")


@contextmanager
def logging_to(folder: Path, **settings: object) -> Iterator[Logs]:
    """Log as a server does, and leave everything as it was afterwards."""
    names = ["", "dgate", "pydicom", COMMANDS, QUERIES, RESULTS, SQL]
    levels = {name: logging.getLogger(name).level for name in names}
    logs = Logs(changed(folder, **settings))
    logs.start()
    try:
        yield logs
    finally:
        logs.stop()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def changed(folder: Path, **settings: object) -> LogSettings:
    values: dict[str, object] = {"trouble_log": folder / "PacsTrouble.log", **settings}
    return LogSettings(folder, **values)  # type: ignore[arg-type]


def test_warnings_and_errors_go_to_the_trouble_log_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path):
        log.info("An ordinary thing.")
        log.warning("An odd thing.")
        log.error("A bad thing.")

    console = capsys.readouterr().err
    trouble = (tmp_path / "PacsTrouble.log").read_text()
    assert [text in console for text in ("ordinary", "odd", "bad")] == [True, True, True]
    assert [text in trouble for text in ("ordinary", "odd", "bad")] == [False, True, True]
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING MainThread dgate.test: ", trouble
    )


def test_name_of_the_server_stands_in_front_of_console_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path, pacs_name="SITE 100%s") as logs:
        log.warning("First.")
        logs.apply(changed(tmp_path, pacs_name="OTHER"))
        log.warning("Second.")

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("[SITE 100%s] 2")
    assert second.startswith("[OTHER] 2")
    assert "SITE" not in (tmp_path / "PacsTrouble.log").read_text()


def test_a_value_with_line_ends_stays_on_its_log_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path):
        log.warning("Name %s", "A\n2026-01-01 ERROR forged\x1b[0m\u2028more\u202e")
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 1
    assert "A\\n2026-01-01 ERROR forged\\x1b[0m\\u2028more\\u202e" in text
    assert len((tmp_path / "PacsTrouble.log").read_text().splitlines()) == 1


def test_a_value_in_an_exception_cannot_forge_a_line(tmp_path: Path) -> None:
    with logging_to(tmp_path):
        try:
            raise ValueError("odd value\n2026-01-01 00:00:00,000 ERROR forged")
        except ValueError:
            log.exception("It failed.")
    lines = (tmp_path / "PacsTrouble.log").read_text().splitlines()
    assert lines[0].endswith("It failed.")
    assert all(line.startswith("    ") for line in lines[1:])
    assert any("Traceback (most recent call last)" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain text", "plain text"), ("tab\there", "tab\\there"), ("\x85\udcff", "\\x85\\udcff")],
)
def test_what_cannot_be_printed_is_shown_by_its_number(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("level", range(5))
def test_debug_level_opens_one_topic_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], level: int
) -> None:
    topics = (COMMANDS, QUERIES, RESULTS, SQL)
    with logging_to(tmp_path) as logs:
        logs.apply(changed(tmp_path, debug_level=level))
        for topic in topics:
            logging.getLogger(topic).debug("About %s.", topic)

    text = capsys.readouterr().err
    assert [f"About {topic}." in text for topic in topics] == [n < level for n in range(4)]


def test_trouble_log_survives_rotation_and_a_change_of_its_name(tmp_path: Path) -> None:
    with logging_to(tmp_path) as logs:
        log.warning("One.")
        (tmp_path / "PacsTrouble.log").rename(tmp_path / "old.log")
        logs.reopen()
        log.warning("Two.")
        logs.apply(changed(tmp_path, trouble_log=tmp_path / "other.log"))
        log.warning("Three.")

    assert "One." in (tmp_path / "old.log").read_text()
    assert "Two." in (tmp_path / "PacsTrouble.log").read_text()
    assert "Three." in (tmp_path / "other.log").read_text()


def test_trouble_log_on_a_full_disk_is_told_on_the_console_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path, trouble_log=Path("/dev/full")):
        for number in range(20):
            log.warning("Warning %d.", number)

    text = capsys.readouterr().err
    assert text.count("cannot be written: No space left") == 1
    assert "Traceback" not in text
    assert "Warning 19." in text


def test_console_gets_a_copy_by_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as console:
        console.bind(("127.0.0.1", 0))
        console.settimeout(60)
        address = f"127.0.0.1:{console.getsockname()[1]}"
        with logging_to(tmp_path) as logs:
            log.info("Before.")
            logs.apply(changed(tmp_path, operator_console=address, pacs_name="SITE"))
            log.info("After.")
            line = console.recv(2000)

    assert line.startswith(b"[SITE] ")
    assert line.endswith(b"After.\n")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"operator_console": "host:port:x/"}, 1),
        ({"operator_console": "\\\\.\\pipe\\MicroPACSStatus"}, 0),
        ({"operator_console": "host:99999"}, 1),
        ({"zip_time": "5:"}, 1),
        ({"zip_time": "invalid"}, 0),
        ({"zip_time": "05:"}, 0),
    ],
)
def test_setting_that_cannot_have_an_effect_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: dict[str, str], told: int
) -> None:
    with logging_to(tmp_path, **setting):
        pass

    assert capsys.readouterr().err.count("WARNING") == told


def test_stop_takes_every_handler_away(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    with logging_to(tmp_path, operator_console="127.0.0.1", zip_time="05:"):
        assert logging.getLogger().handlers != before

    assert logging.getLogger().handlers == before
