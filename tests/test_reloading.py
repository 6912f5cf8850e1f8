"""Applying a changed configuration inside one process: generations, parts, refusals."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dgate.gateway as gateway_module
from dgate.config.reload import Watcher
from dgate.config.settings import load
from dgate.config.store import NOTE
from dgate.errors import ConfigError
from dgate.gateway import Gateway
from dgate.generation import Generation
from dgate.net import ContextProposal, connect, echo
from tests.config.kit import interrupt
from tests.test_gateway import IMPLICIT_LE, VERIFICATION, site

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the watcher from taking up a change before the test does, if that takes seconds."""
    seldom = functools.partial(Watcher, look_every_s=3600.0)
    monkeypatch.setattr(gateway_module, "Watcher", seldom)


class TwinPart:
    """A part that remembers which configurations it was told of."""

    def __init__(self, *, broken: bool = False) -> None:
        self.titles: list[str] = []
        self._broken = broken

    def start(self) -> None:
        """Nothing to begin."""

    def apply(self, generation: Generation) -> None:
        """Remember the title, or fail."""
        if self._broken:
            raise ValueError("broken")
        self.titles.append(generation.settings.ae_title)

    def stop(self) -> None:
        """Nothing to end."""


@contextmanager
def running(folder: Path, *parts: TwinPart) -> Iterator[Gateway]:
    gateway = Gateway(load(folder), beside=parts)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "dicom.ini"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_parts_hear_of_what_was_applied_and_not_of_what_was_refused(tmp_path: Path) -> None:
    folder, part = site(tmp_path / "one"), TwinPart()
    with running(folder, part) as gateway:
        edit(folder, "= SITE", "= DOOR")
        assert gateway.reload("test").applied
        edit(folder, "= DOOR", "= " + "X" * 17)
        refused = gateway.reload("test")

        assert gateway.settings.ae_title == "DOOR"

    assert part.titles == ["DOOR"]
    assert not refused.applied
    assert "longer than 16" in refused.reasons[0]
    assert refused.reasons[0].startswith("dicom.ini:")


def test_a_part_that_fails_keeps_the_others_from_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, part = site(tmp_path / "one"), TwinPart()
    with running(folder, TwinPart(broken=True), part) as gateway:
        edit(folder, "= SITE", "= DOOR")
        assert gateway.reload("test").applied

    assert part.titles == ["DOOR"]
    assert "did not take up" in caplog.text


@pytest.mark.parametrize("error", [ConfigError("no"), RuntimeError("a fault")])
def test_what_fails_while_it_is_built_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder, part = site(tmp_path / "one"), TwinPart()
    with running(folder, part) as gateway:
        before = gateway.generation
        edit(folder, "= SITE", "= DOOR")

        def fail(*_: object) -> Generation:
            raise error

        monkeypatch.setattr(gateway_module.Generation, "build", fail)
        refused = gateway.reload("test")

        assert gateway.generation is before
        monkeypatch.undo()
        # The same files are tried again when somebody asks, even though they have not changed.
        assert gateway.reload("test").applied

    assert str(error) in refused.reasons[0]
    assert part.titles == ["DOOR"]


def test_every_generation_shares_what_must_outlive_it(tmp_path: Path) -> None:
    folder = site(tmp_path / "one")
    with running(folder) as gateway:
        first = gateway.generation
        edit(folder, "= SITE", "= DOOR")
        gateway.reload("test")
        second = gateway.generation

        assert second is not first
        assert second.toolbox.ledger is first.toolbox.ledger
        assert [*second.devices] == [*first.devices]
        assert second.devices.spool is first.devices.spool
        assert second.user_log is first.user_log
        assert second.ingest._turns is first.ingest._turns
        assert second.ingest._names is first.ingest._names
        assert second.ingest._completed is first.ingest._completed
        assert second.index._shared is first.index._shared
        assert first.settings.ae_title == "SITE"


