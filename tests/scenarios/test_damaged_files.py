"""Mutated configs and headers: each is used, or refused with the file's name; never a crash and never another error."""

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Family, loaded_pipeline, make_family, tensors_of, tiny_pipeline
from original_layout import ldm_controlnet, ldm_unet
from PIL import Image
from safetensors.torch import save_file
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import load
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine

CONFIGS = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json", "text_encoder/config.json")
CONFIGS += ("model_index.json", "net/config.json")
ODD: list[Any] = [None, True, False, 0, 1, -1, 3, 7, 10**18, 0.5, -1e308, "", "silu", "x" * 5000, [], [1], [0, 0], {}]
ODD += [[16, 24, 32], [[1, 2], [3]], {"a": 1}, ["CrossAttnDownBlock2D"] * 2, ["x", "y"], float("nan"), [None, None]]


def seeds(first: int, *, of: int) -> list[Any]:
    """The first numbers; those after them are long. The first of all tests make more than 200 mutations."""
    return [*range(first), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(first, of))]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Family:
    family = make_family("sd15", tmp_path_factory.mktemp("small") / "all")
    save_controlnet(tiny_pipeline("sd15"), family.folder / "net")
    Image.new("RGB", (64, 64)).save(family.folder / "edges.png")
    return family


def attempt(family: Family, folder: Path, file: Path | None = None, more: dict[str, Any] | None = None) -> str:
    """Plans and loads everything; "" or the refusal."""
    given: dict[str, Any] = {"model": str(file)} if file else {"model": str(folder)}
    given |= {"controlnets": (str(folder / "net"),), "control_images": (folder / "edges.png",)} | (more or {})
    fixed = {"prompt": "a lake", "preset": family.preset(file=file is not None), "size": "64x64", "seed": 1}
    request = Request(**{**fixed, **given})
    try:
        plan = make_plan(resolve(request), find_machine("cpu"))
        load(plan, load_text_encoders(plan), lambda _: None)
    except WeightsError as error:
        return str(error)
    except UsageError as error:  # a file that says it is of another family than the preset
        return str(error) if "Nearest: --preset" in str(error) else "another error"
    return ""


