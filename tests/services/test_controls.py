"""The control elements of group 9999 in retrieve requests; over the wire: tests/acceptance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgate.dicom.table import ElementTable
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE
from dgate.errors import ConfigError, DataSetMismatch
from dgate.services.controls import (
    CALLING,
    CODE,
    FRAME,
    MOST,
    PART,
    PIXELS,
    SCRIPT,
    SCRUB,
    Controls,
    keep_to_rules,
    read_controls,
)


def table(values: dict[int, str], syntax: str = IMPLICIT_LE) -> ElementTable:
    """Return an identifier with these elements, as a rule sets them."""
    found = ElementTable(b"", syntax)
    for tag, text in values.items():
        found.set_text(tag, text)
    return found


def controls(values: dict[int, str]) -> Controls:
    return read_controls(table(values))


def test_request_without_control_elements_wants_everything() -> None:
    assert controls({0x0020000D: "1.2.3"}) == Controls()
    assert Controls().choose(range(5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE])
def test_all_are_read_back_from_the_wire(syntax: str) -> None:
    written = table({MOST: "300", CODE: "un", CALLING: "OTHER", PART: "1/3"}, syntax)

    found = read_controls(ElementTable(written.tobytes(), syntax))

    assert found == Controls(300, "un", (1, 3), "OTHER")


@pytest.mark.parametrize("text", ["", "0", "000"])
def test_no_limit(text: str) -> None:
    assert controls({MOST: text}).most is None


@given(st.integers(0, 40), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 50)))
def test_parts_share_the_objects_without_overlap(total: int, of: int, most: int | None) -> None:
    items = list(range(total))
    parts = [Controls(part=(number, of)).choose(items) for number in range(of)]

    assert sorted(item for part in parts for item in part) == items
    limited = [Controls(most=most, part=(number, of)).choose(items) for number in range(of)]
    assert limited == [part[:most] for part in parts]


@given(
    st.lists(st.integers(), max_size=20), st.integers(0, 20), st.integers(1, 5), st.integers(1, 30)
)
def test_objects_of_other_servers_go_on_where_those_here_end(
    items: list[int], here: int, of: int, most: int
) -> None:
    wanted = Controls(most=most, part=(of - 1, of))
    first = wanted.choose(items[:here])

    rest = wanted.choose(items[here:], len(items[:here]), len(first))

    assert first + rest == wanted.choose(items)


@pytest.mark.parametrize(
    "values",
    [
        {PART: "2"},
        {PART: "2/2"},
        {PART: "3/2"},
        {PART: "0/0"},
        {PART: "-1/2"},
        {PART: "x/y"},
        {PART: "1/2/3"},
        {PART: "٣/9"},
        {CODE: "zz"},
        {CODE: "j3; rm"},
    ],
    ids=str,
)
def test_what_makes_no_sense_does_not_fit_the_request(values: dict[int, str]) -> None:
    with pytest.raises(DataSetMismatch, match=r"\(9999,0[7b]00\) has"):
        controls(values)


def test_limit_that_is_no_number_does_not_fit_the_request() -> None:
    found = table({})
    found.set_raw(MOST, "LO", b"many")
    with pytest.raises(DataSetMismatch, match=r"\(9999,0500\) has 'many', not a number"):
        read_controls(found)


@pytest.mark.parametrize("code", ["as", "un", "UI", "ue", "uj", "s0"])
def test_codes_that_can_be_carried_out(code: str) -> None:
    assert controls({CODE: code}).code == code


@pytest.mark.parametrize("code", ["k1", "v", "n1", "nj"])
def test_codes_that_cannot_be_carried_out(code: str) -> None:
    with pytest.raises(ConfigError, match="is not carried out"):
        controls({CODE: code})


def test_code_without_an_encoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_from: str, to: str) -> bool:
        return to == EXPLICIT_LE

    monkeypatch.setattr("dgate.services.controls.can_convert", nothing)
    with pytest.raises(ConfigError, match="needs an encoder for JPEG"):
        controls({CODE: "j2"})


@pytest.mark.parametrize("title", ["A" * 17, "A\\B", "Ä", "A\tB"])
def test_calling_title_has_to_be_one(title: str) -> None:
    with pytest.raises(ConfigError, match="cannot be an AE title"):
        controls({CALLING: title})


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE])
def test_what_a_rule_wants_done_to_the_copies_is_read(syntax: str) -> None:
    script = "set PatientName to A^B; delete PatientComments"
    written = table({PIXELS: "512", FRAME: "0", SCRUB: "-00100010,priv", SCRIPT: script}, syntax)

    found = read_controls(ElementTable(written.tobytes(), syntax))

    assert found == Controls(most_pixels=512, frame=0, scrub="-00100010,priv", script=script)
    assert found.changes_copies


@pytest.mark.parametrize(
    ("values", "is_change"),
    [
        ({PIXELS: "0"}, False),
        ({SCRIPT: " "}, False),
        ({CODE: "un", MOST: "3", PART: "0/2", CALLING: "X"}, False),
        ({PIXELS: "1"}, True),
        ({FRAME: "0"}, True),
        ({SCRUB: "+0010"}, True),
        ({SCRIPT: "nop"}, True),
    ],
    ids=str,
)
def test_which_elements_change_the_copies(values: dict[int, str], is_change: bool) -> None:
    assert controls(values).changes_copies is is_change


@pytest.mark.parametrize(
    "text", ["0010,0010", "-", "-00100010; destroy", "-00100010,", "- 0010", "-0010\\nop"]
)
def test_scrub_list_is_a_list_and_no_more(text: str) -> None:
    with pytest.raises(ConfigError, match=r"\(9999,0202\) has .* not \+ or - and a list"):
        controls({SCRUB: text})


@pytest.mark.parametrize("tag", [PIXELS, FRAME], ids=hex)
def test_size_and_frame_are_numbers(tag: int) -> None:
    found = table({})
    found.set_raw(tag, "LO", b"-1")
    with pytest.raises(DataSetMismatch, match=r"\(9999,020[01]\) has '-1', not a number"):
        read_controls(found)


def test_what_only_rules_may_say_is_taken_out_of_what_a_peer_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mine = {CALLING: "OTHER", SCRIPT: "nop", SCRUB: "-0010", PIXELS: "9", FRAME: "1"}
    asked = table(mine | {MOST: "2", PART: "0/2"})

    keep_to_rules(asked)

    assert asked.tags() == [MOST, PART]
    assert "(9999,0a00): that is ignored" in caplog.text
    assert "a script by (9999,0900): that is ignored" in caplog.text
