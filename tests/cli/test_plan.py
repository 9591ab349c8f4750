"""`linfusion plan` tells every phase, and measures the machine once."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.main import get_command
from typer.testing import CliRunner

from linfusion_cli import engine_import
from linfusion_cli.cli.app import app, main
from linfusion_cli.config.job import Job
from linfusion_cli.config.options import options_of
from linfusion_cli.planning.number_format import dtype_of
from linfusion_cli.system import speed as speeds
from linfusion_cli.system.device import Machine
from linfusion_cli.system.speed import Speed

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measurements take no time and are counted."""
    told: list[str] = []

    def measure(found: Machine, job: Job) -> Speed:
        dtype = dtype_of(job, found)
        told.append(dtype)
        return replace(found.speed(dtype), macs_per_second=1e9 if dtype == "float32" else 1e7, measured=True)

    monkeypatch.setattr(engine_import, "measured_speed", measure)
    speeds._speeds_file().unlink(missing_ok=True)
    return told


def plan(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", "--device", "cpu", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_phase_is_shown_with_what_it_needs() -> None:
    lines = plan("--size", "4096x2048", "--max-memory", "700MB").splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("phase"))
    assert lines[header].split() == ["phase", "stage", "bands", "keeps", "TFLOP", "memory", "RAM", "files", "time"]
    names = [line.split()[0] for line in lines[header + 1 :]]
    assert names[:3] == ["load", "denoise", "decode"]
    assert names[-3:] == ["encode", "denoise", "decode"]
    assert "GB" in lines[-1] or "MB" in lines[-1]


def test_the_machine_is_measured_once_and_on_request(measured: list[str]) -> None:
    slow = json.loads(plan("--size", "1024x1024", "--json"))
    plan("--size", "512x512")
    assert len(measured) == 1
    plan("--size", "512x512", "--measure")
    assert len(measured) == 2
    speeds._speeds_file().unlink()
    assert slow["seconds"] > 20, "the measured speed counts"


def test_a_number_format_has_a_speed_of_its_own(measured: list[str]) -> None:
    """A CPU may take thirty times as long in bfloat16: what was measured in one says nothing of the other."""
    words = ["--size", "512x512", "--json"]
    told = json.loads(plan(*words, "--dtype", "bfloat16"))
    assert told["speed_measured"]
    slow = told["seconds"]
    quick = json.loads(plan(*words))["seconds"]
    assert measured == ["bfloat16", "float32"]
    assert slow > 20 * quick
    assert json.loads(plan(*words, "--dtype", "bfloat16"))["seconds"] == slow
    assert len(measured) == 2


def test_the_budget_is_kept_in_json() -> None:
    told = json.loads(plan("--size", "8192x8192", "--max-memory", "1GB", "--json"))
    assert told["peak_bytes"] <= told["budget_bytes"] == 10**9
    assert told["file_bytes"] > 0


def test_what_would_stop_the_work_is_told(tmp_path: Path) -> None:
    (tmp_path / "lake.png").write_bytes(b"")
    told = json.loads(
        plan(
            "--size", "512x512", "-o", str(tmp_path / "lake.png"), "--lora", str(tmp_path / "no.safetensors"), "--json"
        )
    )
    lora, image = told["obstacles"][:2]
    assert "no.safetensors" in lora
    assert "lake.png" in image
    assert "--overwrite" in image
    assert not json.loads(plan("--size", "512x512", "--json"))["obstacles"]


def test_all_that_would_stop_the_work_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, a package, the image, the log and the folder of stages: each with its option."""
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    factors = {f"{layer}.lora_down.weight": torch.ones(2, 128), f"{layer}.lora_up.weight": torch.ones(144, 2)}
    save_file(factors, tmp_path / "lora.safetensors")
    (tmp_path / "file").write_bytes(b"")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find_spec(name))
    words = ["--lora", "a/b", "--vae", "c/d", "--linfusion", "e/f", "--memory-log", str(tmp_path)]
    words += ["--lora", str(tmp_path / "lora.safetensors"), "--stages", str(tmp_path / "file")]
    told = json.loads(plan("--size", "512x512", *words, "--json"))["obstacles"]
    expected = (
        "linfusion fetch --linfusion e/f --vae c/d --lora a/b",
        "needs the package peft",
        f"--memory-log {tmp_path}: can't be written (it is a folder)",
        "--stages",
    )
    assert len(told) == len(expected)
    assert all(part in text for part, text in zip(expected, told, strict=True))


def test_ranks_are_forecast_with_a_link_and_without() -> None:
    assert "2 ranks, each with the memory above" in plan("--size", "1024x512", "--ranks", "2")
    told = json.loads(plan("--size", "1024x512", "--ranks", "2", "--link", "20GB/s", "--json"))["by_ranks"]
    assert told["ranks"] == 2
    assert 1 < told["speed_up"] <= 2


def test_a_link_without_ranks_and_an_odd_one_are_refused() -> None:
    for words, said in (
        (["--link", "1GB/s"], "give --ranks"),
        (["--ranks", "2", "--link", "fast"], "for example 20GB/s"),
    ):
        result = CliRunner().invoke(app, ["plan", "--device", "cpu", *words])
        assert result.exit_code != 0
        assert said in str(result.exception)


NOT_OF_A_PLAN = {"dry_run", "yes", "quiet", "log_file"}  # a plan is a dry run that says what it finds


def test_it_takes_what_generate_takes() -> None:
    assert {row.key for row in options_of("plan")} | {"ranks"} == {row.key for row in options_of("generate")}
    root: Any = get_command(app)
    generate, plan = ({one.name: {*one.opts} for one in root.commands[name].params} for name in ("generate", "plan"))
    assert generate.keys() - plan.keys() == NOT_OF_A_PLAN
    assert {name: plan[name] for name in generate.keys() - NOT_OF_A_PLAN} == {
        name: generate[name] for name in generate.keys() - NOT_OF_A_PLAN
    }


@pytest.mark.parametrize(("words", "images"), [(["-n", "3"], 3), (["--seeds", "5,7"], 2), (["--seed", "5"], 0)])
def test_several_images_load_the_model_once(words: list[str], images: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "a lake", "--size", "256x128", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.get("images", 0) == images
    if images:
        assert found["seconds"] < found["all_seconds"] < images * found["seconds"]
    assert found["seed"] == 5 or words[0] == "-n"


def test_it_reads_the_prompt_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompt.txt").write_text("a castle")
    assert main(["plan", "--size", "256x128", "--prompt-file", str(tmp_path / "prompt.txt")]) == 0
    assert "castle" in capsys.readouterr().out
