"""`linfusion distill`: trains LinFusion weights for a checkpoint."""

from __future__ import annotations

from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.shared_options import JsonFlag, Precision, QuietFlag
from linfusion_cli.distill.data_location import existing_path
from linfusion_cli.distill.variant_names import LINEAR, VARIANT_NAMES

if TYPE_CHECKING:
    from linfusion_cli.cli.training_display import TrainingDisplay
    from linfusion_cli.distill.trainer import Distillation

EPILOG = """\b
Examples:
  linfusion distill builtin:landscape --data scenes --steps 2000 -o my-linfusion
  linfusion distill stable-diffusion-v1-5/stable-diffusion-v1-5 --data laion/ --precision bf16 -o sd15-linfusion
  linfusion distill ./my-sdxl --data shards/ --precision bf16 --mid-dim-scale 16 --gradient-checkpointing -o xl-weights
  linfusion distill ./my-sdxl --data shards/ -o xl-weights --dry-run
  accelerate launch --num_processes 8 -m linfusion_cli distill ./my-sd15 --data laion/ --batch-size 12 -o sd15-linfusion

\b
The same command goes on where it stopped. The folder holds LinFusion's official layout: name it as model.linfusion in
a preset, or load it with the official code. The paper's run for SD-v1.5: 100,000 steps of 96 images, rate 1e-4.
"""


class Shape(StrEnum):
    """The learning-rate schedule after the warm-up."""

    cosine = "cosine"
    constant = "constant"


# Which attention: LinFusion's, or one of the paper's ablations.
Variant = StrEnum("Variant", {name.replace("-", "_"): name for name in VARIANT_NAMES})  # type: ignore[misc]
PLAIN = Variant(LINEAR)


TeacherArgument = Annotated[
    str,
    typer.Argument(help="A pipeline in the layout of SD-v1.5, v2.1 or XL: a folder, a hub name, or builtin:landscape."),
]
DataFlag = Annotated[
    str,
    typer.Option(metavar="LOCATION", help="Folder of images with .txt captions, .tar or .parquet files, or scenes."),
]
OutputFlag = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="The weights; checkpoints in its subfolder run.")
]
EmaFlag = Annotated[
    float, typer.Option(min=0, max=0.99999, help="Moving average of the weights that are written. 0 = none.")
]
SizeFlag = Annotated[
    int, typer.Option(metavar="PIXELS", min=0, help="Side of the training squares in pixels. 0 = the teacher's own.")
]
MinutesFlag = Annotated[
    float, typer.Option(min=0.1, show_default="no limit", help="Ends earlier, the rate decayed all the same.")
]
EmptyCaptionsFlag = Annotated[float, typer.Option(min=0, max=1, help="Share of captions left empty, for guidance.")]
MidDimScaleFlag = Annotated[
    int, typer.Option(min=1, help="Divides the width of the new layers: 1 for SD-v1.5 and v2.1, 16 for SD-XL.")
]
DistillationWeightFlag = Annotated[float, typer.Option(min=0, help="Of the distance from the teacher's prediction.")]
VariantFlag = Annotated[
    Variant,
    typer.Option(
        metavar="NAME",
        help="linear, or an ablation for `linfusion evaluate --claims`: unnormalised, causal, or ssd (Mamba2), gla or "
        "rwkv6 with -causal or -bidirectional, and -normalised.",
    ),
]
GradientCheckpointingFlag = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Half the memory, a third slower.")
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Read the teacher and the data, say what would be trained, and stop.")
]


def distill(
    teacher: TeacherArgument,
    data: DataFlag,
    output: OutputFlag,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 10_000,
    minutes: MinutesFlag = inf,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per process at a time.")] = 4,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches per step.")] = 1,
    rate: Annotated[float, typer.Option(min=1e-9, help="Learning rate.")] = 1e-4,
    schedule: Annotated[Shape, typer.Option(help="Of the rate.")] = Shape.cosine,
    warmup: Annotated[int, typer.Option(min=0, help="Steps until the full rate.")] = 500,
    ema: EmaFlag = 0.999,
    size: SizeFlag = 0,
    precision: Annotated[Precision, typer.Option(help="Numbers of the UNet's passes: no = float32.")] = Precision.no,
    empty_captions: EmptyCaptionsFlag = 0.1,
    mid_dim_scale: MidDimScaleFlag = 1,
    distillation_weight: DistillationWeightFlag = 0.5,
    feature_weight: Annotated[float, typer.Option(min=0, help="Of the distance between attention outputs.")] = 0.5,
    variant: VariantFlag = PLAIN,
    gradient_checkpointing: GradientCheckpointingFlag = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints (and every five minutes).")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Fixes weights, noise and order.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    float32: Annotated[bool, typer.Option("--float32", help="Write float32 weights instead of float16.")] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    log_file: LogFlag = None,
) -> None:
    """Teach linear attention to do what a checkpoint's self-attention does."""
    from linfusion_cli.cli.training_display import TrainingDisplay
    from linfusion_cli.output.atomic_file import check_folder
    from linfusion_cli.system.process_setup import importing

    existing_path(data)
    check_folder(output, parameter="output")
    with LogFile(log_file) as log, TrainingDisplay(quiet=quiet, as_json=as_json, log=log) as display:
        with importing():
            from linfusion_cli.distill.loss import Weights
            from linfusion_cli.distill.trainer import Distillation
            from linfusion_cli.training.schedule import Schedule
        asked = Distillation(
            teacher=teacher,
            data=data,
            output=output,
            schedule=Schedule(steps, rate, minutes, warmup, schedule.value),
            size_px=size,
            batch_size=batch_size,
            accumulate=accumulate,
            seed=seed,
            decay=ema,
            empty_captions=empty_captions,
            mid_dim_scale=mid_dim_scale,
            variant=variant.value,
            weights=Weights(distillation=distillation_weight, feature=feature_weight),
            gradient_checkpointing=gradient_checkpointing,
            save_every_steps=save_every,
            half=not float32,
        )
        _run(asked, device, precision.value, display, dry_run=dry_run)


def _run(asked: Distillation, device: str, precision: str, display: TrainingDisplay, *, dry_run: bool) -> None:
    from linfusion_cli.distill.trainer import distill as train
    from linfusion_cli.distill.trainer import plan_distillation
    from linfusion_cli.output.atomic_file import make_folder
    from linfusion_cli.training.accelerator import make_accelerator

    if dry_run:
        display.run(plan_distillation(asked, make_accelerator(device, precision)))
        return
    make_folder(asked.output)
    display.run(train(asked, make_accelerator(device, precision, asked.output / "run")))
    display.announce(asked.output)
