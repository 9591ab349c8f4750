"""`linfusion batch`: makes every image of prompt lists once, and resumes after interruptions."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.batch_flags import (
    DryRunFlag,
    FilesArgument,
    KeepGoingFlag,
    MaxMinutesFlag,
    NameFlag,
    OutputFlag,
    RetryFlag,
    SeedsFlag,
    ShardFlag,
    StatusFlag,
    UntilFlag,
    VerifyFlag,
    WildcardsFlag,
)
from linfusion_cli.cli.cluster_batch import CoresFlag, OnCluster, OnFlag
from linfusion_cli.cli.flags import with_flags
from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.long_work import YesFlag
from linfusion_cli.cli.rank_roles import followed, launched_command, ranks_of, refuse_launcher
from linfusion_cli.cli.shared_options import QuietFlag
from linfusion_cli.cli.spelling import flag, told
from linfusion_cli.cli.task_start import begin
from linfusion_cli.cli.wrapping import columns_of, say
from linfusion_cli.errors import LinfusionError, UsageError, counted, option
from linfusion_cli.system import gc_pause
from linfusion_cli.system.signals import STOP

if TYPE_CHECKING:
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.runner import Options, Summary
    from linfusion_cli.batch.task_list import Task

EPILOG = """\b
Examples:
  linfusion batch prompts.txt
  linfusion batch prompts.txt --size 4k --seeds 1..4 -o images --keep-going
  linfusion batch nightly.toml --quiet --until 06:00 --log-file batch.log        (in a crontab)
  linfusion batch prompts.jsonl --shard 2/8 -o /shared/images
  linfusion batch prompts.txt --on ray://head-node:10001 -o /shared/images
  linfusion batch prompts.txt --status
  printf 'a lake\\na {red|green|blue} forest\\n' | linfusion batch - -o images

\b
prompts.txt: a prompt a line, # for comments, flags after the prompt:
  a market in the rain --seed 7 --size 8k --negative "people, cars"
.json, .jsonl, .csv, .tsv, .toml ([[jobs]] and [defaults]) and .yaml hold the same values as keys. Every combination
of {a|b} and of lists is made. docs/prompt-lists.md says what else a list may hold.

\b
The same command again does what is not done yet: images that are there and whole are skipped, an interrupted one goes
on where it was. Lines may be added, removed and moved meanwhile. The journal is FOLDER/.linfusion/journal.jsonl.

