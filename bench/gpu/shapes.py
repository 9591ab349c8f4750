"""Whole images of SD-XL's and SD-v1.5's shapes with random weights, by phase: seconds and peaks against the plan's.

The real planner and the real engine, without text encoders and without a file: rows are looked at and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch

from bench.gpu.case import Case, Setting, Step, attempt
from bench.gpu.models import RandomModels, full_models, tiny_models
from bench.gpu.timing import finish
from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.memory.async_copies import CudaStreams
from linfusion_cli.engine.memory.meter import process_peak_bytes
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet
from linfusion_cli.events import Event, Note, PhaseFinished, PhaseStarted
from linfusion_cli.planning import planner
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.system.device import Machine, find_machine

FULL_STEPS = 50  # of the presets


@dataclass(frozen=True, slots=True)
class Image:
    """One image to make. tiny: its size in the stand-in; budget, tiny_budget: --max-memory, "" for none."""

    family: str
    size: str
    steps: int
    tiny: str
    preset: str = "4k"
    budget: str = ""
    tiny_budget: str = ""


IMAGES = {
    "sdxl": (
        Image("sdxl", "1024x1024", 10, "64x64"),
        Image("sdxl", "4096x4096", 4, "128x128"),
        Image("sdxl", "16384x8192", 4, "256x128", "16k"),
    ),
    "sdxl-8gb": (
        Image("sdxl", "4096x4096", 4, "128x128", budget="8GB", tiny_budget="5GB"),
        Image("sdxl", "16384x8192", 4, "256x128", "16k", "8GB", "5GB"),
    ),
    "sd15": (
        Image("sd15", "1024x1024", 10, "64x64"),
        Image("sd15", "16384x8192", 4, "256x128", "16k"),
    ),
    "sdxl-full": (Image("sdxl", "16384x8192", 50, "256x128", "16k"),),
}


def cases_of(name: str) -> Step:
    """The step that makes the images of that name."""

    def cases(setting: Setting) -> Iterator[Case]:
        wanted = IMAGES[name]
        family = wanted[0].family
        if setting.quick:
            models, presets = tiny_models(family, setting.device, setting.scratch)
        else:
            models, presets = full_models(family, setting.device)
        for image in wanted:
            yield from _made(image, setting, models, presets[image.preset])

    return cases


def request_of(image: Image, setting: Setting, preset: str) -> Request:
    """The request of an image."""
    return Request(
        prompt="noise",
        preset=preset,
        size=image.tiny if setting.quick else image.size,
        seed=7,
        steps=min(image.steps, 4) if setting.quick else image.steps,
        device=setting.device,
        max_memory=(image.tiny_budget if setting.quick else image.budget) or None,
        output=setting.scratch / "unwritten.png",
        scratch_folder=setting.scratch,
    )


@dataclass(slots=True)
class Measured:
    """What a run of the engine took: phases as they end, passes of the UNet, copies beside the compute."""

    phases: list[tuple[PhaseFinished, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passes: int = 0
    copies: list[tuple[str, int, Any, Any]] = field(default_factory=list)
    _passes_before: int = 0

    def see(self, event: Event) -> None:
        """Takes in an event of the engine."""
        if isinstance(event, PhaseStarted):
            self._passes_before = self.passes
        elif isinstance(event, PhaseFinished):
            self.phases.append((event, self.passes - self._passes_before))
        elif isinstance(event, Note):
            self.notes.append(str(event.text))

    def copied(self) -> dict[str, float]:
        """Gigabytes to the device and from it, and the seconds in which the copy streams were at work."""
        found: dict[str, float] = {}
        for way in ("to_device", "to_ram"):
            own = [copy for copy in self.copies if copy[0] == way]
            found[f"{way}_gb"] = round(sum(size for _, size, _, _ in own) / 1e9, 3)
            found[f"{way}_seconds"] = round(sum(first.elapsed_time(last) for _, _, first, last in own) / 1e3, 3)
        return found


@contextmanager
def measured() -> Iterator[Measured]:
    """Inside, passes and copies of the engine are counted: each sample of a batch is a pass."""
    own = Measured()

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(unet: Any, sample: Any, *more: Any) -> Any:
            own.passes += len(sample)
            return call(unet, sample, *more)

        return run

    def timed(way: str, copy: Callable[..., Any]) -> Callable[..., Any]:
        def run(streams: Any, source: Any, *more: Any) -> Any:
            if way == "to_ram":
                streams.stream.wait_stream(torch.cuda.current_stream(streams.device))  # waiting is no copying
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record(streams.stream)
            result = copy(streams, source, *more)
            last.record(streams.stream)
            own.copies.append((way, source.nbytes, first, last))
            return result

        return run

    with (
        mock.patch.object(PlainUNet, "__call__", counted(PlainUNet.__call__)),
        mock.patch.object(BandedUNet, "__call__", counted(BandedUNet.__call__)),
        mock.patch.object(CudaStreams, "upload", timed("to_device", CudaStreams.upload)),
        mock.patch.object(CudaStreams, "download", timed("to_ram", CudaStreams.download)),
    ):
        yield own


def plan_of(request: Request, device: str) -> Plan:
    """The plan with the speed that is assumed of the device, whatever was measured before."""
    return unchecked_plan(resolve(request), find_machine(device))


def unchecked_plan(job: Job, machine: Machine) -> Plan:
    """The plan without a look into the model's files: networks with random weights have configs alone."""
    with mock.patch.object(planner, "check_inputs"):
        return make_plan(job, machine)


