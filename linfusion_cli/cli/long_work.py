"""Asks for confirmation at a terminal before work that takes hours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.cli.rank_roles import ranks_of
from linfusion_cli.cli.wrapping import say

if TYPE_CHECKING:
    from linfusion_cli.batch.dry_run import DryRun
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.runner import Options
    from linfusion_cli.batch.task_list import Task

LONG_SECONDS = 7200.0
YesFlag = Annotated[bool, typer.Option("--yes", help="Start work of more than two hours without a question.")]


def can_ask(*, yes: bool) -> bool:
    """Whether somebody at a terminal could answer; scripts and cron jobs are not asked."""
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


def ask_before_long_work(
    seconds: float, *, yes: bool, is_stopped: Callable[[], bool] = lambda: False, notes: Sequence[str] = ()
) -> None:
    """Asks at a terminal whether to start work of `seconds` predicted seconds, if that is long.

    Raises typer.Exit if the answer is no. Scripts and cron jobs are not asked.
    is_stopped: whether something would stop the work, which is told at once, without a question before it
    notes: lines that somebody should read before the answer
    """
    if seconds <= LONG_SECONDS or not can_ask(yes=yes) or is_stopped():
        return
    from linfusion_cli.cli.text import seconds_text

    for note in notes:
        say(note, err=True)
    question = f"this takes about {seconds_text(seconds)}; it can be interrupted and gone on with. Start?"
    if not typer.confirm(question, default=True, err=True):
        typer.echo("nothing was started", err=True)
        raise typer.Exit


def ask_before_long_tasks(journal: Journal, tasks: list[Task], options: Options, *, yes: bool) -> None:
    """Asks at a terminal whether to make images that take hours together. Raises typer.Exit if the answer is no.

    Images that would fail are told before the question, and take no time; without options.keep_going the first of them
    ends the run.
    """
    if not can_ask(yes=yes):
        return
    from linfusion_cli.batch.dry_run import dry_run
    from linfusion_cli.cli.batch_display import obstacle_lines

    missing = [task for task in tasks if task.id not in journal.done]
    found = dry_run(missing, journal.folder, ranks_of(options))
    failing = found.obstacles.images()
    fine = [task.id not in failing for task in missing]
    count = sum(fine) if options.keep_going else (*fine, False).index(False)
    seconds = _predicted_seconds(found, min(count, options.limit or count), options)
    ask_before_long_work(seconds, yes=yes, notes=obstacle_lines(found))


def _predicted_seconds(found: DryRun, count: int, options: Options) -> float:
    """Of so many images of this run, by the plans of their configurations, up to its end by the clock."""
    from linfusion_cli.batch.runner import clock

    images = sum(kind.images for kind in found.planned)
    if not images:
        return 0.0
    each = sum(kind.seconds * kind.images for kind in found.planned) / images  # stands for those beyond MOST_PLANS, too
    return min(each * count, options.deadline - clock()) if options.deadline else each * count
