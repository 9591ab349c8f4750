"""`linfusion landscapes`: renders the procedural scenes, and trains the built-in model from them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated

import typer

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
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Render the procedural scenes, or train the built-in model from scratch.", epilog=EPILOG)


class Part(StrEnum):
    """What can be trained, in order."""

    autoencoder = "autoencoder"
    denoiser = "denoiser"
    export = "export"


@app.command(epilog=RENDER_EPILOG)
def render(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many scenes.")] = 8,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "512x512",
    seed: Annotated[int, typer.Option(help="Fixes which scenes.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; one PNG and one .txt with the caption per scene.")] = Path("scenes"),
) -> None:
    """Draw random scenes with their captions: what the built-in model learns from."""
    import random

    from PIL import Image

    from linfusion_cli.geometry import parse_size
    from linfusion_cli.landscapes.render import render as draw
    from linfusion_cli.landscapes.scene import caption, sample_scene

    rng, pixels = random.Random(seed), parse_size(size)
    _make_folder(output)
    for index in range(count):
        scene = sample_scene(rng, pixels.width / pixels.height)
        levels = (draw([scene], pixels.height, pixels.width)[0] * 255).round().byte().permute(1, 2, 0)
        Image.fromarray(levels.numpy()).save(output / f"{index:04d}.png")
        (output / f"{index:04d}.txt").write_text(caption(scene, rng) + "\n")
    typer.echo(f"{count} scenes in {output}")


@app.command(epilog=TRAIN_EPILOG)
def train(
    part: Annotated[Part, typer.Argument(help="autoencoder, then denoiser, then export.")],
    folder: Annotated[Path, typer.Option(help="Checkpoints and results; the same command goes on where it stopped.")] = Path("runs"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps; the learning rate reaches zero at the last.")] = 2000,
    minutes: Annotated[float, typer.Option(min=0.1, help="Ends earlier, with the rate at zero too. Results then depend on the machine's speed.")] = inf,
    seed: Annotated[int, typer.Option(help="Fixes scenes, weights and order.")] = 0,
) -> None:
    """Train the built-in model from scratch, on this machine's CPU."""
    _make_folder(folder)
    for line in _train(part, folder, steps, minutes, seed):
        typer.echo(line)


def _make_folder(folder: Path) -> None:
    from linfusion_cli.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't make the folder ({error.strerror})") from error


def _train(part: Part, folder: Path, steps: int, minutes: float, seed: int) -> Iterator[str]:
    from linfusion_cli.landscapes import autoencoder, denoiser, export
    from linfusion_cli.landscapes.training import Schedule

    weights = folder / "autoencoder" / "vae"
    if part is Part.autoencoder:
        yield from autoencoder.train(folder / "autoencoder", Schedule(steps, 2e-3, minutes), seed)
    elif part is Part.denoiser:
        yield from denoiser.train(folder / "denoiser", weights, Schedule(steps, 1.5e-3, minutes), seed)
    else:
        size_bytes = export.export(folder / "denoiser", weights, folder / "landscape")
        yield f"{folder / 'landscape'}: {size_bytes / 1e6:.1f} MB"
