"""Every line that a command prints with --json is what the schema says, and every form of a line is printed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from json_lines import checked_lines, forms
from PIL import Image, PngImagePlugin

from linfusion_cli.batch.messages import Happened, TaskState, Told
from linfusion_cli.batch.task_list import Task
from linfusion_cli.cli import training_display
from linfusion_cli.cli.app import main
from linfusion_cli.cli.batch_display import BatchDisplay
from linfusion_cli.cli.json_reference import outputs
from linfusion_cli.cli.logs import LogFile
from linfusion_cli.evaluate.classifier_training import HeldOut
from linfusion_cli.evaluate.inception import InceptionDistance
from linfusion_cli.events import Note

ROOT = Path(__file__).parents[2]
SMALL = ("--size", "256x128", "--device", "cpu")
Run = Callable[..., set[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder; the forms of its lines, which must all be in the schema."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "quick.toml").write_text('extends = "landscape"\n[sampling]\nsteps = 5\n')

    def run(*words: str, code: int = 0) -> set[str]:
        capfd.readouterr()
        assert main([*words, "--json"]) == code
        return seen("-".join(words[:2]) if words[0] in ("presets", "landscapes") else words[0], capfd.readouterr().out)

    return run


def seen(command: str, text: str) -> set[str]:
    """The forms of the lines of a command."""
    return forms(command, checked_lines(command, text))


def test_generate(run: Run) -> None:
    words = ("generate", "a lake", "-p", "quick.toml", *SMALL, "--seed", "3", "-o", "x.png")
    assert run(*words, "--dry-run") == {"plan"}
    made = run(*words, "--preview", "now.jpg", "--preview-every", "1")
    assert made >= {"plan", "phase", "progress", "phase_done", "memory", "preview", "summary"}
    assert run(*words, code=74) == {"plan", "error"}
    several = ("generate", "a lake", "-p", "quick.toml", *SMALL, "--seeds", "3,4", "-o", "s-{seed}.png")
    assert run(*several, "--dry-run") == {"plan"}
    run(*several)
    assert run(*several) == {"skipped"}


def test_upscale(run: Run) -> None:
    Image.new("RGB", (128, 64), "navy").save("in.png")
    words = ("upscale", "in.png", "a lake", "-p", "quick.toml", "--device", "cpu", "-o", "x.png")
    assert run(*words, "--dry-run") == {"plan"}
    assert run(*words) >= {"plan", "phase", "summary"}


def test_batch_and_sheet(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a lake --seed 1\na forest --seed 2\n")
    words = ("batch", "list.txt", "-p", "quick.toml", *SMALL, "-o", "out")
    assert run(*words, "--dry-run") >= {"task", "configuration"}
    assert run(*words) >= {"task_state", "task_plan", "made", "batch_summary"}
    assert run(*words, "--status") == {"task"}
    sheet = ("sheet", "a lake", "-p", "quick.toml", *SMALL, "--x", "seed=1,2", "-o", "sheet.png")
    assert run(*sheet) >= {"made", "sheet"}
    assert run("sheet", "out", "-o", "contact.png") == {"sheet"}


def test_a_dry_run_beyond_its_limit(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linfusion_cli.batch.dry_run.MOST_PLANS", 0)
    (tmp_path / "list.txt").write_text("a lake --seed 1\n")
    assert run("batch", "list.txt", "-p", "quick.toml", *SMALL, "-o", "out", "--dry-run") >= {"task", "unplanned"}


def test_a_batch_of_a_broken_row(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a lake --seed 1 --max-memory 1MB\n")
    words = ("batch", "list.txt", "-p", "quick.toml", *SMALL, "-o", "out", "--retry", "0")
    assert run(*words, "--dry-run", code=1) >= {"task", "counted_note"}
    assert run(*words, "--keep-going", code=1) >= {"task_failed", "batch_summary"}


def test_a_note_of_an_image_of_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    task = Task("0" * 64, "list.txt:1", "a lake", 1, "lake.png", cast("Any", None))
    note = Happened(Note(text="stage 1 was not kept"))
    display = BatchDisplay(LogFile(None), as_json=True, quiet=True)
    display.tell(Told(state=TaskState.EVENT, task=task, left=1, answer=note))
    assert seen("batch", capsys.readouterr().out) == {"task_note"}


def test_plan_config_doctor_and_presets(run: Run) -> None:
    assert run("plan", "-p", "quick.toml", *SMALL) == {"forecast"}
    assert run("plan", "-p", "quick.toml", *SMALL, "--ranks", "2", "--link", "1GB/s") == {"forecast"}
    assert run("config") == {"config"}
    assert run("doctor") == {"finding"}
    assert run("presets", "list") == {"preset"}
    assert run("presets", "show", "sdxl-4k") == {"preset_settings"}
    assert run("presets", "check", "quick.toml") == {"preset_check"}


def test_weights(run: Run, tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 8)}, "optimizer": [1]}, tmp_path / "moody.pt")
    assert run("convert", "moody.pt") == {"converted"}
    assert run("fetch", "landscape", "--offline") == {"fetched"}
    assert run("fetch", "sdxl-4k", "--offline", code=66) == {"fetch_failed", "error"}
    (tmp_path / "models" / "Lora").mkdir(parents=True)
    (tmp_path / "moody.safetensors").rename(tmp_path / "models" / "Lora" / "moody.safetensors")
    assert run("models", "models") == {"model"}


def test_inspect_and_view(run: Run) -> None:
    run("generate", "a lake", "-p", "quick.toml", *SMALL, "--seed", "3", "-o", "x.png")
    assert run("inspect", "x.png") == {"record"}
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a lake\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x512")
    Image.new("RGB", (9, 9)).save("a1111.png", pnginfo=text)
    assert run("inspect", "a1111.png") == {"foreign_record"}
    assert run("view", "x.png", "--export", "page") == {"exported"}
    command = [sys.executable, "-m", "linfusion_cli", "view", "x.png", "--no-browser", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert seen("view", server.stdout.readline()) == {"served"}
        server.terminate()
        server.communicate(timeout=60)


def test_distill_and_landscapes(run: Run) -> None:
    words = ("distill", "builtin:landscape", "--data", "scenes", "--steps", "1", "--batch-size", "1", "--size", "64")
    words = (*words, "--device", "cpu", "-o", "student")
    assert run(*words, "--dry-run") == {"distillation_plan"}
    assert not Path("student").exists()
    assert run(*words) == {"training", "weights"}
    assert run(*words) == {"note", "training", "weights"}
    assert run("landscapes", "render", "--count", "1", "--size", "64x64") == {"scene"}


def test_landscapes_train_prints_what_a_training_yields(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from linfusion_cli.landscapes import train_autoencoder
    from linfusion_cli.training.trainer import Progress

    progress = Progress(1, 2, 0.5, 0.5, {"psnr": 20.0})
    monkeypatch.setattr(train_autoencoder, "train", lambda *_, **__: iter(["rendering 4 images", progress]))
    assert run("landscapes", "train", "autoencoder") == {"note", "training", "weights"}


def test_evaluate(run: Run) -> None:
    words = ("evaluate", "-o", "study", "--prompts", "2", "-p", "quick.toml", "--device", "cpu")
    assert run(*words, "--dry-run") == {"evaluation_plan"}
    assert not Path("study").exists()
    assert run(*words) == {"note", "images", "evaluation"}
    claims = ("evaluate", "--claims", "-o", "claims", "--prompts", "2", "-p", "quick.toml", "--device", "cpu")
    assert run(*claims, "--dry-run") == {"note", "evaluation_plan"}
    assert run("evaluate", "--images", ".", code=2) == {"error"}


@pytest.mark.long
def test_claims(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from linfusion_cli.evaluate import ablations

    monkeypatch.setattr(ablations, "LARGE", 2)
    monkeypatch.setattr(ablations, "UPSCALES", {})
    monkeypatch.setattr(ablations, "TIMES", (1,))
    words = ("evaluate", "--claims", "-o", "claims", "--prompts", "2", "-p", "quick.toml", "--device", "cpu")
    assert run(*words) == {"note", "images", "claims"}


def test_results_of_long_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    """Of Inception, whose weights are not here, and of a classifier's training, which takes minutes."""
    from linfusion_cli.training.trainer import Progress, WeightsWritten

    items: list[Any] = [Progress(1, 2, 0.5, 0.5, {"loss": 2.0}), WeightsWritten("c.safetensors")]
    items += [HeldOut({"lake": 0.99}), InceptionDistance(3.25)]
    training_display.show(items, quiet=True, as_json=True)
    assert seen("evaluate", capsys.readouterr().out) == {"training", "weights", "accuracy", "fid"}


def test_an_error_of_the_command_line_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in outputs():
        assert main([*command.split("-"), "--json", "--no-such-flag"]) == 2
        (line,) = checked_lines(command, capsys.readouterr().out)
        assert (line["type"], line["error"]) == ("error", "UsageError")


def test_every_form_is_expected_above() -> None:
    words = {node.value for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Constant)}
    assert {name for names in outputs().values() for name in names} - words == set()
