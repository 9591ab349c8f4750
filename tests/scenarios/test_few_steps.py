"""Few-step recipes: the image of plain diffusers with the scheduler, the timesteps and no guidance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler, TCDScheduler
from families import Family, loaded_pipeline, make_family, tiny_unet
from safetensors.torch import save_file
from tiny_adapters import save_loras

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian, generator
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

SEED, STEPS = 3, 4


@pytest.fixture(scope="module", params=["sd15", pytest.param("sd21", marks=pytest.mark.slow), "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def plan_for(preset: str, **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "preset": preset, "size": "64x64", "seed": SEED, "steps": STEPS, "guidance": 0.0}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last.astype(float)


@pytest.mark.parametrize(
    ("scheduler", "kind", "options"),
    [
        ("euler", EulerDiscreteScheduler, {}),  # Lightning
        ("ddim", DDIMScheduler, {"clip_sample": False}),  # Hyper-SD
        ("tcd", TCDScheduler, {"clip_sample": False}),  # TCD, with the eta of its paper's code, 0.3
    ],
)
@pytest.mark.covers("few-step recipes: Euler and DDIM with trailing timesteps, TCD", "used, equal")
def test_a_few_step_unet_by_its_recipe(
    family: Family, tmp_path: Path, scheduler: str, kind: Any, options: dict[str, Any]
) -> None:
    torch.manual_seed(9)
    unet = tiny_unet(family.name)
    path = tmp_path / "sdxl_lightning_4step_unet.safetensors"
    save_file({key: value.contiguous() for key, value in unet.state_dict().items()}, path)
    pipeline = loaded_pipeline(family)
    pipeline.unet = unet
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, timestep_spacing="trailing", **options)
    step, numbers = pipeline.scheduler.step, iter(range(1, STEPS + 1))
    if scheduler == "tcd":
        pipeline.scheduler.step = lambda *given, **_: step(
            *given, eta=0.3, generator=[generator(SEED, 0, next(numbers))], return_dict=False
        )
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), SEED, 0)}
    made = pipeline("a lake", num_inference_steps=STEPS, guidance_scale=0.0, **size)
    spacing = {} if scheduler == "tcd" else {"timestep_spacing": "trailing"}
    plan = plan_for(family.preset(), unet=str(path), scheduler=scheduler, **spacing)
    assert np.abs(make(plan) - np.asarray(made.images[0]) * 255).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scheduler", "kind", "options"),
    [
        ("lcm-lora-sdv1-5", "lcm", LCMScheduler, {}),
        ("dmd2_sdxl_4step_lora", "lcm", LCMScheduler, {"timestep_spacing": "trailing"}),
        ("sdxl_lightning_4step_lora", "euler", EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
        ("Hyper-SD15-4steps-lora", "ddim", DDIMScheduler, {"clip_sample": False, "timestep_spacing": "trailing"}),
        ("Hyper-SDXL-1step-lora", "tcd", TCDScheduler, {"clip_sample": False}),
    ],
)
@pytest.mark.covers("few-step LoRAs by their recipes: LCM, DMD2, Lightning, Hyper-SD", "used, equal")
def test_a_few_step_lora_by_its_recipe(
    family: Family, tmp_path: Path, name: str, scheduler: str, kind: Any, options: dict[str, Any]
) -> None:
    pipeline = loaded_pipeline(family)
    kohya, modern = save_loras(pipeline, tmp_path)
    path = (kohya if name.startswith(("lcm", "sdxl")) else modern).rename(tmp_path / f"{name}.safetensors")
    pipeline.load_lora_weights(path)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **options)
    noisy = scheduler in ("lcm", "tcd")
    if noisy:
        step, numbers = pipeline.scheduler.step, iter(range(1, STEPS + 1))
        more = {"eta": 0.3} if scheduler == "tcd" else {}
        pipeline.scheduler.step = lambda *given, **_: step(
            *given, **more, generator=[generator(SEED, 0, next(numbers))], return_dict=False
        )
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), SEED, 0)}
    made = pipeline("a lake", num_inference_steps=STEPS, guidance_scale=0.0, **size)
    spacing = {"timestep_spacing": "trailing"} if "timestep_spacing" in options and not noisy else {}
    plan = plan_for(family.preset(), loras=(str(path),), scheduler=scheduler, **spacing)
    assert not [note for note in plan.notes if "made for few steps" in str(note)]
    assert np.abs(make(plan) - np.asarray(made.images[0]) * 255).max() <= 1


def test_guidance_0_makes_the_image_of_guidance_1_and_says_so(family: Family) -> None:
    none, one = (plan_for(family.preset(), guidance=scale, negative_prompt="fog") for scale in (0.0, 1.0))
    assert np.array_equal(make(none), make(one))
    assert none.notes[0].startswith("guidance 0 means 1")
    assert not one.notes
    guided = make(plan_for(family.preset(), guidance=3.0, negative_prompt="fog"))
    assert not np.array_equal(make(none), guided)
