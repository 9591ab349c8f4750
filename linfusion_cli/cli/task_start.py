"""What comes before the images of a batch or a grid: what would fail is told, then hours of work are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linfusion_cli.cli.long_work import ask_before_long_tasks
from linfusion_cli.cli.spelling import told
from linfusion_cli.errors import Message, OutputError, WeightsError, counted, first_of

if TYPE_CHECKING:
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.runner import Options
    from linfusion_cli.batch.task_list import Task


def begin(journal: Journal, tasks: list[Task], options: Options, *, yes: bool) -> None:
    """Tells what would stop the work, then asks before hours of it unless `yes`, then makes the folder.

    Raises OutputError or WeightsError for the former, and typer.Exit if the answer is no.
    """
    from linfusion_cli.output.atomic_file import make_folder

    _refuse_foreign(journal, tasks)
    if not options.keep_going:
        _refuse_missing_weights(journal, tasks)
    ask_before_long_tasks(journal, tasks, options, yes=yes)
    make_folder(journal.folder)


def _refuse_foreign(journal: Journal, tasks: list[Task]) -> None:
    """Raises OutputError if a task's file name is taken by another image or program."""
    foreign = [
        f"{task.place}: {journal.name_of(task)!r} is there and is not this image"
        for task in tasks
        if _is_foreign(journal, task)
    ]
    if foreign:
        first = f"{counted(len(foreign), 'name')} taken; move the files away, or give another --name or -o"
        raise OutputError("\n".join([first, *first_of(foreign, "name")]))


def _refuse_missing_weights(journal: Journal, tasks: list[Task]) -> None:
    """Raises WeightsError for models that are not on this machine, before the first image is made."""
    from linfusion_cli.batch.problem_report import refusal
    from linfusion_cli.config.required_weights import refuse_missing

    wanted: dict[object, Task] = {}  # the first of those with the same weights, of maybe thousands of configurations
    for task in tasks:
        if task.id not in journal.done:
            job = task.kind.job
            wanted.setdefault((job.preset, job.settings.model, job.settings.extras), task)
    problems: list[Message] = []
    for task in wanted.values():
        try:
            refuse_missing(task.kind.job.settings, task.kind.job.preset)
        except WeightsError as error:
            problems.append(Message(f"{task.place}: ", error))
    if problems:
        raise WeightsError(refusal([told(problem) for problem in problems]))


def _is_foreign(journal: Journal, task: Task) -> bool:
    return task.id not in journal.done and journal.state(task, thorough=False) == "foreign"
