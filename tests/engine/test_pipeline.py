"""The whole engine on a tiny random model: as diffusers at base size, the same for any band, stage by stage."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.prompt_encoder import encode
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.pipeline import StageImage, images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.errors import WeightsError
from linfusion_cli.events import Event, Note, PhaseFinished, PhaseStarted, Progressed
from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import Keep, StoreBudget
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.upscale_schedule import Bands
from linfusion_cli.system.device import find_machine


def plan_for(preset: Path, size: str = "128x128", **changes: Any) -> Plan:
    request = Request(prompt="a lake", preset=str(preset), size=size, seed=3, output=Path("x.png"), **changes)
    return make_plan(resolve(request), find_machine("cpu"))


def quiet(event: Event) -> None:
    assert event is not None


def make(plan: Plan) -> tuple[list[StageImage], list[np.ndarray]]:
    told, drawn = [], []
    for image in images(plan, quiet):
        told.append(image)
        drawn.append(np.concatenate(list(image.rows)))
    return told, drawn


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m"])
def test_the_base_stage_with_softmax_is_the_image_that_diffusers_makes(
    tiny_preset: Path, tiny_folder: Path, scheduler: str
) -> None:
    plan = plan_for(tiny_preset, "64x64", attention="softmax", scheduler=scheduler)
    _, drawn = make(plan)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler != "ddim":
        from linfusion_cli.engine.sampling.schedulers import make_scheduler

        pipeline.scheduler = make_scheduler(plan.sampler.scheduler, dict(pipeline.scheduler.config))
    latents = gaussian((1, 4, 8, 8), 3, 0)
    theirs = pipeline(
        "a lake", height=64, width=64, latents=latents, num_inference_steps=6, guidance_scale=3.0, output_type="np"
    ).images[0]
    assert np.abs(drawn[0].astype(float) - theirs * 255).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("size", ["128x128", "200x88", "72x264", "64x64", "8x8"])
def test_any_size_and_orientation(tiny_preset: Path, size: str) -> None:
    plan = plan_for(tiny_preset, size)
    told, drawn = make(plan)
    assert [image.stage.size for image in told] == [stage.size for stage in plan.stages]
    assert [image.final for image in told] == [False] * (len(told) - 1) + [True]
    for stage, rows in zip(plan.stages, drawn, strict=True):
        assert rows.shape == (stage.size.height, stage.size.width, 3)
        assert rows.dtype == np.uint8
    assert drawn[-1].std() > 0


@pytest.fixture(scope="module")
def wide(tiny_preset: Path) -> list[np.ndarray]:
    return make(plan_for(tiny_preset, "136x152"))[1]


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["all", "sums", "nothing"])
@pytest.mark.parametrize(("unet_rows", "vae_rows", "store_bytes"), [(3, 8, 0), (1, 40, 60_000), (0, 1000, 10**9)])
def test_the_image_does_not_depend_on_bands_nor_on_what_waits_where(
    tiny_preset: Path,
    wide: list[np.ndarray],
    tmp_path: Path,
    unet_rows: int,
    vae_rows: int,
    store_bytes: int,
    keep: Keep,
) -> None:
    plan = plan_for(tiny_preset, "136x152")
    bands = Bands(unet_rows, vae_rows, (keep, keep, keep, "sums"))
    stages = tuple(replace(stage, bands=bands) for stage in plan.stages)
    _, narrow = make(replace(plan, stages=stages, store_budget=StoreBudget(store_bytes, 0, tmp_path)))
    for one, other in zip(wide, narrow, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    assert not list(tmp_path.iterdir()), "files without names leave nothing"


TECHNIQUES = """strength = 0.5
overscan_px = 16
overscan_all_sides = true
frequency_mixing = true
structure_guidance = 0.8
structure_scale = 0.5
edge_noise = 0.4
"""


@pytest.fixture(scope="module")
def mixing_preset(tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixing") / "mixing.toml"
    text = tiny_preset.read_text().replace("strength = 0.5", TECHNIQUES)
    path.write_text(text.replace("[sampling]", "[sampling]\nguidance_low = 2.0\nguidance_high = 6.0"))
    return path


@pytest.mark.slow
def test_frequency_techniques_change_later_stages_alone(
    mixing_preset: Path, wide: list[np.ndarray], tmp_path: Path
) -> None:
    mixed = make(plan_for(mixing_preset, "136x152"))[1]
    assert np.array_equal(mixed[0], wide[0])
    assert all(not np.array_equal(one, other) for one, other in zip(mixed[1:], wide[1:], strict=True))


@pytest.mark.slow
def test_frequency_techniques_do_not_depend_on_bands(mixing_preset: Path, tmp_path: Path) -> None:
    plan = plan_for(mixing_preset, "136x152")
    stages = tuple(replace(stage, bands=Bands(3, 40, ("sums",) * 4)) for stage in plan.stages)
    narrow = make(replace(plan, stages=stages, store_budget=StoreBudget(60_000, 0, tmp_path)))[1]
    for one, other in zip(make(plan)[1], narrow, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.slow
def test_stages_that_end_early_run_fewer_steps_and_do_not_depend_on_bands(tiny_preset: Path, tmp_path: Path) -> None:
    path = tmp_path / "early.toml"
    path.write_text(tiny_preset.read_text().replace("strength = 0.5", "strength = 0.5\nearly_end = 0.5"))
    plan, whole = plan_for(path, "136x152"), plan_for(tiny_preset, "136x152")
    assert sum(stage.steps for stage in plan.stages) < sum(stage.steps for stage in whole.stages)
    assert plan.stages[-1].steps == whole.stages[-1].steps
    stages = tuple(replace(stage, bands=Bands(3, 40, ("sums",) * 4)) for stage in plan.stages)
    narrow = make(replace(plan, stages=stages))[1]
    for one, other in zip(make(plan)[1], narrow, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_pixels_whatever_the_global_generator(tiny_preset: Path) -> None:
    plan = plan_for(tiny_preset, scheduler="euler_ancestral")
    first = make(plan)[1][-1]
    torch.randn(5)
    assert np.array_equal(first, make(plan)[1][-1])


@pytest.mark.slow
def test_stages_can_be_joined_in_latents(tiny_preset: Path, tmp_path: Path) -> None:
    path = tmp_path / "latent.toml"
    path.write_text(tiny_preset.read_text().replace("strength = 0.5", 'strength = 0.5\nbetween = "latent"'))
    plan = plan_for(path, "160x96")
    told, _ = make(plan)
    assert len(told) == 1
    assert [phase.name for phase in plan.phases] == ["load", "denoise", "denoise", "decode"]


@pytest.mark.slow
def test_events_follow_the_plan(tiny_preset: Path) -> None:
    plan, events = plan_for(tiny_preset), []
    for image in images(plan, events.append):
        list(image.rows)
    started = [(event.name, event.stage) for event in events if isinstance(event, PhaseStarted)]
    assert started == [(phase.name, phase.stage) for phase in plan.phases]
    totals = [event.total for event in events if isinstance(event, PhaseStarted)]
    reached: list[int] = []
    for event in events:
        if isinstance(event, PhaseStarted):
            reached.append(0)
        elif isinstance(event, Progressed):
            reached[-1] = event.done
    assert reached == totals
    assert all(event.peak_bytes > 10**7 and event.seconds >= 0 for event in events if isinstance(event, PhaseFinished))


def test_a_prompt_that_is_cut_is_told(tiny_preset: Path) -> None:
    plan = plan_for(tiny_preset)
    events: list[Event] = []
    words = replace(plan.conditioning, prompt="lake " * 80, negative_prompt="fog " * 50)
    encode(load_text_encoders(plan), words, events.append, torch.device("cpu"))
    told = [event.text for event in events if isinstance(event, Note)]
    assert told == [
        "the prompt has 80 tokens, the model reads the first 46. prompt_weights reads them all",
        "the negative prompt has 50 tokens, the model reads the first 46. prompt_weights reads them all",
    ]


def test_missing_weights_name_the_command_that_fetches_them(
    tiny_preset: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "missing.toml"
    path.write_text(
        tiny_preset.read_text().replace(
            f'repositories = ["{tiny_folder}"]', 'repositories = ["nobody/nothing", "no/mirror"]'
        )
    )
    with pytest.raises(
        WeightsError, match=r"nobody/nothing, no/mirror\. Fetch them with: linfusion fetch model=.nobody/nothing"
    ):
        make(plan_for(path))


@pytest.mark.parametrize(
    "part", ["unet/config.json", "linfusion/config.json", "vae/diffusion_pytorch_model.safetensors"]
)
def test_weights_that_changed_since_the_plan_are_named_by_the_engine_itself(
    tiny_preset: Path, tiny_folder: Path, tmp_path: Path, part: str
) -> None:
    model, preset = tmp_path / "mine", tmp_path / "mine.toml"
    shutil.copytree(tiny_folder, model)
    preset.write_text(tiny_preset.read_text().replace(str(tiny_folder), str(model)))
    plan = plan_for(preset)
    os.utime(model / part, ns=(1, 1))
    with pytest.raises(WeightsError, match=r"mine.*: these weights changed since the plan was made\. Plan again"):
        make(plan)


@pytest.mark.slow
def test_linfusion_of_another_model_is_refused(
    tiny_preset: Path, tiny_folder: Path, tmp_path: Path, data: Path
) -> None:
    path = tmp_path / "other.toml"
    path.write_text(tiny_preset.read_text().replace(f"{tiny_folder}/linfusion", str(data / "linfusion_sdxl")))
    with pytest.raises(WeightsError, match="another model"):
        make(plan_for(path))


def test_the_tiny_model_starts_at_its_own_size(tiny_preset: Path) -> None:
    assert plan_for(tiny_preset, "256x128").stages[0].size == Size(88, 48)
