"""`linfusion landscapes`: renders the procedural scenes, and trains the built-in model from them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.cli.help_panels import HelpCommand, HelpGroup
from linfusion_cli.cli.shared_options import JsonFlag, Precision, QuietFlag
from linfusion_cli.cli.streams import announce
from linfusion_cli.cli.text import safe
from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.landscapes.lessons import LINEAR_SHARE, WINDOW_SHARE, Lessons

if TYPE_CHECKING:
    from linfusion_cli.landscapes.data import Effort
    from linfusion_cli.training.schedule import Schedule

EPILOG = """\b
Examples:
  linfusion landscapes render --count 6 --size 512x512 -o scenes
  linfusion landscapes train autoencoder
"""
RENDER_EPILOG = """\b
Examples:
  linfusion landscapes render --count 4 --size 768x432 --seed 7 -o scenes
"""
TRAIN_EPILOG = """\b
Examples, in this order:
  linfusion landscapes train autoencoder --steps 1400
  linfusion landscapes train denoiser --steps 2000
  linfusion landscapes train export
  linfusion landscapes train upscale-lora

\b
On a GPU:
  linfusion landscapes train autoencoder --minutes 8 --precision bf16 --batch 8 --scenes 8
  linfusion landscapes train denoiser --minutes 10 --precision bf16 --batch 8 --scenes 8 --linear-share 0
"""

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Render the procedural scenes, or train the built-in model from scratch.",
    epilog=EPILOG,
)


class Part(StrEnum):
    """What can be trained, in order."""

    autoencoder = "autoencoder"
    denoiser = "denoiser"
    export = "export"
    upscale_lora = "upscale-lora"


@app.command(cls=HelpCommand, epilog=RENDER_EPILOG)
def render(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many scenes.")] = 8,
    size: Annotated[str, typer.Option(metavar="WxH", help="The size in pixels.")] = "512x512",
    seed: Annotated[int, typer.Option(help="Fixes which scenes.")] = 0,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Folder; one PNG and one .txt with the caption per scene."
        ),
    ] = Path("scenes"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace scenes that are there.")] = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Draw random scenes with their captions: what the built-in model learns from."""
    import random
    import sys

    from PIL import Image

    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.geometry import parse_size
    from linfusion_cli.landscapes.render import render as draw
    from linfusion_cli.landscapes.render import to_levels
    from linfusion_cli.landscapes.scene import caption, sample_scene

    rng, pixels = random.Random(seed), parse_size(size)
    from linfusion_cli.output.atomic_file import make_folder

    make_folder(output)
    names = (output / f"{index:04d}.{ending}" for index in range(count) for ending in ("png", "txt"))
    if not overwrite and (there := next(filter(Path.exists, names), None)):
        raise OutputError(f"{there} exists. Give another folder with -o, or --overwrite")
    for index in range(count):
        scene = sample_scene(rng, pixels.width / pixels.height)
        levels = to_levels(draw([scene], pixels.height, pixels.width))[0].permute(1, 2, 0)
        path, text = output / f"{index:04d}.png", caption(scene, rng)
        Image.fromarray(levels.numpy()).save(path)
        path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        if as_json:
            emit(sys.stdout, "scene", {"path": str(path), "caption": text})
    if not quiet and not as_json:
        announce(f"{count} scenes in {safe(output)}")


LinearShareOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="Of the denoiser's steps, those with linear attention. 0 = a softmax teacher."),
]
WindowShareOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Of the denoiser's steps, those on windows into scenes. More of them sharpen an upscale."
    ),
]
BlendOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="For export with --from: the run's part of the weights; the rest are the model's."),
]
KeepCompositionOption = Annotated[
    bool, typer.Option("--keep-composition", help="With --from: the denoiser lays images out as that model does.")
]
DecoderOnlyOption = Annotated[
    bool, typer.Option("--decoder-only", help="With --from: the autoencoder's latents keep their meaning.")
]
StartOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="Train a model of this layout further: its folder, or builtin:landscape. Without: from scratch.",
    ),
]
MinutesOption = Annotated[
    float,
    typer.Option(
        min=0.1,
        show_default="no limit",
        help="Ends earlier, with the rate at zero too. Results then depend on the machine's speed.",
    ),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Times the recipe's images per step. 1 suits two CPU cores.")]
RateOption = Annotated[float, typer.Option(min=1e-6, help="The highest learning rate. Lower it for --from.")]


@app.command(cls=HelpCommand, epilog=TRAIN_EPILOG)
def train(
    part: Annotated[Part, typer.Argument(help="autoencoder, then denoiser, then export, then upscale-lora.")],
    folder: Annotated[
        Path, typer.Option(help="Checkpoints and results; the same command goes on where it stopped.")
    ] = Path("runs"),
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps; the learning rate reaches zero at the last.")
    ] = 2000,
    minutes: MinutesOption = inf,
    seed: Annotated[int, typer.Option(help="Fixes scenes, weights and order.")] = 0,
    batch: BatchOption = 1,
    scenes: Annotated[int, typer.Option(min=1, help="Times the recipe's number of rendered images.")] = 1,
    precision: Annotated[Precision, typer.Option(help="Numbers of the forward pass: no = float32.")] = Precision.no,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    start: StartOption = "",
    rate: RateOption = 1.5e-3,
    linear_share: LinearShareOption = LINEAR_SHARE,
    window_share: WindowShareOption = WINDOW_SHARE,
    keep_composition: KeepCompositionOption = False,
    blend: BlendOption = 1.0,
    decoder_only: DecoderOnlyOption = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train the built-in model from scratch. The same command goes on where it stopped."""
    from linfusion_cli.system.process_setup import quiet_libraries

    quiet_libraries()
    from linfusion_cli.cli.training_display import TrainingDisplay
    from linfusion_cli.output.atomic_file import make_folder

    if blend != 1 and (part is not Part.export or not start):
        raise UsageError(
            "--blend is of an export of a model that was trained further. Try: export --from builtin:landscape"
        )
    if part is not Part.denoiser and (linear_share, window_share) != (LINEAR_SHARE, WINDOW_SHARE):
        raise UsageError(
            f"--linear-share and --window-share are of the denoiser, not of the {part.value}. Leave them out"
        )
    if keep_composition and (part is not Part.denoiser or not start):
        raise UsageError("--keep-composition trains a denoiser further. Try: denoiser --from builtin:landscape")
    _refuse_too_early(part, folder, start, decoder_only=decoder_only)
    make_folder(folder)
    with TrainingDisplay(quiet=quiet, as_json=as_json) as display:
        from linfusion_cli.landscapes.data import Effort
        from linfusion_cli.training.accelerator import make_accelerator
        from linfusion_cli.training.schedule import Schedule

        effort = Effort(make_accelerator(device, precision.value), seed, batch, scenes)
        schedule = Schedule(steps, rate, minutes)
        lessons = Lessons(linear_share, window_share, _model_folder(start) if start else None, keep_composition)
        display.run(_train(part, folder, schedule, effort, lessons, blend=blend, decoder_only=decoder_only))
        display.announce(_result(part, folder))


def _result(part: Part, folder: Path) -> Path:
    """What a part leaves: the autoencoder's weights, the denoiser's run, the model, or the LoRA of its upscale."""
    return {
        Part.autoencoder: folder / "autoencoder" / "vae",
        Part.denoiser: folder / "denoiser",
        Part.export: folder / "landscape",
        Part.upscale_lora: folder / "upscale_lora.safetensors",
    }[part]


def _model_folder(location: str) -> Path:
    from linfusion_cli.weights.weight_file import WeightFile

    folder = WeightFile.resolve((location,), "", "model").path
    if folder is None or not (folder / "model_index.json").is_file():
        raise UsageError(
            f"--from {location}: no model in diffusers layout (no model_index.json). Try --from builtin:landscape"
        )
    return folder


def _refuse_too_early(part: Part, folder: Path, start: str, *, decoder_only: bool) -> None:
    """Raises UsageError with the command that makes what is missing: autoencoder, or denoiser for the export."""
    if decoder_only and (part is not Part.autoencoder or not start):
        raise UsageError("--decoder-only trains an autoencoder further. Try: autoencoder --from builtin:landscape")
    results = {
        Part.autoencoder: folder / "autoencoder" / "vae" / "config.json",
        Part.denoiser: folder / "denoiser" / "tokenizer",
        Part.export: folder / "landscape" / "model_index.json",
    }
    if part is Part.upscale_lora:
        results = {} if start else {Part.export: results[Part.export]}
    for one, result in results.items():
        if one is part:
            return
        if not result.exists():
            raise UsageError(f"{folder} holds no {one}. First: linfusion landscapes train {one} --folder {folder}")


def _train(
    part: Part,
    folder: Path,
    schedule: Schedule,
    effort: Effort,
    lessons: Lessons,
    *,
    blend: float,
    decoder_only: bool,
) -> Iterator[object]:
    from linfusion_cli.landscapes import export, train_autoencoder, train_denoiser, train_upscale_lora
    from linfusion_cli.training.trainer import WeightsWritten

    weights, result, model = _result(Part.autoencoder, folder), _result(part, folder), lessons.start
    if part is Part.autoencoder:
        yield from train_autoencoder.train(folder / "autoencoder", schedule, effort, model, decoder_only=decoder_only)
    elif part is Part.denoiser:
        yield from train_denoiser.train(result, weights, schedule, effort, lessons)
    elif part is Part.upscale_lora:
        model = model or _result(Part.export, folder)
        yield from train_upscale_lora.train(folder / "upscale-lora", schedule, effort, model)
        size_bytes = train_upscale_lora.export(folder / "upscale-lora", result, model)
        yield f"{result}: {size_bytes / 1e6:.1f} MB"
    else:
        size_bytes = export.export(_result(Part.denoiser, folder), weights, result, model, blend)
        yield f"{result}: {size_bytes / 1e6:.1f} MB"
    yield WeightsWritten(str(result))
