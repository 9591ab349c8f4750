"""Renders a plan: computes the image with the engine and writes it, with its record, to the output file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linfusion_cli import __version__
from linfusion_cli.config.extras import local_name
from linfusion_cli.config.job import Job
from linfusion_cli.config.job_hash import job_hash, unseeded_hash
from linfusion_cli.config.required_weights import check_weights, missing_weights, refuse_changed
from linfusion_cli.config.sampler_names import a1111_names
from linfusion_cli.config.shown_settings import shown_settings, without_prompt
from linfusion_cli.engine_import import as_measured, import_engine
from linfusion_cli.errors import LinfusionError, Message, option, ran_out_of_memory
from linfusion_cli.events import (
    Event,
    MemorySampled,
    Note,
    Notify,
    PhaseFinished,
    PhaseStarted,
    PreviewMade,
    Progressed,
)
from linfusion_cli.geometry import MULTIPLE_PX
from linfusion_cli.output.atomic_file import make_folder
from linfusion_cli.output.checkpoint_folder import CheckpointFolder, kept_seed, tidy
from linfusion_cli.output.formats.writer import check_destination, check_texts, write_image
from linfusion_cli.output.memory_log import MemoryLog
from linfusion_cli.output.metadata import record_texts
from linfusion_cli.output.preview_file import PreviewFile
from linfusion_cli.output.side_files import restore_folder, side_checks
from linfusion_cli.planning.cost_estimate import LATENT_BYTES
from linfusion_cli.planning.input_check import check_packages
from linfusion_cli.planning.memory_advice import ran_out
from linfusion_cli.planning.planner import Plan
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import learn_speed
from linfusion_cli.system.process_limits import refusals_named
from linfusion_cli.system.signals import STOP
from linfusion_cli.system.work import Timed
from linfusion_cli.weights.requirements import Kind

if TYPE_CHECKING:
    from linfusion_cli.engine.components.model_cache import ModelCache
    from linfusion_cli.engine.distributed.ranks import Ranks, RankUse
    from linfusion_cli.engine.pipeline import StageImage

CHECKPOINT_COPIES = 16  # of the latents; the schedulers with the most remember four earlier steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A finished image and what was measured while it was made.

    plan: as carried out. seconds: from the call of render() to its end. peak_bytes: resident memory of this process.
    device_peak_bytes: memory of the accelerator, 0 on a CPU. record: what the file holds. rank_uses: of each rank.
    """

    plan: Plan
    path: Path
    seconds: float
    peak_bytes: int
    device_peak_bytes: int
    record: dict[str, Any]
    rank_uses: tuple[RankUse, ...] = ()


