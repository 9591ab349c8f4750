"""Measures what the way up changes: drift from the base image, detail, steps at the edges.

    python bench/drift.py VARIANT ... [--prompts 8] [--size 1024x1024] [--images FOLDER]

A variant is "name" or "name:key=value,key=value", keys of the preset's [upscale] section or, with their section before
them, of others (sampling.steps=30, model.loras=FILE@upscale; no value for none). All variants share prompts and
seeds, so their base images are equal. One JSON line for each:

drift:   mean CIELAB distance (1976) between the base image and the final one, both averaged to 64x64
detail:  decibels of energy at periods of 2 to 4 pixels, against renders of the same prompts
discs:   how far the suns and moons of the final images are off round, in percent (mean), and how many there are
edges:   the step from the outermost to the next row or column over the mean step inside: left, top, right, bottom
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.engine.pipeline import images
from linfusion_cli.evaluate.attributes import Asked, fixed_prompts
from linfusion_cli.evaluate.measures import band_energies, disc_errors
from linfusion_cli.geometry import Size
from linfusion_cli.landscapes.render import render, to_levels
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine

GRID = 64
TO_XYZ = torch.tensor(  # from linear sRGB, IEC 61966-2-1
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=torch.float64
)


def job(asked: Asked, seed: int, size: Size, changes: dict[str, Any]) -> Job:
    """The landscape preset's job with changed keys: "strength" or "sampling.steps"."""
    made = resolve(Request(prompt=asked.prompt, preset="landscape", seed=seed, size=str(size)))
    settings = made.settings
    for key, value in changes.items():
        section, name = key.split(".") if "." in key else ("upscale", key)
        if isinstance(getattr(getattr(settings, section), name), tuple):
            value = (value,) if value else ()
        changed = getattr(settings, section).model_copy(update={name: value})
        settings = settings.model_copy(update={section: changed})
    return replace(made, settings=settings)


def made(asked: Asked, seed: int, size: Size, changes: dict[str, Any], machine: Any, cache: ModelCache) -> list[Tensor]:
    """The base image and the final one, uint8 (3, height, width)."""
    plan = make_plan(job(asked, seed, size, changes), machine, keep_text_encoders=True)
    stages = [np.concatenate(list(image.rows)) for image in images(plan, lambda _: None, model_cache=cache)]
    return [torch.from_numpy(stages[index]).permute(2, 0, 1) for index in (0, -1)]


def lab(image: Tensor) -> Tensor:
    """Averages on a grid of 64x64 in CIELAB (D65), (64, 64, 3)."""
    small = F.interpolate(image[None].double() / 255, size=(GRID, GRID), mode="area")[0].permute(1, 2, 0)
    linear = torch.where(small <= 0.04045, small / 12.92, ((small + 0.055) / 1.055) ** 2.4)
    x, y, z = ((linear @ TO_XYZ.T) / TO_XYZ.sum(1)).unbind(2)
    fx, fy, fz = (torch.where(v > (6 / 29) ** 3, v.pow(1 / 3), v / (3 * (6 / 29) ** 2) + 4 / 29) for v in (x, y, z))
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=2)


def edge_steps(image: Tensor) -> list[float]:
    """The outermost step of each side over the mean step in the interior: left, top, right, bottom."""
    levels = image.float().mean(0)
    across, down = levels.diff(dim=1).abs().mean(0), levels.diff(dim=0).abs().mean(1)
    inner_across, inner_down = across[16:-16].mean() + 0.05, down[16:-16].mean() + 0.05
    steps = (across[0] / inner_across, down[0] / inner_down, across[-1] / inner_across, down[-1] / inner_down)
    return [round(float(step), 2) for step in steps]


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """A variant's name and its changes; values are JSON."""
    name, _, changes = text.partition(":")
    pairs = (pair.partition("=") for pair in changes.split(",") if pair)
    return name, {key: _value(value) for key, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def energies(asked: tuple[Asked, ...], size: Size, seed: int) -> Tensor:
    """Mean energies per octave of renders with the prompts' scenes."""
    rng = random.Random(f"drift/{seed}")
    scenes = [replace(one.scene, seed=rng.randrange(1 << 30)) for one in asked if one.scene]
    return torch.tensor([band_energies(to_levels(render([s], size.height, size.width))[0]) for s in scenes]).mean(0)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    size = Size(*map(int, options.size.split("x")))
    asked = fixed_prompts(options.prompts, 0, size.width / size.height)
    truth, machine, cache = energies(asked, size, 0), find_machine("cpu"), ModelCache()
    for text in options.variants:
        name, changes = parsed(text)
        drift, detail, steps, discs, started = [], [], [], [], time.perf_counter()
        for index, one in enumerate(asked):
            base, final = made(one, index, size, changes, machine, cache)
            drift.append(float((lab(base) - lab(final)).norm(dim=2).mean()))
            detail.append(band_energies(final))
            steps.append(edge_steps(final))
            if (body := one.truth.get("body", "none")) != "none":
                discs += disc_errors(final, body)
            if options.images:
                folder = Path(options.images)
                folder.mkdir(parents=True, exist_ok=True)
                for kind, image in (("base", base), (name, final)):
                    Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index:02d}-{kind}.png")
        decibels = (torch.tensor(detail).mean(0) - truth).tolist()
        yield {
            "variant": name,
            "drift": round(statistics.mean(drift), 3),
            "detail_db": [round(value, 1) for value in decibels],
            "discs": [round(100 * statistics.mean(discs), 2) if discs else None, len(discs)],
            "edges": [round(statistics.mean(side), 2) for side in zip(*steps, strict=True)],
            "seconds": round(time.perf_counter() - started, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--images", default="")
    for row in rows(parser.parse_args()):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
