"""Shows the progress of a training: a live bar on a terminal, else lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import typer

from linfusion_cli.cli.render_display import has_live_terminal
from linfusion_cli.cli.text import safe


@runtime_checkable
class Advance(Protocol):
    """A progress event of a training; str() of it says the same in one line."""

    @property
    def step(self) -> int: ...

    @property
    def steps(self) -> int: ...


def show(told: Iterable[object], *, quiet: bool) -> None:
    """Runs the work to its end; everything goes to stderr, nothing with `quiet`."""
    if quiet:
        for _ in told:
            pass
    elif has_live_terminal():
        _live(told)
    else:
        for item in told:
            typer.echo(safe(str(item)), err=True)


def _live(told: Iterable[object]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False, highlight=False)
    with Progress(
        BarColumn(20), TextColumn("{task.description}", markup=False), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        for item in told:
            if isinstance(item, Advance):
                bar.update(task, completed=item.step, total=item.steps, description=safe(str(item)))
            else:
                console.print(safe(str(item)))