def render(plan: Plan, notify: Notify, model_cache: ModelCache | None = None, ranks: Ranks | None = None) -> Rendered:
    """Makes the plan's image and writes it, whole or not at all. Resumes from the checkpoint of an interrupted run.

    notify: is called with every event, also from the thread that samples the memory. model_cache: keeps components
    loaded between images. ranks: the processes that compute the image, this one as rank 0; see render_ranks.py.

    Raises OutputError before any work if the image can't be written, BusyError if another process makes the same
    image, WeightsError if weights are missing, and OutOfMemoryError if memory runs out on the way.
    """
    started, job = time.monotonic(), plan.job
    prepare(plan)
    measured = _Measured()
    stopper = _Stopper(notify)
    preview_file = PreviewFile(job.preview_file, notify)
    memory_log = MemoryLog(job.memory_log, notify, quotes=job.stores_prompt)
    with memory_log as log, _checkpoints(plan, notify, stopper) as keeper, refusals_named(), _out_of_memory(plan):

        def tell(event: Event) -> None:
            measured.see(event)
            if isinstance(event, PreviewMade):
                preview_file.add(event)
            log.add(event, time.monotonic() - started)
            notify(event)
            stopper.see(event)

        start_seconds = import_engine(plan.machine, plan.dtype, plan.prepared_convolutions)
        plan = plan if ranks is not None else as_measured(plan, notify)
        from linfusion_cli.engine.memory.meter import process_peak_bytes
        from linfusion_cli.engine.pipeline import images

        record: dict[str, Any] = {}
        before = Contention.now()
        for image in images(plan, tell, keeper, model_cache, *([] if ranks is None else [ranks])):
            record = record_of(plan, measured.phases)
            if image.final:
                restore_folder(job.output.parent, notify)
                _write(job, job.output, image, record, overwrite=job.overwrite)
            elif job.stages_folder is not None:
                _write(job, _stage_path(job, job.stages_folder, image.stage), image, record, overwrite=True)
        _tell_missing_stages(plan, notify)
        keeper.clear()
    if ranks is None:
        _learn(plan, measured, before, start_seconds)
    device_peak = max((phase.device_peak_bytes for phase in measured.phases), default=0)
    _tell_peak(job, device_peak or measured.peak_bytes, notify)
    return Rendered(
        plan=plan,
        path=job.output,
        seconds=time.monotonic() - started,
        peak_bytes=process_peak_bytes(),
        device_peak_bytes=device_peak,
        record=record,
        rank_uses=() if ranks is None else ranks.uses(),
    )


def check_ready(plan: Plan) -> None:
    """Checks the weights and packages that the plan needs, before any work.

    Raises WeightsError for weights that are missing, damaged, or not those that the plan was made for; and UsageError
    if a package is missing.
    """
    check_weights(plan.job.settings, plan.job.preset, _unused(plan))
    check_packages(plan.components.loras)
    refuse_changed(plan.job.settings, plan.job.weights)
    for file in plan.components.weight_files:
        file.refuse_changed()


def prepare(plan: Plan) -> None:
    """Checks what the plan needs and where its images go, before any work; removes temporary files of dead processes.

    Raises what check_ready() raises, and OutputError if a file can't be written.
    """
    job = plan.job
    check_ready(plan)
    check_destination(job.output, job.size, job.file, overwrite=job.overwrite)
    for check in _side_checks(job):
        check()
    check_texts(record_texts(record_of(plan, [])), job.file)  # a text that can't be stored is found now
    _tidied(job.output.parent.absolute())
    if job.stages_folder is not None:
        make_folder(job.stages_folder, parameter="stages_folder")
        for stage in _stages_with_images(plan):
            path = _stage_path(job, job.stages_folder, stage)
            check_destination(path, stage.size, job.file, overwrite=True)


@cache
def _tidied(folder: Path) -> None:
    """Once in a process: a batch would list a folder of very many images for each of them."""
    tidy(folder)


def obstacles(plan: Plan) -> tuple[str, ...]:
    """The errors that render() would raise before any work, as messages. Changes nothing."""
    job = plan.job
    found: list[Message] = [error.message for error in missing_weights(job.settings, job.preset, _unused(plan))]
    checks: list[Callable[[], None]] = [
        partial(check_packages, plan.components.loras),
        partial(check_destination, job.output, job.size, job.file, overwrite=job.overwrite),
        *_side_checks(job),
    ]
    for check in checks:
        try:
            check()
        except LinfusionError as error:
            found.append(error.message)
    return tuple(found)


def _side_checks(job: Job) -> Iterator[Callable[[], None]]:
    """Of each place beside the image that is written."""
    return side_checks(job.output, preview=job.preview_file, memory_log=job.memory_log, stages_folder=job.stages_folder)


def _unused(plan: Plan) -> frozenset[Kind]:
    """The kinds of weights in the preset that this plan does not load."""
    without_linear = not any(stage.attention == "linear" for stage in plan.stages)
    without_vae = plan.components.vae is None
    kinds: dict[Kind, bool] = {"linfusion": without_linear, "vae": without_vae}
    return frozenset(kind for kind, unused in kinds.items() if unused)


