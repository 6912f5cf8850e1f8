"""Objects between files and a node: `dgate send` and `dgate get`, with their progress bars."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dgate.archive.devices import Devices
from dgate.archive.export import Exporter, read_head
from dgate.archive.files import FileReader
from dgate.archive.importer import files_below
from dgate.archive.records import InstanceRef
from dgate.archive.spool import Spool
from dgate.archive.watermark import Limits, Watermark
from dgate.cli.keys import KeyList
from dgate.cli.peer import Peer
from dgate.clock import SystemClock
from dgate.delivery.collection import classes_there, collect
from dgate.delivery.offers import listed_classes
from dgate.delivery.sender import Sender
from dgate.dicom.encode import UTF_8, encode_data_set
from dgate.dicom.part10 import file_meta
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.uids import is_uid
from dgate.errors import DgateError, NoContext, PeerError, Rejected, StoreError, Unreachable
from dgate.net import (
    Association,
    Command,
    ContextProposal,
    Message,
    PresentationContext,
    Status,
    StatusCategory,
    category,
    describe,
)

GET_MODELS = {
    True: "1.2.840.10008.5.1.4.1.2.1.3",
    False: "1.2.840.10008.5.1.4.1.2.2.3",
}
"""By whether the model is the Patient Root."""

_PREPARED = 2000
_MOST_LOSSES = 2
"""So many associations lost one after another, with nothing sent between, end `dgate send`."""
_FILES = "FILE"
"""What stands in the place of a device for a file of no archive."""


def progress_bar() -> Progress:
    """Return a bar on standard error that vanishes when that is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def show_suboperations(responses: Iterable[Command], description: str) -> Command:
    """Follow a C-MOVE to its end, print what it did, and return the final response."""
    final = follow_suboperations(responses, description)
    click.echo(_summary(description, final))
    return final


def follow_suboperations(responses: Iterable[Command], description: str) -> Command:
    """Follow a C-MOVE or C-GET to its end and return the final response."""
    final: Command | None = None
    with progress_bar() as bar:
        task = bar.add_task(description, total=None)
        for response in responses:
            final = response
            done = (response.completed or 0) + (response.failed or 0) + (response.warning or 0)
            if response.remaining is not None:
                bar.update(task, total=done + response.remaining)
            bar.update(task, completed=done)
    if final is None:
        raise PeerError("the node sent no response", where=description)
    return final


def _summary(description: str, final: Command) -> str:
    return (
        f"{description}: {final.completed or 0} completed, {final.failed or 0} failed, "
        f"{final.warning or 0} with a warning."
    )


# send


def send_files(peer: Peer, paths: Iterable[Path]) -> bool:
    """Send every DICOM file below `paths`; return whether the peer accepted all of them.

    As a delivery does: by the node's compression code, converted where the peer does not take the
    object as it is.
    """
    files, unreadable = _read_metas(files_below(paths))
    if not files:
        raise DgateError("there is no DICOM file to send")
    sender = _sender(peer)
    sent = losses = 0
    try:
        sender.prepare(files[:_PREPARED])
        with progress_bar() as bar:
            task = bar.add_task(f"to {peer.destination.called}", total=len(files))
            for file in files:
                try:
                    sent += _send_file(sender, file)
                    losses = 0
                except (Unreachable, Rejected):
                    raise
                except PeerError as exc:
                    losses += 1
                    if losses == _MOST_LOSSES:
                        raise
                    click.echo(f"{file.name}: {exc}", err=True)
                bar.advance(task)
    finally:
        sender.close()
    click.echo(f"{sent} of {len(files)} object(s) accepted by {peer.destination}.")
    return sent == len(files) and not unreadable


