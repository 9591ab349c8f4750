"""Asks for confirmation at a terminal before work that takes hours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.runner import Options
    from linfusion_cli.batch.task_list import Task

LONG_SECONDS = 7200.0
YesFlag = Annotated[bool, typer.Option("--yes", help="Start work of more than two hours without a question.")]


def can_ask(*, yes: bool) -> bool:
    """Whether somebody at a terminal could answer; scripts and cron jobs are not asked."""
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


def ask_before_long_work(seconds: float, *, yes: bool, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Asks at a terminal whether to start work of `seconds` predicted seconds, if that is long.

    Raises typer.Exit if the answer is no. Scripts and cron jobs are not asked.
    is_stopped: whether something would stop the work, which is told at once, without a question before it
    """
    if seconds <= LONG_SECONDS or not can_ask(yes=yes) or is_stopped():
        return
    from linfusion_cli.cli.text import seconds_text

    question = f"this takes about {seconds_text(seconds)}; it can be interrupted and gone on with. Start?"
    if not typer.confirm(question, default=True, err=True):
        typer.echo("nothing was started", err=True)
        raise typer.Exit


def ask_before_long_tasks(journal: Journal, tasks: list[Task], options: Options, *, yes: bool) -> None:
    """Asks at a terminal whether to make images that take hours together. Raises typer.Exit if the answer is no."""
    if can_ask(yes=yes):
        ask_before_long_work(_predicted_seconds(journal, tasks, options), yes=yes)


def _predicted_seconds(journal: Journal, tasks: list[Task], options: Options) -> float:
    """Of the images that this run would make, by the plans of their configurations, up to its end by the clock."""
    from linfusion_cli.batch.dry_run import dry_run
    from linfusion_cli.batch.runner import clock
    from linfusion_cli.config.rank_options import RankOptions

    missing = [task for task in tasks if task.id not in journal.done]
    planned = dry_run(
        missing, journal.folder, RankOptions.of(options.ranks, options.devices, shares=options.rank_shares)
    ).planned
    images = sum(kind.images for kind in planned)
    if not images:
        return 0.0
    each = sum(kind.seconds * kind.images for kind in planned) / images  # stands for those beyond MOST_PLANS, too
    count = min(len(missing), options.limit or len(missing))
    return min(each * count, options.deadline - clock()) if options.deadline else each * count
