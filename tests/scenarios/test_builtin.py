"""The model that ships inside: small enough, loads with plain diffusers, and makes a whole image through the tool."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from linfusion_cli import render
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.events import Event
from linfusion_cli.files import sha256_of
from linfusion_cli.models import builtin_folder
from linfusion_cli.output.png_reader import check
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.upscale_schedule import Bands
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.checksums import known_sha256


def plan_for(folder: Path, **changes: object) -> Plan:
    asked = Request(prompt="a lake", size="256x128", seed=3, output=folder / "x.png")
    request = replace(asked, **changes)  # type: ignore[arg-type]
    return make_plan(resolve(request), find_machine("cpu"))


def quiet(event: Event) -> None:
    assert event is not None


def test_bfloat16_makes_the_same_image_nearly(tmp_path: Path) -> None:
    """Two stages, so that the autoencoder encodes too."""
    made = []
    for dtype in ("float32", "bfloat16"):
        (tmp_path / dtype).mkdir()
        made.append(
            np.asarray(Image.open(render.render(plan_for(tmp_path / dtype, steps=4, dtype=dtype), quiet).path)).astype(
                int
            )
        )
    assert 0 < np.abs(made[0] - made[1]).mean() < 6


def test_the_built_in_model_makes_an_image_with_everything_beside_it(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, steps=4, stages_folder=tmp_path / "stages", memory_log=tmp_path / "memory.jsonl")
    rendered = render.render(plan, quiet)
    assert check(rendered.path) == plan.job.size
    pixels = np.asarray(Image.open(rendered.path))
    assert pixels.shape == (128, 256, 3)
    assert pixels.std() > 1
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["stage-0-184x88.png"]
    lines = [json.loads(line) for line in (tmp_path / "memory.jsonl").read_text().splitlines()]
    finished = [(line["name"], line["stage"]) for line in lines if line["event"] == "PhaseFinished"]
    assert finished == [(phase.name, phase.stage) for phase in plan.phases]
    assert [line["at_seconds"] for line in lines] == sorted(line["at_seconds"] for line in lines)
    assert any(line["event"] == "MemorySampled" and line["resident_bytes"] > 10**8 for line in lines)
    assert rendered.peak_bytes > 10**8
    assert not list(tmp_path.glob("*.part"))


def test_the_shipped_model_loads_with_plain_diffusers() -> None:
    folder = builtin_folder("builtin:landscape")
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 17 * 10**6
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("red hills at dawn", num_inference_steps=2, height=64, width=64, output_type="np").images[0]
    assert image.shape == (64, 64, 3)
    assert image.std() > 0.01


def test_the_hash_of_every_shipped_weight_is_known() -> None:
    """New weights need new hashes, made in linfusion_cli/models/landscape:

    find * -name '*.safetensors' | sort | xargs sha256sum > SHA256SUMS
    """
    folder = builtin_folder("builtin:landscape")
    assert folder is not None
    for path in folder.rglob("*.safetensors"):
        assert known_sha256(path) == sha256_of(path), path


def test_bands_leave_no_seams() -> None:
    """No row at a band's border differs from its neighbour more than three times as much as rows do elsewhere."""
    plan = plan_for(Path(), steps=6)
    plan = dataclasses.replace(
        plan, stages=tuple(dataclasses.replace(stage, bands=Bands(4, 16, ("sums",) * 4)) for stage in plan.stages)
    )
    image = np.concatenate(list(next(made for made in images(plan, quiet) if made.final).rows)).astype(float)
    change = np.abs(np.diff(image, axis=0)).mean(axis=(1, 2))  # between row i and i + 1
    border = np.arange(len(change)) % 16 == 15
    assert change[border].mean() <= 3 * change[~border].mean()
    assert change[border].max() <= 3 * np.quantile(change[~border], 0.99)


def test_decoding_in_bands_is_the_plain_decode_to_one_level() -> None:
    folder = builtin_folder("builtin:landscape")
    assert folder is not None
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval()
    torch.manual_seed(0)
    latents = torch.nn.functional.interpolate(torch.randn(1, 4, 6, 9), scale_factor=8.0, mode="bilinear")
    with torch.no_grad():
        plain = vae.decode(latents).sample
    sweeper = Sweeper(
        vae,
        24,
        ("nothing", "sums", "all", "all"),
        10**6,
        ActivationStore.unlimited(torch.device("cpu")),
        lambda _: None,
    )
    swept = torch.cat([rows for _, rows in sweeper.decode(latents)], dim=2)
    assert ((swept - plain).abs() * 127.5).max() <= 1
