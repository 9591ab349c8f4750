"""T2I-Adapters, by the name of --controlnet: the image of diffusers' own pipeline, and features that no band cuts."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionAdapterPipeline, StableDiffusionXLAdapterPipeline, T2IAdapter
from families import Family, lively, loaded_pipeline, make_family
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.controlnet.t2i_adapter import T2IFeatures, T2INet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.errors import WeightsError
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import StoreBudget
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.t2i_adapter import adapter_config, diffusers_names
from linfusion_cli.weights.weight_file import WeightFile

KINDS = {"full_adapter": (8, [16, 24]), "light_adapter": (8, [16]), "full_adapter_xl": (16, [16, 24])}


@pytest.fixture(scope="module", params=["sd15", pytest.param("sd21", marks=pytest.mark.slow), "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def tiny(kind: str, in_channels: int = 3, blocks: int = 1) -> T2IAdapter:
    factor, channels = KINDS[kind]
    torch.manual_seed(9)
    return lively(T2IAdapter(in_channels, channels, blocks, factor, kind))


def plan_for(preset: str, size: str = "64x64", **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "negative_prompt": "fog", "preset": preset, "size": size, "seed": 3}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last.astype(float)


def original_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A diffusers adapter's tensors as TencentARC's files name them."""
    light = "adapter.conv_in.weight" not in state
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        plain = name.removeprefix("adapter.")
        if block := re.fullmatch(r"body\.(\d+)\.resnets\.(\d+)\.(.*)", plain):
            level, number, rest = int(block[1]), int(block[2]), block[3]
            plain = f"body.{level}.body.{number}.{rest}" if light else f"body.{2 * level + number}.{rest}"
        elif not light and (shortcut := re.fullmatch(r"body\.(\d+)\.in_conv\.(.*)", plain)):
            plain = f"body.{2 * int(shortcut[1])}.in_conv.{shortcut[2]}"
        found[plain] = tensor
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_original_names_give_the_same_network(kind: str, tmp_path: Path) -> None:
    factor, channels = KINDS[kind]
    adapter = T2IAdapter(3, channels, 4 if kind == "light_adapter" else 2, factor, kind)
    save_file(original_names(adapter.state_dict()), tmp_path / "x.safetensors")
    header = read_header(tmp_path / "x.safetensors")
    config = adapter_config(header.path, (header,))
    assert (config["adapter_type"], config["channels"]) == (kind, channels)
    names = diffusers_names(header.tensors)
    assert {names[name]: info.shape for name, info in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in adapter.state_dict().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("file", ["folder", "file", "original"])
@pytest.mark.covers("T2I-Adapter (full, light, XL), folder and one file, also in its original names", "used, equal")
def test_the_image_is_that_of_diffusers(family: Family, tmp_path: Path, file: str) -> None:
    adapter = tiny("full_adapter_xl" if family.name == "sdxl" else "full_adapter", blocks=2)
    location = tmp_path / ("adapter" if file == "folder" else "adapter.safetensors")
    if file != "folder":
        save_file(adapter.state_dict() if file == "file" else original_names(adapter.state_dict()), location)
    else:
        adapter.save_pretrained(location)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.save(tmp_path / "sketch.png")
    given = {"controlnets": (str(location),), "control_images": (tmp_path / "sketch.png",), "control_scales": (0.8,)}
    plain = loaded_pipeline(family)
    left_out = ("image_encoder", "feature_extractor", "safety_checker")
    parts = {name: part for name, part in plain.components.items() if name not in left_out}
    if family.name == "sdxl":
        pipeline: Any = StableDiffusionXLAdapterPipeline(**parts, adapter=adapter)
    else:
        more: dict[str, Any] = dict.fromkeys(("safety_checker", "feature_extractor"))
        pipeline = StableDiffusionAdapterPipeline(**parts, **more, adapter=adapter, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    words = {"prompt": "a lake", "negative_prompt": "fog", "num_inference_steps": 4, "guidance_scale": 3.0}
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), 3, 0)}
    wanted = np.asarray(pipeline(**words, **size, image=image, adapter_conditioning_scale=0.8).images[0]) * 255
    ours = make(plan_for(family.preset(), **given))
    assert np.abs(ours - wanted).max() <= 1
    assert np.abs(ours - make(plan_for(family.preset()))).max() > 1


@pytest.mark.slow
@pytest.mark.covers("T2I-Adapter (full, light, XL), folder and one file, also in its original names", "bands")
def test_the_image_in_bands_is_the_whole_one(family: Family, tmp_path: Path) -> None:
    tiny("full_adapter_xl" if family.name == "sdxl" else "full_adapter").save_pretrained(tmp_path / "adapter")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    given = {"controlnets": (str(tmp_path / "adapter"),), "control_images": (tmp_path / "a.png",)}
    plan = plan_for(family.preset(), "104x128", attention="linear", **given)
    several = [
        dataclasses.replace(
            plan,
            stages=tuple(
                dataclasses.replace(stage, bands=dataclasses.replace(stage.bands, unet_latent=rows))
                for stage in plan.stages
            ),
        )
        for rows in (0, 3)
    ]
    assert np.abs(make(several[0]) - make(several[1])).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_features_do_not_depend_on_the_bands(kind: str, rows: int, in_channels: int) -> None:
    adapter = tiny(kind, in_channels)
    device = torch.device("cpu")
    store = ActivationStore(device, StoreBudget(1e9, 0, Path()), lambda _: None)
    image = torch.rand(1, 3, 256, 64)
    grey = image if in_channels == 3 else (image * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, True)
    features = T2IFeatures(adapter, rows, store, Weights(device, True)).condition(Parked.of(image))
    with torch.no_grad():
        wanted = adapter(grey)
    assert len(features) == len(wanted)
    for ours, theirs in zip(features, wanted, strict=True):
        assert torch.allclose(ours.rows(Band(0, ours.height)), theirs, atol=1e-5)


@pytest.mark.slow
def test_another_model_and_grey_files(family: Family, tmp_path: Path) -> None:
    unet = loaded_pipeline(family).unet
    T2IAdapter(3, [8, 24], 1, 8).save_pretrained(tmp_path / "narrow")
    with pytest.raises(WeightsError, match=r"features have .*8.* channels, the UNet's levels .*16"):
        T2INet.load(WeightFile.resolve((str(tmp_path / "narrow"),), "", "controlnet"), unet, torch.float32)
    for kind, (_, channels) in KINDS.items():
        save_file(tiny(kind, 1).state_dict(), tmp_path / "grey.safetensors")
        grey = tmp_path / "grey.safetensors"
        config = adapter_config(grey, (read_header(grey),))
        assert (config["adapter_type"], config["in_channels"], config["channels"]) == (kind, 1, channels)
