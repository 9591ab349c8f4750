"""What is told of a UNet by its headers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.unet_file import check_unet, refuse_unet_alone, unet_folder
from linfusion_cli.weights.weight_file import WeightFile


def saved(path: Path, **shapes: tuple[int, ...]) -> Path:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    return path


def resolved(path: Path, parameter: str) -> WeightFile:
    return WeightFile.resolve((str(path),), "", parameter)


def test_where_the_unet_of_a_folder_is(tmp_path: Path) -> None:
    assert unet_folder(tmp_path) == tmp_path
    assert not resolved(tmp_path, "model").unet_tensors
    (tmp_path / "unet").mkdir()
    saved(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", x=(1,))
    assert unet_folder(tmp_path) == tmp_path / "unet"
    assert (
        set(resolved(tmp_path, "unet").unet_tensors) == set(resolved(tmp_path / "unet", "unet").unet_tensors) == {"x"}
    )


@pytest.mark.parametrize("name", ["input_blocks.0.0.weight", "model.diffusion_model.input_blocks.0.0.weight"])
def test_a_unet_alone_is_no_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="without a text encoder"):
        refuse_unet_alone(read_header(saved(tmp_path / "a.safetensors", **{name: (1, 4, 1, 1)})))
    refuse_unet_alone(
        read_header(saved(tmp_path / "b.safetensors", **{name: (1, 4, 1, 1), "cond_stage_model.model.x": (1,)}))
    )


def test_an_inpainting_unet_is_refused(tmp_path: Path) -> None:
    shapes = {"input_blocks.0.0.weight": (8, 9, 3, 3), "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1)}
    with pytest.raises(WeightsError, match="reads 9 channels instead of 4"):
        check_unet(
            resolved(saved(tmp_path / "a.safetensors", **shapes), "unet"),
            WeightFile((), "", "model"),
            "sd15",
            "sd15-4k",
            tmp_path,
        )