def interrupted_seed(job: Job) -> int | None:
    """The seed that an interrupted run drew for the same job; None if a seed was given, or nothing is to be resumed."""
    return kept_seed(job.output.parent, unseeded_hash(job)) if job.seed_drawn and not job.restart else None


def _learn(plan: Plan, measured: _Measured, before: Contention, start_seconds: float) -> None:
    """Corrects the known speed of the machine by the measured times, less the CPU time of other programs."""
    phases = measured.beside(plan)
    if plan.machine.kind == "cpu" and (taken_seconds := sum(phase.seconds for phase in phases)):
        quiet_share = before.quiet_seconds(taken_seconds, Contention.now()) / taken_seconds
        phases = [phase._replace(seconds=phase.seconds * quiet_share) for phase in phases]
    learn_speed(plan.machine, plan.dtype, phases=phases, start_seconds=start_seconds)


def _tell_peak(job: Job, peak_bytes: int, notify: Notify) -> None:
    """Notes a peak above the memory limit that was given: the plan was wrong."""
    if (limit := job.max_memory_bytes) and peak_bytes > limit:
        parts = (f"the peak was {peak_bytes / 1e6:.0f} MB, more than ", option("max_memory", f"{limit / 1e6:.0f}MB"))
        notify(Note(text=Message(*parts, " allows. To stay below it, give a smaller one")))


@dataclass(slots=True)
class _Measured:
    """The finished phases, and those that an earlier run had begun."""

    phases: list[PhaseFinished] = field(default_factory=list)
    _resumed: set[tuple[str, int]] = field(default_factory=set)

    def see(self, event: Event) -> None:
        if isinstance(event, PhaseFinished):
            self.phases.append(event)
        elif isinstance(event, PhaseStarted) and event.done:
            self._resumed.add((event.name, event.stage))

    @property
    def peak_bytes(self) -> int:
        """The most that the process held while a phase ran."""
        return max((phase.peak_bytes for phase in self.phases), default=0)

    def beside(self, plan: Plan) -> list[Timed]:
        """The planned work and the measured seconds of the phases that ran from their beginning, without loading."""
        planned = {(phase.name, phase.stage): phase.work for phase in plan.phases if phase.name != "load"}
        return [
            Timed(planned[key], phase.seconds)
            for phase in self.phases
            if (key := (phase.name, phase.stage)) in planned and key not in self._resumed
        ]


class _Stopper:
    """Delays a stop signal to the end of the running denoising step, so that a checkpoint keeps the step."""

    def __init__(self, notify: Notify) -> None:
        self._notify, self._told, self._kept = notify, False, False

    def urgent(self) -> bool:
        """Whether the checkpoint of this step must be written, however recent the last one: a stop was asked for."""
        self._kept = bool(STOP.code)
        return self._kept

    def see(self, event: Event) -> None:
        match event:
            case PhaseStarted():
                STOP.obey()
                STOP.patient = event.name == "denoise"
            case Progressed() if self._kept or not STOP.patient:
                STOP.obey()
            case MemorySampled() if STOP.code and not self._told:  # the only event that comes in the middle of a step
                self._told = True
                self._notify(
                    Note(text="stopping at the end of this step; finished work is kept. A second signal stops at once")
                )
            case _:
                pass


@contextmanager
def _checkpoints(plan: Plan, notify: Notify, stopper: _Stopper) -> Iterator[CheckpointFolder]:
    """The folder that keeps what is done, opened for this job, plan and kind of device."""
    job = plan.job
    sizes = " ".join(str(stage.canvas) for stage in plan.stages)
    key = hashlib.sha256(f"{job_hash(job)} {plan.dtype} {plan.machine.kind} {sizes}".encode()).hexdigest()

    def tell(text: str) -> None:
        notify(Note(text=text))

    with CheckpointFolder(
        job.output,
        key,
        job_hash(job),
        job.checkpoint_seconds,
        most_bytes=_checkpoint_bytes(plan),
        urgent=stopper.urgent,
        tell=tell,
    ) as keeper:
        if job.restart:
            keeper.clear()
        if job.seed_drawn:
            keeper.remember_seed(unseeded_hash(job), job.seed)
        try:
            yield keeper
        finally:
            STOP.patient = False


