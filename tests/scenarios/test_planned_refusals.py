"""Damaged models: the plan refuses each one, in the very words in which loading would."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from families import Family, make_family, tensors_of
from safetensors.torch import save_file

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import load
from linfusion_cli.errors import LinfusionError
from linfusion_cli.planning import planner
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

Damage = Callable[[Path], object]


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def plan_for(preset: str, **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "preset": preset, "size": "64x64", "seed": 3, "attention": "softmax"}
    return make_plan(resolve(Request(**{**fixed, "output": Path("x.png"), **changes})), find_machine("cpu"))


def refusals(monkeypatch: pytest.MonkeyPatch, preset: str, **changes: Any) -> tuple[str, str]:
    """What the plan says, and what loading says to a plan that looked at nothing."""
    with pytest.raises(LinfusionError) as planned:
        plan_for(preset, **changes)
    with monkeypatch.context() as patch:
        patch.setattr(planner, "check_inputs", lambda *_: None)
        plan = plan_for(preset, **changes)
    with pytest.raises(LinfusionError) as loaded:
        load(plan, load_text_encoders(plan), lambda _: None)
    return told(planned.value), told(loaded.value)


def without(*names: str) -> Damage:
    def damage(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def with_values(name: str, **values: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return damage


def with_model(**values: Any) -> Damage:
    """Other entries of the tokenizer's model."""

    def damage(folder: Path) -> None:
        path = folder / "tokenizer" / "tokenizer.json"
        whole = json.loads(path.read_text())
        path.write_text(json.dumps(whole | {"model": whole["model"] | values}))

    return damage


FOLDERS: dict[str, Damage] = {
    "no scheduler": without("scheduler"),
    "no scheduler config": without("scheduler/scheduler_config.json"),
    **{f"no {part} config": without(f"{part}/config.json") for part in ("unet", "vae", "text_encoder")},
    "no vae weights": without("vae/diffusion_pytorch_model.safetensors"),
    "no text encoder": without("text_encoder"),
    "no text encoder weights": without("text_encoder/model.safetensors"),
    "no tokenizer": without("tokenizer"),
    "no words": without("tokenizer/tokenizer.json"),
    "no tokenizer config": without("tokenizer/tokenizer_config.json"),
    "unknown tokenizer": with_values("model_index.json", tokenizer=["transformers", "T5Tokenizer"]),
    "tokenizer of null": with_values("model_index.json", tokenizer=[None, None]),
    "merges of no words": with_model(merges=[["zzz", "qqq"]]),
    "merges of one part": with_model(merges=["in"]),
    "unknown normalizer": with_values("tokenizer/tokenizer.json", normalizer={"type": "Strange"}),
}
OF_XL: dict[str, Damage] = {
    "no second text encoder": without("text_encoder_2"),
    "no second weights": without("text_encoder_2/model.safetensors"),
    "no second tokenizer": without("tokenizer_2"),
    "unknown second tokenizer": with_values("model_index.json", tokenizer_2=["transformers", "BertTokenizer"]),
    "no second words": without("tokenizer_2/tokenizer.json"),
}


