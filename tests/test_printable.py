"""Foreign text that is shown."""

from __future__ import annotations

import pytest

from dgate.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller^名前", "Müller^名前"),
        ("", ""),
        ("a\x1b[2Jb", "a?[2Jb"),
        ("a\nb\rc\td", "a?b?c?d"),
        ("\udcff\u202e\u2028\x9b\0", "?????"),
    ],
)
def test_nothing_acts_on_what_shows_it(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text, ".") == shown.replace("?", ".")
    assert printable(text).isprintable()
