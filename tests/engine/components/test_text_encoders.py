"""The encoders of a model: loaded in the plan's numbers, moved for their work, let go of afterwards."""

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import (
    TextEncoders,
    load_text_encoders,
    part_name,
    pipeline_settings,
)
from linfusion_cli.engine.loading.model_files import FileSource, FolderSource
from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.safetensors_header import Header


def plan_for(**changes: Any) -> RenderPlan:
    fixed = {"prompt": "a lake", "size": "64x64", "seed": 1, "output": Path("x.png")}
    return make_plan(resolve(Request(**{**fixed, **changes})), find_machine("cpu"))


@pytest.fixture
def landscape() -> TextEncoders:
    return load_text_encoders(plan_for())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The built-in model in a folder that a test may break."""
    folder = builtin_folder("builtin:landscape")
    assert folder
    return Path(shutil.copytree(folder, tmp_path / "model"))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_encoders_have_the_plans_numbers(dtype: str) -> None:
    found = load_text_encoders(plan_for(dtype=dtype))
    (encoder,) = found.modules
    assert {str(parameter.dtype) for parameter in encoder.parameters()} == {f"torch.{dtype}"}
    assert not encoder.training
    assert found.pipeline.vae is None


def test_the_unet_has_shapes_and_no_memory_until_it_is_loaded(landscape: TextEncoders) -> None:
    parameters = list(landscape.pipeline.unet.parameters())
    assert parameters
    assert all(parameter.is_meta for parameter in parameters)


def test_the_encoders_are_back_on_the_cpu_whatever_happens(landscape: TextEncoders) -> None:
    class Device:
        moves: list[str] = []  # noqa: RUF012

        def to(self, device: torch.device) -> None:
            self.moves.append(str(device))

    landscape.pipeline.text_encoder = Device()

    def work() -> None:
        with landscape.on(torch.device("meta")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert Device.moves == ["meta", "cpu"]


@pytest.mark.slow
def test_released_encoders_give_their_memory_back(landscape: TextEncoders) -> None:
    encoder = weakref.ref(landscape.pipeline.text_encoder)
    landscape.release()  # collects by itself
    assert encoder() is None
    assert landscape.modules == []
    landscape.release()


def test_owned_encoders_do_without_their_files(copy: Path) -> None:
    found = load_text_encoders(plan_for(model=str(copy), preset="landscape"))
    (encoder,) = found.modules
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found.own()
    path = next((copy / "text_encoder").glob("*.safetensors"))
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_an_encoder_of_another_class_is_named(copy: Path) -> None:
    edit(copy / "text_encoder" / "config.json", architectures=["T5EncoderModel"])
    with pytest.raises(WeightsError, match=r"text_encoder.*T5EncoderModel"):
        load_text_encoders(plan_for(model=str(copy), preset="landscape"))


def test_weights_that_changed_since_the_plan_are_not_loaded(copy: Path) -> None:
    plan = plan_for(model=str(copy), preset="landscape")
    path = next((copy / "text_encoder").glob("*.safetensors"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=r"changed since the plan"):
        load_text_encoders(plan)


def test_parts_are_named_by_their_folder_or_their_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    file = FileSource(tmp_path / "x.safetensors", Header(tmp_path, {}, {}), tmp_path)
    assert part_name(FolderSource(tmp_path, ()), "unet") == str(tmp_path / "unet")
    assert part_name(FolderSource(tmp_path, (), lone=True), "unet") == str(tmp_path)
    assert part_name(file, "unet") == str(tmp_path / "x.safetensors")


@pytest.mark.parametrize("own", [False, True])
def test_a_single_file_has_the_settings_of_its_configs_or_of_its_family(tmp_path: Path, own: bool) -> None:
    if own:
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": False}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    source = FileSource(tmp_path / "x.safetensors", Header(tmp_path, {}, {}), tmp_path)
    assert pipeline_settings(source, "sdxl").force_zeros_for_empty_prompt != own
