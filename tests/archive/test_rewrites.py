"""Notes of replacements: dropped only when the old file is surely gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgate.archive import rewrites
from dgate.archive.index import Rewrite
from dgate.archive.rewrites import CompletedRewrites


def note(sop_instance: str, sha256: str = "abc") -> Rewrite:
    """Return the note of a replacement."""
    return Rewrite(sop_instance, sha256, "MAG0", "a.dcm")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note which folders are synced."""
    done: list[Path] = []
    monkeypatch.setattr(rewrites, "sync_folder", done.append)
    return done


def test_note_may_go_once_its_folder_is_synced(synced: list[Path]) -> None:
    completed = CompletedRewrites()
    completed.complete(note("1.2.3"), {Path("/a")})
    assert completed.take() == []

    completed.settle(completed.unsynced(), set())

    assert synced == [Path("/a")]
    assert completed.take() == [note("1.2.3")]
    assert completed.take() == []


def test_folder_that_was_synced_already_is_not_synced_again(synced: list[Path]) -> None:
    completed = CompletedRewrites()
    completed.complete(note("1.2.3"), {Path("/a")})
    completed.complete(note("1.2.4"), {Path("/b")})

    completed.settle(completed.unsynced(), {Path("/a")})

    assert synced == [Path("/b")]
    assert sorted(completed.take()) == [note("1.2.3"), note("1.2.4")]


def test_instance_that_is_replaced_again_keeps_its_note(synced: list[Path]) -> None:
    completed = CompletedRewrites()
    completed.complete(note("1.2.3"), {Path("/a")})
    before = completed.unsynced()
    completed.begin("1.2.3")
    completed.complete(note("1.2.3", "def"), {Path("/b")})

    completed.settle(before, set())

    assert completed.take() == []
    completed.settle(completed.unsynced(), set())
    assert completed.take() == [note("1.2.3", "def")]


def test_folder_that_cannot_be_synced_keeps_its_note(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path) -> None:
        if folder == Path("/bad"):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(rewrites, "sync_folder", fail)
    completed = CompletedRewrites()
    completed.complete(note("1.2.3"), {Path("/bad"), Path("/good")})
    completed.complete(note("1.2.4"), {Path("/good")})

    completed.settle(completed.unsynced(), set())

    assert completed.take() == [note("1.2.4")]
    assert "/bad" in caplog.text


def test_folder_that_is_gone_can_bring_nothing_back(tmp_path: Path) -> None:
    completed = CompletedRewrites()
    completed.complete(note("1.2.3"), {tmp_path / "gone"})

    completed.settle(completed.unsynced(), set())

    assert completed.take() == [note("1.2.3")]


def test_nothing_is_synced_without_durability(synced: list[Path]) -> None:
    completed = CompletedRewrites(durable=False)
    completed.complete(note("1.2.3"), {Path("/a")})

    completed.settle(completed.unsynced(), set())

    assert synced == []
    assert completed.take() == [note("1.2.3")]


def test_notes_go_in_batches(synced: list[Path]) -> None:
    completed = CompletedRewrites()
    for number in range(150):
        completed.complete(note(f"1.2.{number}"), frozenset())
    completed.settle(completed.unsynced(), set())

    assert [len(completed.take()) for _ in range(4)] == [64, 64, 22, 0]
