"""`dgate check` and `dgate config set` as programs, beside a running server."""

from __future__ import annotations

import json
import resource
import socket

from tests.acceptance.conftest import Farm
from tests.acceptance.harness import Gateway
from tests.acceptance.largeini import write_two_thousand_lines

MORE_THAN_EMPTY = 4.0
"""How many times the processor time of a check of a new folder a large one may take; it is less
than twice as much."""


def test_check_beside_the_running_server_finds_its_port_in_order(farm: Farm) -> None:
    gateway = farm.gateway()

    result = gateway.command("check", check=False)
    assert (result.returncode, "0 error(s), 0 warning(s)" in result.stdout) == (0, True)
    # The look at the port left the server alone.
    assert gateway.answers()


def test_check_finds_a_port_of_somebody_else(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    with socket.create_server(("", gateway.port)):
        result = gateway.command("check", "--json", check=False)

    (problem,) = json.loads(result.stdout)["problems"]
    assert result.returncode == 1
    assert problem["severity"] == "error"
    assert f"TCPPort = {gateway.port}: another process listens" in problem["message"]
    assert problem["text"] == f"TCPPort = {gateway.port}"


def test_set_refuses_what_would_stop_the_server(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    before = gateway.ini.read_bytes()

    result = gateway.command("config", "set", "TCPPort", "70000", check=False)
    assert (result.returncode, gateway.ini.read_bytes()) == (1, before)
    assert "TCPPort = 70000 is not a port" in result.stdout


def test_two_thousand_lines_are_checked_in_a_moment(farm: Farm) -> None:
    gateway = farm.gateway(start=False)
    empty = checked(gateway)
    write_two_thousand_lines(gateway)

    assert checked(gateway) < MORE_THAN_EMPTY * empty


def checked(gateway: Gateway) -> float:
    """Let a sound configuration be checked; return the processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = gateway.command("check", check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "0 error(s), 0 warning(s)" in result.stdout, result.stdout[:2000]
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
