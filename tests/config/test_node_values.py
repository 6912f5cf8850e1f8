"""Hours, rates, statuses and transfer syntaxes as the sections about nodes write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dgate.config import node_values
from dgate.config.node_settings import Rate, Span
from dgate.config.node_values import BadValue

WORKDAYS = frozenset(range(5))
WEEKEND = frozenset((5, 6))
BASE = "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("22:00-06:00", [Span(1320, 360)]),
        ("0:00 - 24:00", [Span(0, 1440)]),
        ("24:00-06:00", [Span(0, 360)]),
        ("18:00-00:00", [Span(1080, 1440)]),
        (
            "mon-fri 18:00-07:00, sat 00:00-24:00",
            [Span(1080, 420, WORKDAYS), Span(0, 1440, frozenset((5,)))],
        ),
        ("sat,sun 08:00-12:00", [Span(480, 720, WEEKEND)]),
        ("Saturday, sunday 08:00-12:00, 01:00-02:00", [Span(480, 720, WEEKEND), Span(60, 120)]),
        ("fri-mon 08:00-12:00", [Span(480, 720, frozenset((4, 5, 6, 0)))]),
    ],
)
def test_hours_are_read(text: str, spans: list[Span]) -> None:
    assert list(node_values.times(text)) == spans


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("2000", [Rate(2000.0)]),
        ("0", [Rate(0.0)]),
        ("2000, 07:00-19:00 500", [Rate(500.0, Span(420, 1140)), Rate(2000.0)]),
        ("mon-fri 07:00-19:00 62.5", [Rate(62.5, Span(420, 1140, WORKDAYS))]),
        ("sat,sun 07:00-19:00 1", [Rate(1.0, Span(420, 1140, WEEKEND))]),
    ],
)
def test_rates_are_read_those_with_hours_first(text: str, rates: list[Rate]) -> None:
    assert list(node_values.rates(text)) == rates


def test_statuses_are_read() -> None:
    found = node_values.statuses("A700 wait, C000-CFFF Retry, 0x0122 fail, b000 - B00F delivered")

    assert found.statuses == (
        (0xA700, 0xA700, "wait"),
        (0xC000, 0xCFFF, "retry"),
        (0x0122, 0x0122, "fail"),
        (0xB000, 0xB00F, "delivered"),
    )
    assert found.errors == ()


def test_errors_are_read_beside_statuses() -> None:
    text = "refused fail, A700 wait, Rejected Retry, aborted wait, timeout retry, syntax fail"

    found = node_values.statuses(text)

    assert found.statuses == ((0xA700, 0xA700, "wait"),)
    assert found.errors == (
        ("refused", "fail"),
        ("rejected", "retry"),
        ("aborted", "wait"),
        ("timeout", "retry"),
        ("syntax", "fail"),
    )


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        ("as", ["as"]),
        ("as, explicit, implicit", ["as", f"{BASE}.1", BASE]),
        ("un", [f"{BASE}.1", BASE]),
        ("JPEGLSLossless, RLELossless", [f"{BASE}.4.80", f"{BASE}.5"]),
        ("Explicit VR Little Endian", [f"{BASE}.1"]),
        ("1.2.840.10008.1.2.4.70, rle", [f"{BASE}.4.70", f"{BASE}.5"]),
        ("explicit, un", [f"{BASE}.1", BASE]),
        ("jpeg2000", [f"{BASE}.4.90"]),
        ("JPEG2000", [f"{BASE}.4.91"]),
        ("jpeg2000-lossy", [f"{BASE}.4.91"]),
    ],
)
def test_transfer_syntaxes_are_read(text: str, uids: list[str]) -> None:
    assert list(node_values.syntaxes(text)) == uids


@pytest.mark.parametrize(
    ("read", "text", "at", "message"),
    [
        (node_values.times, "nine to five", 0, "no day of the week"),
        (node_values.times, "22:00", 0, "no span of hours"),
        (node_values.times, "01:00-02:00, 25:00-26:00", 13, "no time of day"),
        (node_values.times, "01:00-02:60", 0, "no time of day"),
        (node_values.times, "mon-fri", 0, "no hours stand behind"),
        (node_values.times, "mon-wed-fri 1:00-2:00", 0, "no span of days"),
        (node_values.times, "mo 1:00-2:00, xx 1:00-2:00", 0, "'mo' is no day"),
        (node_values.times, "01:00-02:00,,03:00-04:00", 11, "is empty"),
        (node_values.times, ",".join(["01:00-02:00"] * 65), 768, "more than 64"),
        (node_values.rates, "fast", 0, "no day of the week"),
        (node_values.rates, "2000, 3000", 6, "second bandwidth"),
        (node_values.rates, "-5", 0, "no bandwidth"),
        (node_values.rates, "07:00-19:00", 0, "no bandwidth"),
        (node_values.rates, "07:00-19:00 lots", 12, "no bandwidth"),
        (node_values.rates, "mon-fri 500", 8, "no hours"),
        (node_values.rates, "99999999999999", 0, "no bandwidth"),
        (node_values.statuses, "A700", 0, "no status"),
        (node_values.statuses, "A70 wait", 0, "no status"),
        (node_values.statuses, "A700 wait, B000 maybe", 16, "not what a status can mean"),
        (node_values.statuses, "refused", 0, "no status"),
        (node_values.statuses, "A700 wait, time-out retry", 11, "neither a status nor an error"),
        (node_values.statuses, "timeout  later", 9, "not what a status can mean"),
        (node_values.statuses, "refused delivered", 8, "does not tell that the node has"),
        (node_values.statuses, "aborted delivered", 8, "does not tell that the node has"),
        (node_values.statuses, "refused-timeout retry", 0, "neither a status nor"),
        (node_values.statuses, "0000 retry", 0, "success"),
        (node_values.statuses, "0000-FFFF retry", 0, "success"),
        (node_values.statuses, "B000-A000 retry", 0, "ends before"),
        (node_values.syntaxes, "explicit, bogus", 10, "no transfer syntax"),
        (node_values.syntaxes, "1.2." + "3" * 64, 0, "no transfer syntax"),
    ],
)
def test_mistake_is_named_with_its_place(
    read: Callable[[str], Any], text: str, at: int, message: str
) -> None:
    with pytest.raises(BadValue) as raised:
        read(text)

    assert message in raised.value.message
    assert raised.value.at == at
    assert raised.value.advice