def _checkpoint_bytes(plan: Plan) -> int:
    """The largest size of one checkpoint: the latents, and what a scheduler remembers of earlier steps."""
    area = max(stage.canvas.area for stage in plan.stages)
    return int(CHECKPOINT_COPIES * LATENT_BYTES * area / MULTIPLE_PX**2) + (16 << 20)


def _stage_path(job: Job, folder: Path, stage: Stage) -> Path:
    return folder / f"stage-{stage.index}-{stage.size}{job.output.suffix}"


def _stages_with_images(plan: Plan) -> tuple[Stage, ...]:
    """The stages before the last one; without stage 0 where that is the user's own image."""
    return plan.stages[1 if plan.upscales_image else 0 : -1]


def _tell_missing_stages(plan: Plan, notify: Notify) -> None:
    """Notes the stage images that an interrupted run did not write, because it ran without a folder for them."""
    folder = plan.job.stages_folder
    if folder is None or plan.join.between != "pixel":
        return
    stages = _stages_with_images(plan)
    if missing := [str(stage.index) for stage in stages if not _stage_path(plan.job, folder, stage).exists()]:
        notify(
            Note(
                text=Message(
                    f"no image of stage {', '.join(missing)}: made before the interruption. ",
                    option("restart"),
                    " makes them all",
                )
            )
        )


def record_of(plan: Plan, measured: list[PhaseFinished]) -> dict[str, Any]:
    """The record that is stored inside the image: all that decides its pixels, without paths of this machine."""
    (job, not_stored), sampling = without_prompt(plan.job), plan.job.settings.sampling
    sampler, schedule = a1111_names(sampling.scheduler, sampling.sigma_schedule, sampling.timestep_spacing)
    return {
        "version": __version__,
        "id": job_hash(plan.job),
        **({"not_stored": list(not_stored)} if not_stored else {}),
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "width": job.size.width,
        "height": job.size.height,
        "preset": Path(job.preset).name,
        "model": local_name(job.settings.model.repositories[0]).removeprefix("builtin:"),
        "steps": sampling.steps,
        "scheduler": sampling.scheduler,
        **({"eta": sampling.eta} if sampling.eta >= 0 else {}),
        "a1111_sampler": sampler,
        "a1111_schedule": schedule,
        "guidance_scale": sampling.guidance_scale,
        "attention": plan.attention,
        "dtype": plan.dtype,
        "device": plan.machine.kind,
        "overrides": {
            name: list(value) if isinstance(value, tuple) else value for name, value in job.overrides.items()
        },
        "upscaled": job.start.image.path.name if job.start and not job.start.refined else "",
        "images": {image.path.name: image.sha256 for image in job.images},
        "settings": shown_settings(job.settings),
        "stages": plan.as_dict()["stages"],
        "measured": {
            f"{phase.name} {phase.stage}": {"seconds": round(phase.seconds, 2), "peak_bytes": phase.peak_bytes}
            for phase in measured
        },
    }


def _write(job: Job, path: Path, image: StageImage, record: dict[str, Any], *, overwrite: bool) -> None:
    write_image(path, image.stage.size, job.file, record_texts(record), image.rows, overwrite=overwrite)


@contextmanager
def _out_of_memory(plan: Plan) -> Iterator[None]:
    """Turns the ways in which torch and numpy run out of memory into one error with advice."""
    failure = ""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        failure = str(error).splitlines()[0] if str(error) else "MemoryError"
    if failure:
        raise ran_out(plan, failure)