def _sender(peer: Peer) -> Sender:
    """Return a sender for files, which needs no archive."""
    spool = Spool(peer.settings.base_folder / "dgate" / "spool")
    devices = Devices((), spool, Watermark(Limits(), SystemClock()))
    exporter = Exporter(
        devices, peer.settings, others={_FILES: lambda ref: FileReader.of(ref.name)}
    )

    def connect_patiently(
        host: str,
        port: int,
        calling: str,
        called: str,
        contexts: Sequence[ContextProposal],
        **options: object,
    ) -> Association:
        return peer.connect(contexts)

    return Sender(peer.destination, exporter, peer.settings, connect=connect_patiently)


def _read_metas(paths: Iterable[Path]) -> tuple[list[InstanceRef], int]:
    files: list[InstanceRef] = []
    unreadable = 0
    for path in paths:
        try:
            with closing(FileReader.of(str(path))) as reader:
                meta, _ = read_head(reader)
        except (DgateError, OSError) as exc:
            unreadable += 1
            click.echo(f"{path} is skipped: {exc}", err=True)
        else:
            files.append(
                # The syntax in the place of the series: each kind is looked at once.
                InstanceRef(
                    meta.sop_class, meta.sop_instance, "", "", meta.syntax, _FILES, str(path)
                )
            )
    return files, unreadable


def _send_file(sender: Sender, file: InstanceRef) -> bool:
    """Send one file; print why when the peer did not take it. Raises PeerError when it is lost."""
    try:
        result = sender.send(file)
    except (NoContext, StoreError) as exc:
        click.echo(f"{file.name}: {exc.what}", err=True)
        return False
    if category(result.status) in (StatusCategory.SUCCESS, StatusCategory.WARNING):
        return True
    click.echo(f"{file.name}: status {describe(result.status)} {result.comment}", err=True)
    return False


# get


class _Folder:
    """Where fetched objects go, each as a Part 10 file under its SOP Instance UID."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def payload(
        self, association: Association, context: PresentationContext, command: Command
    ) -> Payload:
        """Return the payload for an arriving object; a large one goes to a temporary file."""

        def spill() -> SpillFile:
            path = self._folder / f".{os.getpid()}-{command.message_id}.part"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            header = self._header(association, context, command)
            os.write(descriptor, header)
            return SpillFile(descriptor, path, len(header))

        return Payload(spill)

    def keep(self, association: Association, message: Message) -> int:
        """Give the received object its name; return the status to answer."""
        command, payload = message.command, message.payload
        if payload is None or not is_uid(command.sop_instance):
            return Status.CANNOT_UNDERSTAND
        if payload.error is not None:
            raise DgateError(
                f"cannot write: {payload.error.strerror}",
                where=str(self._folder),
                remedy="free space or choose another folder",
            )
        target = self._folder / f"{command.sop_instance}.dcm"
        if payload.spilled is not None:
            payload.spilled.path.replace(target)
        else:
            header = self._header(association, message.context, command)
            target.write_bytes(header + bytes(payload.view()))
        return Status.SUCCESS

    @staticmethod
    def _header(association: Association, context: PresentationContext, command: Command) -> bytes:
        return file_meta(
            command.sop_class, command.sop_instance, context.transfer_syntax, association.called
        )


def fetch(peer: Peer, keys: KeyList, level: str, output: Path, *, patient_root: bool) -> Command:
    """Fetch what matches into `output` and return a final response that counts everything.

    The node is asked first of which SOP classes the objects are. Where it does not say, all storage
    classes of dgatesop.lst are offered, over as many associations as that takes.
    """
    folder = _Folder(output)
    classes = classes_there(peer.connect, keys.matching) or listed_classes(
        peer.configuration.sop_list if peer.configuration else None
    )
    whence = f"from {peer.destination.called}"
    ended = collect(
        peer.connect,
        [GET_MODELS[patient_root]],
        classes,
        lambda syntax: encode_data_set(
            keys.values(level, with_return_keys=False), syntax, UTF_8 if keys.needs_utf8 else ""
        ),
        folder.keep,
        folder.payload,
        lambda responses: follow_suboperations(responses, whence),
    )
    click.echo(_summary(whence, ended.final))
    return ended.final
