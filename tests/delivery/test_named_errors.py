"""`Statuses` of a node that names failures of its associations, with peers that fail so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dgate.config.node_values import ERRORS
from dgate.delivery.failures import Fate, named_fate
from dgate.errors import (
    Aborted,
    NoContext,
    PeerError,
    ProtocolError,
    Rejected,
    StoreError,
    TimedOut,
    Unreachable,
)
from tests.acceptance.processes import wait_until
from tests.delivery import scripted_scp as scp
from tests.delivery.failure_rows import plays
from tests.delivery.gate_kit import Gate
from tests.delivery.scripted_scp import scripted_scp
from tests.delivery.test_failure_table import LONG_S, everything, gate
from tests.net.kit import dead_port

CAUSES: dict[str, list[dict[str, Any]]] = {
    "refused": [{}],
    "rejected": [
        {"welcome": scp.reject(1, 1, 1)},
        {"welcome": scp.reject(1, 1, 3)},
        {"welcome": scp.reject(2, 3, 1)},
    ],
    "aborted": [
        {"welcome": scp.abort_at_once},
        {"reply": scp.abort},
        {"reply": scp.hang_up},
        {"reply": scp.garbage},
    ],
    "timeout": [{"welcome": scp.hang_before_accept}, {"reply": scp.hang}],
    "syntax": [{"welcome": scp.accept_only(lambda sop_class, syntax: 3)}],
}
"""What a provider does, by the word for it; nothing = there is none."""
EACH = [
    pytest.param(word, script, id=f"{word}-{number}")
    for word, scripts in CAUSES.items()
    for number, script in enumerate(scripts)
]


@contextmanager
def failing(folder: Path, word: str, script: dict[str, Any], meaning: str) -> Iterator[Gate]:
    """Lend a gate that owes two objects to a peer which fails so."""
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "errors": ((word, meaning),),
        "response_timeout_s": 0.5,
        "retry_first_s": LONG_S,
        "retry_max_s": LONG_S,
    }
    if not script:
        with dead_port() as port, gate(folder, port, **settings) as made:
            yield made
        return
    with scripted_scp(**script) as peer, gate(folder, peer, **settings) as made:
        yield made


def test_every_word_has_its_causes() -> None:
    assert set(CAUSES) == set(ERRORS)


@plays("named-error")
@pytest.mark.parametrize(("word", "script"), EACH)
def test_error_that_sets_deliveries_aside(
    tmp_path: Path, word: str, script: dict[str, Any]
) -> None:
    with failing(tmp_path, word, script, "fail") as made:
        made.await_states(stuck=2)

        assert all(entry.attempts == 1 for entry in made.entries())
        assert all(entry.last_error for entry in made.entries())


@plays("named-error")
@pytest.mark.parametrize(("word", "script"), EACH)
def test_error_at_which_only_the_object_waits(
    tmp_path: Path, word: str, script: dict[str, Any]
) -> None:
    with failing(tmp_path, word, script, "retry") as made:
        # Each by its own failure: the destination does not pause in between.
        wait_until(lambda: all(entry.attempts == 1 for entry in made.entries()), "both tries")

        assert made.site().state == "closed"
        assert {entry.state for entry in made.entries()} == {"queued"}


@plays("named-error")
@pytest.mark.parametrize(("word", "script"), EACH)
def test_error_at_which_the_destination_pauses(
    tmp_path: Path, word: str, script: dict[str, Any]
) -> None:
    with failing(tmp_path, word, script, "wait") as made:
        wait_until(lambda: made.site().state == "open", "the pause")
        # Not always the first: an abort may have come of what was proposed for the second.
        wait_until(lambda: any(each.attempts == 1 for each in made.entries()), "the mark")

        assert {entry.state for entry in made.entries()} == {"queued"}


def test_object_that_breaks_every_connection_holds_all_up_where_the_node_wants_it(
    tmp_path: Path,
) -> None:
    with failing(tmp_path, "aborted", {"reply": scp.abort}, "wait") as made:
        for tries in (1, 2, 3):
            wait_until(lambda tries=tries: made.entry(0).attempts == tries, "the try")
            wait_until(lambda: made.site().workers == 0, "the end of the work")
            assert made.site().state == "open"
            if tries < 3:
                # As `queue retry` does, but the tries go on being counted.
                made.writer.transact(lambda t: t.execute("UPDATE dgate_debts SET due = id"))
                made.dispatcher.retry_now()


def test_errors_that_are_not_named_mean_what_they_mean(tmp_path: Path) -> None:
    with (
        scripted_scp(reply=scp.hang_up) as peer,
        gate(
            tmp_path,
            peer,
            errors=(("timeout", "fail"), ("syntax", "retry")),
            retry_first_s=LONG_S,
            retry_max_s=LONG_S,
        ) as made,
    ):
        wait_until(lambda: made.site().state == "open", "the pause")
        wait_until(lambda: made.entry(0).attempts == 1, "the mark")
        peer.reply = scp.status(0)
        made.desk.retry(everything())
        made.dispatcher.retry_now()
        made.await_states(done=2)


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (Unreachable("no connection"), Fate.STUCK),
        (Rejected("rejected", result=1, source=1, reason=3), Fate.AGAIN),
        (Aborted("lost"), Fate.WAIT),
        (ProtocolError("nonsense"), Fate.WAIT),
        (TimedOut("late"), Fate.AGAIN),
        (NoContext("no context"), Fate.WAIT),
        (PeerError("anything else"), None),
        (StoreError("our own disk"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_first_word_that_fits_counts(error: Exception, fate: Fate | None) -> None:
    named = (
        ("refused", "fail"),
        ("rejected", "retry"),
        ("aborted", "wait"),
        ("timeout", "retry"),
        ("syntax", "wait"),
        ("refused", "wait"),
    )

    assert named_fate(error, named) is fate
    assert named_fate(error, ()) is None
