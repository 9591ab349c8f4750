"""The built-in model keeps an image that it did not draw, unless a user says how much of it is drawn again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from linfusion_cli.config.job import Job
from linfusion_cli.config.kept_start import INIT, KEPT, KEPT_STRENGTH, UPSCALE
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def job(**values: Any) -> Job:
    return resolve(Request(**{"prompt": "a lake", "seed": 1, "size": "256x256", **values}))


def strengths(made: Job) -> tuple[float, float]:
    return made.settings.sampling.init_strength, made.settings.upscale.strength


def test_an_upscaled_photo_is_kept(photo: Path) -> None:
    made = job(upscale_image=photo)
    assert strengths(made) == (0.75, KEPT_STRENGTH)
    assert (made.sources[UPSCALE], made.sources[INIT]) == (KEPT, "defaults.toml")


def test_a_photo_to_start_from_is_kept_in_every_stage(photo: Path) -> None:
    made = job(init_image=photo)
    assert strengths(made) == (KEPT_STRENGTH, KEPT_STRENGTH)
    assert made.sources[INIT] == made.sources[UPSCALE] == KEPT


def test_at_least_one_step_is_made(photo: Path) -> None:
    assert strengths(job(upscale_image=photo, steps=5))[1] == 0.2


def test_what_a_user_says_stays(photo: Path, tmp_path: Path) -> None:
    assert strengths(job(upscale_image=photo, upscale_strength=0.4))[1] == 0.4
    assert strengths(job(init_image=photo, init_strength=0.9)) == (0.9, KEPT_STRENGTH)
    (tmp_path / "own.toml").write_text('extends = "landscape"\n[upscale]\nstrength = 0.3\n')
    assert strengths(job(upscale_image=photo, preset=str(tmp_path / "own.toml")))[1] == 0.3


def test_an_image_of_the_model_and_other_models_have_the_presets_strength(photo: Path, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("linfusion", json.dumps({"settings": {"model": {"repositories": ["builtin:landscape"]}}}))
    Image.new("RGB", (64, 64)).save(tmp_path / "own.png", pnginfo=texts)
    assert strengths(job(upscale_image=tmp_path / "own.png")) == strengths(job())
    other = job(upscale_image=photo, preset="sd15-4k", size="2048x2048")
    assert strengths(other) == strengths(job(preset="sd15-4k"))