def test_a_changed_user_log_and_password_are_used_and_a_device_added(tmp_path: Path) -> None:
    folder = site(tmp_path / "one")
    with running(folder) as gateway:
        old = gateway.generation.user_log
        edit(
            folder,
            "[sscscp]\n",
            "[sscscp]\nUserLog = other.log\nPassword = new\nMAGDevices = 2\nMAGDevice1 = ./more\n",
        )
        text = (folder / "dicom.ini").read_text()
        first, _, rest = text.partition("MAGDevices = 2\n")
        (folder / "dicom.ini").write_text(
            first + "MAGDevices = 2\n" + rest.replace("MAGDevices = 1\n", "")
        )
        done = gateway.reload("test")

        assert done.applied, done.reasons
        assert done.waiting == []
        assert [device.name for device in gateway.generation.devices] == ["MAG0", "MAG1"]
        assert (folder / "more" / "dgate" / "incoming").is_dir()
        assert gateway.foundation.database._settings.password == "new"
        gateway.generation.user_log.write("C-Store", "NEW")
        old.write("C-Store", "OLD")

    assert '"NEW' in (folder / "other.log").read_text()


def test_reloads_from_many_threads_come_one_after_the_other(tmp_path: Path) -> None:
    folder = site(tmp_path / "one")
    with running(folder) as gateway:
        done: list[bool] = []
        threads = [
            threading.Thread(target=lambda: done.append(gateway.reload("test").applied))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert done == [True] * 8
        proposal = ContextProposal(VERIFICATION, (IMPLICIT_LE,))
        with connect("127.0.0.1", gateway.port, "TEST", "SITE", [proposal]) as association:
            assert echo(association).status == 0


def test_files_that_changed_before_the_start_was_complete_are_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = site(tmp_path / "one")
    gateway = Gateway(load(folder))
    edit(folder, "= SITE", "= DOOR")
    gateway.start()
    try:
        assert gateway.settings.ae_title == "SITE"
        assert gateway._reloader is not None
        with caplog.at_level(logging.INFO):
            gateway._reloader.check_files()
        assert gateway.settings.ae_title == "DOOR"
        gateway._reloader.check_files()
        assert caplog.text.count("The configuration was changed") == 1
    finally:
        gateway.stop()


def test_half_of_an_interrupted_change_is_never_applied(tmp_path: Path) -> None:
    """A command was killed between two files: a reload completes the set before it reads it."""
    folder = site(tmp_path / "one")
    wanted = (folder / "dicom.ini").read_text().replace("= SITE", "= DOOR")
    with running(folder) as gateway:
        interrupt(folder, {"acrnema.map": b"NEW 127.0.0.1 104 as\n", "dicom.ini": wanted.encode()})

        assert gateway.reload("test").applied

        assert gateway.settings.ae_title == "DOOR"
        assert (folder / "acrnema.map").read_text().startswith("NEW ")
    assert not (folder / NOTE).exists()


def test_rollback_that_cannot_be_put_into_effect_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site(tmp_path / "one")
    with running(folder) as gateway:
        edit(folder, "= SITE", "= DOOR")
        (folder / "acrnema.map").write_text("NEW 127.0.0.1 104 as\n")
        assert gateway.reload("test").applied
        before = {path.name: path.read_bytes() for path in folder.glob("*.[im][na]*")}

        def fail(*_: object) -> Generation:
            raise ConfigError("no")

        with monkeypatch.context() as patch:
            patch.setattr(gateway_module.Generation, "build", fail)
            assert gateway._reloader is not None
            refused = gateway._reloader.rollback(1, "test")

        assert not refused.applied
        assert gateway.settings.ae_title == "DOOR"
        after = {name: (folder / name).read_bytes() for name in before}
        assert after == before
        assert {"dicom.ini", "acrnema.map"} <= before.keys()
        # The files are those that count: there is nothing to apply.
        gateway._reloader.check_files()
        assert gateway._reloader.state()["refused"] == ["no"]