\b
Exit codes: 0 all done (or as far as --limit and --until allow), 1 some failed, 75 another batch works in the folder,
129 SIGHUP, 130 Ctrl-C, 141 nobody reads --json any more, 143 SIGTERM, 152 SIGXCPU;
without --keep-going that of the failure: 2 wrong use, 4 memory, 66 weights, 74 file.
--status and --dry-run: 1 if an image is damaged or has failed, if its name is taken, or if no plan fits.
"""


@with_flags("batch")
def batch(
    *,
    files: FilesArgument,
    output: OutputFlag = None,
    name: NameFlag = "{slug}-{seed}-{id}",
    seeds: SeedsFlag = None,
    wildcards: WildcardsFlag = None,
    keep_going: KeepGoingFlag = False,
    retry: RetryFlag = 2,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Make at most N images. 0 = all.")] = 0,
    until: UntilFlag = None,
    max_minutes: MaxMinutesFlag = None,
    shard: ShardFlag = None,
    on: OnFlag = None,
    cores: CoresFlag = None,
    verify: VerifyFlag = False,
    status: StatusFlag = False,
    dry_run: DryRunFlag = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")] = False,
    yes: YesFlag = False,
    quiet: QuietFlag = False,
    log_file: LogFlag = None,
    flags: dict[str, object],
) -> int:
    """Make the images of one or more lists of prompts."""
    from linfusion_cli.batch.runner import Options
    from linfusion_cli.config.model_names import check_model
    from linfusion_cli.config.resolve import checked_seconds

    if followed(str(flags["device"]), dry_run=status or dry_run):
        return 0
    common = {key: _plain(value) for key, value in {**flags, "seed": seeds}.items() if value not in (None, "auto")}
    check_model(common)  # a model for all that is not here is no fault of the lists
    cluster = OnCluster.of(on, cores, common.get("device"), common.get("preview"))
    of_all = {**_preview(common), **_by_ranks(common, cluster)}
    options = Options(
        keep_going=keep_going,
        retries=retry,
        limit=limit,
        deadline=_deadline(until, max_minutes),
        checkpoint_seconds=checked_seconds(common.pop("checkpoint_seconds", None)),
        thorough=verify,
        **of_all,
    )
    folder = output or Path("batch" if files[0] == "-" else Path(files[0]).stem)
    listed = Listed(files, common, name, wildcards)
    journal, tasks, notes = _tasks(listed, folder, shard_parts(shard), remembered=status)
    _show_notes(notes, as_json=as_json, quiet=quiet)
    if status or dry_run:
        code = _show(journal, tasks, as_json=as_json, thorough=verify)
        return _show_plans(journal, tasks, options, as_json=as_json) or code if dry_run else code
    begin(journal, tasks, options, yes=yes or as_json)
    with LogFile(log_file) as log:
        return run_tasks(journal, tasks, options, log, listed, as_json=as_json, quiet=quiet, cluster=cluster)


def _preview(common: dict[str, Any]) -> dict[str, Any]:
    """Takes the preview out of the values for all rows. Raises UsageError or OutputError for one that can't be made."""
    from linfusion_cli.config.request_checks import NO_FILE, checked_preview
    from linfusion_cli.output.atomic_file import check_replaceable

    text, every = common.pop("preview", None), common.pop("preview_every", None)
    path = None if text is None else Path(text)
    checked_preview(path, every)
    if path == NO_FILE:
        raise UsageError('"-": a batch shows no images in the terminal. Name a file: preview.jpg', parameter="preview")
    if path is not None:
        check_replaceable(path, parameter="preview")
    return {"preview": path, "preview_every": every}


def _by_ranks(common: dict[str, Any], cluster: OnCluster | None) -> dict[str, Any]:
    """Takes the ranks and their devices out of the values for all rows. Raises UsageError for ones that can't be."""
    from linfusion_cli.config.rank_options import RankOptions, checked_shares

    ranks, devices, shares = (common.pop(key, None) for key in ("ranks", "devices", "rank_shares"))
    device = common.get("device", "auto")
    found = RankOptions.of(ranks, devices, device, shares)
    if cluster is not None:
        refuse_launcher()
    if not (launched := launched_command(device, found)):
        checked_shares(found.shares, found.ranks)
    if found.ranks > 1 and cluster is not None:
        given = f'"{devices}"' if devices else f"{ranks}"
        raise UsageError(
            f"{given}: with --on each worker makes whole images. Leave one of them out",
            parameter="devices" if devices else "ranks",
        )
    return {"ranks": ranks, "devices": devices, "rank_shares": shares, "launched": launched}


@dataclass(frozen=True, slots=True)
class Listed:
    """The lists and flags that decide the tasks of a batch."""

    files: list[str]
    common: Mapping[str, object]  # values of rows that do not say otherwise
    template: str  # of the files' names
    wildcards: Path | None


