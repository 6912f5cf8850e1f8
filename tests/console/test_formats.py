"""The formats of server commands."""

from __future__ import annotations

import pytest

from dgate.console.formats import formatted


@pytest.mark.parametrize(
    ("form", "values", "text"),
    [
        ("%s", ["a"], "a"),
        ("%s-%s\\n", ["a", "b"], "a-b\n"),
        ("%-5s|%5s|", ["a", "b"], "a    |    b|"),
        ("%.2s", ["abc"], "ab"),
        ("100%% %d", ["7"], "100% 7"),
        ("%s %s", ["a"], "a "),
        ("%s", ["%s%n"], "%s%n"),
        ("%n%p%x", ["a"], "%n%p%x"),
        ("%99999s", ["a"], "%99999s"),
        ("", ["a"], ""),
    ],
)
def test_places_are_filled_with_text(form: str, values: list[str], text: str) -> None:
    assert formatted(form, values) == text
