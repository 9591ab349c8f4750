"""What is used although nobody named it is said."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.weights_notes import weights_notes


def test_the_usual_autoencoder_of_the_family(tmp_path: Path) -> None:
    shapes = {"input_blocks.0.0.weight": (8, 4, 3, 3), "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1)}
    unet = {f"model.diffusion_model.{name}": torch.ones(shape) for name, shape in shapes.items()}
    save_file(unet, tmp_path / "novae.safetensors")
    preset = tmp_path / "own.toml"
    preset.write_text(f'extends = "sd15-4k"\n[model]\nrepositories = ["{tmp_path}/novae.safetensors"]\n')
    [note] = weights_notes(resolve(Request(prompt="a lake", preset=str(preset))))
    assert told(note) == (
        "novae.safetensors holds no autoencoder: stabilityai/sd-vae-ft-mse is used, the usual one of Stable Diffusion "
        "1.x. Another: --vae LOCATION"
    )
    assert weights_notes(resolve(Request(prompt="a lake", preset=str(preset), vae="owner/vae"))) == ()