def _tasks(
    listed: Listed, folder: Path, part: tuple[int, int], *, remembered: bool
) -> tuple[Journal, list[Task], list[str]]:
    """The tasks of this machine, and notes. Raises UsageError with every problem, before anything starts.

    remembered: where no flag decides the tasks, those of the last run do.
    """
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.problem_report import refusal
    from linfusion_cli.batch.prompt_files import read_rows
    from linfusion_cli.batch.task_list import NUMBERED, make_tasks, shard_of
    from linfusion_cli.batch.wildcards import Wildcards

    problems: list[str] = []
    notes: list[str] = []
    with gc_pause.none_expected():
        shard = "" if part[1] == 1 else f"-{part[0] % part[1]}-of-{part[1]}"
        journal = Journal(folder, shard, other_parts=NUMBERED in listed.template)
        if remembered:
            listed = _remembered(listed, journal, notes)
        wildcards = Wildcards(listed.wildcards) if listed.wildcards else None
        rows = [row for file in listed.files for row in read_rows(file, problems, notes)]
        tasks = make_tasks(rows, listed.common, listed.template, journal.numbers, problems, notes, wildcards)
    if problems:
        raise UsageError(refusal([told(problem) for problem in problems]))
    if not tasks:
        raise UsageError(f"{', '.join(listed.files)}: there is no prompt in it")
    return journal, shard_of(tasks, *part), notes


def _remembered(listed: Listed, journal: Journal, notes: list[str]) -> Listed:
    """The same lists with the flags of the last run, if none that decides tasks is given.

    Raises UsageError where one of them is not stored.
    """
    from linfusion_cli.batch.row_values import row_types
    from linfusion_cli.batch.task_list import NAME_TEMPLATE

    flags = journal.flags
    if flags is None or listed.common or listed.wildcards or listed.template != NAME_TEMPLATE:
        return listed
    if flags.not_stored:
        raise UsageError(
            "the negative prompt of the last run is not stored, as ",
            option("store_prompt", "no"),
            " asked, and without it nobody knows which images these are: give ",
            option("negative_prompt"),
            " and the other options of the run again",
        )
    common = {key: value for key, value in flags.common.items() if key in row_types()}  # a journal is only a hint
    last = Listed(listed.files, common, flags.template, Path(flags.wildcards) if flags.wildcards else None)
    if last != listed:
        given = [f"{key} = {value}" for key, value in common.items()]
        given += [f"name = {flags.template}"] if flags.template != NAME_TEMPLATE else []
        given += [f"wildcards = {flags.wildcards}"] if flags.wildcards else []
        notes.append(f"as in the last run: {', '.join(given)}")
    return last


def _show_notes(notes: list[str], *, as_json: bool, quiet: bool) -> None:
    """Shows which values of the lists are ignored: on stderr, and as JSON lines."""
    import sys

    from linfusion_cli.batch.problem_report import summed_up
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe

    for note in summed_up([told(note) for note in notes], "note"):
        if as_json:
            emit(sys.stdout, "note", {"text": note})
        if not quiet:
            say(f"note: {safe(note)}", err=True)


def run_tasks(
    journal: Journal,
    tasks: list[Task],
    options: Options,
    log: LogFile,
    listed: Listed,
    *,
    as_json: bool,
    quiet: bool,
    cluster: OnCluster | None = None,
) -> int:
    """Makes the missing images of the tasks, on a cluster if one is given; returns the exit code.

    It is 0 if no image failed, 1 if one failed with keep_going, else that of the image that failed.

    Raises BusyError or OutputError before the first image.
    """
    from linfusion_cli.batch.journal import Flags
    from linfusion_cli.batch.runner import Runner, at_work
    from linfusion_cli.cli.batch_display import BatchDisplay

    with at_work(journal):
        _show_notes(_older_prompts(journal, tasks), as_json=as_json, quiet=quiet)
        journal.keep_numbers([task.id for task in tasks])
        flags = Flags(listed.common, listed.template, str(listed.wildcards or ""))
        journal.keep_flags(flags if all(task.kind.job.stores_prompt for task in tasks) else flags.stored())
        display = BatchDisplay(log, as_json=as_json, quiet=quiet)
        try:
            if cluster is None:
                summary = Runner(journal, options, display.tell, spell=flag).run(tasks)
            else:
                summary = cluster.run(journal, options, display.tell, flag, tasks)
        finally:
            display.close()
    display.sum_up(summary)
    STOP.obey()
    return _exit_code(summary, options)


