"""Latent consistency models, which read their guidance scale: the images of diffusers' own pipelines."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from families import Family, lively, loaded_pipeline, make_family, tensors_of, tiny_unet
from original_layout import ldm_unet_pairs, renamed
from safetensors.torch import save_file

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian, generator
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

SEED, STEPS, SCALE = 3, 4, 8.0


@pytest.fixture(scope="module", params=["sd15", pytest.param("sd21", marks=pytest.mark.slow), "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def consistency_unet(name: str) -> UNet2DConditionModel:
    """A UNet whose image depends much on the scale that it is told."""
    torch.manual_seed(5)
    config = {key: value for key, value in tiny_unet(name).config.items() if not key.startswith("_")}
    unet = lively(UNet2DConditionModel(**{**config, "time_cond_proj_dim": 6}))
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight, std=2.0)
    return unet


def plan_for(preset: str, **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "preset": preset, "size": "64x64", "seed": SEED, "steps": STEPS, "guidance": SCALE}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", "scheduler": "lcm", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last.astype(float)


def theirs(family: Family, unet: UNet2DConditionModel, scale: float = SCALE) -> np.ndarray:
    """What diffusers makes, with the noise of our steps."""
    parts = {name: part for name, part in loaded_pipeline(family).components.items() if name != "image_encoder"}
    scheduler = LCMScheduler.from_config(parts["scheduler"].config, clip_sample=False)
    step, numbers = scheduler.step, count(1)
    scheduler.step = lambda *inputs, **options: step(
        *inputs, **{**options, "generator": [generator(SEED, 0, next(numbers))]}
    )
    parts |= {"unet": unet, "scheduler": scheduler}
    if family.name == "sdxl":
        pipeline: Any = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), SEED, 0)}
    made = pipeline("a lake", num_inference_steps=STEPS, guidance_scale=scale, **size)
    return np.asarray(made.images[0]) * 255


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.covers("latent consistency models (`time_cond_proj_dim`), folder and files", "used, equal, bands")
def test_the_guidance_scale_is_read_as_by_diffusers(family: Family, tmp_path: Path, rows: int) -> None:
    unet = consistency_unet(family.name)
    unet.save_pretrained(tmp_path / "unet")
    expected = theirs(family, unet)
    assert np.abs(expected - theirs(family, unet, 2.0)).max() > 20
    plan = plan_for(family.preset(), unet=str(tmp_path / "unet"))
    stage = plan.stages[0]
    assert stage.guided_steps == 0  # the scale costs no second prediction
    banded = replace(plan, stages=(replace(stage, bands=replace(stage.bands, unet_latent=rows)),))
    assert np.abs(make(banded) - expected).max() <= 1
    assert any("told the guidance scale" in note for note in plan.notes)


@pytest.mark.parametrize("layout", ["diffusers", "prefixed", "whole"])
@pytest.mark.covers("latent consistency models (`time_cond_proj_dim`), folder and files", "used, equal")
def test_a_file_has_the_guidance_embedding(family: Family, tmp_path: Path, layout: str) -> None:
    """Its config does not say so: the file's own tensor does."""
    unet = consistency_unet(family.name)
    pairs = [("time_embedding.cond_proj.", "time_embed.cond_proj."), *ldm_unet_pairs(unet)]
    original = {f"model.diffusion_model.{key}": value for key, value in renamed(unet.state_dict(), pairs).items()}
    tensors = {
        "diffusers": dict(unet.state_dict()),
        "prefixed": original,
        "whole": tensors_of(family.file) | original,
    }[layout]
    path = tmp_path / "lcm.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    given = {"model": str(path)} if layout == "whole" else {"unet": str(path)}
    plan = plan_for(family.preset(file=layout == "whole"), **given)
    assert plan.stages[0].guided_steps == 0
    assert np.abs(make(plan) - theirs(family, unet)).max() <= 1
