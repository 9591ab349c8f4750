"""Model files in the layouts that people have: the image of plain diffusers, or a refusal with file and reason."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from families import Family, lively, loaded_pipeline, make_family, tensors_of, tiny_pipeline
from huggingface_hub import constants
from original_layout import ldm_controlnet, ldm_vae, save_single_file
from PIL import Image
from safetensors.torch import save_file
from tiny_adapters import save_controlnet

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import load
from linfusion_cli.engine.controlnet.model import ControlNet
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.errors import WeightsError
from linfusion_cli.events import Event, Note
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.render import obstacles
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.weight_file import WeightFile


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("small") / "all")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd21", tmp_path_factory.mktemp("second") / "all")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sdxl", tmp_path_factory.mktemp("big") / "all")


def plan_for(preset: str, **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "negative_prompt": "fog", "preset": preset, "size": "64x64", "seed": 3}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan, told: list[Event] | None = None) -> np.ndarray:
    notify: Callable[[Event], None] = [].append if told is None else told.append
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, notify))
    return last.astype(float)


def theirs(pipeline: Any, **options: Any) -> np.ndarray:
    """What diffusers makes, in levels."""
    words = {"prompt": "a lake", "negative_prompt": "fog", "num_inference_steps": 4, "guidance_scale": 3.0}
    size = {"output_type": "np", "height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), 3, 0)}
    return np.asarray(pipeline(**{**words, **size, **options}).images[0]) * 255


def close(ours: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(ours - other).max() <= 1)


def prediction_of(plan: Plan, told: list[Event] | None = None) -> str:
    notify: Callable[[Event], None] = [].append if told is None else told.append
    return str(load(plan, load_text_encoders(plan), notify).scheduler_config["prediction_type"])


def refusal(preset: str, **changes: Any) -> str:
    """Of the plan alone: nothing is loaded."""
    with pytest.raises(WeightsError) as caught:
        plan_for(preset, **changes)
    return told(caught.value)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.slow
@pytest.mark.covers("ControlNet folder, colours as RGB or BGR", "used, equal")
def test_a_controlnet_that_reads_its_colours_in_another_order(family: Family, tmp_path: Path, order: str) -> None:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline

    plain = loaded_pipeline(family)
    folder = save_controlnet(plain, tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"controlnet_conditioning_channel_order": order}))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.save(tmp_path / "edges.png")
    parts = {name: part for name, part in plain.components.items() if name != "image_encoder"}
    xl = family.name == "sdxl"
    kind = StableDiffusionXLControlNetPipeline if xl else StableDiffusionControlNetPipeline
    more = {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    pipeline = kind(**parts, controlnet=ControlNetModel.from_pretrained(folder), **more)
    pipeline.set_progress_bar_config(disable=True)
    ours = make(plan_for(family.preset(), controlnets=(str(folder),), control_images=(tmp_path / "edges.png",)))
    assert close(ours, theirs(pipeline, image=image))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"time_cond_proj_dim": 2}),
        ("unet", {"_class_name": "UNet3DConditionModel"}),
        ("vae", {"latents_mean": [0.1] * 4, "latents_std": [1.0] * 4}),
        ("scheduler", {"_class_name": "EDMEulerScheduler"}),
        ("text_encoder", {"hidden_act": "relu"}),
    ],
)
@pytest.mark.covers("settings of UNet, autoencoder, ControlNet, text encoders, scheduler that are not known", "refused")
def test_a_plan_refuses_a_config_that_loading_refuses(
    family: Family, tmp_path: Path, part: str, changes: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(family.folder, folder)
    path = next((folder / part).glob("*config.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    message = refusal(family.preset(), model=str(folder))
    assert message.startswith(f"{path}: ")
    assert next(iter(changes.values())) == changes.get("_class_name") or next(iter(changes)) in message


@pytest.mark.covers("TAESD as the autoencoder", "refused")
def test_an_autoencoder_folder_of_another_class(family: Family, tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    AutoencoderTiny().save_pretrained(tmp_path / "taesd")
    assert "its class is AutoencoderTiny" in refusal(family.preset(), vae=str(tmp_path / "taesd"))


@pytest.mark.parametrize("kind", ["ControlNetUnionModel", "SparseControlNetModel"])
def test_what_is_no_controlnet_is_refused_before_anything_loads(small: Family, tmp_path: Path, kind: str) -> None:
    folder = save_controlnet(loaded_pipeline(small), tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": kind}))
    Image.new("RGB", (64, 64)).save(tmp_path / "edges.png")
    given = {"controlnets": (str(folder),), "control_images": (tmp_path / "edges.png",)}
    assert f"its class is {kind}" in refusal(small.preset(), **given)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("edm_mean", "Playground 2.5"),
        ("edm_vpred.sigma_max", "CosXL"),
        ("lora_unet_x.lora_up.weight", "a LoRA"),
        ("something.else", "something.else"),
    ],
)
@pytest.mark.covers("tensors of a single file that are no part of the model", "refused")
@pytest.mark.covers("Playground 2.5, CosXL, EDM and flow schedules", "refused")
def test_a_tensor_that_is_not_used_is_refused_by_name(family: Family, tmp_path: Path, name: str, named: str) -> None:
    save_file(tensors_of(family.file) | {name: torch.ones(2)}, tmp_path / "model.safetensors")
    message = refusal(family.preset(file=True), model=str(tmp_path / "model.safetensors"))
    assert named in message
    assert name in message


@pytest.mark.covers("tensors of a single file that no image depends on", "ignored")
def test_tensors_that_no_image_depends_on_are_left_out(family: Family, tmp_path: Path) -> None:
    more = {"betas": torch.ones(5), "model_ema.decay": torch.ones(1), "first_stage_model.loss.logvar": torch.ones(1)}
    more |= {
        "sd15": {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]},
        "sd21": {"cond_stage_model.model.logit_scale": torch.ones(())},
        "sdxl": {"conditioner.embedders.1.model.logit_scale": torch.ones(())},
    }[family.name]
    save_file(tensors_of(family.file) | more, tmp_path / "model.safetensors")
    plan = plan_for(family.preset(file=True), model=str(tmp_path / "model.safetensors"))
    assert close(make(plan), theirs(loaded_pipeline(family)))


@pytest.mark.parametrize("name", ["model.diffusion_model.input_blocks.0.0.extra", "first_stage_model.decoder.extra"])
@pytest.mark.covers("tensors of a single file that are no part of the model", "refused")
def test_a_tensor_that_the_conversion_drops_is_refused(family: Family, tmp_path: Path, name: str) -> None:
    save_file(tensors_of(family.file) | {name: torch.ones(2)}, tmp_path / "model.safetensors")
    assert ".extra" in refusal(family.preset(file=True), model=str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"modelspec.predict_key": "v"}, "v_prediction"),  # as ComfyUI saves it
        ({"modelspec.prediction_type": "v"}, "v_prediction"),
        ({"modelspec.predict_key": "epsilon"}, "epsilon"),
    ],
)
@pytest.mark.covers("`modelspec.predict_key`, `modelspec.prediction_type`, `v_pred`, `ztsnr`", "used")
def test_what_metadata_says_of_the_prediction(
    family: Family, tmp_path: Path, metadata: dict[str, str], wanted: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tensors_of(family.file), path, metadata)
    told: list[Event] = []
    assert prediction_of(plan_for(family.preset(file=True), model=str(path)), told) == wanted
    assert not [event for event in told if isinstance(event, Note) and "what it predicts" in event.text]


@pytest.mark.covers("SD-Turbo in one file", "used, equal", families=("sd21",))
def test_sd_turbo_in_one_file(second: Family, tmp_path: Path) -> None:
    """Its text encoder lies where SD-XL's lies, with a last layer that is not read, and it predicts noise."""
    prefix = "conditioner.embedders.0.model."
    tensors = {
        name.replace("cond_stage_model.model.", prefix): value for name, value in tensors_of(second.file).items()
    }
    last = {name: value for name, value in tensors.items() if name.startswith(f"{prefix}transformer.resblocks.1.")}
    tensors |= {name.replace("resblocks.1.", "resblocks.2."): value.clone() for name, value in last.items()}
    save_file(tensors, tmp_path / "sd_turbo.safetensors")
    plan = plan_for(second.preset(file=True), model=str(tmp_path / "sd_turbo.safetensors"))
    assert prediction_of(plan) == "epsilon"
    pipeline = loaded_pipeline(second)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, prediction_type="epsilon")
    assert close(make(plan), theirs(pipeline))


