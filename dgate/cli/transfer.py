"""Objects between files and a node: `dgate send` and `dgate get`, with their progress bars."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dgate.archive.importer import files_below
from dgate.cli.keys import KeyList
from dgate.cli.peer import Peer
from dgate.config.soplist import SopList
from dgate.dicom.encode import UTF_8, encode_data_set
from dgate.dicom.part10 import FileMeta, file_meta, read_meta
from dgate.dicom.payload import Payload, SpillFile
from dgate.dicom.uids import EXPLICIT_LE, IMPLICIT_LE, is_uid
from dgate.errors import DgateError, NoContext, PeerError
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
    get,
    store,
)
from dgate.net.sop_classes import is_storage

GET_MODELS = {
    True: "1.2.840.10008.5.1.4.1.2.1.3",
    False: "1.2.840.10008.5.1.4.1.2.2.3",
}
"""By whether the model is the Patient Root."""

_READ_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16
_MOST_STORAGE_CONTEXTS = 127


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
    """Follow a C-MOVE or C-GET to its end, print what it did, and return the final response."""
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
    click.echo(
        f"{description}: {final.completed or 0} completed, {final.failed or 0} failed, "
        f"{final.warning or 0} with a warning."
    )
    return final


# send


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    meta: FileMeta


def send_files(peer: Peer, paths: Iterable[Path]) -> bool:
    """Send every DICOM file below `paths`; return whether the peer accepted all of them."""
    files, unreadable = _read_metas(files_below(paths))
    if not files:
        raise DgateError("there is no DICOM file to send")
    sent = 0
    with progress_bar() as bar:
        task = bar.add_task(f"to {peer.destination.called}", total=len(files))
        for batch, proposals in _batches(files):
            with peer.connect(proposals) as association:
                for file in batch:
                    sent += _send_file(association, file)
                    bar.advance(task)
    click.echo(f"{sent} of {len(files)} object(s) accepted by {peer.destination}.")
    return sent == len(files) and not unreadable


def _read_metas(paths: Iterable[Path]) -> tuple[list[_File], int]:
    files: list[_File] = []
    unreadable = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                files.append(_File(path, read_meta(file.read(_HEAD_BYTES))))
        except (DgateError, OSError) as exc:
            unreadable += 1
            click.echo(f"{path} is skipped: {exc}", err=True)
    return files, unreadable


def _batches(files: list[_File]) -> Iterator[tuple[list[_File], list[ContextProposal]]]:
    """Group the files by what one association can propose."""
    batch: list[_File] = []
    proposals: dict[ContextProposal, None] = {}
    for file in files:
        wanted = dict.fromkeys([ContextProposal(file.meta.sop_class, (file.meta.syntax,))])
        if batch and len(proposals | wanted) > _MOST_STORAGE_CONTEXTS:
            yield batch, list(proposals)
            batch, proposals = [], {}
        batch.append(file)
        proposals |= wanted
    if batch:
        yield batch, list(proposals)


def _send_file(association: Association, file: _File) -> bool:
    """Send one file as it is; print why when the peer did not take it."""
    context = next(
        (
            each
            for each in association.contexts_for(file.meta.sop_class)
            if each.transfer_syntax == file.meta.syntax
        ),
        None,
    )
    if context is None:
        click.echo(
            f"{file.path}: the peer takes no {file.meta.sop_class} in {file.meta.syntax}", err=True
        )
        return False
    response = store(
        association,
        context.id,
        file.meta.sop_class,
        file.meta.sop_instance,
        _read_data_set(file),
    )
    status = Status.PROCESSING_FAILURE if response.status is None else response.status
    if category(status) in (StatusCategory.SUCCESS, StatusCategory.WARNING):
        return True
    click.echo(f"{file.path}: status {describe(status)} {response.error_comment}", err=True)
    return False


def _read_data_set(file: _File) -> Iterator[bytes]:
    with file.path.open("rb") as stream:
        stream.seek(file.meta.data_offset)
        while chunk := stream.read(_READ_BYTES):
            yield chunk


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
    """Fetch what matches into `output` and return the final C-GET response.

    Proposes the storage classes of dgatesop.lst that fit into one association, uncompressed.
    """
    sop_class = GET_MODELS[patient_root]
    uncompressed = (EXPLICIT_LE, IMPLICIT_LE)
    proposals = [ContextProposal(sop_class, uncompressed)]
    proposals += [
        ContextProposal(uid, uncompressed, scp_role=True)
        for uid in _storage_classes(peer)[:_MOST_STORAGE_CONTEXTS]
    ]
    folder = _Folder(output)
    with peer.connect(proposals) as association:
        context = next(iter(association.contexts_for(sop_class)), None)
        if context is None:
            raise NoContext(f"{peer.destination} does not offer C-GET")
        identifier = encode_data_set(
            keys.values(level, with_return_keys=False),
            context.transfer_syntax,
            UTF_8 if keys.needs_utf8 else "",
        )
        responses = get(
            association,
            context.id,
            identifier,
            lambda message: folder.keep(association, message),
            payload_factory=folder.payload,
        )
        return show_suboperations(responses, f"from {peer.destination.called}")


def _storage_classes(peer: Peer) -> list[str]:
    """Return the storage classes of the configuration's dgatesop.lst, else of the shipped one."""
    listed = peer.configuration.sop_list.abstract if peer.configuration else None
    if listed is None:
        text = resources.files("dgate.config").joinpath("default/dgatesop.lst").read_bytes()
        listed = SopList.parse(text, "dgatesop.lst")[0].abstract or frozenset()
    # Short UIDs first: the common classes must not be the ones left out.
    return sorted((uid for uid in listed if is_storage(uid)), key=lambda uid: (len(uid), uid))
