"""`dgate queue refusals`, and what `dgate queue list` tells about destinations."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dgate.archive.database import Database
from dgate.archive.schema import prepare
from dgate.cli.access import running_server
from dgate.cli.options import config_option
from dgate.cli.selecting import moment
from dgate.config.settings import Configuration, load
from dgate.delivery.refusals import Refusal, stored_refusals
from dgate.delivery.sites import SiteStatus, refusals_from, sites_from
from dgate.dicom.uids import transfer_syntax


@click.command("refusals")
@click.argument("node", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def refusals_command(node: str | None, config: Path, as_json: bool) -> None:
    """List what NODE, or every node, has refused: SOP classes and transfer syntaxes.

    Objects go out converted where that is possible, or over a further association. A node is asked
    again with each new association, after ForwardAssociationRefreshDelay, and by dgate queue retry;
    what it takes then is no longer listed.
    """
    found = _refusals(load(config), node)
    if as_json:
        for refusal in found:
            click.echo(json.dumps(refusal.as_dict(), ensure_ascii=False))
        return
    if not found:
        click.echo("Nothing was refused.")
    for refusal in found:
        syntax = transfer_syntax(refusal.syntax).name
        since = moment(refusal.at)
        click.echo(
            f"{refusal.node}: SOP class {refusal.sop_class} in {syntax}: {refusal.reason}, "
            f"since {since}"
        )


def _refusals(configuration: Configuration, node: str | None) -> list[Refusal]:
    server = running_server(configuration.settings)
    if server is not None:
        return refusals_from(server.call("queue.refusals", {"node": node}))
    database = Database(configuration.settings)
    if database.path is not None and not database.path.exists():
        return []
    database.open()
    try:
        prepare(database, configuration.layout, configuration.settings)
        return stored_refusals(database, node)
    finally:
        database.close()


def site_states(config: Path) -> dict[str, SiteStatus]:
    """Return what the running server does for each destination; empty when none runs."""
    server = running_server(load(config).settings)
    if server is None:
        return {}
    return {site.destination: site for site in sites_from(server.call("queue.sites"))}
