"""A plan refuses what loading would refuse: each file of a job is looked at where it is on this machine."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from linfusion_cli.config import schedulers
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import LinfusionError, UsageError, WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.planning.input_check import check_inputs
from linfusion_cli.planning.job_weights import JobWeights


def check(**changes: Any) -> None:
    fixed = {"prompt": "a lake", "size": "64x64", "seed": 1, "output": Path("x.png")}
    job = resolve(Request(**{**fixed, **changes}))
    check_inputs(job, JobWeights.of(job))


def refusal(**changes: Any) -> LinfusionError:
    with pytest.raises((WeightsError, UsageError)) as caught:
        check(**changes)
    assert len(str(caught.value)) <= 400
    return caught.value


def saved(folder: Path, name: str, *shape: int) -> str:
    path = folder / "x.safetensors"
    save_file({name: torch.ones(shape)}, path)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = builtin_folder("builtin:landscape")
    assert folder
    return Path(shutil.copytree(folder, tmp_path / "model"))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_built_in_model_and_weights_that_are_not_here_pass(tmp_path: Path) -> None:
    """What is missing is told by who fetches or loads it."""
    check()
    check(loras=("owner/missing:0.5",), textual_inversions=("owner/missing",), vae="owner/missing")
    check(preset="sd15-4k")


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("unet/config.json", "class_embed_type"),
        ("vae/config.json", "act_fn"),
        ("text_encoder/config.json", "hidden_act"),
    ],
)
def test_a_setting_of_the_model_is_refused(model: Path, file: str, setting: str) -> None:
    edit(model / file, **{setting: "odd"})
    message = str(refusal(model=str(model), preset="landscape"))
    assert file in message
    assert setting in message


def test_an_autoencoder_and_a_unet_in_place_of_the_models_are_checked(model: Path) -> None:
    edit(model / "vae" / "config.json", act_fn="odd")
    assert "vae/config.json" in str(refusal(vae=str(model / "vae")))
    edit(model / "unet" / "config.json", class_embed_type="timestep")
    assert "class_embed_type" in str(refusal(unet=str(model / "unet")))


@pytest.mark.parametrize(
    ("key", "tensor", "shape", "said"),
    [
        ("loras", "down_blocks.0.attentions.0.to_q.weight", (4, 4), "lora"),
        ("textual_inversions", "a.b", (2, 3, 4), "x.safetensors"),
        ("textual_inversions", "clip_g", (2, 1280), "for Stable Diffusion XL"),
        ("textual_inversions", "emb_params", (2, 768), "vectors of 768 numbers, the model's text_encoder has 128"),
    ],
)
def test_what_is_mounted_is_checked_by_its_tensors(
    tmp_path: Path, key: str, tensor: str, shape: tuple[int, ...], said: str
) -> None:
    assert said in str(refusal(**{key: (saved(tmp_path, tensor, *shape),)}))


def test_images_with_networks_that_are_none(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    image = (tmp_path / "a.png",)
    lora = saved(tmp_path, "lora_unet_x.lora_down.weight", 2, 2)
    assert "not controlnet" in str(refusal(controlnets=(lora,), control_images=image))
    assert "x.safetensors" in str(refusal(ip_adapter=lora, ip_images=image))


@pytest.mark.parametrize(
    ("scheduler", "sigmas", "parameter", "package"),
    [("dpmpp_2m", "beta", "sigma_schedule", "scipy"), ("dpmpp_sde", None, "scheduler", "torchsde")],
)
def test_a_package_that_is_missing_is_named_with_its_command_and_a_way_without(
    monkeypatch: pytest.MonkeyPatch, scheduler: str, sigmas: str | None, parameter: str, package: str
) -> None:
    monkeypatch.setattr(schedulers, "find_spec", lambda name: None)
    error = refusal(scheduler=scheduler, **({"sigma_schedule": sigmas} if sigmas else {}))
    assert isinstance(error, UsageError)
    assert error.parameter == parameter
    assert f"needs {package}" in str(error)
    assert 'pip install "linfusion-cli[schedulers]"' in str(error)
    nearest = str(error).split("Nearest: ")[1].split("=")[1].strip('"')
    check(**{"scheduler": scheduler, parameter: nearest})
