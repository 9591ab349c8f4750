"""All weights of a job, each found once."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import zeros

from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights import weight_file
from linfusion_cli.weights.safetensors_header import Header, read_header

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"  # of the built-in model
FITTING = {f"{LAYER}.lora_down.weight": zeros(2, 128), f"{LAYER}.lora_up.weight": zeros(144, 2)}


def job(**changes: Any) -> Job:
    return resolve(Request(prompt="a lake", size="64x64", seed=1, output=Path("x.png"), **changes))


def test_a_plain_job_names_its_model_and_its_linear_attention() -> None:
    weights = JobWeights.of(job())
    assert weights.model.family == "sd15"
    assert weights.linfusion is not None
    assert weights.linfusion.headers
    assert (weights.vae, weights.ip_adapter, weights.ip_encoder) == (None, None, None)
    assert weights.controlnets == weights.inversions == ()
    (upscale,) = weights.loras
    assert upscale.locations == ("builtin:landscape/upscale_lora.safetensors",)


def test_every_location_is_looked_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({f"lora_unet_{name}.lora_down.weight": zeros(2, 3)}, tmp_path / f"{name}.safetensors")
    paths = tuple(str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    weights = JobWeights.of(job(loras=(f"{paths[0]}:0.5", paths[1])))
    assert [str(one.path) for one in weights.loras[1:]] == list(paths), "after the model's own"


def test_what_is_not_here_has_no_path() -> None:
    _, lora = JobWeights.of(job(loras=("nobody/nothing",))).loras
    assert lora.path is None


def test_each_header_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.system.device import find_machine
    from linfusion_cli.weights import weight_file

    real, read = weight_file.read_header, list[Path]()
    monkeypatch.setattr(weight_file, "read_header", lambda path: (read.append(path), real(path))[1])
    save_file(FITTING, tmp_path / "a.safetensors")
    plan = make_plan(job(loras=(str(tmp_path / "a.safetensors"),)), find_machine("cpu"))
    assert len(read) == len(set(read))
    assert tmp_path / "a.safetensors" in read
    assert {header.path for file in plan.components.weight_files for header in file.headers} <= set(read)


def test_a_plan_reads_each_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job tells the family by the model's headers; the plan reads each file's header, and no more."""
    lora = tmp_path / "hyper.safetensors"
    save_file(FITTING, lora, {"name": "lcm"})
    asked = job(loras=(str(lora),))
    read: list[Path] = []

    def counting(path: Path) -> Header:
        read.append(path)
        return read_header(path)

    monkeypatch.setattr(weight_file, "read_header", counting)
    plan = make_plan(asked, find_machine("cpu"))
    assert lora in read
    assert len(read) == len(set(read)) == sum(len(file.headers) for file in plan.components.weight_files)
