"""Which node a command talks to, and the association it talks over.

A target is an AE title of acrnema.map, or `AE@host:port` for a node that no file names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from dgate.config.settings import Configuration, Settings, default_settings, load
from dgate.delivery.destination import Destination, resolve
from dgate.delivery.opening import open_association
from dgate.errors import ConfigError
from dgate.net import Association, ContextProposal, Timeouts

DEFAULT_CALLING = "DGATE"


@dataclass(frozen=True, slots=True)
class Peer:
    """A node to talk to, with the configuration if there is one."""

    destination: Destination
    configuration: Configuration | None
    timeouts: Timeouts
    settings: Settings
    """Those of the configuration, else the defaults."""

    def connect(self, contexts: Sequence[ContextProposal]) -> Association:
        """Open an association that proposes `contexts`, by PDUSize and PadAEWithZeros.

        Raises:
            PeerError: the node cannot be reached, rejects, or does not answer in time.
        """
        found = self.destination
        return open_association(found, contexts, self.settings, self.timeouts)


def find_peer(
    target: str, config: Path | None, calling: str | None, timeout_s: float | None
) -> Peer:
    """Resolve a command's target.

    Raises:
        ConfigError: the title is in no acrnema.map, or the address makes no sense.
    """
    configuration = _load(config)
    if timeout_s is not None:
        timeouts = Timeouts(timeout_s, timeout_s, response_s=timeout_s)
    elif configuration is not None:
        timeouts = Timeouts.of(configuration.settings.tcpip_timeout_s)
    else:
        timeouts = Timeouts()
    settings = configuration.settings if configuration else default_settings(Path.cwd())
    ours = calling or (settings.ae_title if configuration else DEFAULT_CALLING)
    title, at, address = target.rpartition("@")
    if at:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or not title:
            raise ConfigError(
                f"{target!r} is not AE@host:port", remedy="for example STORESCP@127.0.0.1:104"
            )
        destination = Destination(host.strip("[]"), int(port), ours, title, "as")
        return Peer(destination, configuration, timeouts, settings)
    if configuration is None:
        raise ConfigError(
            f"{target!r} needs a configuration to be looked up in",
            remedy="give -c PATH, or write the target as AE@host:port",
        )
    destination = resolve(target, configuration.nodes, configuration.settings, org=calling)
    return Peer(destination, configuration, timeouts, settings)


def _load(config: Path | None) -> Configuration | None:
    """Load the configuration named, or that in `conf/` if there is one."""
    if config is not None:
        return load(config)
    default = Path("conf")
    return load(default) if (default / "dicom.ini").exists() else None


def peer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command to a node has."""
    for option in (
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=0.1),
            metavar="SECONDS",
            help="Give up waiting for the node after so long.",
        ),
        click.option(
            "--calling", metavar="AE", help="Calling AE title. Default: MyACRNema, else DGATE."
        ),
        click.option(
            "-c",
            "--config",
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="A dicom.ini, or the folder that holds it. Default: conf/ if there is one.",
        ),
    ):
        command = option(command)
    return command
