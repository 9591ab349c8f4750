"""A plan refuses the LoRA that loading refuses, in the same words: by headers alone."""

from pathlib import Path

import pytest
import torch
from families import Family, loaded_pipeline, make_family
from safetensors.torch import load_file, save_file
from tiny_adapters import save_loras
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.adapters.lora import Lora
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.lora_fit import check_lora_fit
from linfusion_cli.weights.weight_file import WeightFile


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def said_by_plan(path: Path, family: Family) -> str:
    lora = WeightFile.resolve((str(path),), "", "lora")
    model = WeightFile.resolve((str(family.folder),), "", "model")
    try:
        check_lora_fit(lora.header, model, None, family.name)
    except WeightsError as error:
        return str(error)
    return ""


def said_by_loading(path: Path, family: Family) -> str:
    try:
        Lora.load(WeightFile.resolve((str(path),), "", "lora"), 1.0, 1.0, loaded_pipeline(family))
    except WeightsError as error:
        return str(error)
    return ""


def changed(tensors: dict[str, Tensor], change: str) -> dict[str, Tensor]:
    first = next(name for name in tensors if name.endswith((".lora_down.weight", ".lora_A.weight")))
    match change:
        case "layer":
            return {
                name.replace(first.rpartition(".lora")[0], "lora_unet_nowhere"): one for name, one in tensors.items()
            }
        case "size":
            return tensors | {first: torch.ones(2, 99)}
        case "half":
            return {name: one for name, one in tensors.items() if name != first}
        case "alpha":
            return tensors | {f"{first.rpartition('.lora')[0]}.alpha": torch.ones(2)}
        case "third encoder":
            return tensors | {"lora_te3_x.lora_down.weight": torch.ones(2, 2)}
        case _:
            return tensors


@pytest.mark.slow
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("change", ["none", "layer", "size", "half", "alpha", "third encoder"])
def test_the_plan_says_what_loading_says(family: Family, tmp_path: Path, layout: int, change: str) -> None:
    path = save_loras(loaded_pipeline(family), tmp_path)[layout]
    save_file(changed(load_file(path), change), path)
    assert said_by_plan(path, family) == said_by_loading(path, family)
    assert bool(said_by_plan(path, family)) == (change != "none")


@pytest.mark.covers(
    "LoRA, ControlNet, IP-Adapter or LinFusion weights of another family", "refused", families=("sd15", "sdxl")
)
def test_a_lora_of_another_model_is_refused_by_the_plan_of_the_built_in_one(family: Family, tmp_path: Path) -> None:
    path, _ = save_loras(loaded_pipeline(family), tmp_path)
    job = resolve(Request(prompt="a lake", loras=(str(path),)))
    with pytest.raises(WeightsError, match="for another model"):
        make_plan(job, find_machine("cpu"))


def test_a_model_in_one_file_is_left_to_loading(family: Family, tmp_path: Path) -> None:
    path, _ = save_loras(loaded_pipeline(family), tmp_path)
    save_file(changed(load_file(path), "size"), path)
    lora = WeightFile.resolve((str(path),), "", "lora")
    check_lora_fit(lora.header, WeightFile.resolve((str(family.file),), "", "model"), None, family.name)
