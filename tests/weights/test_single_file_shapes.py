"""A model in one file is refused in the plan, by the tensor that does not fit, in the names of every layout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, make_family, tensors_of
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.single_file_shapes import check_single_file_shapes

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_family(request.param, tmp_path_factory.mktemp("model") / "all")


def check(family: Any, path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path)
    check_single_file_shapes(read_header(path), family.folder)


def test_every_part_of_a_file(family: Any, tmp_path: Path) -> None:
    path, tensors = tmp_path / "a.safetensors", tensors_of(family.file)
    check(family, path, tensors)
    seen: dict[str, str] = {}
    for name in tensors:
        seen.setdefault(name.split(".")[0] + name.split(".")[1] * name.startswith("conditioner"), name)
    for name in seen.values():  # one of each part
        for other, what in (
            ({key: value for key, value in tensors.items() if key != name}, "is missing"),
            (tensors | {name: torch.ones(3, 5)}, r"has shape \(3, 5\), expected"),
            (tensors | {f"{name}.strange": torch.ones(2)}, "strange has no place"),
        ):
            with pytest.raises(WeightsError, match=rf"^{path}: in its (unet|vae|text_encoder).*, its tensor .*{what}"):
                check(family, path, other)


def test_an_autoencoder_alone(family: Any, tmp_path: Path) -> None:
    path, own = tmp_path / "a.safetensors", tensors_of(family.folder / "vae" / "diffusion_pytorch_model.safetensors")
    prefix = "first_stage_model."
    original = {
        name.removeprefix(prefix): value for name, value in tensors_of(family.file).items() if name.startswith(prefix)
    }
    for tensors in (own, original):
        check(family, path, tensors)
        name = next(iter(tensors))
        with pytest.raises(WeightsError, match="in its vae, its tensor"):
            check(family, path, tensors | {name: torch.ones(9, 9)})
