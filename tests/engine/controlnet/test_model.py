"""ControlNet-union and ControlNet shuffle: the image of diffusers' own pipelines, whole, in bands and on batches."""

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
)
from families import Family, lively, loaded_pipeline, make_family
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_adapters import save_controlnet

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.controlnet.banded import BandedUnion
from linfusion_cli.engine.controlnet.model import ControlNet, PlainUnion, skip_sizes
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.errors import LinfusionError, WeightsError
from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import StoreBudget
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.weight_file import WeightFile

WORDS = {"prompt": "a lake", "negative_prompt": "fog", "num_inference_steps": 4, "guidance_scale": 3.0}
LEFT_OUT = ("image_encoder", "feature_extractor", "safety_checker")


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sdxl", tmp_path_factory.mktemp("sdxl") / "all")


@pytest.fixture(scope="module", params=["sd15", pytest.param("sd21", marks=pytest.mark.slow), "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def plan_for(preset: str, size: str = "64x64", **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "negative_prompt": "fog", "preset": preset, "size": size, "seed": 3}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last.astype(float)


def in_bands(plan: Plan, rows: int) -> np.ndarray:
    stages = (
        dataclasses.replace(stage, bands=dataclasses.replace(stage.bands, unet_latent=rows)) for stage in plan.stages
    )
    return make(dataclasses.replace(plan, stages=tuple(stages)))


def noise_image(path: Path, size: tuple[int, int] = (64, 64)) -> Image.Image:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    image.save(path)
    return image


def union(unet: Any, modes: int) -> Any:
    """A lively ControlNet-union for a UNet."""
    keys = ("block_out_channels", "cross_attention_dim", "layers_per_block", "down_block_types", "norm_num_groups")
    keys += ("transformer_layers_per_block", "attention_head_dim", "use_linear_projection", "addition_embed_type")
    keys += ("addition_time_embed_dim", "projection_class_embeddings_input_dim")
    torch.manual_seed(8)
    first = unet.config.block_out_channels[0]
    net = ControlNetUnionModel(
        **{key: unet.config[key] for key in keys},
        conditioning_embedding_out_channels=(4, 8, 8, 8),
        num_control_type=modes,
        num_trans_channel=first,
        num_proj_channel=first,
    )
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith(("controlnet_", "spatial_", "control_add", "task_", "transformer_")):
                torch.nn.init.normal_(parameter, std=2.0 if name.startswith(("task_", "control_add")) else 0.5)
    return lively(net)


def parts_of(family: Family) -> dict[str, Any]:
    components = loaded_pipeline(family).components
    return {name: part for name, part in components.items() if name not in LEFT_OUT}


def theirs(pipeline: Any, **more: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), 3, 0)}
    return np.asarray(pipeline(**WORDS, **size, **more).images[0]) * 255


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "number", "file"), [("canny", 3, False), ("tile", 6, True), ("7", 7, False)])
@pytest.mark.covers("ControlNet-union and promax, folder and one file", "used, equal", families=("sdxl",))
def test_a_union_makes_the_image_of_diffusers(sdxl: Family, tmp_path: Path, mode: str, number: int, file: bool) -> None:
    net = union(loaded_pipeline(sdxl).unet, 8)
    location = tmp_path / ("promax.safetensors" if file else "union")
    if file:
        save_file(net.state_dict(), location)
    else:
        net.save_pretrained(location)
    image = noise_image(tmp_path / "a.png")
    given = {"controlnets": (str(location),), "control_images": (tmp_path / "a.png",), "control_scales": (0.8,)}
    pipeline = StableDiffusionXLControlNetUnionPipeline(**parts_of(sdxl), controlnet=net, add_watermarker=False)
    expected = theirs(pipeline, control_image=[image], control_mode=[number], controlnet_conditioning_scale=0.8)
    ours = make(plan_for(sdxl.preset(), **given, control_modes=(mode,)))
    assert np.abs(ours - expected).max() <= 1
    assert np.abs(ours - make(plan_for(sdxl.preset()))).max() > 1, "the ControlNet does nothing"


@torch.inference_mode()
def residuals_of(net: PlainUnion | BandedUnion, image: torch.Tensor, inputs: Any) -> list[torch.Tensor]:
    """For every skip and the middle: (batch, channels, height, width)."""
    condition: Any = net.condition(Parked.of(image))
    options = net(*inputs, condition, 0.7).for_diffusers()
    return [*options["down_block_additional_residuals"], cast("Any", options["mid_block_additional_residual"])]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 16), (11, 7)])
def test_the_residuals_of_a_union_are_those_of_the_network(sdxl: Family, size: tuple[int, int]) -> None:
    unet = loaded_pipeline(sdxl).unet
    net, device = union(unet, 8), torch.device("cpu")
    width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    torch.manual_seed(1)
    added = {"text_embeds": torch.randn(2, width), "time_ids": torch.rand(2, 6)}
    image, sample = torch.rand(1, 3, size[0] * 8, size[1] * 8), torch.randn(2, 4, *size)
    inputs = (sample, torch.tensor(500), torch.randn(2, 77, unet.config.cross_attention_dim), added)
    store = ActivationStore(device, StoreBudget(1e9, 0, Path()), lambda _: None)
    found = {}
    for mode in (0, 6):
        plain, bands = PlainUnion(net, mode), BandedUnion(net, 4, store, Weights(device, True), mode)
        found[mode] = residuals_of(plain, image, inputs)
        kinds = torch.zeros(2, 8)
        kinds[:, mode] = 1
        with torch.no_grad():
            down, middle = net(
                *inputs[:3],
                [image.expand(2, -1, -1, -1)],
                kinds,
                [mode],
                [0.7],
                added_cond_kwargs=added,
                return_dict=False,
            )
        for one, two, theirs in zip(found[mode], residuals_of(bands, image, inputs), (*down, middle), strict=True):
            assert torch.allclose(one, theirs, atol=1e-4 * float(theirs.abs().max()))
            assert torch.allclose(two, theirs, atol=1e-4 * float(theirs.abs().max()))
    assert any(float((one - two).abs().max()) > 0.01 for one, two in zip(found[0], found[6], strict=True))


