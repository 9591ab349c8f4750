"""Plans a batch without making it: time, memory and errors of each configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from linfusion_cli.batch.note_counts import NoteCounts
from linfusion_cli.batch.task_list import Task
from linfusion_cli.config.job import Job
from linfusion_cli.config.kind import Kind
from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import LinfusionError, OutputError
from linfusion_cli.output.atomic_file import check_folder
from linfusion_cli.output.checkpoint_folder import check_hidden_folder
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.prompt_notes import prompt_notes
from linfusion_cli.render import obstacles
from linfusion_cli.render_ranks import rank_machines
from linfusion_cli.system.device import Machine, find_machine

MOST_PLANS = 20  # each takes some tenths of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedKind:
    """The images of one configuration: their number, and the time and memory of one of them."""

    images: int
    size: str
    preset: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplannedKind:
    """The images of a configuration that was left out, and the place of the first one in the list."""

    images: int
    size: str
    preset: str
    place: str


@dataclass(slots=True)
class DryRun:
    """The result of dry_run().

    refused: configurations for which there is no plan. unplanned: those beyond MOST_PLANS.
    """

    planned: list[PlannedKind] = field(default_factory=list)
    refused: int = 0
    unplanned: list[UnplannedKind] = field(default_factory=list)
    notes: NoteCounts = field(default_factory=NoteCounts)
    obstacles: NoteCounts = field(default_factory=NoteCounts)


def dry_run(tasks: Sequence[Task], folder: Path, by_ranks: RankOptions | None = None) -> DryRun:
    """Plans the first image of each configuration; the notes about prompts are those of every image.

    by_ranks: the processes that make each image together; None: each is made by one
    """
    by_ranks = by_ranks or RankOptions()
    found, machine = DryRun(), cache(partial(_machine, by_ranks=by_ranks))
    for check in (check_folder, check_hidden_folder):
        try:
            check(folder)
        except OutputError as error:
            found.obstacles.add(error.message, [task.id for task in tasks])
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())  # batch makes it
    kinds: dict[Kind, list[Task]] = {}
    for task in tasks:
        kinds.setdefault(task.kind, []).append(task)
    found.unplanned += [
        UnplannedKind(images=len(rest), size=str(kind.job.size), preset=kind.job.preset, place=rest[0].place)
        for kind, rest in list(kinds.items())[MOST_PLANS:]
    ]
    for kind, of_kind in list(kinds.items())[:MOST_PLANS]:
        ids = [task.id for task in of_kind]
        try:
            plan = _plan(of_kind[0], there, machine(kind.job.device), by_ranks)
        except LinfusionError as error:
            found.obstacles.add(error.message, ids)
            found.refused += 1
            continue
        found.planned.append(
            PlannedKind(
                images=len(ids),
                size=str(kind.job.size),
                preset=kind.job.preset,
                seconds=plan.seconds,
                peak_bytes=plan.peak_bytes,
            )
        )
        _note(found, plan, of_kind)
        for text in obstacles(plan):
            found.obstacles.add(text, ids)
    return found


def _machine(device: str, by_ranks: RankOptions) -> Machine:
    return rank_machines(device, by_ranks)[0] if by_ranks.ranks > 1 else find_machine(device)


def _plan(task: Task, folder: Path, machine: Machine, by_ranks: RankOptions) -> Plan:
    job = replace(resolve(task.request(folder, overwrite=True)), rank_options=by_ranks)
    return make_plan(job, machine, keep_text_encoders=True, ranks=by_ranks.ranks)


def _note(found: DryRun, plan: Plan, tasks: Sequence[Task]) -> None:
    """Adds the notes of a plan, and of each prompt those that depend on it."""
    weights = JobWeights.of(plan.job)
    of_first = set(prompt_notes(plan.job, weights))
    for note in plan.notes:
        if note not in of_first:
            found.notes.add(note, [task.id for task in tasks])
    for prompt, ids in _by_prompt(tasks).items():
        for note in prompt_notes(_with_prompt(plan.job, prompt), weights):
            found.notes.add(note, ids)


def _by_prompt(tasks: Sequence[Task]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in tasks:
        found.setdefault(task.prompt, []).append(task.id)
    return found


def _with_prompt(job: Job, prompt: str) -> Job:
    return replace(job, prompt=prompt)
