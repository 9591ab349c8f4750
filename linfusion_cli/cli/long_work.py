"""Asks for confirmation at a terminal before work that takes hours."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

LONG_SECONDS = 7200.0
YesFlag = Annotated[bool, typer.Option("--yes", help="Start work of more than two hours without a question.")]


def ask_before_long_work(seconds: float, *, yes: bool) -> None:
    """Asks at a terminal whether to start work of `seconds` predicted seconds, if that is long.

    Raises typer.Exit if the answer is no. Scripts and cron jobs are not asked.
    """
    if yes or seconds <= LONG_SECONDS or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    from linfusion_cli.cli.text import seconds_text

    question = f"this takes about {seconds_text(seconds)}; it can be interrupted and gone on with. Start?"
    if not typer.confirm(question, default=True, err=True):
        typer.echo("nothing was started", err=True)
        raise typer.Exit
