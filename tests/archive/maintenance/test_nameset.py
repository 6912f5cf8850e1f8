"""A set of names on disk against one in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dgate.archive.maintenance.nameset import NameSet

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))


@given(entered=NAMES, looked_for=NAMES)
def test_it_finds_what_a_set_in_memory_would(entered: list[str], looked_for: list[str]) -> None:
    names = NameSet()

    doubled = names.add(("MAG0", name) for name in entered)
    names.add([("MAG1", "other")])
    strange = names.find("MAG0", looked_for)
    lost = list(names.lost("MAG0"))
    names.close()

    assert doubled == len(entered) - len(set(entered))
    assert strange == [name for name in looked_for if name not in set(entered)]
    assert set(lost) == set(entered) - set(looked_for)
