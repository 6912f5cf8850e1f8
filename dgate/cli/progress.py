"""Showing how far long work has come: one changing line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dgate.cli.options import printable

LINE_EVERY_S = 10.0
"""Where the output is no terminal, one line so often."""


class Ticker:
    """Shows progress on standard error, and prints lines of results on standard output."""

    def __init__(self, title: str) -> None:
        self._title = title
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn(title),
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
        self._next = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what is shown."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Show where the work is; with a total also how much is left."""
        text = printable(text)
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_EVERY_S
            click.echo(f"{self._title}: {text}", err=True)

    def say(self, line: str, *, err: bool = False) -> None:
        """Print a line of the result, above the bar."""
        safe = printable(line)
        if self._bar is not None and not err:
            # Both may be the same terminal.
            self._bar.print(safe, markup=False, highlight=False)
            return
        click.echo(safe, err=err)