def test_an_embedding_of_sd15_for_another_family_is_refused_by_the_plan(family: Family, tmp_path: Path) -> None:
    save_file({"emb_params": torch.randn(2, 16)}, tmp_path / "moody.safetensors")
    given = {"textual_inversions": (str(tmp_path / "moody.safetensors"),)}
    if family.name == "sdxl":
        assert "not a textual inversion for Stable Diffusion XL" in refusal(family.preset(), **given)
    elif family.name == "sd21":
        assert "vectors of 16 numbers, the model's text_encoder has 24" in refusal(family.preset(), **given)
    else:
        assert plan_for(family.preset(), **given).job.settings.extras.textual_inversions


def test_a_scheduler_config_of_before_the_steps_offset(family: Family, tmp_path: Path) -> None:
    """The pipelines of diffusers for 1.x and 2.x set it to 1, and never clip; that of SD-XL leaves it."""
    folder = tmp_path / "model"
    shutil.copytree(family.folder, folder)
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text()) | {"steps_offset": 0}
    path.write_text(json.dumps(config))
    old = replace(family, folder=folder, presets=tmp_path)
    assert close(make(plan_for(old.preset())), theirs(loaded_pipeline(old)))


@pytest.mark.slow
@pytest.mark.covers("ControlNet in one file, original layout with and without prefix", "used, equal")
def test_a_controlnet_in_the_original_layout_with_and_without_prefix(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    folder = save_controlnet(pipeline, tmp_path / "net", (16, 32, 96, 256))  # as every file in this layout has it
    own = tensors_of(next(folder.glob("*.safetensors")))
    original = ldm_controlnet(own, pipeline.unet)
    for prefix in ("control_model.", ""):
        save_file({f"{prefix}{name}": value for name, value in original.items()}, tmp_path / "net.safetensors")
        file = WeightFile.resolve((str(tmp_path / "net.safetensors"),), "", "controlnet")
        found = ControlNet.load(file, pipeline.unet, torch.float32, None).model.state_dict()
        assert found.keys() == own.keys()
        assert all(torch.equal(found[name], value) for name, value in own.items())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "e.png")
    given = {"control_images": (tmp_path / "e.png",)}
    wanted = make(plan_for(family.preset(), controlnets=(str(folder),), **given))
    ours = make(plan_for(family.preset(), controlnets=(str(tmp_path / "net.safetensors"),), **given))
    assert np.array_equal(ours, wanted)


