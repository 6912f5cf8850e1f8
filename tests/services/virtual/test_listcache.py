"""Lists of images that are remembered for a day."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from dgate.archive.levels import Level
from dgate.config.model import VirtualServer
from dgate.delivery.inquiry import STUDY_DATE, Inquiry, Listed
from dgate.services.virtual.listcache import LIFE_S, ListCache, Recall

NOW = 1_800_000_000.0
IMAGE = Listed("1.2", "1.2.3", "ID", "1", "2")


class TwinInquiry:
    """Says of when a study is."""

    def __init__(self, date: str) -> None:
        self.date = date

    def find(self, level: Level, values: Mapping[int, str | None]) -> Iterator[dict[int, str]]:
        assert level is Level.STUDY
        yield {STUDY_DATE: self.date}


class Asked:
    """Counts how often the server is asked."""

    def __init__(self, *answers: list[Listed]) -> None:
        self.answers = list(answers)
        self.count = 0

    def __call__(self) -> list[Listed]:
        self.count += 1
        return self.answers[min(self.count, len(self.answers)) - 1]


def recall(cache: ListCache, date: str = "20200101", flag: str = "CACHESERIES") -> Recall:
    server = VirtualServer(0, "PACS", frozenset({flag}))
    return cache.of(server, cast(Inquiry, TwinInquiry(date)))


@pytest.fixture
def cache(tmp_path: Path) -> ListCache:
    return ListCache(tmp_path / "cache", lambda: NOW)


def test_a_list_is_asked_for_once(cache: ListCache) -> None:
    ask = Asked([IMAGE])

    first = recall(cache).of_series(("1", "2"), ask)
    second = recall(cache).of_series(("1", "2"), ask)

    assert first == second == [IMAGE]
    assert ask.count == 1


def test_another_series_is_another_list(cache: ListCache) -> None:
    ask = Asked([IMAGE])
    recall(cache).of_series(("1", "2"), ask)
    recall(cache).of_series(("1", "3"), ask)

    assert ask.count == 2


@pytest.mark.parametrize("date", ["today", "", "29990101"], ids=["today", "unknown", "future"])
def test_what_may_still_grow_is_not_remembered(cache: ListCache, date: str) -> None:
    ask = Asked([IMAGE])
    for _ in range(2):
        recall(cache, cache.today() if date == "today" else date).of_series(("1", "2"), ask)

    assert ask.count == 2


def test_an_empty_list_is_not_remembered(cache: ListCache) -> None:
    ask = Asked([], [IMAGE])

    assert recall(cache).of_series(("1", "2"), ask) == []
    assert recall(cache).of_series(("1", "2"), ask) == [IMAGE]


def test_the_flag_decides_what_is_remembered(cache: ListCache) -> None:
    ask = Asked([IMAGE])
    for _ in range(2):
        recall(cache).of_study(("1",), ask)
        recall(cache, flag="CACHESTUDIES").of_series(("1", "2"), ask)

    assert ask.count == 4


def files(folder: Path) -> list[Path]:
    return list((folder / "cache").glob("*.json"))


def test_a_list_older_than_a_day_is_asked_for_again_and_removed(tmp_path: Path) -> None:
    ask = Asked([IMAGE])
    recall(ListCache(tmp_path / "cache", lambda: NOW)).of_series(("1", "2"), ask)
    (path,) = files(tmp_path)
    os.utime(path, (NOW, NOW))
    later = ListCache(tmp_path / "cache", lambda: NOW + LIFE_S + 1)

    recall(later).of_series(("1", "3"), ask)

    assert path not in files(tmp_path)
    assert ask.count == 2


def test_a_broken_file_is_as_good_as_none(tmp_path: Path, cache: ListCache) -> None:
    ask = Asked([IMAGE])
    recall(cache).of_series(("1", "2"), ask)
    (path,) = files(tmp_path)
    path.write_text('[{"what": 1}]')

    assert recall(cache).of_series(("1", "2"), ask) == [IMAGE]
    assert ask.count == 2


def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    ask = Asked([IMAGE])
    cache = ListCache(tmp_path / "cache" / "below", lambda: NOW)

    assert recall(cache).of_series(("1", "2"), ask) == [IMAGE]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_nobody_else_can_read_the_lists(tmp_path: Path, umask: int) -> None:
    """They name patients; the folder of an earlier version is closed too."""
    folder = tmp_path / "new" / "cache"
    earlier = tmp_path / "earlier"
    before = os.umask(umask)
    try:
        earlier.mkdir(mode=0o755)
        for place in (folder, earlier):
            recall(ListCache(place, lambda: NOW)).of_series(("1", "2"), Asked([IMAGE]))
    finally:
        os.umask(before)

    for place in (folder, earlier):
        assert place.stat().st_mode & 0o777 == 0o700
        files = list(place.iterdir())
        assert len(files) == 2
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
