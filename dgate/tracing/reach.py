"""What rules may touch while they are traced: real things to read, throw-away ones to change."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dgate.archive.database import Database
from dgate.archive.reidentification import Reidentification
from dgate.archive.uidregister import Register
from dgate.archive.writer import Writer
from dgate.clock import Clock
from dgate.config.settings import Configuration, Settings
from dgate.rules.actions import Archive
from dgate.services.peers import Peers
from dgate.surroundings import Outreach, Reach
from dgate.tracing.overlay import (
    Note,
    TracedArchive,
    TracedFiles,
    TracedPeers,
    TracedPrograms,
    TracedServer,
    TracedUids,
)


def traced_reach(
    settings: Settings,
    database: Database,
    scratch: Database,
    writer: Writer,
    clock: Clock,
    folder: Path,
    note: Note,
) -> Reach:
    """Return a reach that leaves no trace.

    Args:
        database: the archive's index, which is only read.
        scratch: an index of the trace's own, which `writer` writes.
        folder: an empty one, for the files that rules write.
        note: hears of everything that a rule would have done.
    """
    folders = (*settings.script_folders, folder)
    files = Reach.of(
        dataclasses.replace(settings, script_folders=folders, temp_dir=folder),
        database,
        writer,
        clock,
    ).files
    register = Register(database, writer, clock, settings.uid_prefix)
    own = Register(scratch, writer, clock, settings.uid_prefix)
    return Reach(
        TracedUids(register, own.forward, note),
        TracedFiles(files, folder, note),
        TracedPrograms(note),
        Reidentification(scratch, writer, clock, settings.reidentification_key),
    )


def traced_outreach(
    configuration: Configuration, archive: Archive, note: Note, *, network: bool
) -> Outreach:
    """Return what Lua talks to without anybody being changed by it.

    Args:
        archive: reads the archive's index; nothing of it that changes anything is called.
        network: questions may reach other nodes.
    """
    settings = configuration.settings
    peers = Peers(configuration.nodes, settings, configuration.sop_list) if network else None
    server = TracedServer(configuration, note)
    return Outreach(TracedPeers(peers, note), TracedArchive(archive, note), lambda: server)