@pytest.mark.slow
@pytest.mark.covers("ControlNet-union and promax, folder and one file", "bands", families=("sdxl",))
def test_a_union_in_bands_is_the_whole_one(sdxl: Family, tmp_path: Path) -> None:
    union(loaded_pipeline(sdxl).unet, 6).save_pretrained(tmp_path / "union")
    noise_image(tmp_path / "a.png", (40, 56))
    given = {"controlnets": (str(tmp_path / "union"),), "control_images": (tmp_path / "a.png",)}
    plan = plan_for(sdxl.preset(), "104x128", attention="linear", control_modes=("depth",), **given)
    assert np.abs(in_bands(plan, 0) - in_bands(plan, 3)).max() <= 1


def shuffle(family: Family, folder: Path) -> Path:
    save_controlnet(loaded_pipeline(family), folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"global_pool_conditions": false', '"global_pool_conditions": true'))
    return folder


@pytest.mark.slow
@pytest.mark.covers("ControlNet shuffle (global pooling), folder and one file", "used, equal")
def test_shuffle_makes_the_image_of_diffusers(family: Family, tmp_path: Path) -> None:
    folder = shuffle(family, tmp_path / "net")
    image = noise_image(tmp_path / "a.png")
    net = ControlNetModel.from_pretrained(folder)
    assert net.config.global_pool_conditions
    if family.name == "sdxl":
        pipeline: Any = StableDiffusionXLControlNetPipeline(**parts_of(family), controlnet=net, add_watermarker=False)
    else:
        more: dict[str, Any] = dict.fromkeys(("safety_checker", "feature_extractor"))
        pipeline = StableDiffusionControlNetPipeline(
            **parts_of(family), **more, controlnet=net, requires_safety_checker=False
        )
    expected = theirs(pipeline, image=image, controlnet_conditioning_scale=0.8)
    given = {"controlnets": (str(folder),), "control_images": (tmp_path / "a.png",), "control_scales": (0.8,)}
    assert np.abs(make(plan_for(family.preset(), **given)) - expected).max() <= 1
    save_file(load_file(folder / "diffusion_pytorch_model.safetensors"), tmp_path / "control_shuffle.safetensors")
    single = given | {"controlnets": (str(tmp_path / "control_shuffle.safetensors"),)}
    assert np.abs(make(plan_for(family.preset(), **single)) - expected).max() <= 1
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"global_pool_conditions": true', '"global_pool_conditions": false'))
    assert np.abs(make(plan_for(family.preset(), **given)) - expected).max() > 1, "the mean does nothing"


@pytest.mark.slow
@pytest.mark.covers("ControlNet shuffle (global pooling), folder and one file", "bands")
def test_shuffle_in_bands_and_beside_another_one(family: Family, tmp_path: Path) -> None:
    noise_image(tmp_path / "a.png", (40, 56))
    nets = (str(shuffle(family, tmp_path / "net")), str(save_controlnet(loaded_pipeline(family), tmp_path / "plain")))
    given = {"controlnets": nets, "control_images": (tmp_path / "a.png",) * 2}
    plan = plan_for(family.preset(), "104x128", attention="linear", **given)
    assert np.abs(in_bands(plan, 0) - in_bands(plan, 3)).max() <= 1


@pytest.mark.slow
def test_modes_are_checked_with_the_files(sdxl: Family, tmp_path: Path) -> None:
    union(loaded_pipeline(sdxl).unet, 6).save_pretrained(tmp_path / "union")
    plain = save_controlnet(loaded_pipeline(sdxl), tmp_path / "plain")
    noise_image(tmp_path / "a.png")

    def plan(net: Path, *modes: str) -> Plan:
        images = (tmp_path / "a.png",)
        return plan_for(sdxl.preset(), controlnets=(str(net),), control_images=images, control_modes=modes)

    with pytest.raises(WeightsError, match="has to be told what its image shows"):
        plan(tmp_path / "union")
    with pytest.raises(WeightsError, match="has 6 modes, and none for tile"):
        plan(tmp_path / "union", "tile")
    with pytest.raises(WeightsError, match="no ControlNet-union"):
        plan(plain, "tile")
    with pytest.raises(LinfusionError, match='Did you mean "canny"'):
        plan(tmp_path / "union", "cany")
    with pytest.raises(LinfusionError, match="2 times for 1 ControlNets"):
        plan(tmp_path / "union", "canny", "depth")


@pytest.mark.slow
def test_the_sizes_of_skips_are_those_of_the_network(family: Family, tmp_path: Path) -> None:
    unet = loaded_pipeline(family).unet
    path = save_controlnet(loaded_pipeline(family), tmp_path / "net")
    net = ControlNet.load(WeightFile.resolve((str(path),), "", "controlnet"), unet, torch.float32, None).model
    added = None
    if family.name == "sdxl":
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        added = {"text_embeds": torch.zeros(1, width), "time_ids": torch.zeros(1, 6)}
    text, condition = torch.zeros(1, 77, unet.config.cross_attention_dim), torch.zeros(1, 3, 88, 56)
    with torch.no_grad():
        down, middle = net(
            torch.zeros(1, 4, 11, 7), torch.tensor(1), text, condition, added_cond_kwargs=added, return_dict=False
        )
    assert [Size(one.shape[3], one.shape[2]) for one in (*down, middle)] == skip_sizes(net, Size(7, 11))
