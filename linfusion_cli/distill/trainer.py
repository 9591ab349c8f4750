"""A distillation from start to end: the teacher, the data, the training run, and the LinFusion weights it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor

from linfusion_cli.distill.batches import Examples, Order, Reader, prefetched
from linfusion_cli.distill.datasets import open_source
from linfusion_cli.distill.loss import Distiller, Weights
from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.distill.variant_names import LINEAR
from linfusion_cli.distill.variants import save_variant, varied
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.errors import OutputError, UsageError, WeightsError
from linfusion_cli.training import checkpoint as checkpoints
from linfusion_cli.training.checkpoint import Identity
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import Progress, Run, Settings, WeightsWritten

NAMED = 5  # broken images that a note names; the rest are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """What is distilled, from which data, and how.

    teacher:          location of the model
    data:             location of the captioned images, or "scenes" (datasets.open_source)
    output:           folder of the weights; its folder run/ holds the checkpoints
    size_px:          side of the training squares; 0 = the teacher's training size
    batch_size:       images per process and part of a step; a step sees batch_size x accumulate x processes
    accumulate:       parts of a step, whose gradients are averaged
    decay:            of the moving average of the weights, 0 to below 1
    empty_captions:   share of captions that are replaced by empty ones, 0 to 1
    mid_dim_scale:    divisor of the learned nonlinearities' inner width; 1 in the official files of SD-v1.5 and v2.1,
                      16 in those of SD-XL
    variant:          a name of variant_names.VARIANT_NAMES
    weights:          factors of the loss terms
    gradient_checkpointing: computes activations again in the backward pass, which takes less memory and more time
    save_every_steps: steps between two checkpoints
    half:             writes float16 weights, as the official files have; False = float32
    """

    teacher: str
    data: str
    output: Path
    schedule: Schedule
    size_px: int = 0
    batch_size: int = 4
    accumulate: int = 1
    seed: int = 0
    decay: float = 0.999
    empty_captions: float = 0.1
    mid_dim_scale: int = 1
    variant: str = LINEAR
    weights: Weights = field(default_factory=Weights)
    gradient_checkpointing: bool = False
    save_every_steps: int = 1000
    half: bool = True

    def identity(self, size_px: int, precision: str, processes: int) -> Identity:
        """Every value that a checkpoint must share with this run for the run to continue from it.

        precision: "no", "bf16" or "fp16"; processes: the number of them
        """
        schedule = self.schedule
        return {
            "teacher": self.teacher,
            "data": self.data,
            "size": size_px,
            "batch": self.batch_size,
            "accumulate": self.accumulate,
            "processes": processes,
            "steps": schedule.steps,
            "rate": schedule.learning_rate,
            "schedule": schedule.shape,
            "warmup": schedule.warmup,
            "seed": self.seed,
            "ema": self.decay,
            "empty captions": self.empty_captions,
            "mid_dim_scale": self.mid_dim_scale,
            "variant": self.variant,
            "precision": precision,
            **{f"{name} weight": value for name, value in asdict(self.weights).items()},
        }


def distill(asked: Distillation, accelerator: Accelerator) -> Iterator[str | Progress | WeightsWritten]:
    """Trains, or continues from the newest checkpoint, and writes the averaged weights; yields notes and progress.

    Raises UsageError for data that can't be used, a size that the teacher can't take or a folder of another run,
    WeightsError for a teacher or a checkpoint that can't be used, OutputError if checkpoints or weights can't be
    written, and LinfusionError if the loss or the gradient is not finite.
    """
    teacher = _teacher(asked, accelerator)
    size_px = _checked_size(asked.size_px or teacher.train_size_px, teacher)
    source = open_source(asked.data, size_px, asked.seed)
    yield from _tell_skipped(source.skipped, sum(source.blocks))
    distiller = _distiller(asked, teacher)
    attentions = distiller.linfusion.attentions
    optimizer = torch.optim.AdamW(attentions.parameters(), lr=asked.schedule.learning_rate, weight_decay=0.0)
    identity = asked.identity(size_px, accelerator.mixed_precision, accelerator.num_processes)
    settings = Settings(
        identity=identity,
        seed=asked.seed,
        decay=asked.decay,
        accumulate=asked.accumulate,
        save_every_steps=asked.save_every_steps,
    )
    run = Run(asked.output / "run", attentions, optimizer, asked.schedule, settings, accelerator)
    if run.step:
        yield f"continuing from step {run.step}"
    reader = Reader(
        source, Order(source.blocks, asked.seed), asked.batch_size, size_px, asked.seed, asked.empty_captions
    )
    yield from _train(run, reader, teacher, distiller)
    if accelerator.is_main_process:
        _write(asked, distiller.linfusion, run.average.weights)
        yield WeightsWritten(str(asked.output))
    accelerator.end_training()


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationPlan:
    """What a distillation would do, of a teacher and data that were read.

    images: with captions, of which some may prove unreadable; parameters: trained values; step: where it would go on
    checkpoint_bytes: weights, their average and the optimizer's two moments, in float32
    """

    kind: ClassVar[str] = "distillation_plan"
    teacher: str
    size_px: int
    images: int
    images_per_step: int
    steps: int
    step: int
    parameters: int
    weights_bytes: int
    checkpoint_bytes: int
    device: str
    precision: str

    def as_dict(self) -> dict[str, Any]:
        """The plan for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The plan as text."""
        epochs = self.steps * self.images_per_step / self.images
        begins = f"goes on from step {self.step:,}" if self.step else "starts anew"
        yield f"{self.teacher} on {self.device}, precision {self.precision}: {begins}"
        yield (
            f"{self.steps:,} steps of {self.images_per_step} images of {self.size_px} pixels a side, "
            f"{epochs:.3g} times the {self.images:,} images"
        )
        yield (
            f"{self.parameters:,} values are trained: weights {self.weights_bytes / 1e6:.1f} MB, "
            f"each checkpoint {self.checkpoint_bytes / 1e6:.1f} MB"
        )


def _teacher(asked: Distillation, accelerator: Accelerator) -> Teacher:
    """The teacher. Raises WeightsError for one whose predictions depend on more than image, timestep and words."""
    teacher = Teacher.load(asked.teacher, accelerator.device)
    if dim := teacher.pipeline.unet.config.time_cond_proj_dim:
        what = f"a latent consistency model (its UNet reads {dim} numbers of the guidance scale, time_cond_proj_dim)"
        advice = "Distill the model that it was made from: its LinFusion weights fit both"
        raise WeightsError(f"{asked.teacher}: {what}, which can't teach. {advice}")
    return teacher


def plan_distillation(asked: Distillation, accelerator: Accelerator) -> Iterator[str | DistillationPlan]:
    """Loads the teacher, opens the data and compares the newest checkpoint with what is asked; writes nothing.

    Yields notes, then the plan. Raises what distill() raises before its first step.
    """
    teacher = _teacher(asked, accelerator)
    size_px = _checked_size(asked.size_px or teacher.train_size_px, teacher)
    source = open_source(asked.data, size_px, asked.seed)
    yield from _tell_skipped(source.skipped, sum(source.blocks))
    identity = asked.identity(size_px, accelerator.mixed_precision, accelerator.num_processes)
    found = checkpoints.newest(asked.output / "run")
    parameters = sum(value.numel() for value in _distiller(asked, teacher).linfusion.attentions.parameters())
    yield DistillationPlan(
        teacher=asked.teacher,
        size_px=size_px,
        images=sum(source.blocks),
        images_per_step=asked.batch_size * asked.accumulate * accelerator.num_processes,
        steps=asked.schedule.steps,
        step=checkpoints.load(found, identity).step if found else 0,
        parameters=parameters,
        weights_bytes=parameters * (2 if asked.half else 4),
        checkpoint_bytes=parameters * 4 * 4,
        device=str(accelerator.device),
        precision=accelerator.mixed_precision,
    )


def _train(run: Run, reader: Reader, teacher: Teacher, distiller: Distiller) -> Iterator[str | Progress]:
    ranks, rank, parts = run.accelerator.num_processes, run.accelerator.process_index, run.settings.accumulate
    indices = (step * ranks + rank for step in range(run.step * parts, run.schedule.steps * parts))
    batches = prefetched(reader.read, indices, max(1, min(8, (os.cpu_count() or 2) - 1)))
    lost: list[str] = []

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        examples: Examples = next(batches)
        lost.extend(examples.skipped)
        draw = torch.Generator().manual_seed(reader.seed * 1_000_003 + index)
        return distiller.loss(teacher.batch(examples.images, examples.captions, examples.ids, draw))

    told = 0
    for progress in run.train(loss_of):
        yield from _tell_skipped(lost[told:], 0)
        told = len(lost)
        yield progress


def _distiller(asked: Distillation, teacher: Teacher) -> Distiller:
    unet = teacher.pipeline.unet
    torch.manual_seed(asked.seed)  # the first layers of the nonlinearities have random initial values
    linfusion = varied(LinFusion.like(unet, asked.mid_dim_scale), asked.variant, unet)
    if asked.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return Distiller(unet, linfusion, asked.weights)


def _write(asked: Distillation, linfusion: LinFusion, weights: dict[str, Tensor]) -> None:
    linfusion.attentions.load_state_dict(weights)
    linfusion.attentions.to("cpu", torch.float16 if asked.half else torch.float32)
    try:
        if asked.variant == LINEAR:
            linfusion.save(asked.output)
        else:
            save_variant(linfusion, asked.variant, asked.output)
    except OSError as error:
        advice = "They are in its last checkpoint: make room, give the command again"
        raise OutputError(f"{asked.output}: the weights can't be written ({error}). {advice}") from error


def _checked_size(size_px: int, teacher: Teacher) -> int:
    step = teacher.pixels_per_latent * 2 ** (len(teacher.pipeline.unet.config.block_out_channels) - 1)
    if size_px % step:
        raise UsageError(
            f"{size_px}: the teacher takes multiples of {step} pixels. Nearest: {max(round(size_px / step), 1) * step}",
            parameter="size",
        )
    return size_px


def _tell_skipped(lines: tuple[str, ...] | list[str], kept: int) -> Iterator[str]:
    """Notes how many images were left out, how many are used, and the first few lines."""
    if lines:
        beside = f"; {kept} are used" if kept else ""
        yield f"skipped {len(lines)}{beside}:"
        yield from (f"  {line}" for line in lines[:NAMED])
        if len(lines) > NAMED:
            yield f"  and {len(lines) - NAMED} more"
