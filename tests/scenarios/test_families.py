"""What people bring, on tiny models of the three families: each makes the image that plain diffusers makes of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Family, loaded_pipeline, make_family
from PIL import Image
from safetensors.torch import save_file
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.weighted_lora import STAGES
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.events import Event
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

TOLERANCE = 1e-4 * 255  # of a level, before rounding
PROMPT, NEGATIVE = "a lake at dawn", "fog"


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def plan_for(preset: str, size: str = "64x64", **changes: Any) -> Plan:
    fixed = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "preset": preset,
        "size": size,
        "seed": 3,
        "output": Path("x.png"),
    }
    request = Request(**{**fixed, "attention": "softmax", **changes})
    return make_plan(resolve(request), find_machine("cpu"))


def quiet(event: Event) -> None:
    assert event is not None


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, quiet))
    return last.astype(float)


def theirs(pipeline: Any, **options: Any) -> np.ndarray:
    """What diffusers makes, in levels."""
    latents = gaussian((1, 4, 8, 8), 3, 0)
    words = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
        "output_type": "np",
    }
    images = pipeline(**{**words, "height": 64, "width": 64, "latents": latents, **options}).images
    return np.asarray(images[0]) * 255


def close(ours: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the rounding to whole levels."""
    return bool(np.abs(ours - other).max() <= 0.5 + TOLERANCE)


