"""One question before work that takes hours, for people at a terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

LONG_SECONDS = 7200.0
YesFlag = Annotated[bool, typer.Option("--yes", help="Start work of more than two hours without a question.")]


def ask_before_long_work(seconds: float, *, yes: bool) -> None:
    """Asks whether to start work of so many predicted seconds, if that is long and somebody is there to answer.

    Raises typer.Exit for a no. In scripts and cron nobody is asked.
    """
    if yes or seconds <= LONG_SECONDS or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    from linfusion_cli.cli.text import seconds_text

    question = f"this takes about {seconds_text(seconds)}; it can be interrupted and gone on with. Start?"
    if not typer.confirm(question, default=True, err=True):
        typer.echo("nothing was started", err=True)
        raise typer.Exit