def test_a_controlnet_in_the_original_layout_for_another_family(small: Family, second: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(small)
    folder = save_controlnet(pipeline, tmp_path / "net", (16, 32, 96, 256))
    tensors = ldm_controlnet(tensors_of(next(folder.glob("*.safetensors"))), pipeline.unet)
    save_file(tensors, tmp_path / "net.safetensors")
    Image.new("RGB", (64, 64)).save(tmp_path / "e.png")
    given = {"control_images": (tmp_path / "e.png",)}
    said = refusal(second.preset(), controlnets=(str(tmp_path / "net.safetensors"),), **given)
    assert "for Stable Diffusion 1.x, not for this model" in said


def test_a_folder_without_an_autoencoder_is_used_with_another(small: Family, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "model")
    shutil.move(tmp_path / "model" / "vae", tmp_path / "vae")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index | {"vae": [None, None]}))
    given = {"model": str(tmp_path / "model")}
    assert close(make(plan_for(small.preset(), **given, vae=str(tmp_path / "vae"))), make(plan_for(small.preset())))


@pytest.mark.parametrize("kind", ["file", "folder", "folder that lists it"])
@pytest.mark.covers("model without an autoencoder, file and folder: the usual one of its family", "used, equal")
def test_a_model_without_an_autoencoder_gets_the_usual_one_of_its_family(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Missing, it is an obstacle with the command that fetches it; on this machine, the image is diffusers'."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    usual = FAMILY_ROWS[family.name].vae
    plan = plan_for(family.preset(file=kind == "file"), model=str(without_vae(family, tmp_path, kind)))
    assert [note for note in plan.notes if f"holds no autoencoder: {usual} is used" in note]
    assert [told(text) for text in obstacles(plan)] == [
        f"weights are not on this machine: {usual}. Fetch them with: linfusion fetch --vae {usual}"
    ]
    snapshot = tmp_path / "hub" / f"models--{usual.replace('/', '--')}" / "snapshots" / "main"
    shutil.copytree(family.folder / "vae", snapshot)
    plan = plan_for(family.preset(file=kind == "file"), model=plan.components.model.locations[0])
    assert not obstacles(plan)
    assert close(make(plan), theirs(loaded_pipeline(family)))


@pytest.mark.parametrize("layout", ["diffusers", "original", "original without prefix"])
@pytest.mark.covers(
    "autoencoder in one file (`--vae`), names of diffusers, original with and without prefix", "used, equal"
)
def test_another_autoencoder_in_one_file_for_a_model_without(family: Family, tmp_path: Path, layout: str) -> None:
    pipeline = loaded_pipeline(family)
    vae = pipeline.vae.state_dict() if layout == "diffusers" else ldm_vae(pipeline.vae)
    prefix = "first_stage_model." if layout == "original" else ""
    save_file({f"{prefix}{name}": value.contiguous() for name, value in vae.items()}, tmp_path / "vae.safetensors")
    given = {"model": str(without_vae(family, tmp_path, "file")), "vae": str(tmp_path / "vae.safetensors")}
    assert close(make(plan_for(family.preset(file=True), **given)), theirs(pipeline))


def without_vae(family: Family, root: Path, kind: str) -> Path:
    """A copy of the model that holds no autoencoder."""
    if kind == "file":
        tensors = {n: v for n, v in tensors_of(family.file).items() if not n.startswith("first_stage_model.")}
        save_file(tensors, root / "NoVAE.safetensors")
        return root / "NoVAE.safetensors"
    folder = root / "NoVAE"
    shutil.copytree(family.folder, folder, ignore=shutil.ignore_patterns("vae"))
    if kind == "folder":
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"vae": [None, None]}))
    return folder


