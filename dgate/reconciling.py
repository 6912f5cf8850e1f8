"""Puts comparisons with other archives together: by command, and by the schedule of node sections.

Part of the composition root. The comparison itself is `dgate.delivery.reconcile.comparison`.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Callable, Iterator

from dgate.archive.index import Index
from dgate.archive.maintenance.holdings import Holdings
from dgate.config.node_settings import Expect, NodeSettings
from dgate.config.nodes import NodeMap
from dgate.delivery.destination import resolve
from dgate.delivery.expected import ExpectedCounts
from dgate.delivery.expected_query import CountByQuery
from dgate.delivery.expected_sources import CountSource, Witness
from dgate.delivery.expected_steps import Lacking, PerformedSteps
from dgate.delivery.inquiry import find_proposals
from dgate.delivery.opening import open_association
from dgate.delivery.reconcile.archive import ArchiveSide
from dgate.delivery.reconcile.comparison import Comparison
from dgate.delivery.reconcile.gaps import Gaps, Leads, is_same
from dgate.delivery.reconcile.node import NodeSide
from dgate.delivery.reconcile.schedule import ReconcileSchedule, reconcile_commands
from dgate.delivery.reconcile.values import Options
from dgate.errors import ConfigError
from dgate.foundation import Foundation
from dgate.generation import Generation
from dgate.net import Association
from dgate.ops.control import Answer, Command
from dgate.rules.altering import altering_rules, leading_rules
from dgate.rules.effects import ObjectScope
from dgate.services.filling import Filling
from dgate.services.retrieval import Retrieval

log = logging.getLogger(__name__)

Current = Callable[[], Generation]
"""Returns the generation that counts now."""


def node_side(generation: Generation, node: str) -> NodeSide:
    """Return a node to be asked; nothing is opened yet."""
    settings, nodes = generation.settings, generation.configuration.nodes

    def call() -> Association:
        place = resolve(node, nodes, settings)
        return open_association(place, find_proposals(), settings)

    return NodeSide(call)


def compare(
    foundation: Foundation,
    generation: Generation,
    options: Options,
    there: NodeSide | None = None,
    *,
    serving: bool = True,
) -> Iterator[Answer]:
    """Compare the archive with a node and yield what `Comparison.run` does.

    Args:
        there: the node where the caller wants to be able to cut the work short.
        serving: the gateway listens, so that objects can be fetched.

    Raises:
        DgateError: no index is kept, the node is not known or does not answer, or the node is to be
            sent what rules would have changed.
    """
    settings, nodes = generation.settings, generation.configuration.nodes
    # Here, and not first when it is connected to: deliveries would be owed to nowhere.
    resolve(options.node, nodes, settings)
    if nodes.find(options.node) is None:
        raise ConfigError(f"{options.node} is no node of acrnema.map", remedy="add a line for it")
    if options.send and not options.as_stored:
        _refuse_to_bypass(generation, options.node)
    database, schema = foundation.database, foundation.schema
    holdings = Holdings(database, schema, generation.configuration.layout, generation.index)
    here = ArchiveSide(database, schema, holdings)
    filling = Filling(
        settings,
        nodes,
        Retrieval(settings, nodes, foundation.expected),
        generation.ingest,
        generation.configuration.sop_list,
    )
    gaps = Gaps(
        database,
        foundation.writer,
        generation.index,
        foundation.clock,
        foundation.wake,
        filling.fetch if serving else None,
        _leads(generation, options.node),
    )

    def today() -> datetime.date:
        return datetime.datetime.fromtimestamp(foundation.clock.now()).date()

    there = there or node_side(generation, options.node)
    yield from Comparison(here, there, options, gaps, today).run()


def _leads(generation: Generation, node: str) -> Leads:
    """Return what tells which debts may become deliveries to a node: its own, those of its group,
    and of the export converters that may forward to it."""
    settings, library = generation.settings, generation.rules.library
    rules = leading_rules(settings, generation.configuration.nodes, library, node)
    library.forget_trees()
    converters = {f"ExportConverter{rule.index}" for rule in rules if rule.family == "Export"}
    group = settings.peers.of(node).group

    def leads(kind: str, destination: str, to: str) -> bool:
        if kind == "export":
            return destination in converters
        return is_same(destination, to) or bool(group and is_same(destination, group))

    return leads


def is_known(nodes: NodeMap) -> Callable[[str], bool]:
    """Return what tells whether acrnema.map has a node of a name."""
    return lambda node: bool(nodes.spelling(node))


def watched(
    foundation: Foundation,
    generation: Generation,
    options: Options,
    answers: Iterator[Answer],
    there: NodeSide,
) -> Iterator[Answer]:
    """Pass the answers of a comparison on, and keep what comes of it, under the name that
    acrnema.map has for the node."""
    node = generation.configuration.nodes.spelling(options.node) or options.node
    spelled = dataclasses.replace(options, node=node)
    return foundation.comparisons.watched(spelled, answers, foundation.clock, there)


def _refuse_to_bypass(generation: Generation, node: str) -> None:
    """Raise ConfigError where rules may give the node something else than what is stored: objects
    would go out as nobody outside may see them."""
    library = generation.rules.library
    rules = altering_rules(generation.settings, generation.configuration.nodes, library, node)
    library.forget_trees()
    if rules:
        raise ConfigError(
            f"{rules[0].family}Converter{rules[0].index} may forward to {node} what it changes, "
            "and a comparison would send it as it is stored",
            where=rules[0].where,
            remedy="send what is missing through the rule, or use --send --as-stored",
        )


def allowed(generation: Generation, options: Options) -> Options:
    """Return the options of a comparison by schedule without sending where that bypasses rules."""
    if not options.send or options.as_stored:
        return options
    try:
        _refuse_to_bypass(generation, options.node)
    except ConfigError as exc:
        log.error("ReconcileSend of %s is left out: %s", options.node, exc)
        return dataclasses.replace(options, send=False)
    return options


def reconcile_part(foundation: Foundation, current: Current) -> ReconcileSchedule:
    """Return what compares at the times of the node sections."""

    def nodes() -> dict[str, NodeSettings]:
        generation = current()
        peers = generation.settings.peers
        names = [node.ae_title for node in generation.configuration.nodes if not node.is_wildcard()]
        return {name: peers.of(name) for name in names}

    def run(options: Options, there: NodeSide) -> Iterator[Answer]:
        generation = current()
        answers = compare(foundation, generation, allowed(generation, options), there)
        return watched(foundation, generation, options, answers, there)

    return ReconcileSchedule(
        nodes,
        lambda title: node_side(current(), title),
        run,
        foundation.clock,
        foundation.comparisons.cut,
    )


def reconciling_commands(foundation: Foundation, current: Current) -> dict[str, Command]:
    """Return what comparisons add to the control socket."""

    def run(options: Options) -> Iterator[Answer]:
        generation = current()
        there = node_side(generation, options.node)
        answers = compare(foundation, generation, options, there)
        return watched(foundation, generation, options, answers, there)

    def report() -> list[Answer]:
        return foundation.comparisons.report(is_known(current().configuration.nodes))

    return reconcile_commands(run, report)


def expected_part(foundation: Foundation, current: Current) -> ExpectedCounts:
    """Return what ends quiet times early where somebody says how much there is."""
    steps, lacking = foundation.steps, Lacking()

    def wanted(expect: Expect) -> bool:
        peers = current().settings.peers
        return any(node.expect_counts is expect for node in peers.by_title.values())

    def sources() -> list[CountSource]:
        generation = current()
        peers, nodes = generation.settings.peers, generation.configuration.nodes
        if not wanted(Expect.QUERY):
            return []
        return [CountByQuery(peers, nodes.names, lambda title: node_side(generation, title))]

    def witness() -> Witness | None:
        if not wanted(Expect.STEPS):
            return None
        return PerformedSteps(current().settings.peers, steps, lacking)

    # For one index at a time: its statements take long to write, and are asked for by the thousand.
    sides: list[tuple[Index, ArchiveSide]] = []

    def count(scope: ObjectScope) -> int:
        generation = current()
        schema, index = foundation.schema, generation.index
        if not schema.levels:
            return 0
        if not sides or sides[0][0] is not index:
            layout = generation.configuration.layout
            holdings = Holdings(foundation.database, schema, layout, index)
            sides[:] = [(index, ArchiveSide(foundation.database, schema, holdings))]
        return sides[0][1].number_of(scope)

    return ExpectedCounts(
        foundation.database,
        foundation.writer,
        foundation.ledger,
        foundation.clock,
        foundation.bell,
        sources,
        count,
        foundation.wake,
        witness,
    )
