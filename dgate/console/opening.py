"""The console of one gateway, put together from its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgate.archive.maintenance.regen import RegenOptions
from dgate.archive.scripting import Archive
from dgate.clock import Clock
from dgate.console.chunks import Chunks
from dgate.console.server import Console, Tools
from dgate.console.values import Globals
from dgate.foundation import Foundation
from dgate.generation import Generation
from dgate.parts import caretaker, make_regen
from dgate.rules.run import log
from dgate.surroundings import Outreach, Reach, World


def open_console(
    foundation: Callable[[], Foundation],
    current: Callable[[], Generation],
    reload: Callable[[str], Any],
    status: Callable[[], dict[str, Any]],
    clock: Clock,
) -> Console:
    """Return the console of a gateway that may not have been started yet.

    Args:
        foundation, current: what stays, and what counts now; asked when something needs it.
        reload: reads the configuration anew and puts it into effect, or keeps what runs.
        status: what `dgate status` shows.
    """

    def world() -> World:
        found = current().hooks.world
        assert found is not None, "the generation is complete"
        return found

    def outreach() -> Outreach:
        found = world().outreach
        assert found is not None, "a gateway's generations have one"
        return found

    def archive() -> Archive:
        found = outreach().archive
        assert isinstance(found, Archive), "a gateway's generations have this one"
        return found

    def rebuild(device: str, folder: str) -> None:
        options = RegenOptions(device=device, folder=folder)
        regen = make_regen(foundation(), current(), beside_server=True)
        for answer in regen.run(options):
            if answer.get("kind") == "problem":
                log.warning("Regen found %s: %s", answer.get("path"), answer.get("text"))

    chunks = Chunks(current, lambda: foundation().sessions)
    tools = Tools(
        current=current,
        caretaker=lambda: caretaker(foundation(), current()),
        archive=archive,
        peers=lambda: outreach().peers,
        files=lambda: _reach(world()).files,
        uids=lambda: _reach(world()).uids,
        reload=reload,
        status=status,
        values=Globals(current, lambda: foundation().counters, clock.now(), reload),
        new_uid=lambda: world().uids.new(),
        rebuild=rebuild,
        run_lua=chunks.run,
    )
    return Console(tools, chunks.stop)


def _reach(world: World) -> Reach:
    assert world.reach is not None, "a gateway's generations have one"
    return world.reach
