"""A UNet of another location on a base model, in every layout: the image of plain diffusers with the same UNet."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from families import Family, loaded_pipeline, make_family, tensors_of, tiny_unet
from original_layout import ldm_unet_pairs, renamed
from safetensors.torch import save_file

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import load
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

LAYOUTS = ("folder", "model folder", "diffusers file", "prefixed file", "bare file")


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def other_unet(name: str) -> UNet2DConditionModel:
    torch.manual_seed(99)
    return tiny_unet(name)


def saved(unet: UNet2DConditionModel, layout: str, folder: Path) -> Path:
    """The UNet in one of the layouts that people have."""
    if layout == "folder":
        unet.save_pretrained(folder / "alone")
        return folder / "alone"
    if layout == "model folder":
        unet.save_pretrained(folder / "model" / "unet")
        return folder / "model"
    original = renamed(unet.state_dict(), ldm_unet_pairs(unet))
    tensors = {
        "diffusers file": dict(unet.state_dict()),
        "prefixed file": {f"model.diffusion_model.{key}": value for key, value in original.items()},
        "bare file": original,
    }[layout]
    path = folder / f"{layout.split()[0]}.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


def plan_for(preset: str, **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "negative_prompt": "fog", "preset": preset, "size": "64x64", "seed": 3}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last.astype(float)


def theirs(pipeline: Any, **options: Any) -> np.ndarray:
    words = {"prompt": "a lake", "negative_prompt": "fog", "num_inference_steps": 4, "guidance_scale": 3.0}
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), 3, 0)}
    return np.asarray(pipeline(**{**words, **size, **options}).images[0]) * 255


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.covers("another UNet (`--unet`): folder, model folder, one file of three layouts", "used, equal")
def test_another_unet_is_that_of_plain_diffusers(family: Family, tmp_path: Path, layout: str) -> None:
    unet = other_unet(family.name)
    pipeline = loaded_pipeline(family)
    own = theirs(pipeline)
    pipeline.unet = unet
    expected = theirs(pipeline)
    assert np.abs(expected - own).max() > 20
    for file in (False, True):  # the base as a folder and as one file
        ours = make(plan_for(family.preset(file=file), unet=str(saved(unet, layout, tmp_path))))
        assert np.abs(ours - expected).max() <= 1


def test_the_base_need_not_have_a_unet_s_weights(family: Family, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(family.folder, base)
    for path in (base / "unet").glob("*.safetensors"):
        path.unlink()
    unet = saved(other_unet(family.name), "diffusers file", tmp_path)
    whole = make(plan_for(family.preset(), unet=str(unet)))
    assert np.array_equal(make(plan_for(family.preset(), model=str(base), unet=str(unet))), whole)


def test_a_folder_has_a_config_of_its_own(family: Family, tmp_path: Path) -> None:
    """A UNet with more layers than the base's, which its file alone could not say."""
    torch.manual_seed(1)
    config = {key: value for key, value in tiny_unet(family.name).config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel(**{**config, "layers_per_block": 2}).eval()
    pipeline = loaded_pipeline(family)
    pipeline.unet = unet
    plan = plan_for(family.preset(), unet=str(saved(unet, "folder", tmp_path)))
    assert np.abs(make(plan) - theirs(pipeline)).max() <= 1
    with pytest.raises(WeightsError, match="a UNet for another model"):
        plan_for(family.preset(), unet=str(saved(unet, "diffusers file", tmp_path)))


def refusal(preset: str, unet: Path) -> str:
    """Of the plan alone: nothing is loaded."""
    with pytest.raises(WeightsError) as caught:
        plan_for(preset, unet=str(unet))
    assert len(told(caught.value)) <= 400
    return told(caught.value)


@pytest.mark.covers("a UNet as the model; a UNet of another model", "refused")
def test_what_is_no_unet_for_the_model_is_refused_by_name(family: Family, tmp_path: Path) -> None:
    other = "sd21" if family.name == "sd15" else "sd15"
    foreign = saved(other_unet(other), "diffusers file", tmp_path)
    assert f"{foreign}: of the family {other}" in refusal(family.preset(), foreign)
    assert "AutoencoderKL, which linfusion can't use as the UNet" in refusal(family.preset(), family.folder / "vae")
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, lora)
    assert "looks like: lora" in refusal(family.preset(), lora)
    extra = tmp_path / "extra.safetensors"
    tensors = {key: value.contiguous() for key, value in other_unet(family.name).state_dict().items()}
    save_file({**tensors, "mid_block.motion.weight": torch.zeros(2)}, extra)
    assert "its mid_block.motion.weight is (2,), that of" in refusal(family.preset(), extra)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no UNet in it" in refusal(family.preset(), empty)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_is_checked_before_the_plan_in_every_layout(family: Family, tmp_path: Path, layout: str) -> None:
    """Of a file also where the model, in a folder or in one file, names its tensors otherwise."""
    path = saved(other_unet(family.name), layout, tmp_path)
    file = next(path.rglob("*.safetensors")) if path.is_dir() else path
    tensors = tensors_of(file)
    name = next(reversed(tensors))
    without = {key: value for key, value in tensors.items() if key != name}
    for changed in (without, tensors | {name: torch.ones(3, 5)}, tensors | {f"{name}.strange": torch.ones(2)}):
        save_file(changed, file)
        for preset in (family.preset(), family.preset(file=True)):
            said = refusal(preset, path)
            assert str(tmp_path) in said
            assert name.removeprefix("model.diffusion_model.") in said


@pytest.mark.covers("a UNet as the model; a UNet of another model", "refused")
def test_a_unet_as_the_model_is_told_its_option(family: Family, tmp_path: Path) -> None:
    for layout in LAYOUTS:
        unet = saved(other_unet(family.name), layout, tmp_path)
        if layout != "model folder":
            with pytest.raises(WeightsError) as caught:
                plan_for(family.preset(), model=str(unet))
            assert f"--unet {unet}" in told(caught.value)


def test_a_file_says_what_it_predicts(family: Family, tmp_path: Path) -> None:
    unet = other_unet(family.name)
    path = tmp_path / "unet.safetensors"
    said = "epsilon" if family.name == "sd21" else "v"
    tensors = {key: value.contiguous() for key, value in unet.state_dict().items()}
    save_file(tensors, path, {"modelspec.prediction_type": said})
    plan = plan_for(family.preset(), unet=str(path))
    config = load(plan, load_text_encoders(plan), lambda _: None).scheduler_config
    assert config["prediction_type"] == {"v": "v_prediction"}.get(said, said)


def test_the_record_and_the_id_have_it(family: Family, tmp_path: Path) -> None:
    unet = saved(other_unet(family.name), "folder", tmp_path)
    plain, other = (plan_for(family.preset(), unet=value).job for value in (None, str(unet)))
    assert other.overrides["--unet"] == unet.name
    assert unet.name in other.weights
    assert plain.settings.model.unet == ""
    assert json.loads((unet / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
