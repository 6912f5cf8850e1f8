"""One list of answers out of those of several archives.

An entity is answered once, known by the unique key of its level; what is here comes first. What
counts something is the largest number that an archive gives, as nobody can tell how far two
archives overlap. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dgate.archive.levels import MODALITIES_IN_STUDY

Match = dict[int, str | None]

COUNTS = frozenset({0x00201200, 0x00201202, 0x00201204, 0x00201206, 0x00201208, 0x00201209})
"""Number of (Patient|Study|Series) Related (Studies|Series|Instances)."""
COMBINED = COUNTS | {MODALITIES_IN_STUDY}
"""What needs all archives' answers about an entity before it can be answered."""


def merged(
    local: Callable[[], Iterator[Match]],
    remote: Iterator[Mapping[int, str] | None],
    unique_key: int,
    wanted: frozenset[int],
) -> Iterator[Match | None]:
    """Yield the answers of all archives, None where there is nothing yet but will perhaps be.

    With none of COMBINED in `wanted`, local answers are yielded before the remote ones are looked
    at; else they wait for these, whose number therefore is limited by memory.
    """
    if wanted.isdisjoint(COMBINED):
        return _streamed(local(), remote, unique_key, wanted)
    return _combined(local, remote, unique_key, wanted)


def _streamed(
    local: Iterator[Match],
    remote: Iterator[Mapping[int, str] | None],
    unique_key: int,
    wanted: frozenset[int],
) -> Iterator[Match | None]:
    seen: set[str] = set()
    for match in local:
        seen.add((match.get(unique_key) or "").strip())
        yield _only(match, wanted)
    for answer in remote:
        if answer is None:
            yield None
            continue
        key = answer.get(unique_key, "").strip()
        # An archive that does not say what it answers about cannot be compared.
        if not key or key not in seen:
            seen.add(key)
            yield _only(answer, wanted)


def _combined(
    local: Callable[[], Iterator[Match]],
    remote: Iterator[Mapping[int, str] | None],
    unique_key: int,
    wanted: frozenset[int],
) -> Iterator[Match | None]:
    found: dict[str, Match] = {}
    unnamed: list[Match] = []
    for answer in remote:
        if answer is None:
            yield None
            continue
        key = answer.get(unique_key, "").strip()
        match = _only(answer, wanted)
        if not key:
            unnamed.append(match)
        elif key in found:
            _combine(found[key], match)
        else:
            found[key] = match
    for match in local():
        other = found.pop((match.get(unique_key) or "").strip(), None)
        here = _only(match, wanted)
        if other is not None:
            _combine(here, other)
        yield here
    yield from found.values()
    yield from unnamed


def _only(answer: Mapping[int, str | None] | Mapping[int, str], wanted: frozenset[int]) -> Match:
    return {tag: answer.get(tag) or None for tag in wanted}


def _combine(match: Match, other: Match) -> None:
    """Add to one archive's answer what another says of the same entity."""
    for tag, value in other.items():
        if not value:
            continue
        mine = match.get(tag)
        if not mine:
            match[tag] = value
        elif tag in COUNTS:
            match[tag] = str(max(_number(mine), _number(value)))
        elif tag == MODALITIES_IN_STUDY:
            both = [part.strip() for part in f"{mine}\\{value}".split("\\")]
            match[tag] = "\\".join(dict.fromkeys(filter(None, both)))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
