"""The story of a distillation: teacher, data, the run, and the weights in the official layout at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

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
from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.training.checkpoint import Identity
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import Progress, Run, Settings

NAMED = 5  # broken files that are named one by one; the rest are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """What was asked.

    size_px:       side of the training squares, 0 = the teacher's own
    batch_size:    images per process and part of a step; a step sees batch_size x accumulate x processes
    mid_dim_scale: divisor of the learned nonlinearities' width; in the official files 1 (SD-v1.5, v2.1) and 16 (SD-XL)
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
    half: bool = True  # float16 weights in the end, as the official files have

    def identity(self, size_px: int, precision: str, processes: int) -> Identity:
        """What a checkpoint must share with this run."""
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


def distill(asked: Distillation, accelerator: Accelerator) -> Iterator[str | Progress]:
    """Trains, or goes on training, and writes the weights; yields notes and progress.

    Raises UsageError for data that can't be used or a folder of another run, WeightsError for a teacher that can't,
    OutputError if nothing can be written, LinfusionError when the loss stops being a number.
    """
    teacher = Teacher.load(asked.teacher, accelerator.device)
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
        yield f"going on from step {run.step}"
    reader = Reader(
        source, Order(source.blocks, asked.seed), asked.batch_size, size_px, asked.seed, asked.empty_captions
    )
    yield from _train(run, reader, teacher, distiller)
    if accelerator.is_main_process:
        _write(asked, distiller.linfusion, run.average.weights)
        yield f"weights in {asked.output}"
    accelerator.end_training()


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
    torch.manual_seed(asked.seed)  # the nonlinearities' first layers start at random
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
    """Counts what was left out, and names the first few."""
    if lines:
        beside = f"; {kept} are used" if kept else ""
        yield f"skipped {len(lines)}{beside}:"
        yield from (f"  {line}" for line in lines[:NAMED])
        if len(lines) > NAMED:
            yield f"  and {len(lines) - NAMED} more"