def same_levels(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for the rounding of both."""
    return bool(np.abs(one - other).max() <= 1)


@pytest.mark.covers("`--model`: hub repository or folder in diffusers layout", "equal")
@pytest.mark.covers("`--model`: one `.safetensors` file in the original layout", "equal")
@pytest.mark.covers("`--attention softmax`: the image of plain diffusers", "equal")
def test_the_folder_and_the_single_file_make_the_image_of_diffusers(family: Family) -> None:
    wanted = theirs(loaded_pipeline(family))
    assert wanted.std() > 2
    assert close(make(plan_for(family.preset())), wanted)
    file = make(plan_for(family.preset(file=True)))
    assert close(file, wanted)
    linear = make(plan_for(family.preset(), attention="linear"))
    assert not close(linear, wanted)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.covers("`force_zeros_for_empty_prompt` of `model_index.json`", "used, equal", families=("sdxl",))
def test_without_a_negative_prompt(family: Family, weighted: bool) -> None:
    wanted = theirs(loaded_pipeline(family), negative_prompt=None)
    for file in (False, True):
        plan = plan_for(family.preset(file=file), negative_prompt="", prompt_weights=weighted)
        assert close(make(plan), wanted)
    assert not close(make(plan_for(family.preset())), wanted)


@pytest.mark.covers("`force_zeros_for_empty_prompt` of `model_index.json`", "used, equal", families=("sdxl",))
def test_a_model_that_keeps_the_empty_prompt(family: Family, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(family.folder, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"force_zeros_for_empty_prompt": False} if family.name == "sdxl" else {}
    (folder / "model_index.json").write_text(json.dumps(index))
    kept = replace(family, folder=folder, presets=tmp_path)
    ours = make(plan_for(kept.preset(), negative_prompt=""))
    assert close(ours, theirs(loaded_pipeline(kept), negative_prompt=None))
    assert close(ours, make(plan_for(family.preset(), negative_prompt=""))) == (family.name != "sdxl")


@pytest.mark.covers("softmax at the first stage, linear after (`--base-attention`)", "equal, first stage")
def test_softmax_at_the_base_only(family: Family) -> None:
    plan = plan_for(family.preset(), "128x128", attention="linear", base_attention="softmax")
    assert [stage.attention for stage in plan.stages] == ["softmax", "linear"]
    told = [np.concatenate(list(image.rows)).astype(float) for image in images(plan, quiet)]
    assert close(told[0], theirs(loaded_pipeline(family)))
    assert told[-1].std() > 0


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.covers("`--lora`, in kohya's and diffusers' layouts", "equal")
def test_lora(family: Family, tmp_path: Path, layout: int) -> None:
    pipeline = loaded_pipeline(family)
    plain = make(plan_for(family.preset()))
    path = save_loras(pipeline, tmp_path)[layout]
    pipeline.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name="a")
    pipeline.set_adapters(["a"], [0.7])
    ours = make(plan_for(family.preset(), loras=(f"{path}:0.7",)))
    assert close(ours, theirs(pipeline))
    assert not close(ours, plain)
    assert np.array_equal(make(plan_for(family.preset(), loras=(f"{path}:0",))), plain)


@pytest.mark.covers("`--controlnet`, one or several", "equal")
def test_controlnet(family: Family, tmp_path: Path) -> None:
    from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline

    plain_pipeline = loaded_pipeline(family)
    folder = save_controlnet(plain_pipeline, tmp_path / "net")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.save(tmp_path / "edges.png")
    from diffusers import ControlNetModel

    kind = StableDiffusionXLControlNetPipeline if family.name == "sdxl" else StableDiffusionControlNetPipeline
    net = ControlNetModel.from_pretrained(folder)
    parts = {
        name: part
        for name, part in plain_pipeline.components.items()
        if name not in ("safety_checker", "image_encoder", "feature_extractor")
    }
    more = (
        {"add_watermarker": False}
        if family.name == "sdxl"
        else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    )
    pipeline = kind(**parts, controlnet=net, **more)
    pipeline.set_progress_bar_config(disable=True)
    wanted = theirs(pipeline, image=image, controlnet_conditioning_scale=0.8, control_guidance_end=0.5)
    given = {"controlnets": (str(folder),), "control_images": (tmp_path / "edges.png",)}
    ours = make(plan_for(family.preset(), **given, control_scales=(0.8,), control_ends=(0.5,)))
    assert close(ours, wanted)
    plain = make(plan_for(family.preset()))
    assert not close(ours, plain)
    assert np.array_equal(make(plan_for(family.preset(), **given, control_scales=(0.0,))), plain)
    both = {"controlnets": (str(folder),) * 2, "control_images": (tmp_path / "edges.png",) * 2}
    halves = make(plan_for(family.preset(), **both, control_scales=(0.3, 0.5), control_ends=(0.5,)))
    assert close(halves, wanted)


@pytest.mark.covers("`--ip-adapter`", "equal")
def test_ip_adapter(family: Family, tmp_path: Path) -> None:
    from transformers import CLIPVisionModelWithProjection

    pipeline = loaded_pipeline(family)
    folder = save_ip_adapter(pipeline, tmp_path / "ip")
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    image.save(tmp_path / "style.png")
    plain = make(plan_for(family.preset()))
    ours = make(plan_for(family.preset(), ip_adapter=str(folder), ip_images=(tmp_path / "style.png",), ip_scale=0.9))
    assert not close(ours, plain)
    assert np.array_equal(
        make(plan_for(family.preset(), ip_adapter=str(folder), ip_images=(tmp_path / "style.png",), ip_scale=0.0)),
        plain,
    )
    from linfusion_cli.engine.adapters.ip_adapter import clip_pixels

    pipeline.image_encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").eval()
    pipeline.load_ip_adapter(
        str(tmp_path), subfolder="ip", weight_name="ip-adapter.safetensors", image_encoder_folder=None
    )
    pipeline.set_ip_adapter_scale(0.9)
    pixels = clip_pixels(np.asarray(image, dtype=np.float32) / 255, 32)
    assert close(ours, theirs(pipeline, ip_adapter_image=pixels))


@pytest.mark.parametrize("skip", [1])
@pytest.mark.covers("`--clip-skip`", "equal")
def test_clip_skip(family: Family, skip: int) -> None:
    ours = make(plan_for(family.preset(), clip_skip=skip + 1))  # as A1111 counts; diffusers counts from 0
    assert not close(ours, make(plan_for(family.preset())))
    pipeline = loaded_pipeline(family)
    if family.name == "sdxl":
        assert close(ours, theirs(pipeline, clip_skip=skip))
        return
    words = pipeline.tokenizer([PROMPT, NEGATIVE], padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():  # diffusers' own way fails with transformers 5
        states = pipeline.text_encoder(words, output_hidden_states=True).hidden_states
        skipped = pipeline.text_encoder.final_layer_norm(states[-1 - skip])[:1]
        negative = pipeline.text_encoder(words[1:])[0]
    assert close(
        ours,
        theirs(pipeline, prompt=None, negative_prompt=None, prompt_embeds=skipped, negative_prompt_embeds=negative),
    )


@pytest.mark.covers("`--init-image`", "equal")
def test_init_image(family: Family, tmp_path: Path) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline

    plain = loaded_pipeline(family)
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "start.png")
    parts = {
        name: part
        for name, part in plain.components.items()
        if name not in ("safety_checker", "image_encoder", "feature_extractor")
    }
    if family.name == "sdxl":
        pipeline = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    else:
        pipeline = StableDiffusionImg2ImgPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    tensor = torch.from_numpy(pixels).float().div(127.5).sub(1).permute(2, 0, 1)[None]
    with torch.no_grad():
        start = plain.vae.encode(tensor).latent_dist.mean * plain.vae.config.scaling_factor
        noise, scheduler = gaussian((1, 4, 8, 8), 3, 0), plain.scheduler
        pipeline.prepare_latents = lambda image, timestep, *rest, **more: scheduler.add_noise(start, noise, timestep)
        words = {
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "num_inference_steps": 4,
            "guidance_scale": 3.0,
            "output_type": "np",
        }
        wanted = np.asarray(pipeline(**words, image=tensor, strength=0.5).images[0]) * 255
    ours = make(plan_for(family.preset(), init_image=tmp_path / "start.png", init_strength=0.5))
    assert close(ours, wanted)
    assert not close(ours, make(plan_for(family.preset())))


@pytest.mark.covers("`--textual-inversion`", "equal")
def test_textual_inversion(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    torch.manual_seed(8)
    encoders = (
        {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
        if family.name == "sdxl"
        else {"emb_params": "text_encoder"}
    )
    widths = {name: getattr(pipeline, part).get_input_embeddings().weight.shape[1] for name, part in encoders.items()}
    vectors = {name: torch.randn(2, width) for name, width in widths.items()}
    save_file(vectors, tmp_path / "moody.safetensors")
    for name, part in encoders.items():
        tokenizer = getattr(pipeline, part.replace("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(
            vectors[name], token="<moody>", tokenizer=tokenizer, text_encoder=getattr(pipeline, part)
        )
    prompt = "a <moody> lake"
    ours = make(
        plan_for(family.preset(), prompt=prompt, textual_inversions=(f"{tmp_path / 'moody.safetensors'}:<moody>",))
    )
    assert close(ours, theirs(pipeline, prompt=prompt))
    assert not close(ours, make(plan_for(family.preset(), prompt=prompt)))


@pytest.mark.covers("`--keep-projections` for fine-tunes", "changes")
def test_keeping_the_projections_of_a_fine_tune(family: Family) -> None:
    kept = make(plan_for(family.preset(), attention="linear", keep_projections=True))
    assert not close(kept, make(plan_for(family.preset(), attention="linear")))
    assert not close(kept, make(plan_for(family.preset())))


def banded(plan: Plan, unet_rows: int, decode_rows: int) -> Plan:
    """The plan with bands of so many rows of latents and of pixels; 0: the UNet on the whole image."""
    changed = (
        replace(stage, bands=replace(stage.bands, unet_latent=unet_rows, vae_px=decode_rows)) for stage in plan.stages
    )
    return replace(plan, stages=tuple(changed))


@pytest.mark.covers("`upscale`", "changes, bands")
def test_upscale(family: Family, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    given = {"attention": "linear", "upscale_image": tmp_path / "photo.png"}
    plan = plan_for(family.preset(), "128x128", **given)
    large = make(plan)
    assert large.shape == (128, 128, 3)
    assert not close(large, make(plan_for(family.preset(), "128x128", **given, upscale_strength=1.0)))
    assert np.abs(make(banded(plan, 0, 1000)) - make(banded(plan, 3, 24))).max() <= 1


@pytest.mark.covers("`--lora`, in kohya's and diffusers' layouts", "equal")
def test_a_lora_of_some_stages(family: Family, tmp_path: Path) -> None:
    """At the base size one of the upscale changes nothing; that of the first stage and it are one of all stages."""
    pipeline = loaded_pipeline(family)
    lora = save_loras(pipeline, tmp_path)[0]
    for size in ("64x64", "128x128"):
        one, two = (make(plan_for(family.preset(), size, loras=(f"{lora}:0.3:0@{each}",))) for each in STAGES)
        none, both = (
            make(plan_for(family.preset(), size)),
            make(plan_for(family.preset(), size, loras=(f"{lora}:0.3:0",))),
        )
        assert np.array_equal(none, two) == (size == "64x64")
        assert not np.array_equal(none, one)
        assert same_levels(one, both) == (size == "64x64")
        pair = plan_for(family.preset(), size, loras=tuple(f"{lora}:0.3:0@{each}" for each in STAGES))
        assert same_levels(make(pair), both)


@pytest.mark.covers("`--lora`, in kohya's and diffusers' layouts", "bands")
@pytest.mark.covers("`--controlnet`, one or several", "bands")
@pytest.mark.covers("`--ip-adapter`", "bands")
def test_lora_controlnet_and_ip_adapter_in_bands(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    given: dict[str, Any] = {"loras": (f"{save_loras(pipeline, tmp_path)[0]}:0.5",), "attention": "linear"}
    given |= {
        "controlnets": (str(save_controlnet(pipeline, tmp_path / "net")),),
        "control_images": (tmp_path / "a.png",),
    }
    given |= {"ip_adapter": str(save_ip_adapter(pipeline, tmp_path / "ip")), "ip_images": (tmp_path / "a.png",)}
    plan = plan_for(family.preset(), "104x128", **given)
    assert len(plan.stages) == 2
    whole = make(banded(plan, 0, 1000))
    assert np.abs(whole - make(banded(plan, 3, 24))).max() <= 1
    assert np.abs(whole - make(plan_for(family.preset(), "104x128", attention="linear"))).max() > 1
