"""What the harness promises to every other test: ports that are nobody else's, complete files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.processes import Ports, Process, files_below, wait_until


def test_port_is_kept_from_others_and_open_to_a_server() -> None:
    # Both begin to look at the same place.
    first, second = Ports(), Ports()
    taken = [ports.take() for ports in (first, second) for _ in range(20)]
    assert len(set(taken)) == 40

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", taken[0]))
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with (
        socket.create_server(("", taken[0]), family=family, dualstack_ipv6=both),
        socket.create_connection(("127.0.0.1", taken[0])),
    ):
        pass

    first.close()
    second.close()


def test_what_a_program_and_its_children_write_is_seen_as_open(tmp_path: Path) -> None:
    script = f"(exec 3>{tmp_path}/inner; echo ready; sleep 1000) & exec 4>{tmp_path}/outer; wait"
    program = Process(["sh", "-c", script], tmp_path / "log", os.environ)
    program.launch()
    wait_until(lambda: program.has_said("ready"), "the child's file")
    wait_until(lambda: (tmp_path / "outer").exists(), "the program's file")

    assert {tmp_path / "inner", tmp_path / "outer"} <= program.open_files()

    program.end()
    assert files_below(tmp_path) == [tmp_path / name for name in ("inner", "log", "outer")]


def test_words_of_an_earlier_run_are_not_those_of_this_one(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; cat first second 2>&-; rm -f first"
    program = Process(["sh", "-c", script], tmp_path / "log", os.environ)
    (tmp_path / "first").write_text("one\n")
    (tmp_path / "second").write_text("two\n")
    for expected in (True, False):
        program.launch()
        program.running.wait()
        assert (program.has_said("one"), program.has_said("two")) == (expected, True)
    assert program.text() == "one\ntwo\ntwo\n"


def test_start_is_over_when_the_control_socket_is_there(farm: Farm) -> None:
    gateway = farm.gateway()
    assert (gateway.folder / "dgate.sock").is_socket()
    assert (gateway.folder / "dgate" / "history" / "000001" / "set.json").exists()
