"""The limit of open files, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import logging, resource, sys
logging.basicConfig(level=logging.WARNING)
soft, hard, associations = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from dgate.ops.openfiles import allow_open_files
print(allow_open_files(associations), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def run(soft: int, hard: int, associations: int) -> tuple[str, str]:
    """Return what the limits are afterwards, and what was logged."""
    command = [sys.executable, "-c", _PROGRAM, str(soft), str(hard), str(associations)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.strip(), result.stderr


def test_limit_is_raised_as_far_as_the_system_allows() -> None:
    assert run(100, 1000, 100) == ("1000 1000", "")


@pytest.mark.parametrize("associations", [100, 400])
def test_limit_that_may_not_be_enough_is_told(associations: int) -> None:
    limits, logged = run(64, 300, associations)

    assert limits == "300 300"
    assert f"{associations} associations can need {128 + 3 * associations}" in logged
    assert "LimitNOFILE" in logged
