"""Fixtures of the acceptance tests: a place that starts programs and stops them all again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Gateway, Node
from tests.acceptance.peers import Orthanc, StoreScp
from tests.acceptance.processes import Failed, Ports, Process
from tests.generate import Generated, Plan, write_files

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that none can be forgotten."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


@dataclass(slots=True)
class Farm:
    """Starts servers in a folder and knows them all, to stop them when the test is over."""

    folder: Path
    ports: Ports
    _processes: list[Process] = field(default_factory=list)
    _gateways: list[Gateway] = field(default_factory=list)

    def gateway(
        self,
        name: str = "dgate",
        *,
        settings: Mapping[str, object] | None = None,
        nodes: Iterable[Node] = (),
        wrapper: Sequence[str] = (),
        start: bool = True,
    ) -> Gateway:
        """Make a dgate server, running unless told otherwise."""
        folder = self.folder / name
        gateway = Gateway.create(
            folder, self.ports, settings=settings, nodes=nodes, wrapper=wrapper
        )
        self._processes.append(gateway.process)
        self._gateways.append(gateway)
        return gateway.start() if start else gateway

    def sink(
        self, title: str = "SINK", *, options: Sequence[str] = ("+B",), start: bool = True
    ) -> StoreScp:
        """Make a storescp that keeps what it gets, running unless told otherwise."""
        sink = StoreScp.create(
            self.folder / title.lower(), self.ports, title=title, options=options
        )
        self._processes.append(sink.process)
        return sink.start() if start else sink

    def orthanc(
        self,
        *,
        nodes: Iterable[Node] = (),
        settings: Mapping[str, Any] | None = None,
        lua: str = "",
    ) -> Orthanc:
        """Make a running Orthanc."""
        peer = Orthanc.create(
            self.folder / "orthanc", self.ports, nodes=nodes, settings=settings, lua=lua
        )
        self._processes.append(peer.process)
        return peer.start()

    def add(self, process: Process) -> None:
        """Take a process over that a test has made; it is ended with the farm."""
        self._processes.append(process)

    def close(self) -> None:
        """End everything; fail when a dgate server met an exception that nobody expected."""
        failures = []
        for process in reversed(self._processes):
            if process.child is not None:
                try:
                    process.end()
                except Failed as failure:
                    failures.append(str(failure))
        self.ports.close()
        for gateway in self._gateways:
            if "Traceback (most recent call last)" in gateway.log:
                failures.append(f"unexpected exception in {gateway.folder}:\n{gateway.log}")
        if failures:
            raise Failed("\n".join(failures))


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """Return a farm for one test."""
    farm = Farm(tmp_path, Ports())
    yield farm
    farm.close()


@pytest.fixture(scope="module")
def shared_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Return a farm for tests of one file that only read from their servers."""
    farm = Farm(tmp_path_factory.mktemp("farm"), Ports())
    yield farm
    farm.close()


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Generated]:
    """Return twenty small MR objects: two patients with one study of one series of ten each."""
    return write_files(tmp_path_factory.mktemp("objects"), Plan(20))


@pytest.fixture(scope="session")
def is_root() -> bool:
    """Tell whether tests may mount file systems and such."""
    return os.geteuid() == 0
