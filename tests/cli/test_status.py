"""What `dgate status` prints."""

from __future__ import annotations

from typing import Any

import pytest

from dgate.cli.status import print_status

STATUS: dict[str, Any] = {
    "ae_title": "GATE",
    "port": 104,
    "pid": 7,
    "up_s": 3.2,
    "associations": 0,
    "max_associations": 100,
    "archive": {"patients": 1, "studies": 1, "series": 1, "instances": 1},
    "devices": [{"name": "MAG0", "free_mb": 5}],
    "queue": [],
    "health": {"state": "ok", "problems": []},
}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1 patient, 1 study, 1 series, 1 instance"),
        (2, "2 patients, 2 studies, 2 series, 2 instances"),
        (0, "0 patients, 0 studies, 0 series, 0 instances"),
    ],
)
def test_archive_is_counted_in_proper_words(
    number: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(STATUS | {"archive": dict.fromkeys(STATUS["archive"], number)})

    assert text in capsys.readouterr().out


def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    problems = {"state": "degraded", "problems": ["the database does not answer: it is away"]}

    print_status(STATUS | {"archive": {}, "health": problems})

    out = capsys.readouterr().out
    assert "degraded" in out
    assert "the database does not answer: it is away" in out
    assert "not known" in out


def test_text_of_a_compared_node_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"node": "PACS", "ended": 0.0, "text": "failed: [/red] [bold]\x1b[2Jgone"}

    print_status(STATUS | {"reconciled": [result]})

    assert "failed: [/red] [bold]?[2Jgone" in capsys.readouterr().out
