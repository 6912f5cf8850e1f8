"""The user log."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from dgate.ops.log import UserLog, set_up_logging


def test_each_transfer_is_one_line_with_the_padded_caller(tmp_path: Path) -> None:
    log = UserLog(tmp_path / "PacsUser.log")
    log.write("C-Store", "CT1")
    log.write("C-Move ", "VIEWER")
    log.close()
    lines = (tmp_path / "PacsUser.log").read_text().splitlines()
    assert [re.sub(r"^\[\d{8} \d\d:\d\d:\d\d\] ", "", line) for line in lines] == [
        '"C-Store","CT1             "',
        '"C-Move ","VIEWER          "',
    ]


def test_a_title_cannot_forge_a_line(tmp_path: Path) -> None:
    log = UserLog(tmp_path / "PacsUser.log")
    log.write("C-Store", 'X"\n[forged')
    log.close()
    assert len((tmp_path / "PacsUser.log").read_text().splitlines()) == 1


def test_a_log_that_cannot_be_written_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = UserLog(tmp_path / "missing" / "PacsUser.log")
    log.write("C-Store", "CT1")
    log.write("C-Store", "CT1")
    assert caplog.text.count("cannot be written") == 1


def test_a_value_with_line_ends_stays_on_its_log_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    set_up_logging(tmp_path / "PacsTrouble.log")
    try:
        logging.getLogger("dgate.test").warning("Name %s", "A\n2026-01-01 ERROR forged\x1b[0m")
    finally:
        for handler in [each for each in root.handlers if each not in before]:
            root.removeHandler(handler)
            handler.close()
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "PacsTrouble.log").read_text().count("\n") == 1
