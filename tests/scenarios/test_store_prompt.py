"""--store-prompt no: no file that a run leaves holds a word of the prompts, and the image is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli import api
from linfusion_cli.cli.app import main
from linfusion_cli.config import user_defaults
from linfusion_cli.engine import pipeline
from linfusion_cli.engine.pipeline import StageImage
from linfusion_cli.errors import QUOTES_PROMPT, Message, OutputError
from linfusion_cli.events import Note, Notify
from linfusion_cli.file_formats import BY_NAME, FORMAT_NAMES
from linfusion_cli.output.checkpoint_folder import CheckpointFolder
from linfusion_cli.output.metadata import read_record
from linfusion_cli.planning.planner import Plan

PROMPT, NEGATIVE = "zebra near a quagga", "xylophon"
WORDS = ("zebra", "quagga", "xylophon")
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


def _images(plan: Plan, notify: Notify, keeper: CheckpointFolder, *_: object) -> Iterator[StageImage]:
    """Flat images, a note that quotes the prompt, and a checkpoint that stays where the run ends early."""
    notify(Note(text=Message(QUOTES_PROMPT, f"read as words: {plan.job.prompt}")))
    notify(Note(text="another note"))
    keeper.keep("step", b"kept")
    if plan.job.seed == 13:
        raise OutputError("stopped")
    for stage in plan.stages:
        rows = iter([np.full((stage.size.height, stage.size.width, 3), 10, dtype=np.uint8)])
        yield StageImage(stage, stage is plan.stages[-1], rows)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipeline, "images", _images)
    monkeypatch.chdir(tmp_path)


def found(folder: Path) -> set[str]:
    """The words of the prompts that a file in the folder holds, or is named by."""
    texts = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    texts += [str(path.relative_to(folder)).encode() for path in folder.rglob("*")]
    return {word for word in WORDS for text in texts for code in ENCODINGS if word.encode(code) in text.lower()}


def generate(folder: Path, *words: str, ending: str = ".png", seed: int = 7) -> int:
    logs = ["--log-file", str(folder / "log"), "--memory-log", str(folder / "memory")]
    options = ["--size", "64x64", "--seed", str(seed), "--negative", NEGATIVE, "--checkpoint", "0", *logs]
    name = "{slug}-{seed}" + ending
    return main(["generate", PROMPT, "-o", str(folder / name), "--stages", str(folder / "stages"), *options, *words])


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_no_file_of_any_format_holds_a_word(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if BY_NAME[name].missing_modules:
        pytest.skip(f"{name} is not installed")
    ending, hidden, stored = BY_NAME[name].endings[0], tmp_path / "hidden", tmp_path / "stored"
    hidden.mkdir()
    stored.mkdir()
    assert generate(hidden, "--store-prompt", "no", ending=ending) == 0
    assert generate(stored, ending=ending) == 0
    assert found(hidden) == set()
    assert found(stored) == set(WORDS)  # or this test would see nothing
    record, other = read_record(hidden / f"picture-7{ending}"), read_record(next(stored.glob(f"*{ending}")))
    assert record["id"] == other["id"]
    assert record["not_stored"] == ["prompt", "negative_prompt"]
    log = (hidden / "log").read_text()
    assert "another note" in log
    assert "read as words" not in log
    assert "read as words" in (stored / "log").read_text()
    capsys.readouterr()
    assert main(["inspect", str(hidden / f"picture-7{ending}")]) == 0
    told = capsys.readouterr().out
    assert "linfusion generate PROMPT" in told
    assert "--negative-prompt NEGATIVE --store-prompt no" in told
    assert "Not stored, as --store-prompt no asked" in told


def test_an_interrupted_run_keeps_none_and_goes_on(tmp_path: Path) -> None:
    assert generate(tmp_path, "--store-prompt", "no", seed=13) == 74
    about = json.loads(next((tmp_path / ".linfusion").glob("*/about.json")).read_text())
    assert about["picture"] == "picture-13.png"
    assert found(tmp_path) == set()
    kept = list((tmp_path / ".linfusion").glob("*/step.safetensors"))
    assert generate(tmp_path, "--store-prompt", "yes", seed=13) == 74
    assert list((tmp_path / ".linfusion").glob("*/step.safetensors")) == kept  # of the same image


def test_presets_variables_and_python_say_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quiet.toml").write_text('extends = "landscape"\n[output]\nstore_prompt = "no"\n')
    folders = [tmp_path / name for name in ("preset", "variable", "python")]
    for folder in folders:
        folder.mkdir()
    assert generate(folders[0], "--preset", str(tmp_path / "quiet.toml")) == 0
    monkeypatch.setenv("LINFUSION_STORE_PROMPT", "no")
    assert generate(folders[1]) == 0
    monkeypatch.delenv("LINFUSION_STORE_PROMPT")
    made = api.generate(PROMPT, size="64x64", negative_prompt=NEGATIVE, store_prompt="no", output=folders[2])
    assert made.record["prompt"] == ""
    assert [found(folder) for folder in folders] == [set(), set(), set()]


def test_upscale_and_the_users_defaults_say_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64), (40, 90, 160)).save(tmp_path / "photo.png")
    (upscaled := tmp_path / "upscaled").mkdir()
    options = ["--scale", "2", "--seed", "3", "--negative", NEGATIVE, "-o", str(upscaled / "{slug}.png")]
    assert main(["upscale", "photo.png", PROMPT, *options, "--store-prompt", "no"]) == 0
    assert [path.name for path in upscaled.glob("*.png")] == ["picture.png"]
    (config := tmp_path / "config.toml").write_text('store_prompt = "no"\n')
    monkeypatch.setattr(user_defaults, "config_file", lambda: config)
    (made := tmp_path / "made").mkdir()
    assert generate(made) == 0
    assert [found(folder) for folder in (upscaled, made)] == [set(), set()]


@pytest.mark.slow
def test_a_sheet_says_it_too_and_images_that_hold_the_prompt_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """By the real worker: no file of the grid holds a word; with images of before, a note says that they do."""
    small = ["--size", "64x64", "--steps", "1", "--seed", "3", "--negative", NEGATIVE]
    grid = ["sheet", PROMPT, "--x", "cfg=1,4", *small, "--cell", "64"]
    Path("hidden").mkdir()
    assert main([*grid, "--store-prompt", "no", "-o", "hidden/grid.png"]) == 0
    assert found(Path("hidden")) == set()
    Path("stored").mkdir()
    assert main([*grid, "-o", "stored/grid.png"]) == 0
    capsys.readouterr()
    assert main([*grid, "--store-prompt", "no", "-o", "stored/grid.png", "--overwrite"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "2 images made before hold the prompt" in told
    assert found(Path("stored")) == set(WORDS)


def test_images_of_a_series_that_hold_the_prompt_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = ["generate", PROMPT, "--size", "64x64", "--seed", "7", "--count", "2", "-o", str(tmp_path / "{seed}.png")]
    assert main(series) == 0
    assert main(series) == 0
    assert "holds its prompt" not in capsys.readouterr().err
    assert main([*series, "--store-prompt", "no"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("it was made before and holds its prompt. --overwrite makes it without") == 2
    assert main([*series, "--store-prompt", "no", "--overwrite"]) == 0
    assert found(tmp_path) == set()


def test_other_words_are_refused_with_those_that_are_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a lake", "--store-prompt", "never"]) == 2
    assert '--store-prompt "never": write one of yes, no' in capsys.readouterr().err
