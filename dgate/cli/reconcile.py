"""`dgate reconcile`: this archive compared with a node, by the running server or directly."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dgate.cli.access import running_server
from dgate.cli.options import config_option, printable
from dgate.cli.progress import Ticker
from dgate.config.settings import load
from dgate.delivery.reconcile.gaps import is_same
from dgate.delivery.reconcile.results import Comparisons, results_file
from dgate.delivery.reconcile.values import LEVELS, Options, in_words
from dgate.delivery.reconcile.windows import date_of, text_of
from dgate.dicom.uids import is_uid
from dgate.errors import DgateError
from dgate.gateway import Gateway
from dgate.reconciling import compare, is_known, node_side, watched

EQUAL, DIFFERENT, FAILED, INCOMPLETE = 0, 1, 2, 3


def _date(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if not value:
        return ""
    found = date_of(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no date; write YYYYMMDD or YYYY-MM-DD")
    return text_of(found)


def _uid(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if value and not is_uid(value):
        raise click.BadParameter(f"{value!r} is not a UID")
    return value or ""


@click.command(
    "reconcile",
    epilog="Exit code: 0 both sides have the same, or what was missing has been fetched or is owed "
    "now; 1 differences are left, whatever else; 2 the comparison or that of a study failed; 3 no "
    "difference is left, and a part was not compared.",
)
@click.argument("node", default="")
@config_option
@click.option("--since", callback=_date, metavar="DATE", help="Studies of this day and later.")
@click.option("--until", callback=_date, metavar="DATE", help="Studies of this day and earlier.")
@click.option(
    "--level",
    type=click.Choice([*LEVELS, "image"]),
    default="study",
    show_default=True,
    help="Compare down to this level even where the numbers of objects are equal; image is "
    "another word for object.",
)
@click.option("--study", callback=_uid, metavar="UID", help="Only this study.")
@click.option("--send", is_flag=True, help="Owe the node what it lacks, of the priority bulk.")
@click.option(
    "--as-stored",
    is_flag=True,
    help="With --send: even where rules give the node something else than what is stored.",
)
@click.option("--fetch", is_flag=True, help="Fetch what this archive lacks (needs the server).")
@click.option(
    "--strict",
    is_flag=True,
    help="What cannot be asked for counts as not compared even where nothing speaks for there "
    "being any of it.",
)
@click.option("--status", is_flag=True, help="Show what came of the last comparisons.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with all UIDs.")
def reconcile_command(
    node: str,
    config: Path,
    since: str,
    until: str,
    level: str,
    study: str,
    send: bool,
    as_stored: bool,
    fetch: bool,
    strict: bool,
    status: bool,
    as_json: bool,
) -> None:
    """Compare this archive with NODE of acrnema.map, and say what either side lacks.

    The node is asked by C-FIND. Studies are compared by the number of their objects where the node
    tells it; where the numbers differ or are not told, series and objects are compared.
    """
    if status:
        _show_results(config, node, as_json=as_json)
        return
    if not node:
        raise click.UsageError("NODE is missing; or give --status.")
    if as_stored and not send:
        raise click.UsageError("--as-stored needs --send.")
    options = Options(node, since, until, level, study, send, fetch, as_stored)
    try:
        # As the server checks them; without one nobody else does.
        options = Options.of(asdict(options))
        summary = _follow(_answers(config, options), as_json=as_json)
    except DgateError as exc:
        click.echo(f"dgate: {printable(str(exc))}", err=True)
        sys.exit(FAILED)
    sys.exit(_exit_code(summary, strict=strict))


def _exit_code(summary: dict[str, Any], *, strict: bool) -> int:
    """Return the code for what a comparison found: a difference that is known is never hidden by
    what is not known."""
    if summary["left"]:
        return DIFFERENT
    if summary["failed"]:
        return FAILED
    # A server of an earlier version does not say what it could not ask for.
    is_incomplete = summary["uncompared"] or (strict and summary.get("residual"))
    return INCOMPLETE if is_incomplete else EQUAL


def _answers(config: Path, options: Options) -> Iterator[dict[str, Any]]:
    configuration = load(config)
    server = running_server(configuration.settings)
    if server is not None:
        yield from server.stream("reconcile", asdict(options))
        return
    if options.fetch:
        raise DgateError(
            "objects can be fetched by a running server only, and none runs here",
            remedy="`dgate serve`, or leave out --fetch",
        )
    with Gateway(configuration).offline() as gateway:
        foundation, generation = gateway.foundation, gateway.generation
        there = node_side(generation, options.node)
        answers = compare(foundation, generation, options, there, serving=False)
        yield from watched(foundation, generation, options, answers, there)


def _follow(answers: Iterator[dict[str, Any]], *, as_json: bool) -> dict[str, Any]:
    """Show what differs, and return the summary."""
    summary: dict[str, Any] | None = None
    with Ticker("reconcile") as ticker:
        for answer in answers:
            kind = answer["kind"]
            if kind == "progress":
                ticker.show(
                    f"{answer['at']}: {answer['studies']} studies, {answer['differing']} differ"
                )
                continue
            if kind == "summary":
                summary = answer
            if as_json:
                ticker.say(json.dumps(answer, ensure_ascii=False))
            elif kind == "warning":
                ticker.say(f"Warning: {answer['text']}.", err=True)
            elif kind == "uncompared":
                ticker.say(f"Not compared: {answer['text']}.", err=True)
            elif kind == "residual":
                ticker.say(f"Cannot be asked for: {answer['text']}.", err=True)
            elif kind in ("difference", "pending"):
                for line in _lines(answer):
                    ticker.say(line)
    if summary is None:
        raise DgateError(
            "the comparison was ended before it was complete", remedy="give the command again"
        )
    if not as_json:
        click.echo(f"{summary['node']}: {in_words(summary)}.")
    return summary


def _lines(gap: dict[str, Any]) -> Iterator[str]:
    """Yield what people see of a study that differs."""
    who = f"{gap['patient_id'] or '-'} {gap['accession'] or '-'} {gap['date'] or '-'}"
    there = "?" if gap["there"] is None else gap["there"]
    yield f"{who} {gap['study']}: here {gap['here']}, there {there}; {_missing(gap)}"
    if not gap["only"]:
        for series in gap["series"]:
            counts = f"here {series['here']}, there {series['there']}"
            yield f"  series {series['series']}: {counts}; {_missing(series)}"
    if gap["more_series"]:
        yield f"  and {gap['more_series']} more series"
    done = [
        f"{gap[name]} {text}"
        for name, text in (
            ("owed", "owed now"),
            ("waiting", "owed already"),
            ("uncommitted", "accepted there, and not committed to yet"),
            ("came", "fetched"),
        )
        if gap.get(name)
    ]
    if done:
        yield f"  {', '.join(done)}"
    if gap["stuck"]:
        yield f"  {gap['stuck']} stuck or held: see `dgate queue list --study {gap['study']}`"
    if gap.get("problem"):
        yield f"  {gap['problem']}"


def _missing(gap: dict[str, Any]) -> str:
    """Return what either side lacks; a study names apart what is on its way or stuck."""
    said = []
    lacking = sum(gap.get(name, 0) for name in ("waiting", "uncommitted", "stuck"))
    if gap["missing_there"] + lacking:
        said.append(f"{gap['missing_there'] + lacking} missing there")
    if gap["missing_here"]:
        said.append(f"{gap['missing_here']} missing here")
    return ", ".join(said)


def _show_results(config: Path, node: str, *, as_json: bool) -> None:
    """Show the last results, of one node or of all."""
    try:
        configuration = load(config)
        settings = configuration.settings
        server = running_server(settings)
        if server is not None:
            found = list(server.stream("reconciled", {}))
        else:
            kept = Comparisons(results_file(settings.base_folder))
            found = kept.report(is_known(configuration.nodes))
    except DgateError as exc:
        click.echo(f"dgate: {printable(str(exc))}", err=True)
        sys.exit(FAILED)
    found = [each for each in found if not node or is_same(each["node"], node)]
    for each in found:
        if as_json:
            click.echo(json.dumps(each, ensure_ascii=False))
            continue
        ended = datetime.datetime.fromtimestamp(each["ended"])
        days = f" ({each['since']}-{each['until']})" if each["since"] or each["until"] else ""
        line = f"{each['node']} {ended:%Y-%m-%d %H:%M}{days}: {each['text']}."
        click.echo(printable(line))
        for part in each["uncompared"]:
            click.echo(printable(f"  not compared: {part}"))
        for part in each.get("residual", ()):
            click.echo(printable(f"  cannot be asked for: {part}"))
    if not found and not as_json:
        click.echo("Nothing has been compared yet.")
