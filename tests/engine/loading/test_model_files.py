"""The parts of a model from a folder or from one file: what each says of itself, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.engine.loading.model_files import FileSource, FolderSource, open_source
from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.weight_file import WeightFile

UNET = "model.diffusion_model."


def file_source(folder: Path, tensors: dict[str, Tensor], configs: Path | None = None, **metadata: str) -> FileSource:
    path = folder / "model.safetensors"
    save_file(tensors, path, {name.replace("__", "."): value for name, value in metadata.items()})
    return FileSource.of(read_header(path), "sd15", configs)


def landscape() -> WeightFile:
    return WeightFile.resolve(("builtin:landscape",), "", "model")


def json_file(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def test_a_folder_gives_its_parts() -> None:
    source = open_source(landscape(), "sd15", None)
    assert isinstance(source, FolderSource)
    assert source.path == builtin_folder("builtin:landscape")
    assert source.config("unet")["in_channels"] == 4
    assert source.config("scheduler")["beta_schedule"] == "scaled_linear"
    tensors = source.tensors("text_encoder", torch.bfloat16)
    assert tensors
    assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.bfloat16}
    assert len(source.tokenizer("tokenizer")("a lake").input_ids) == 4


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"tokenizer": ["transformers", "BertTokenizer"]}, "the class of its tokenizer is BertTokenizer"),
        ({}, "names no tokenizer"),
        ({"tokenizer": ["transformers", "CLIPTokenizer"]}, "not a complete tokenizer"),
    ],
)
def test_a_tokenizer_that_can_not_be_read_is_named(tmp_path: Path, index: dict[str, Any], said: str) -> None:
    json_file(tmp_path / "model_index.json", index)
    json_file(tmp_path / "tokenizer" / "tokenizer.json", {})
    with pytest.raises(WeightsError, match=said):
        FolderSource(tmp_path, ()).tokenizer("tokenizer")


def test_a_setting_that_nobody_knows_is_refused_by_file_and_name(tmp_path: Path) -> None:
    folder = builtin_folder("builtin:landscape")
    assert folder
    config = json.loads((folder / "unet" / "config.json").read_text())
    json_file(tmp_path / "unet" / "config.json", config | {"shiny": True})
    with pytest.raises(WeightsError, match=r"unet/config\.json.*shiny"):
        FolderSource(tmp_path, ()).config("unet")


def test_a_part_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    with pytest.raises(WeightsError, match=r"vae: no \.safetensors file in it"):
        FolderSource(tmp_path, ()).tensors("vae", torch.float32)


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ((), {}, {}),
        (("v_pred",), {}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec__prediction_type": "v"}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec__predict_key": "epsilon"}, {"prediction_type": "epsilon"}),
        (("v_pred",), {"modelspec__prediction_type": "epsilon"}, {"prediction_type": "v_prediction"}),
        (
            ("v_pred", "ztsnr"),
            {},
            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        ),
    ],
)
def test_the_noise_schedule_that_a_file_says_beats_the_familys(
    tmp_path: Path, tensors: tuple[str, ...], metadata: dict[str, str], said: dict[str, Any]
) -> None:
    source = file_source(tmp_path, {"a": torch.ones(1)} | {name: torch.tensor([]) for name in tensors}, **metadata)
    assert source.prediction() == said
    assert source.says_prediction == ("prediction_type" in said)
    config = source.config("scheduler")
    assert config.items() >= said.items()
    assert config["beta_schedule"] == "scaled_linear"


def test_an_autoencoder_in_the_names_of_diffusers_is_taken_as_it_is(tmp_path: Path) -> None:
    given = {"decoder.up_blocks.0.resnets.0.conv1.weight": torch.ones(2, 2, 3, 3), "encoder.x": torch.ones(1)}
    assert file_source(tmp_path, given).tensors("vae", torch.float32).keys() == given.keys()


def test_a_file_without_text_encoder_is_no_model(tmp_path: Path) -> None:
    source = file_source(tmp_path, {f"{UNET}x": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"holds no text_encoder.*Take the full checkpoint"):
        source.tensors("text_encoder", torch.float32)


def test_words_beside_the_configs_beat_clips(tmp_path: Path) -> None:
    """A tokenizer has its words in tokenizer.json, or in vocab.json and merges.txt; else they are CLIP's."""
    json_file(tmp_path / "model_index.json", {"tokenizer": ["transformers", "CLIPTokenizer"]})
    config = {"model_max_length": 9, "pad_token": "<|endoftext|>"}
    json_file(tmp_path / "tokenizer" / "tokenizer_config.json", config)
    source = file_source(tmp_path, {"a": torch.ones(1)}, tmp_path)
    assert len(source.tokenizer("tokenizer")) == 49408
    own = {"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}
    json_file(tmp_path / "tokenizer" / "vocab.json", own)
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    tokenizer = source.tokenizer("tokenizer")
    assert len(tokenizer) == 7
    assert tokenizer("ab a").input_ids == [5, 4, 2, 6]


def test_weights_that_changed_or_are_not_here_are_not_opened(tmp_path: Path) -> None:
    file_source(tmp_path, {f"{UNET}x": torch.ones(1)})
    weights = WeightFile.resolve((str(tmp_path / "model.safetensors"),), "", "lora")
    save_file({f"{UNET}x": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="changed since the plan"):
        open_source(weights, "sd15", None)
    with pytest.raises(WeightsError, match="linfusion fetch"):
        open_source(WeightFile.resolve(("owner/missing",), "", "model"), "sd15", None)