def _older_prompts(journal: Journal, tasks: list[Task]) -> list[str]:
    """A note if images are there whose files hold the prompt that this command is not to store."""
    from linfusion_cli.output.metadata import holds_prompt

    private = [task for task in tasks if not task.kind.job.stores_prompt]
    holding = [path for task in private if holds_prompt(path := journal.folder / journal.name_of(task))]
    if not holding:
        return []
    made = f"{counted(len(holding), 'image')} made before hold the prompt, first {holding[0].name}"
    return [
        f"{made}; so may names there and the journal. They stay as they are. Give another -o to make them without it"
    ]


def _exit_code(summary: Summary, options: Options) -> int:
    if not summary.failed:
        return 0
    return LinfusionError.exit_code if options.keep_going else summary.error_code


def _show(journal: Journal, tasks: list[Task], *, as_json: bool, thorough: bool) -> int:
    """Exit code 1 if an image is damaged, has failed, or its name is taken."""
    import sys

    from linfusion_cli.cli.batch_display import status_lines
    from linfusion_cli.cli.json_output import emit

    rows: list[tuple[Task, str, str]] = []
    for task in tasks:
        state: str = journal.state(task, thorough=thorough)
        failure = journal.failed.get(task.id, "") if state != "done" else ""
        rows.append((task, "failed" if failure else state, failure))
    if as_json:
        for task, state, failure in rows:
            emit(
                sys.stdout,
                "task",
                {"id": task.id, "place": task.place, "name": journal.name_of(task), "state": state, "error": failure},
            )
    else:
        say("\n".join(status_lines(rows, journal.folder, columns_of(sys.stdout))))
    return LinfusionError.exit_code if any(state in ("damaged", "failed", "foreign") for _, state, _ in rows) else 0


def _show_plans(journal: Journal, tasks: list[Task], options: Options, *, as_json: bool) -> int:
    """A plan for each configuration of the images that are not made yet. Exit code 1 if there is none for one."""
    from linfusion_cli.batch.dry_run import dry_run
    from linfusion_cli.cli.batch_display import dry_run_lines, emit_dry_run

    missing = [task for task in tasks if task.id not in journal.done]
    found = dry_run(missing, journal.folder, ranks_of(options))
    if 0 < options.limit < len(missing):
        found.notes.add(f"one run makes {options.limit}, as --limit says", [task.id for task in missing])
    if as_json:
        emit_dry_run(found)
    else:
        for line in dry_run_lines(found):
            say(line)
    return LinfusionError.exit_code if found.refused else 0


def shard_parts(text: str | None) -> tuple[int, int]:
    """Which part of how many, from "2/8". Raises UsageError for anything else."""
    if text is None:
        return 0, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[2]) or int(match[1]) > int(match[2]):
        raise UsageError(f'--shard "{text}": write I/N, from 1/4 to 4/4 (or 0/4 to 3/4), for example --shard 2/4')
    return int(match[1]), int(match[2])


def _deadline(until: str | None, max_minutes: float | None) -> float:
    """When to stop, on the runner's clock; 0 for never."""
    from linfusion_cli.batch.runner import clock

    seconds = [60 * max_minutes] if max_minutes is not None else []
    if until is not None:
        try:
            at = datetime.time.fromisoformat(until.rjust(5, "0"))  # 6:00 is 06:00
        except ValueError as error:
            raise UsageError(
                f'--until "{until}": write a time of day from 00:00 to 23:59, like 06:00 or 23:30'
            ) from error
        now = datetime.datetime.now().astimezone()
        next_one = datetime.datetime.combine(now.date(), at).astimezone()
        if next_one <= now:
            next_one = datetime.datetime.combine(now.date() + datetime.timedelta(days=1), at).astimezone()
        seconds.append(next_one.timestamp() - time.time())
    return clock() + max(0.0, min(seconds)) if seconds else 0.0


def _plain(value: object) -> Any:
    """A flag's value as a row would have it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
