"""Values sealed in script text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dgate.rules.opaque import lift, mark, plain, seal

HOSTILE = st.text(alphabet='\x0e\x0f\x10"%;{}\n\\a1 ')


@given(st.lists(HOSTILE))
def test_sealed_values_come_back_whatever_they_hold(values: list[str]) -> None:
    script = "nop " + " and ".join(map(seal, values))
    skeleton, lifted = lift(script)
    assert list(lifted) == values
    assert skeleton == "nop " + " and ".join(mark(index) for index in range(len(values)))


def test_text_without_values_is_its_own_skeleton() -> None:
    assert lift("nop a; nop b") == ("nop a; nop b", ())


@given(st.text())
def test_any_text_can_be_lifted(text: str) -> None:
    lift(text)


def test_people_read_the_values_without_their_seal() -> None:
    assert plain(f"nop {seal('A;B')}") == "nop A;B"