@pytest.mark.covers("a model that lacks a part, a config, weights, or words of a tokenizer", "refused")
def test_a_folder_that_lacks_something(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, damage in (FOLDERS | (OF_XL if family.name == "sdxl" else {})).items():
        folder = Path(shutil.copytree(family.folder, tmp_path / name))
        damage(folder)
        planned, loaded = refusals(monkeypatch, family.preset(), model=str(folder))
        assert planned == loaded, name
        assert planned.startswith(str(folder)), name


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.covers("a model that lacks a part, a config, weights, or words of a tokenizer", "refused")
def test_a_shard_that_is_missing(family: Family, tmp_path: Path, variant: str | None) -> None:
    """Of a variant too, which the plain files beside it must not hide."""
    preset = str(tmp_path / "preset.toml")
    text = Path(family.preset()).read_text()
    Path(preset).write_text(text.replace("[model]", f'[model]\nvariant = "{variant or ""}"'))
    for part, kind in {"unet": UNet2DConditionModel, "vae": AutoencoderKL}.items():
        folder = Path(shutil.copytree(family.folder, tmp_path / part))
        model = kind.from_pretrained(folder / part)
        if variant is None:
            without(f"{part}/diffusion_pytorch_model.safetensors")(folder)
        model.save_pretrained(folder / part, max_shard_size="20KB", variant=variant)
        sorted((folder / part).glob("*-of-*"))[1].unlink()
        with pytest.raises(LinfusionError, match=r"index\S*\.json: names diff\S*, which is not there"):
            plan_for(preset, model=str(folder))
        if variant is None:
            with pytest.raises(LinfusionError, match=r"index\S*\.json: names diff\S*, which is not there"):
                plan_for(preset, **{part: str(folder / part)})


PREFIXES = {
    "vae": ("first_stage_model.decoder.up.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}


@pytest.mark.covers("a model that lacks a part, a config, weights, or words of a tokenizer", "refused")
def test_a_file_that_lacks_one_part(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = tensors_of(family.file)
    for part in PREFIXES if family.name == "sdxl" else ["vae"]:
        path = tmp_path / f"{part}.safetensors"
        save_file({name: value for name, value in tensors.items() if not name.startswith(PREFIXES[part])}, path)
        planned, loaded = refusals(monkeypatch, family.preset(file=True), model=str(path))
        lacks = "only a part of the vae (first_stage_model.decoder.conv_in.bias)" if part == "vae" else f"no {part}"
        assert planned == loaded == f"{path}: holds {lacks}, so it is not a whole model. Take the full checkpoint"


@pytest.mark.parametrize("name", ["unet/config.json", "tokenizer/tokenizer_config.json", "scheduler"])
def test_configs_beside_a_file_that_lack_one(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = Path(shutil.copytree(family.folder, tmp_path / "configs"))
    without(name)(folder)
    preset = Path(family.preset(file=True)).read_text().replace(f'configs = "{family.folder}"', f'configs = "{folder}"')
    (tmp_path / "preset.toml").write_text(preset)
    planned, loaded = refusals(monkeypatch, str(tmp_path / "preset.toml"))
    assert planned == loaded
    assert planned.startswith(str(folder))


def test_parts_that_others_replace_may_be_missing(family: Family, tmp_path: Path) -> None:
    """The config of a UNet is that of its own folder, or the model's for one file."""
    unet = family.folder / "unet"
    folder = Path(shutil.copytree(family.folder, tmp_path / "model", ignore=shutil.ignore_patterns("unet", "vae")))
    given = {"model": str(folder), "unet": str(unet), "vae": str(family.folder / "vae")}
    plan = plan_for(family.preset(), **given)
    load(plan, load_text_encoders(plan), lambda _: None)


def test_a_unet_in_one_file_needs_the_config_of_the_model(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(family.folder, tmp_path / "model"))
    without("unet/config.json")(folder)
    given = {"model": str(folder), "unet": str(family.folder / "unet" / "diffusion_pytorch_model.safetensors")}
    planned, loaded = refusals(monkeypatch, family.preset(), **given)
    assert planned == loaded
    assert planned.startswith(str(folder / "unet" / "config.json"))


def test_special_tokens_that_are_no_words(family: Family, tmp_path: Path) -> None:
    """A library would give them numbers that the text encoder does not know, or fail while it reads the prompt."""
    for token in ("bos_token", "eos_token", "pad_token"):
        for value in ("<|none|>", None):
            folder = Path(shutil.copytree(family.folder, tmp_path / f"{token}{value}"))
            with_values("tokenizer/tokenizer_config.json", **{token: value})(folder)
            with pytest.raises(LinfusionError, match=rf"tokenizer_config\.json: its {token} is"):
                plan_for(family.preset(), model=str(folder))


def test_a_tokenizer_without_merges_would_read_letters(family: Family, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family.folder, tmp_path / "model"))
    with_model(merges=[])(folder)
    with pytest.raises(LinfusionError, match=r"tokenizer\.json: it is not a tokenizer of CLIP's kind"):
        plan_for(family.preset(), model=str(folder))


@pytest.mark.parametrize("token", ["rock", "moody"])
def test_a_token_that_is_a_word_already(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    widths = {"sd15": {"emb_params": 16}, "sd21": {"emb_params": 24}, "sdxl": {"clip_l": 16, "clip_g": 24}}
    for name in ("one", "two"):
        save_file(
            {key: torch.ones(2, width) for key, width in widths[family.name].items()}, tmp_path / f"{name}.safetensors"
        )
    first, second = (f"{tmp_path / name}.safetensors:{token}" for name in ("one", "two"))
    given = (first,) if token == "rock" else (first, second)
    planned, loaded = refusals(monkeypatch, family.preset(), textual_inversions=given)
    assert planned == loaded
    assert f'the word "{token}" is in the vocabulary already' in planned


def test_a_scheduler_without_zero_snr_for_a_model_that_has_it(family: Family, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family.folder, tmp_path / "model"))
    with_values("scheduler/scheduler_config.json", rescale_betas_zero_snr=True)(folder)
    with pytest.raises(LinfusionError) as caught:
        plan_for(family.preset(), model=str(folder), scheduler="deis")
    assert '"deis" knows no schedule of zero terminal SNR' in told(caught.value)
    assert told(caught.value).endswith("Nearest: --scheduler ddim")
    plan_for(family.preset(), model=str(folder), scheduler="ddim")
