"""A plan refuses the LoRA that loading refuses, in the same words: by headers alone."""

from pathlib import Path

import pytest
import torch
from families import FAMILIES, Family, loaded_pipeline, make_family
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
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.weight_file import WeightFile

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def said_by_plan(path: Path, family: Family) -> str:
    lora, unet = read_header(path), read_json_object(family.folder / "unet" / "config.json")
    try:
        check_lora_fit(lora, unet, family.folder, two_text_encoders=family.name == "sdxl")
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


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("change", ["none", "layer", "size", "half", "alpha", "third encoder"])
def test_the_plan_says_what_loading_says(family: Family, tmp_path: Path, layout: int, change: str) -> None:
    path = save_loras(loaded_pipeline(family), tmp_path)[layout]
    save_file(changed(load_file(path), change), path)
    assert said_by_plan(path, family) == said_by_loading(path, family)
    assert bool(said_by_plan(path, family)) == (change != "none")


@pytest.mark.covers("NaN in a LoRA", "refused")
def test_what_is_no_number_is_told_when_it_is_read(family: Family, tmp_path: Path) -> None:
    """Headers do not tell it."""
    path, _ = save_loras(loaded_pipeline(family), tmp_path)
    tensors = load_file(path)
    first = next(name for name in tensors if name.endswith(".weight"))
    tensors[first][0, 0] = float("nan")
    save_file(tensors, path)
    assert said_by_plan(path, family) == ""
    assert f"its tensor {first} holds values that are not numbers" in said_by_loading(path, family)


@pytest.mark.parametrize("said", ["{", '{"lora_alpha": "many"}', '{"init_lora_weights": "pissa"}', '{"lora_alpha": 4}'])
def test_the_plan_reads_the_configuration_in_the_header(family: Family, tmp_path: Path, said: str) -> None:
    path = save_loras(loaded_pipeline(family), tmp_path)[1]
    tensors = {name: one for name, one in load_file(path).items() if not name.endswith("alpha")}
    save_file(tensors, path, {"lora_adapter_metadata": said})
    assert said_by_plan(path, family) == said_by_loading(path, family)
    assert bool(said_by_plan(path, family)) == (said != '{"lora_alpha": 4}')


@pytest.mark.covers("LoRA, ControlNet, IP-Adapter or LinFusion weights of another family", "refused")
def test_a_lora_of_another_model_is_refused_by_the_plan_of_the_built_in_one(family: Family, tmp_path: Path) -> None:
    path, _ = save_loras(loaded_pipeline(family), tmp_path)
    job = resolve(Request(prompt="a lake", loras=(str(path),)))
    with pytest.raises(WeightsError, match="for another model"):
        make_plan(job, find_machine("cpu"))


@pytest.mark.parametrize("file", [False, True])
def test_a_plan_holds_a_lora_against_a_model_in_either_layout(family: Family, tmp_path: Path, *, file: bool) -> None:
    path, _ = save_loras(loaded_pipeline(family), tmp_path)
    request = Request(prompt="a lake", preset=family.preset(file=file), size="64x64", loras=(str(path),))
    make_plan(resolve(request), find_machine("cpu"))
    save_file(changed(load_file(path), "size"), path)
    with pytest.raises(WeightsError) as refused:
        make_plan(resolve(request), find_machine("cpu"))
    assert str(refused.value) == said_by_loading(path, family)


def test_text_encoders_without_a_config_are_left_to_loading(family: Family, tmp_path: Path) -> None:
    path, _ = save_loras(loaded_pipeline(family), tmp_path)
    save_file(changed(load_file(path), "size"), path)
    unet = read_json_object(family.folder / "unet" / "config.json")
    check_lora_fit(read_header(path), unet, tmp_path, two_text_encoders=family.name == "sdxl")
