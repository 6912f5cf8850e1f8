"""Answers of several archives as one list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dgate.services.virtual.merging import Match, merged

STUDY = 0x0020000D
NAME = 0x00100010
INSTANCES = 0x00201208
MODALITIES = 0x00080061


def run(
    local: list[Match], remote: list[Mapping[int, str] | None], *wanted: int
) -> tuple[list[Match | None], list[str]]:
    """Merge, and note in which order the sources were looked at."""
    looked: list[str] = []

    def here() -> Iterator[Match]:
        for match in local:
            looked.append("here")
            yield match

    def there() -> Iterator[Mapping[int, str] | None]:
        for answer in remote:
            looked.append("there")
            yield answer

    return list(merged(here, there(), STUDY, frozenset(wanted))), looked


def test_local_answers_come_first_and_duplicates_once() -> None:
    found, looked = run(
        [{STUDY: "1", NAME: "A"}],
        [{STUDY: "1 ", NAME: "B"}, {STUDY: "2", NAME: "C"}, {STUDY: "2", NAME: "D"}],
        STUDY,
        NAME,
    )

    assert found == [{STUDY: "1", NAME: "A"}, {STUDY: "2", NAME: "C"}]
    assert looked == ["here", "there", "there", "there"]


def test_only_what_was_asked_for_is_answered() -> None:
    found, _ = run([{STUDY: "1", NAME: "A"}], [{STUDY: "2", 0x00100030: "x"}], NAME)

    assert found == [{NAME: "A"}, {NAME: None}]


def test_moments_without_an_answer_are_passed_on() -> None:
    assert run([], [None, {STUDY: "1"}, None], STUDY)[0] == [None, {STUDY: "1"}, None]
    assert run([], [None, {STUDY: "1"}], STUDY, INSTANCES)[0] == [
        None,
        {STUDY: "1", INSTANCES: None},
    ]


def test_counts_are_the_largest_and_modalities_all_of_them() -> None:
    found, looked = run(
        [{STUDY: "1", INSTANCES: "3", MODALITIES: "CT", NAME: None}],
        [
            {STUDY: "1", INSTANCES: "12", MODALITIES: "CT\\SR", NAME: "A"},
            {STUDY: "1", INSTANCES: "7", MODALITIES: "MR", NAME: "B"},
            {STUDY: "2", INSTANCES: "bad"},
            {STUDY: "2", INSTANCES: "5"},
        ],
        STUDY,
        INSTANCES,
        MODALITIES,
        NAME,
    )

    assert found == [
        {STUDY: "1", INSTANCES: "12", MODALITIES: "CT\\SR\\MR", NAME: "A"},
        {STUDY: "2", INSTANCES: "5", MODALITIES: None, NAME: None},
    ]
    assert looked[-1] == "here"


def test_an_answer_that_names_nothing_is_not_taken_for_a_duplicate() -> None:
    plain, _ = run([{STUDY: "1"}], [{NAME: "A"}, {NAME: "A"}], NAME)
    counted, _ = run([{STUDY: "1"}], [{NAME: "A"}, {NAME: "B"}], NAME, INSTANCES)

    assert len(plain) == 3
    assert len(counted) == 3
