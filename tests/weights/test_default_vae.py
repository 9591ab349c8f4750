"""Which models hold no autoencoder, and the one that they get."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from linfusion_cli.weights.default_vae import default_vae, has_vae
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.weight_file import WeightFile

UNET = {"input_blocks.0.0.weight": (8, 4, 3, 3), "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1)}


@pytest.mark.parametrize("family", FAMILY_ROWS)
def test_a_file_without_a_decoder_gets_that_of_its_family(tmp_path: Path, family: str) -> None:
    unet = {f"model.diffusion_model.{name}": torch.ones(shape) for name, shape in UNET.items()}
    save_file(unet, tmp_path / "novae.safetensors")
    save_file({**unet, "first_stage_model.decoder.conv_out.bias": torch.ones(4)}, tmp_path / "whole.safetensors")
    assert default_vae((str(tmp_path / "novae.safetensors"),), "", family) == FAMILY_ROWS[family].vae
    assert default_vae((str(tmp_path / "whole.safetensors"),), "", family) == ""


def test_a_model_that_is_not_here_or_damaged_gets_none(tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    for location in ("owner/name", str(tmp_path / "torn.safetensors"), str(tmp_path / "model.ckpt")):
        assert default_vae((location,), "", "sd15") == ""


@pytest.mark.parametrize(("listed", "has"), [(["diffusers", "AutoencoderKL"], True), ([None, None], False)])
def test_a_part_that_is_not_fetched_yet_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str | None], has: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--name" / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"vae": listed}))
    local, fetched = (WeightFile.resolve((location,), "", "model") for location in (str(folder), "owner/name"))
    assert (has_vae(local), has_vae(fetched)) == (False, has)
    (folder / "vae").mkdir()
    assert has_vae(local)
