from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dgate.config.problem import Report, Severity
from dgate.config.text import decode, split_keeping_ends, split_lines


def test_byte_order_mark_is_no_part_of_the_text() -> None:
    decoded = decode(b"\xef\xbb\xbfx", Report("f"))

    assert decoded.text == "x"
    assert decoded.encode("y") == b"\xef\xbb\xbfy"


def test_text_that_is_not_utf8_is_latin1_and_noted_with_its_line() -> None:
    report = Report("f")

    assert decode(b"a\r\nb\xe4", report).text == "a\r\nb\xe4"
    assert [(p.severity, p.line) for p in report.problems] == [(Severity.INFO, 2)]


def test_form_feed_and_line_separator_end_no_line() -> None:
    assert split_lines("a\x0cb\u2028c\nd") == ["a\x0cb\u2028c", "d"]


@given(st.binary())
def test_bytes_survive_decoding(data: bytes) -> None:
    decoded = decode(data, Report("f"))

    assert decoded.encode("".join(split_keeping_ends(decoded.text))) == data