def _made(image: Image, setting: Setting, models: RandomModels, preset: str) -> Iterator[Case]:
    plan = plan_of(request := request_of(image, setting, preset), setting.device)
    budget = f", {request.max_memory} allowed" if request.max_memory else ""
    name = f"{image.family} {plan.size}{budget}, {request.steps} steps"
    models.networks(plan.dtype)  # made before the clock starts
    try:
        found: list[Case] = []
        yield attempt(name, partial(_run, name, plan, setting, models, found))
        yield from found
    finally:
        models.give_back(plan)
        if setting.kind == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)


def _run(name: str, plan: Plan, setting: Setting, models: RandomModels, found: list[Case]) -> Case:
    rows, levels = 0, np.zeros(256, dtype=np.int64)
    with measured() as seen:
        for made in images(plan, seen.see, model_cache=models):  # type: ignore[arg-type]
            for part in made.rows if made.final else ():
                rows += len(part)
                levels += np.bincount(part.ravel()[:: max(1, part.size >> 16)], minlength=256)
            list(made.rows)
    finish(setting)
    found += [_phase(name, plan, event, passes) for event, passes in seen.phases]
    peak = max(event.device_peak_bytes for event, _ in seen.phases)
    whole = {
        # without loading: there were no files to read, and no text encoders
        "seconds": round(sum(event.seconds for event, _ in seen.phases if event.name != "load"), 2),
        "planned_seconds": round(sum(phase.seconds for phase in plan.phases if phase.name != "load"), 2),
        "passes": seen.passes,
        "device_peak_gb": _gb(peak),
        "planned_peak_gb": _gb(plan.peak_bytes),
        "budget_gb": _gb(plan.budget_bytes),
        "process_peak_gb": _gb(process_peak_bytes()),
        "planned_ram_gb": _gb(plan.ram_bytes),
        "weights_resident": plan.weights_resident,
        "dtype": plan.dtype,
        **seen.copied(),
        "grey levels seen": int((levels > 0).sum()),
        "notes": len(seen.notes),
    }
    if plan.sampler.steps < FULL_STEPS:
        whole["seconds_with_50_steps"] = round(_estimate(plan, seen), 1)
    # an image of noise has many levels; one that is black or cut off has not
    right = rows == plan.size.height and whole["grey levels seen"] > 8 and peak <= plan.budget_bytes
    return Case(name, right, whole)


def _phase(name: str, plan: Plan, event: PhaseFinished, passes: int) -> Case:
    planned = next(phase for phase in plan.phases if (phase.name, phase.stage) == (event.name, event.stage))
    size = plan.stages[event.stage].size if event.name != "load" else plan.size
    found = {
        "seconds": round(event.seconds, 3),
        "planned_seconds": round(planned.seconds, 3),
        "passes": passes or None,
        "seconds_per_pass": round(event.seconds / passes, 4) if passes else None,
        "device_peak_gb": _gb(event.device_peak_bytes),
        "planned_peak_gb": _gb(planned.peak_bytes),
        "process_peak_gb": _gb(event.peak_bytes),
    }
    return Case(f"{name}: {event.name} {size}", None, found)


def _estimate(plan: Plan, seen: Measured) -> float:
    """The seconds of the same image with FULL_STEPS: its denoising takes as many times longer as it has more passes."""
    job = plan.job
    sampling = job.settings.sampling.model_copy(update={"steps": FULL_STEPS})
    settings = job.settings.model_copy(update={"sampling": sampling})
    whole = unchecked_plan(replace(job, settings=settings), plan.machine)
    more = {stage.index: _passes(stage) for stage in whole.stages}
    few = {stage.index: _passes(stage) for stage in plan.stages}
    return sum(
        event.seconds * (more[event.stage] / few[event.stage] if event.name == "denoise" else 1)
        for event, _ in seen.phases
        if event.name != "load"
    )


def _passes(stage: Stage) -> float:
    """Predictions of a stage, with those of guidance and of the dilated branch."""
    return (stage.steps + stage.dilated_steps) * (1 + stage.guided_steps / max(1, stage.steps))


def _gb(size_bytes: float) -> float:
    return round(size_bytes / 1e9, 3)