def mutated(config: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """One entry less, another value of one, or an entry of a strange name."""
    key = chance.choice(sorted(config))
    match chance.randrange(6):
        case 0:
            return {name: value for name, value in config.items() if name != key}
        case 1:
            return config | {"strange": chance.choice(ODD)}
        case 2 if isinstance(config[key], list):
            return config | {key: config[key] * 2}
        case _:
            return config | {key: chance.choice(ODD)}


def with_other_header(data: bytes, chance: random.Random) -> bytes:
    """A file with a tensor less, or with one of another name, shape, place or kind."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = chance.choice(sorted(set(header) - {"__metadata__"}))
    match chance.randrange(5):
        case 0:
            del header[name]
        case 1:
            header[name + chance.choice(("", "x", ".weight"))] = header.pop(name)
        case 2:
            header[name] = chance.choice(ODD)
        case 3:
            header[name] |= {chance.choice(("dtype", "shape", "data_offsets")): chance.choice(ODD)}
        case _:
            header[name]["shape"] = [*header[name]["shape"][::-1], 1]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize("seed", seeds(4, of=8))
@pytest.mark.covers("any config or header, mutated", "used, or refused with its name", families=("sd15",))
def test_mutated_configs(small: Family, tmp_path: Path, seed: int) -> None:
    folder, chance, refused = tmp_path / "model", random.Random(seed), 0
    shutil.copytree(small.folder, folder)
    for _ in range(25):
        path = folder / chance.choice(CONFIGS)
        text = path.read_text()
        path.write_text(json.dumps(mutated(json.loads(text), chance)))
        message = attempt(small, folder)
        assert not message or str(folder) in message, message
        assert len(message) - message.count(str(folder)) * len(str(folder)) <= 400, message
        refused += bool(message)
        path.write_text(text)
    assert refused > 5


@pytest.mark.parametrize("seed", seeds(2, of=4))
@pytest.mark.covers("any config or header, mutated", "used, or refused with its name", families=("sd15",))
def test_mutated_headers(small: Family, tmp_path: Path, seed: int) -> None:
    chance, file = random.Random(seed), tmp_path / "model.safetensors"
    data = small.file.read_bytes()
    for _ in range(25):
        file.write_bytes(with_other_header(data, chance))
        message = attempt(small, small.folder, file)
        assert not message or str(file) in message, message
        assert len(message) - message.count(str(file)) * len(str(file)) <= 400, message


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(1, of=2))
@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
@pytest.mark.covers("any config or header, mutated", "used, or refused with its name")
def test_mutated_adapters(family: str, tmp_path: Path, seed: int) -> None:
    """Headers of a LoRA, an IP-Adapter, an embedding and a ControlNet, and configs of two networks."""
    model, pipeline = make_family(family, tmp_path / "all"), tiny_pipeline(family)
    chance, refused = random.Random(seed), 0
    root = model.folder
    save_controlnet(pipeline, root / "net")
    Image.new("RGB", (64, 64)).save(root / "edges.png")
    (root / "ip").mkdir()
    save_ip_adapter(pipeline, root / "ip")
    lora, embedding = save_loras(pipeline, root)[0], root / "words.safetensors"
    names = (
        {"clip_l": 16, "clip_g": 24} if family == "sdxl" else {"emb_params": pipeline.text_encoder.config.hidden_size}
    )
    save_file({name: torch.ones(2, width) for name, width in names.items()}, embedding)
    given = {"loras": (str(lora),), "textual_inversions": (f"{embedding}:qqx",), "ip_adapter": str(root / "ip")}
    files = [lora, embedding, root / "ip" / "ip-adapter.safetensors"]
    files += [
        root / "net" / "diffusion_pytorch_model.safetensors",
        root / "net" / "config.json",
        root / "ip" / "image_encoder" / "config.json",
    ]
    for number in range(18):
        path = files[number % len(files)]
        data = path.read_bytes()
        if path.suffix == ".json":
            path.write_text(json.dumps(mutated(json.loads(data), chance)))
        else:
            path.write_bytes(with_other_header(data, chance))
        message = attempt(model, root, more=given | {"ip_images": (root / "edges.png",)})
        assert not message or str(path.parent) in message, message
        refused += bool(message)
        path.write_bytes(data)
    assert attempt(model, root, more=given | {"ip_images": (root / "edges.png",)}) == ""
    assert refused > 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(1, of=3))
@pytest.mark.parametrize("kind", ["controlnet", "unet", "original unet"])
@pytest.mark.covers("any config or header, mutated", "used, or refused with its name", families=("sd15",))
def test_mutated_controlnets_and_unets_in_one_file(small: Family, tmp_path: Path, kind: str, seed: int) -> None:
    """A ControlNet in the original layout, and another UNet in both layouts."""
    pipeline = loaded_pipeline(small)
    folder = save_controlnet(pipeline, tmp_path / "net", (16, 32, 96, 256))
    own = tensors_of(next(folder.glob("*.safetensors")))
    tensors = {
        "controlnet": lambda: ldm_controlnet(own, pipeline.unet),
        "unet": lambda: pipeline.unet.state_dict(),
        "original unet": lambda: {f"model.diffusion_model.{n}": v for n, v in ldm_unet(pipeline.unet).items()},
    }[kind]()
    file, chance, refused = tmp_path / "odd.safetensors", random.Random(f"{kind}{seed}"), 0
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    more: dict[str, Any] = {"controlnets": (str(file),)} if kind == "controlnet" else {"unet": str(file)}
    data = file.read_bytes()
    assert attempt(small, small.folder, more=more) == ""
    for _ in range(25):
        file.write_bytes(with_other_header(data, chance))
        message = attempt(small, small.folder, more=more)
        assert not message or str(file) in message, message
        assert len(message) - message.count(str(file)) * len(str(file)) <= 400, message
        refused += bool(message)
    assert refused > 15


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(1, of=3))
@pytest.mark.covers("any config or header, mutated", "used, or refused with its name", families=("sd15",))
def test_mutated_configs_beside_a_file_and_of_another_unet(small: Family, tmp_path: Path, seed: int) -> None:
    """The config of a UNet in a folder of its own, and those that a model in one file takes."""
    unet = Path(shutil.copytree(small.folder / "unet", tmp_path / "unet"))
    configs = Path(shutil.copytree(small.folder, tmp_path / "configs"))
    preset = Path(small.preset(file=True)).read_text().replace(f'configs = "{small.folder}"', f'configs = "{configs}"')
    (tmp_path / "preset.toml").write_text(preset)
    beside, chance, refused = dataclasses.replace(small, presets=tmp_path), random.Random(seed), 0
    for number in range(24):
        whole = number % 2 == 0
        path = configs / chance.choice(CONFIGS[:5]) if whole else unet / "config.json"
        text = path.read_text()
        path.write_text(json.dumps(mutated(json.loads(text), chance)))
        more: dict[str, Any] = {"preset": str(tmp_path / "preset.toml")} if whole else {"unet": str(unet)}
        message = attempt(beside, small.folder, small.file if whole else None, more)
        assert not message or str(tmp_path) in message or str(small.file) in message, message
        refused += bool(message)
        path.write_text(text)
    assert refused > 5
