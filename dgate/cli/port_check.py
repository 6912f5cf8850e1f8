"""Whether the ports of a configuration can be listened on, for `dgate check`.

A port is tried by binding it for a moment without listening, so that no peer can connect meanwhile
and a running server notices nothing. Used by the one thread of a command.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

from dgate.config.check import ports
from dgate.config.problem import Problem, Report
from dgate.config.settings import Configuration
from dgate.errors import DgateError
from dgate.ops.lock import holder_of

_ANSWER_S = 20.0
"""A server at work on a busy machine answers late; one that hangs is a problem either way."""


def port_problems(configuration: Configuration) -> list[Problem]:
    """Return a problem for each port that is taken by somebody else, or may not be used."""
    settings, ini = configuration.settings, configuration.ini
    lines = {value.name: value.line for value in configuration.values}
    report = Report(str(settings.ini_path), place=None if ini is None else ini.place)
    for name, number, failure in _failures(configuration):
        line = lines.get(name)
        if failure == errno.EADDRINUSE:
            if _is_ours(settings.base_folder, name, number):
                continue
            message = f"{name} = {number}: another process listens on this port"
            report.error(line, message, "stop it (ss -ltnp shows it), or choose another port")
        elif failure in (errno.EACCES, errno.EPERM):
            message = f"{name} = {number}: this user may not listen on so low a port"
            advice = (
                "choose a port above 1023, or give the service CAP_NET_BIND_SERVICE "
                "(systemd: AmbientCapabilities)"
            )
            report.warning(line, message, advice)
        else:
            message = f"{name} = {number} cannot be listened on: {errno.errorcode[failure]}"
            report.error(line, message, "choose another port")
    return report.problems


def _failures(configuration: Configuration) -> Iterator[tuple[str, int, int]]:
    """Yield name, number and errno of the ports that cannot be bound."""
    for name, number in ports(configuration):
        try:
            _try_to_bind(number)
        except OSError as exc:
            yield name, number, exc.errno or errno.EIO


def _try_to_bind(port: int) -> None:
    """Bind the port on all addresses and give it back; raises OSError."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # As the listener does: connections that linger from an earlier run are no hindrance.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        trial.bind(("", port))


def _is_ours(base_folder: Path, name: str, port: int) -> bool:
    """Tell whether the server that runs on this folder is the one that has the port."""
    holder = holder_of(base_folder)
    if holder is None or holder.socket is None:
        return False
    # Imported here, as most checks need nobody to be asked.
    from dgate.ops.control import ControlClient

    try:
        answer = ControlClient(holder.socket, _ANSWER_S).call("status")
    except DgateError:
        # A lock file that a killed server left behind: nobody answers.
        return False
    return name != "TCPPort" or answer.get("port") == port