def small_sdxl(root: Path, middle: str | None) -> tuple[Path, Path]:
    """A pipeline as SSD-1B and Segmind-Vega are: a folder, and one file in the original layout."""
    pipeline = tiny_pipeline("sdxl")
    plain = {key: value for key, value in pipeline.unet.config.items() if not key.startswith("_")}
    config = plain | {
        "layers_per_block": 2,
        "mid_block_type": middle,
        "transformer_layers_per_block": [1, [1, 2]],
        "reverse_transformer_layers_per_block": [[3, 1, 2], 1],
    }
    torch.manual_seed(4)
    pipeline.register_modules(unet=lively(UNet2DConditionModel.from_config(config)))
    pipeline.save_pretrained(root / "ssd")
    save_single_file(pipeline, root / "ssd.safetensors")
    return root / "ssd", root / "ssd.safetensors"


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.covers("SSD-1B and Segmind-Vega, folder and one file", "used, equal", families=("sdxl",))
def test_a_small_sdxl_with_other_depths(big: Family, tmp_path: Path, file: bool) -> None:
    folder, alone = small_sdxl(tmp_path, "UNetMidBlock2D")
    plain = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    plan = plan_for(big.preset(file=True), model=str(alone if file else folder))
    assert close(make(plan), theirs(plain))


@pytest.mark.covers("KOALA-700M and other UNets without a middle block", "refused", families=("sdxl",))
def test_a_unet_without_a_middle_block(big: Family, tmp_path: Path) -> None:
    for path, name in zip(small_sdxl(tmp_path, None), ("ssd/unet/config.json", "ssd.safetensors"), strict=True):
        message = refusal(big.preset(file=True), model=str(path))
        assert f"{name}: its mid_block_type is null" in message, message
