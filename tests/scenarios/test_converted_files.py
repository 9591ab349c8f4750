"""Pickles of adapters after `linfusion convert`: the image is that of the same weights given as safetensors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Family, loaded_pipeline, make_family, tensors_of
from original_layout import ldm_controlnet
from PIL import Image
from safetensors.torch import save_file
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.convert.convert import convert, target_of
from linfusion_cli.engine.pipeline import images
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow
WIDTHS = {"sd15": {"emb_params": 16}, "sd21": {"emb_params": 24}, "sdxl": {"clip_l": 16, "clip_g": 24}}


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def make(preset: str, **changes: Any) -> np.ndarray:
    fixed = {"prompt": "a moody lake", "preset": preset, "size": "64x64", "seed": 3, "steps": 2}
    request = Request(**{**fixed, "output": Path("x.png"), "attention": "softmax", **changes})
    plan = make_plan(resolve(request), find_machine("cpu"))
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last


def converted(value: object, path: Path) -> Path:
    """The safetensors file that the command makes of a pickle, which is removed then."""
    torch.save(value, path)
    done = convert(path, target_of(path), lambda done, total: None).path
    path.unlink()
    return done


def nested(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter as its .bin holds it: two tables."""
    return {
        part: {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
        for part in ("image_proj", "ip_adapter")
    }


@pytest.mark.covers("pickles, after `linfusion convert`", "used, equal")
def test_each_kind_makes_the_image_of_its_safetensors_file(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "e.png")
    kohya, modern = save_loras(pipeline, tmp_path)
    net = save_controlnet(pipeline, tmp_path / "net", (16, 32, 96, 256))
    original = ldm_controlnet(tensors_of(next(net.glob("*.safetensors"))), pipeline.unet)
    save_file({name: value.contiguous() for name, value in original.items()}, tmp_path / "net.safetensors")
    (tmp_path / "ip").mkdir()
    ip = save_ip_adapter(pipeline, tmp_path / "ip") / "ip-adapter.safetensors"
    words = {name: torch.randn(2, width) for name, width in WIDTHS[family.name].items()}
    save_file(words, tmp_path / "words.safetensors")
    token = {"*": 1}
    old = words if family.name == "sdxl" else {"string_to_token": token, "string_to_param": {"*": words["emb_params"]}}
    new = words if family.name == "sdxl" else {"moody": words["emb_params"]}
    control = {"control_images": (tmp_path / "e.png",)}
    shown: dict[str, Any] = {"ip_images": (tmp_path / "e.png",), "ip_encoder": str(tmp_path / "ip" / "image_encoder")}
    cases: list[tuple[str, Path, object, dict[str, Any]]] = [
        ("loras", kohya, tensors_of(kohya), {}),
        ("loras", modern, {"state_dict": tensors_of(modern), "epoch": 3}, {}),
        ("controlnets", tmp_path / "net.safetensors", {f"control_model.{n}": v for n, v in original.items()}, control),
        ("ip_adapter", ip, nested(tensors_of(ip)), shown),
        ("textual_inversions", tmp_path / "words.safetensors", old, {}),
        ("textual_inversions", tmp_path / "words.safetensors", new, {}),
    ]
    plain = make(family.preset())
    for number, (option, path, value, more) in enumerate(cases):
        ending = {"ip_adapter": "bin", "controlnets": "pth"}.get(option, "pt")
        made = converted(value, tmp_path / f"{number}.{ending}")
        token_of = ":moody" if option == "textual_inversions" else ""
        one, other = (f"{location}{token_of}" for location in (path, made))
        given = (one, other) if option == "ip_adapter" else ((one,), (other,))
        wanted, ours = (make(family.preset(), **{option: locations}, **more) for locations in given)
        assert np.array_equal(ours, wanted), option
        assert not np.array_equal(ours, plain), option
