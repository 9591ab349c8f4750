"""`linfusion distill` from end to end, on tiny teachers of the three families."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from linfusion_cli.cli.app import main
from linfusion_cli.distill.loss import Weights
from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.distill.trainer import Distillation, distill
from linfusion_cli.engine.attention.linfusion import WEIGHTS, LinFusion
from linfusion_cli.training.schedule import Schedule

pytestmark = pytest.mark.slow

FAMILIES = ("sd15", "sd21", "sdxl")


def command(teacher: Path, data: object, output: Path, *more: str) -> list[str]:
    return [
        "distill",
        str(teacher),
        "--data",
        str(data),
        "-o",
        str(output),
        "--device",
        "cpu",
        "--batch-size",
        "2",
        "--warmup",
        "2",
        *more,
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_loads_as_official_weights(
    family: str, teachers: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    scale = ["--mid-dim-scale", "4"] if family == "sdxl" else []
    assert main(command(teachers[family], folder, tmp_path / "out", "--steps", "2", "--quiet", *scale)) == 0
    linfusion = LinFusion.load(tmp_path / "out")
    unet = Teacher.load(str(teachers[family]), torch.device("cpu")).pipeline.unet
    linfusion.mount(unet)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["modules_list"][0]["projection_mid_dim"] == (4 if family == "sdxl" else None)
    weights = load_file(tmp_path / "out" / WEIGHTS)
    assert all(value.dtype == torch.float16 for value in weights.values())
    assert {name.partition(".")[2] for name in weights} >= {
        "to_q.weight",
        "to_out.0.bias",
        "to_q_.0.weight",
        "to_k_.3.bias",
    }


@pytest.mark.covers("a latent consistency model as the teacher of `distill`", "refused")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_latent_consistency_model_can_not_teach(
    family: str, teachers: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(teachers[family], tmp_path / "lcm")
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "lcm" / "unet")
    told = UNet2DConditionModel.from_config(dict(unet.config) | {"time_cond_proj_dim": 8})
    told.load_state_dict(unet.state_dict(), strict=False)
    told.save_pretrained(tmp_path / "lcm" / "unet")
    for more in ((), ("--dry-run",)):
        assert main(command(tmp_path / "lcm", folder, tmp_path / "out", "--steps", "2", "--quiet", *more)) == 66
        assert "lcm: a latent consistency model" in capsys.readouterr().err


def test_half_and_half_is_the_whole(teachers: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    options = ["--steps", "8", "--quiet", "--float32", "--accumulate", "2", "--save-every", "3"]
    assert main(command(teachers["sd15"], folder, tmp_path / "whole", *options)) == 0
    asked = Distillation(
        teacher=str(teachers["sd15"]), data=str(folder), output=tmp_path / "parts",
        schedule=Schedule(8, 1e-4, warmup=2), batch_size=2, accumulate=2, save_every_steps=4,
    )  # fmt: skip
    stopped = distill(asked, Accelerator(cpu=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("linfusion_cli.training.trainer.TELL_EVERY_SECONDS", 0.0)
        for told in stopped:
            if getattr(told, "step", 0) == 6:
                break
        stopped.close()
    assert [path.name for path in (tmp_path / "parts" / "run").iterdir()] == ["checkpoint-00000004"]
    assert main(command(teachers["sd15"], folder, tmp_path / "parts", *options)) == 0
    whole, parts = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_two_processes_are_one_with_twice_the_batches(teachers: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    options = ["--steps", "3", "--quiet", "--float32"]
    assert main(command(teachers["sd15"], folder, tmp_path / "one", *options, "--accumulate", "2")) == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "linfusion_cli",
    ]
    words = [*launch, *command(teachers["sd15"], folder, tmp_path / "two", *options)]
    subprocess.run(words, check=True, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert json.loads(next((tmp_path / "two" / "run").glob("*/run.json")).read_text())["identity"]["processes"] == 2
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    assert all(
        (one[name] - two[name]).abs().median() < 1e-7 for name in one
    )  # Adam blows rounding up where gradients vanish


def test_the_student_comes_nearer_to_its_teacher(teachers: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    asked = Distillation(
        teacher=str(teachers["sd15"]),
        data=str(folder),
        output=tmp_path,
        schedule=Schedule(60, 3e-3, warmup=5),
        batch_size=4,
        weights=Weights(noise=0.0),
    )  # a random teacher's attention is worth no imitation for the noise error's sake
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("linfusion_cli.training.trainer.TELL_EVERY_SECONDS", 0.0)
        told = [item.terms for item in distill(asked, Accelerator(cpu=True)) if hasattr(item, "terms")]
    assert told[-1]["feature"] < 0.7 * told[0]["feature"]
    assert set(told[0]) == {"loss", "noise", "distillation", "feature"}


@pytest.mark.long
def test_bfloat16_is_near_float32(teachers: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)  # accelerate allows one precision per process
        words = command(
            teachers["sdxl"],
            folder,
            tmp_path / precision,
            "--steps",
            "3",
            "--precision",
            precision,
            "--float32",
            "--quiet",
        )
        assert main(words) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    exact, near = (load_file(tmp_path / name / WEIGHTS) for name in ("no", "bf16"))
    start = LinFusion.like(
        Teacher.load(str(teachers["sdxl"]), torch.device("cpu")).pipeline.unet
    ).attentions.state_dict()
    moved = sum((exact[name] - start[name]).square().sum() for name in exact if "to_v" in name)
    apart = sum((exact[name] - near[name]).square().sum() for name in exact if "to_v" in name)
    assert apart < 0.25 * moved


def test_a_variant_is_written_apart(teachers: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    assert (
        main(command(teachers["sd15"], folder, tmp_path / "out", "--steps", "1", "--variant", "causal", "--quiet")) == 0
    )
    assert (tmp_path / "out" / "variant.safetensors").exists()
    assert not (tmp_path / "out" / "config.json").exists()


def test_what_is_skipped_is_counted_and_named(
    teachers: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(folder.rglob("*.txt"))[:3]:
        path.unlink()
    assert main(command(teachers["sd15"], folder, tmp_path / "out", "--steps", "1")) == 0
    told = capsys.readouterr()
    assert "skipped 3; 3 are used:" in told.err
    assert "000.png: it has no .txt caption" in told.err
    assert told.out == f"{tmp_path / 'out'}\n"


def test_bad_input(teachers: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = teachers["sd15"] / "model_index.json"
    good = index.read_text()
    try:
        index.write_text(good.replace('"StableDiffusionPipeline"', '"FluxPipeline"'))
        assert main(command(teachers["sd15"], folder, tmp_path / "out")) == 66
        assert 'the layout "FluxPipeline" is unknown' in capsys.readouterr().err
    finally:
        index.write_text(good)
    assert main(command(tmp_path / "nothing", folder, tmp_path / "out")) == 66
    assert main(command(teachers["sd15"], tmp_path / "nothing", tmp_path / "out")) == 2
    assert main(command(teachers["sd15"], folder, tmp_path / "out", "--size", "60")) == 2
    assert "Nearest: 64" in capsys.readouterr().err
    assert main(command(teachers["sd15"], folder, tmp_path / "out", "--precision", "fp16")) == 2
    assert main(command(teachers["sd15"], folder, tmp_path / "out", "--steps", "1", "--quiet")) == 0
    assert main(command(teachers["sd15"], folder, tmp_path / "out", "--steps", "1", "--seed", "5")) == 2
    assert "holds another run: seed is 0 there and 5 here" in capsys.readouterr().err


def test_a_tensorboard_log_where_it_is_installed(teachers: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert main(command(teachers["sd15"], folder, tmp_path / "out", "--steps", "2", "--quiet")) == 0
    assert list((tmp_path / "out" / "run").rglob("events.out.tfevents*"))
